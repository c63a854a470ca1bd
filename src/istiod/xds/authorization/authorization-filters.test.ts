/** What policies become; what it means is in test/conformance/authorization.test.ts. */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { pushContextOf, routerNode, sidecarNode } from "../../../../test/support/mesh.ts";
import { RBAC_Action } from "../../../api/gen/envoy/config/rbac/v3/rbac_pb.js";
import { ExtAuthzSchema } from "../../../api/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { RBACSchema as HttpRbacSchema } from "../../../api/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { RBACSchema as TcpRbacSchema } from "../../../api/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import { authFilters } from "../auth-filters.ts";

const policy = (name: string, spec: string, annotations = "{}") =>
  `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: ${name}, namespace: default, annotations: ${annotations}}, spec: ${spec}}\n---\n`;
const authentication =
  "{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: jwt, namespace: default}, spec: {jwtRules: [{issuer: i, jwks: '{\"keys\": []}'}]}}\n---\n";
const authorizer =
  "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: a, namespace: default}, spec: {hosts: [authz.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}]}}\n---\n";
const providers = "extensionProviders: [{name: ours, envoyExtAuthzHttp: {service: authz.test, port: 80}}]";

const filtersOf = (yaml: string, meshYaml = "") => authFilters(routerNode(), pushContextOf(yaml, meshYaml));
const httpRbac = (yaml: string, meshYaml = "") =>
  filtersOf(yaml, meshYaml).http.flatMap(({ configType }) =>
    configType.case === "typedConfig" ? (anyUnpack(configType.value, HttpRbacSchema) ?? []) : [],
  );
const tcpRbac = (yaml: string) =>
  filtersOf(yaml).tcp.flatMap(({ configType }) =>
    configType.case === "typedConfig" ? (anyUnpack(configType.value, TcpRbacSchema) ?? []) : [],
  );

