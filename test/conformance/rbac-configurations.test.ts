/** RBAC that can't be used: refused by Envoy and by us, in the same words where Envoy's are fit for it. */
import { describe, expect, it } from "vitest";
import { expandBootstrap, placeHttp, type RbacHost, withRbacListeners } from "../support/bootstrap-text.ts";
import { envoyBinary, envoyValidates } from "../support/envoy.ts";
import { comparableReason, ourVerdict } from "../support/verdict.ts";

const any = { any: true };
const permission = (rule: object): RbacHost => ({ permissions: [rule] });
const principal = (id: object): RbacHost => ({ principals: [id] });
const metadata = (more: object) => permission({ metadata: { filter: "a", path: [{ key: "a" }], value: { bool_match: true }, ...more } });
const value = (matcher: object) => metadata({ value: matcher });
const rules = (fields: object): RbacHost => ({ rbac: { rules: fields } });
const policy = (fields: object) => rules({ policies: { p: { permissions: [any], principals: [any], ...fields } } });
const template = (path_template: string) =>
  permission({ uri_template: { name: "t", typed_config: { "@type": "UriTemplateMatchConfig", path_template } } });
const unknown = { name: "nope", typed_config: { "@type": "Router" } };

/** Of HTTP and of network RBAC, as far as both have it. */
const cases: Readonly<Record<string, RbacHost>> = {
  nothing: { rbac: {} },
  "any that is false": permission({ any: false }),
  "a permission without a rule": permission({}),
  "a principal without an identifier": principal({}),
  "no permissions": policy({ permissions: [] }),
  "no principals": policy({ principals: [] }),
  "and_rules without rules": permission({ and_rules: {} }),
  "or_ids without ids": principal({ or_ids: {} }),
  "a port out of range": permission({ destination_port: 70000 }),
  "a port range that is empty": permission({ destination_port_range: { start: 10, end: 10 } }),
  "a port range from below zero": permission({ destination_port_range: { start: -1, end: 10 } }),
  "a port range that ends out of range": permission({ destination_port_range: { start: 1, end: 70000 } }),
  "a port range that begins out of range": permission({ destination_port_range: { start: 70000, end: 70001 } }),
  "the widest port range": permission({ destination_port_range: { start: 0, end: 65536 } }),
  "a range of no IP address": permission({ destination_ip: { address_prefix: "nope", prefix_len: 8 } }),
  "a range of an address with a port": principal({ remote_ip: { address_prefix: "10.0.0.1:80", prefix_len: 8 } }),
  "a range without an address": permission({ destination_ip: { prefix_len: 8 } }),
  "a prefix longer than the address": principal({ direct_remote_ip: { address_prefix: "10.0.0.0", prefix_len: 33 } }),
  "a prefix longer than any address": principal({ source_ip: { address_prefix: "::1", prefix_len: 129 } }),
  "a path without a matcher": permission({ url_path: {} }),
  "a path matcher without a pattern": permission({ url_path: { path: {} } }),
  "ignore_case for a regular expression": permission({ url_path: { path: { safe_regex: { regex: "a" }, ignore_case: true } } }),
  "an empty prefix": principal({ authenticated: { principal_name: { prefix: "" } } }),
  "an empty regular expression": permission({ requested_server_name: { safe_regex: { regex: "" } } }),
  "metadata without a namespace": metadata({ filter: "" }),
  "metadata without a path": metadata({ path: [] }),
  "metadata with an empty segment": metadata({ path: [{}] }),
  "metadata without a value": metadata({ value: undefined }),
  "a value matcher without a pattern": value({}),
  "or_match of one": value({ or_match: { value_matchers: [{ bool_match: true }] } }),
  "list_match without one_of": value({ list_match: {} }),
  "double_match without a number": value({ double_match: {} }),
  "sourced metadata without a matcher": permission({ sourced_metadata: {} }),
  "sourced metadata of an unknown source": principal({ sourced_metadata: { metadata_source: 7 } }),
  "filter state without a key": principal({ filter_state: { string_match: { exact: "a" } } }),
  "filter state without a matcher": principal({ filter_state: { key: "a" } }),
  "an unknown action by number": rules({ action: 7 }),
  "an unknown action by name": rules({ action: "NOPE" }),
  "an unknown matcher extension": permission({ matcher: unknown }),
  "an unknown path extension": permission({ uri_template: unknown }),
  "a path extension without configuration": permission({ uri_template: { name: "nope" } }),
  "an unknown custom principal": principal({ custom: unknown }),
  "an empty template": template(""),
  "a template of 257 characters": template(`/${"a".repeat(256)}`),
  "a template of the root": template("/"),
  "a template with everything": template("/a{b}c/{d=e/*}/*/**.f"),
  "policies of shadow rules": { rbac: { shadow_rules: { policies: { p: { permissions: [any] } } } } },
};

const httpCases: Readonly<Record<string, RbacHost>> = {
  ...cases,
  "a header without a name": permission({ header: { string_match: { exact: "x" } } }),
  "a header's name with a space": permission({ header: { name: "a b", present_match: true } }),
};

