import { describe } from "vitest";
import { itChecks } from "./problems-of.ts";

describe("WasmPlugin", () => {
  itChecks("WasmPlugin", [
    [
      "takes an image",
      `{ url: "registry.example.com/plugin:1", sha256: ${"a1".repeat(32)}, vmConfig: { env: [{ name: A, value: b }, { name: B, valueFrom: HOST }] }, match: [{ ports: [{ number: 80 }] }] }`,
    ],
    ["takes numbers as text", "{ url: 'oci://a/b', priority: '10' }"],
    ["wants a URL", "pluginName: x", "spec.url: is missing"],
    ["wants a scheme that can be loaded", "url: ftp://a/b", 'spec.url: scheme "ftp"'],
    [
      "wants names, sums and ports in bounds",
      `{ url: a/b, sha256: xyz, imagePullSecret: ${"a".repeat(254)}, pluginName: ${"a".repeat(257)}, match: [{ ports: [{ number: 0 }] }] }`,
      "spec.imagePullSecret: is longer",
      "spec.match[0].ports[0].number: port 0",
      "spec.pluginName: is longer",
      "spec.sha256: is not a SHA-256",
    ],
    [
      "wants variables of their own",
      "{ url: a/b, vmConfig: { env: [{ name: A, valueFrom: HOST, value: x }, { name: A }, {}] } }",
      "spec.vmConfig.env[0].value: can't",
      'spec.vmConfig.env[1].name: "A" is given twice',
      "spec.vmConfig.env[2].name: is missing",
    ],
  ]);
});

describe("ProxyConfig", () => {
  itChecks("ProxyConfig", [
    ["takes settings", "{ concurrency: 0, environmentVariables: { A: b }, image: { imageType: distroless } }"],
    ["wants no negative concurrency", "concurrency: -1", "spec.concurrency: must not be negative"],
  ]);
});

const always = "W spec: an EnvoyFilter changes generated configuration";
const patch = (settings: string) => `configPatches: [{ ${settings} }]`;
const lua =
  "name: lua, typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, default_source_code: { inline_string: x } }";
const P = "spec.configPatches[0]";

describe("EnvoyFilter", () => {
  itChecks("EnvoyFilter", [
    [
      "takes a filter, with a warning",
      patch(
        `applyTo: HTTP_FILTER, match: { context: GATEWAY, listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager, subFilter: { name: envoy.filters.http.router } } } } }, patch: { operation: INSERT_BEFORE, value: { ${lua} } }`,
      ),
      always,
    ],
    ["takes a removal without a value", patch("applyTo: CLUSTER, match: { cluster: { name: x } }, patch: { operation: REMOVE }"), always],
    [
      "wants what, where and how",
      "configPatches: [{}, { patch: {} }]",
      "spec.configPatches[0].applyTo: is missing",
      "spec.configPatches[0].patch: is missing",
      "spec.configPatches[1].applyTo: is missing",
      "spec.configPatches[1].patch.operation: is missing",
      always,
    ],
    ["wants a value", patch("applyTo: CLUSTER, patch: { operation: MERGE }"), `${P}.patch.value: is missing`, always],
    [
      "wants a match of its kind",
      patch("applyTo: CLUSTER, match: { listener: {} }, patch: { operation: REMOVE }"),
      `${P}.match.listener: can't be given with applyTo: CLUSTER`,
      always,
    ],
    [
      "wants names of filters",
      patch("applyTo: NETWORK_FILTER, match: { listener: { filterChain: { filter: { subFilter: {} } } } }, patch: { operation: REMOVE }"),
      `${P}.match.listener.filterChain.filter.name: is missing`,
      `${P}.match.listener.filterChain.filter.name: must be`,
      `${P}.match.listener.filterChain.filter.subFilter.name: is missing`,
      `${P}.match.listener.filterChain.filter.subFilter: is for`,
      always,
    ],
    [
      "wants an expression for the version",
      patch("applyTo: CLUSTER, match: { proxy: { proxyVersion: '(' } }, patch: { operation: REMOVE }"),
      `${P}.match.proxy.proxyVersion: is not`,
      always,
    ],
    [
      "wants values of Envoy's types",
      patch("applyTo: CLUSTER, patch: { operation: MERGE, value: { connect_timeout: soon } }"),
      `${P}.patch.value.connect_timeout: is not a message google.protobuf.Duration: duration must end with a single 's'`,
      always,
    ],
    [
      "wants types that exist",
      patch(
        "applyTo: HTTP_FILTER, patch: { operation: ADD, value: { name: x, typed_config: { '@type': type.googleapis.com/envoy.config.filter.http.lua.v2.Lua } } }",
      ),
      `${P}.patch.value.typed_config: could not find @type 'type.googleapis.com/envoy.config.filter.http.lua.v2.Lua'; the v2 API is gone`,
      always,
    ],
    [
      "looks into typed configurations",
      patch(
        "applyTo: HTTP_FILTER, patch: { operation: ADD, value: { name: x, typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, token_bucket: { max_tokens: many }, old: 1 } } }",
      ),
      `${P}.patch.value.typed_config.token_bucket.max_tokens: is not a uint32: invalid number: 'many'`,
      always,
    ],
    [
      "takes a TypedStruct of a type that it doesn't know",
      patch(
        "applyTo: HTTP_FILTER, patch: { operation: ADD, value: { name: x, typed_config: { '@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/example.Filter, value: { a: 1 } } } }",
      ),
      always,
    ],
    [
      "warns of fields that it doesn't know",
      patch("applyTo: CLUSTER, patch: { operation: MERGE, value: { from_the_future: 1 } }"),
      `W ${P}.patch.value.from_the_future: is no field of envoy.config.cluster.v3.Cluster`,
      always,
    ],
    [
      "warns of old names and filters by name",
      patch(
        "applyTo: FILTER_CHAIN, match: { listener: { filterChain: { filter: { name: envoy.http_connection_manager } } } }, patch: { operation: MERGE, value: { filters: [{ name: a }] } }",
      ),
      `W ${P}.match.listener.filterChain.filter.name: "envoy.http_connection_manager" is an old name`,
      `W ${P}.match.listener.filterChain.filter: has no effect`,
      `W ${P}.patch.value.filters[0]: has no typed_config`,
      always,
    ],
    [
      "wants a waypoint's match in its context",
      patch("applyTo: HTTP_FILTER, match: { waypoint: { portNumber: 70000 } }, patch: { operation: REMOVE }"),
      `${P}.match.waypoint.portNumber: port 70000`,
      `${P}.match.waypoint: can't be given with applyTo`,
      `${P}.match.waypoint: is for context`,
      always,
    ],
    ["warns of a selector without labels", "workloadSelector: {}", "W spec.workloadSelector: has no labels", always],
  ]);
});