describe("filters of policies", () => {
  it("are CUSTOM, tokens, AUDIT, DENY and ALLOW, in that order whatever the policies' age", () => {
    const filters = filtersOf(
      policy("allow", "{rules: [{}]}") +
        policy("deny", "{action: DENY, rules: [{}]}") +
        policy("audit", "{action: AUDIT, rules: [{}]}") +
        authentication +
        policy("custom", "{action: CUSTOM, provider: {name: ours}, rules: [{}]}") +
        authorizer,
      providers,
    );
    expect(filters.http.map(({ name }) => name.slice("envoy.filters.http.".length))).toEqual([
      "rbac",
      "ext_authz",
      "jwt_authn",
      "rbac",
      "rbac",
      "rbac",
    ]);
    const actions = filters.http.slice(3).map(({ configType }) => {
      const rbac = configType.case === "typedConfig" ? anyUnpack(configType.value, HttpRbacSchema) : undefined;
      return RBAC_Action[rbac!.rules!.action];
    });
    expect(actions).toEqual(["LOG", "DENY", "ALLOW"]);
    expect(filters.tcp.map(({ name }) => name)).toEqual(new Array(3).fill("envoy.filters.network.rbac"));
  });

  it("are none without policies", () => expect(filtersOf("")).toEqual({ http: [], tcp: [] }));

  it("name each rule by its policy and place", () => {
    const [rbac] = httpRbac(policy("b", "{rules: [{to: [{operation: {paths: [/x]}}]}, {}]}") + policy("a", "{rules: [{}]}"));
    expect(Object.keys(rbac!.rules!.policies).sort()).toEqual([
      "ns[default]-policy[a]-rule[0]",
      "ns[default]-policy[b]-rule[0]",
      "ns[default]-policy[b]-rule[1]",
    ]);
  });

  it("have a rule that never holds for a policy without rules", () => {
    const [rbac] = httpRbac(policy("none", "{}"));
    const rule = rbac!.rules!.policies["ns[default]-policy[none]-rule[0]"]!;
    expect([rule.permissions[0]!.rule.case, rule.principals[0]!.identifier.case]).toEqual(["notRule", "notId"]);
  });

  it("keep what is tried dry beside what is in force", () => {
    const dry = '{istio.io/dry-run: "true"}';
    const [deny, allow] = httpRbac(
      policy("real", "{action: DENY, rules: [{}]}") +
        policy("dry", "{action: DENY, rules: [{}]}", dry) +
        policy("allow", "{rules: [{}]}", dry),
    );
    expect(Object.keys(deny!.rules!.policies)).toEqual(["ns[default]-policy[real]-rule[0]"]);
    expect(Object.keys(deny!.shadowRules!.policies)).toEqual(["ns[default]-policy[dry]-rule[0]"]);
    expect([deny!.shadowRulesStatPrefix, allow!.shadowRulesStatPrefix]).toEqual(["istio_dry_run_deny_", "istio_dry_run_allow_"]);
    expect(allow!.rules).toBeUndefined();
  });

  it("leave out of connections what only requests have, so that less is allowed and more denied", () => {
    const rules = "[{to: [{operation: {methods: [GET]}}]}, {from: [{source: {ipBlocks: [10.0.0.1]}}], to: [{operation: {paths: [/x]}}]}]";
    const [deny, allow] = tcpRbac(policy("deny", `{action: DENY, rules: ${rules}}`) + policy("allow", `{rules: ${rules}}`));
    expect(Object.keys(allow!.rules!.policies)).toEqual([]);
    const denied = deny!.rules!.policies;
    expect(Object.values(denied).map(({ permissions: [one] }) => one!.rule.case)).toEqual(["andRules", "andRules"]);
    expect(JSON.stringify(denied)).not.toContain("header");
    expect(JSON.stringify(denied)).toContain("10.0.0.1");
  });

  it.each([
    ["unknown", "extensionProviders: []", "{name: ours}"],
    ["no authorizer", "extensionProviders: [{name: ours, prometheus: {}}]", "{name: ours}"],
    [
      "of a service that is not there",
      "extensionProviders: [{name: ours, envoyExtAuthzHttp: {service: gone.test, port: 80}}]",
      "{name: ours}",
    ],
    [
      "wrong",
      'extensionProviders: [{name: ours, envoyExtAuthzHttp: {service: authz.test, port: 80, statusOnError: "999"}}]',
      "{name: ours}",
    ],
    ["two of a name", `${providers.slice(0, -1)}, {name: ours, envoyExtAuthzHttp: {service: authz.test, port: 80}}]`, "{name: ours}"],
  ])("deny under a telling name where the provider is %s", (_, meshYaml, provider) => {
    const custom = policy("custom", `{action: CUSTOM, provider: ${provider}, rules: [{}]}`) + authorizer;
    expect(filtersOf(custom, meshYaml).http.map(({ name }) => name)).toEqual(["envoy.filters.http.rbac"]);
    const [rbac] = httpRbac(custom, meshYaml);
    expect(RBAC_Action[rbac!.rules!.action]).toBe("DENY");
    expect(Object.keys(rbac!.rules!.policies)).toEqual([
      "istio-ext-authz-ours-ns[default]-policy[custom]-rule[0]-deny-due-to-bad-CUSTOM-action",
    ]);
  });

  it("mark requests for the authorizer by the rule's name up to where the provider's ends", () => {
    const filters = filtersOf(policy("custom", "{action: CUSTOM, provider: {name: ours}, rules: [{}]}") + authorizer, providers);
    const [rbac, extAuthz] = filters.http.map(({ configType }) => (configType.case === "typedConfig" ? configType.value : undefined));
    const marking = anyUnpack(rbac!, HttpRbacSchema)!;
    expect(marking.rules).toBeUndefined();
    expect(marking.shadowRulesStatPrefix).toBe("istio_ext_authz_");
    const { filterEnabledMetadata, failureModeAllow } = anyUnpack(extAuthz!, ExtAuthzSchema)!;
    expect(filterEnabledMetadata!.path.map(({ segment }) => segment.value)).toEqual(["istio_ext_authz_shadow_effective_policy_id"]);
    expect(JSON.stringify(filterEnabledMetadata!.value)).toContain('"istio-ext-authz-ours-ns["');
    expect(failureModeAllow).toBe(false);
  });

  it("are made once for all proxies that the same policies select, and apart for sidecars and gateways", () => {
    const push = pushContextOf(policy("allow", "{rules: [{}]}") + authentication);
    const first = authFilters(sidecarNode({ labels: { app: "a" } }), push);
    expect(authFilters(sidecarNode({ labels: { app: "b" }, ip: "10.9.1.2" }), push)).toBe(first);
    expect(authFilters(routerNode(), push)).not.toBe(first);
  });
});