const httpFilter = (host: RbacHost) =>
  expandBootstrap({ http_filters: [{ name: "rbac", typed_config: { "@type": "RBAC", ...fields(host) } }] });
const perRoute = (host: RbacHost) =>
  expandBootstrap({ http_filters: [{ name: "rbac", typed_config: { "@type": "RBAC" } }], rbac_hosts: { host } });
const listener = (filters: unknown) => expandBootstrap(placeHttp({ listeners: [{ name: "main", filter_chains: [{ filters }] }] }));
const network = (host: RbacHost) => expandBootstrap(placeHttp(withRbacListeners({ rbac_listeners: { in: { ...host, cluster: "up" } } })));

function fields({ rbac, permissions = [any], principals = [any] }: RbacHost): object {
  return rbac ?? { rules: { policies: { p: { permissions, principals } } } };
}

function expectSameVerdict(bootstrap: unknown): void {
  const yaml = JSON.stringify(bootstrap);
  expect(comparableReason(ourVerdict(yaml))).toEqual(comparableReason(envoyValidates(yaml)));
}

describe.skipIf(!envoyBinary)("RBAC configurations, beside Envoy", () => {
  it.each(Object.entries(httpCases))("the HTTP filter: %s", (_name, host) => expectSameVerdict(httpFilter(host)));

  it.each(Object.entries(cases).slice(0, 8))("a route: %s", (_name, host) => expectSameVerdict(perRoute(host)));

  it.each(Object.entries(cases))("the network filter: %s", (_name, host) => expectSameVerdict(network(host)));

  const rbac = { name: "r", typed_config: { "@type": "NetworkRBAC", stat_prefix: "s" } };
  it.each(
    Object.entries({
      "no stat_prefix": listener([{ name: "r", typed_config: { "@type": "NetworkRBAC" } }, { http: {} }]),
      "the last of a chain": listener([rbac]),
      "behind the terminal filter": listener([{ http: {} }, rbac]),
      "a delay of nothing": network({ rbac: { delay_deny: "0s" } }),
      "two terminal filters behind it": listener([rbac, { http: {} }, { http: {} }]),
      "the last HTTP filter": expandBootstrap({ hcm: { http_filters: [{ name: "rbac", typed_config: { "@type": "RBAC" } }] } }),
    }),
  )("in its place: %s", (_name, bootstrap) => expectSameVerdict(bootstrap));

  // Envoy prints messages, or RE2's words, amid these.
  it.each(
    Object.entries({
      "a regular expression that is none": httpFilter(permission({ url_path: { path: { safe_regex: { regex: "(" } } } })),
      "a header in network rules": network(permission({ header: { name: "x", present_match: true } })),
      "a header deep in network rules": network(permission({ not_rule: { and_rules: { rules: [{ header: { name: "x" } }] } } })),
      "a header in network principals": network(principal({ or_ids: { ids: [{ header: { name: "x" } }] } })),
      "a header in network shadow rules": network({
        rbac: { shadow_rules: { policies: { p: { permissions: [{ header: { name: "x" } }], principals: [any] } } } },
      }),
      "a negative delay": network({ rbac: { delay_deny: "-1s" } }),
    }),
  )("is refused by both: %s", (_name, bootstrap) => {
    const yaml = JSON.stringify(bootstrap);
    expect(envoyValidates(yaml)).toBeTypeOf("string");
    expect(ourVerdict(yaml)).toBeTypeOf("string");
  });
});

describe("RBAC that only Envoy has", () => {
  const matcher = { on_no_match: { action: { name: "a", typed_config: { "@type": "Action", name: "x" } } } };
  it.each([
    ["matcher", httpFilter({ rbac: { matcher } }), "matcher is not supported"],
    ["shadow_matcher", perRoute({ rbac: { shadow_matcher: matcher } }), "shadow_matcher is not supported"],
    ["a network filter's matcher", network({ rbac: { matcher } }), "matcher is not supported"],
    ["CEL", httpFilter(policy({ condition: { const_expr: { bool_value: true } } })), "condition (CEL) is not supported"],
    [
      "addresses in filter state",
      httpFilter(principal({ filter_state: { key: "a", address_match: { ranges: [{ address_prefix: "10.0.0.0", prefix_len: 8 }] } } })),
      "address_match is not supported",
    ],
    ["objects in filter state", listenerWithState("envoy.tcp_proxy.cluster"), "'envoy.tcp_proxy.cluster' does not have an object factory"],
  ])("is refused by name: %s", (_name, bootstrap, reason) => expect(ourVerdict(JSON.stringify(bootstrap))).toContain(reason));

  function listenerWithState(object_key: string): unknown {
    const value = { object_key, format_string: { text_format_source: { inline_string: "x" } } };
    return listener([{ name: "s", typed_config: { "@type": "NetworkSetFilterState", on_new_connection: [value] } }, { http: {} }]);
  }
});
