/** Patches on their way through the generators: every resource type, and what is shared between proxies. */

import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { clustersOf, listenersOf, objectsOf, pushContextOf, routerNode, routesOf, sidecarNode } from "../../../../test/support/mesh.ts";
import { HeldResources } from "../../../ads/held-resources.ts";
import { envoyTypes } from "../../../api/envoy/type-registry.ts";
import { TypedExtensionConfigSchema } from "../../../api/gen/envoy/config/core/v3/extension_pb.js";
import type { FilterChain } from "../../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { HttpConnectionManager } from "../../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { defaultMesh } from "../../../api/mesh/decode-mesh.ts";
import { typeUrls } from "../../../api/type-urls.ts";
import { PatchStatus } from "../../push/patch-status.ts";
import { PushContext } from "../../push/push-context.ts";
import { generatorFor } from "../generators.ts";

const mesh = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s, namespace: default}
spec:
  hosts: [s.test]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8000}]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints: [{address: 10.9.1.1}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door, namespace: default}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: s, namespace: default}
spec: {hosts: [a.test, b.test], gateways: [door], http: [{route: [{destination: {host: s.test}}]}]}
---`;
const filter = (patches: string, more = "") => `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: f, namespace: default}
spec: {${more}configPatches: [${patches}]}
---`;
const addHttpFilter = (context: string) =>
  `{applyTo: HTTP_FILTER, match: {context: ${context}}, patch: {operation: INSERT_FIRST, value: {name: mine, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}}}}`;

const managerOf = ({ filters }: FilterChain) => {
  const config = filters.at(-1)!.configType;
  return (config.case === "typedConfig" ? anyUnpack(config.value, envoyTypes) : undefined) as HttpConnectionManager;
};
const httpFiltersOf = (chain: FilterChain) => managerOf(chain).httpFilters?.map(({ name }) => name) ?? [];

describe("patched resources", () => {
  it("are the listeners of a gateway, those that are added beside them", () => {
    const added = "{applyTo: LISTENER, match: {context: GATEWAY}, patch: {operation: ADD, value: {name: extra}}}";
    const push = pushContextOf(mesh + filter(`${addHttpFilter("GATEWAY")}, ${added}, ${added.replace("extra", "0.0.0.0_8080")}`));
    const listeners = listenersOf(routerNode(), push);
    expect([...listeners.keys()]).toEqual(["0.0.0.0_8080", "extra"]);
    expect(httpFiltersOf(listeners.get("0.0.0.0_8080")!.filterChains[0]!)[0]).toBe("mine");
  });

  it("are each side of a sidecar by itself, virtualOutbound with what goes out", () => {
    const name = (context: string) =>
      `{applyTo: LISTENER, match: {context: ${context}}, patch: {operation: MERGE, value: {stat_prefix: ${context}}}}`;
    const push = pushContextOf(
      mesh + filter(`${name("SIDECAR_INBOUND")}, ${name("SIDECAR_OUTBOUND")}, ${addHttpFilter("SIDECAR_INBOUND")}`),
    );
    const listeners = listenersOf(sidecarNode(), push);
    expect(Object.fromEntries([...listeners].map(([listener, { statPrefix }]) => [listener, statPrefix]))).toEqual({
      "0.0.0.0_80": "SIDECAR_OUTBOUND",
      virtualOutbound: "SIDECAR_OUTBOUND",
      virtualInbound: "SIDECAR_INBOUND",
    });
    const inbound = listeners
      .get("virtualInbound")!
      .filterChains.find(({ filterChainMatch }) => filterChainMatch?.destinationPort === 8000)!;
    expect(httpFiltersOf(inbound)[0]).toBe("mine");
    const outbound = listeners.get("0.0.0.0_80")!;
    expect([...outbound.filterChains, outbound.defaultFilterChain!].flatMap(httpFiltersOf)).not.toContain("mine");
  });

  it("are routes by RDS, and those that stand in inbound listeners", () => {
    const limit = (vhost: string) =>
      `{applyTo: VIRTUAL_HOST, match: {routeConfiguration: {vhost: {name: '${vhost}'}}}, patch: {operation: MERGE, value: {request_headers_to_remove: [x]}}}`;
    const push = pushContextOf(mesh + filter(["a.test:8080", "s.test:80", "inbound|http|80"].map(limit).join()));
    const removed = (name: string, node: ReturnType<typeof sidecarNode>) =>
      routesOf(name, node, push).virtualHosts.map((host) => [host.name, host.requestHeadersToRemove.join()]);
    expect(removed("http.8080", routerNode())).toEqual([["a.test:8080", "x"]]);
    expect(removed("80", sidecarNode())).toContainEqual(["s.test:80", "x"]);
    const chain = listenersOf(sidecarNode(), push)
      .get("virtualInbound")!
      .filterChains.find(({ filterChainMatch }) => filterChainMatch?.destinationPort === 8000)!;
    const { routeSpecifier } = managerOf(chain);
    expect(routeSpecifier.case === "routeConfig" && routeSpecifier.value.virtualHosts[0]!.requestHeadersToRemove).toEqual(["x"]);
  });

  it("change a route in one virtual host without changing it in another that shares it", () => {
    const value = "{request_headers_to_remove: [x]}";
    const one = `{applyTo: HTTP_ROUTE, match: {routeConfiguration: {vhost: {domainName: b.test}}}, patch: {operation: MERGE, value: ${value}}}`;
    const second = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: more, namespace: default}
spec: {hosts: [a.test], gateways: [door], http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: s.test}}]}]}
---`;
    const hosts = routesOf("http.8080", routerNode(), pushContextOf(mesh + second + filter(one))).virtualHosts;
    expect(hosts.map(({ domains, routes }) => [domains.join(), routes.map((route) => route.requestHeadersToRemove.join())])).toEqual([
      ["a.test", ["", ""]],
      ["b.test", ["x"]],
    ]);
  });

  it("are clusters of each sort, by the side that they are of", () => {
    const merge = (match: string) => `{applyTo: CLUSTER, match: {${match}}, patch: {operation: MERGE, value: {connect_timeout: 42s}}}`;
    const patched = (patches: string) =>
      [...clustersOf(sidecarNode(), pushContextOf(mesh + filter(patches)))]
        .filter(([, { connectTimeout }]) => connectTimeout?.seconds === 42n)
        .map(([name]) => name);
    const outbound = ["outbound|80||s.test", "BlackHoleCluster", "PassthroughCluster"];
    const inbound = ["InboundPassthroughCluster", "inbound|8000||"];
    expect(patched(merge("context: SIDECAR_OUTBOUND"))).toEqual(outbound);
    expect(patched(merge("context: SIDECAR_INBOUND"))).toEqual(inbound);
    expect(patched(merge("cluster: {service: s.test}"))).toEqual(["outbound|80||s.test", "inbound|8000||"]);
    expect(patched(merge("context: SIDECAR_INBOUND, cluster: {portNumber: 8000}"))).toEqual(["inbound|8000||"]);
  });

  it("are added clusters, where there is none of that name", () => {
    const add = (name: string) => `{applyTo: CLUSTER, patch: {operation: ADD, value: {name: '${name}', alt_stat_name: added}}}`;
    const remove = "{applyTo: CLUSTER, match: {cluster: {name: PassthroughCluster}}, patch: {operation: REMOVE}}";
    const clusters = clustersOf(sidecarNode(), pushContextOf(mesh + filter(`${add("new")}, ${add("outbound|80||s.test")}, ${remove}`)));
    expect([...clusters].filter(([, { altStatName }]) => altStatName === "added").map(([name]) => name)).toEqual(["new"]);
    expect(clusters.has("PassthroughCluster")).toBe(false);
  });

  it("are a proxy's own where a patch is for its labels alone", () => {
    const selected = "workloadSelector: {labels: {app: a}}, ";
    const push = pushContextOf(
      mesh + filter(`{applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: 42s}}}, ${addHttpFilter("ANY")}`, selected),
    );
    const [patched, plain] = [sidecarNode({ labels: { app: "a" } }), sidecarNode({ labels: { app: "b" } })];
    for (const order of [
      [patched, plain],
      [plain, patched],
    ]) {
      for (const node of order) {
        const isPatched = node === patched;
        expect(clustersOf(node, push).get("outbound|80||s.test")!.connectTimeout?.seconds === 42n).toBe(isPatched);
        expect(listenersOf(node, push).get("0.0.0.0_80")!.filterChains.flatMap(httpFiltersOf).includes("mine")).toBe(isPatched);
      }
    }
  });

  it("are extension configurations, by name", () => {
    const add = (name: string) =>
      `{applyTo: EXTENSION_CONFIG, patch: {operation: ADD, value: {name: ${name}, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}}}}`;
    const push = pushContextOf(filter([add("a"), add("b")].join()));
    const state = { nonceSent: "", nonceAcked: "", versionSent: "", lastError: undefined, alwaysRespond: false };
    const watch = { typeUrl: typeUrls.ecds, isWildcard: false, names: new Set(["b", "c"]), held: HeldResources.none, ...state };
    const node = sidecarNode();
    const resources = generatorFor(node, typeUrls.ecds)!({ proxy: node, push, onProblem: () => {} }, watch, undefined);
    expect(resources.map(({ name }) => name)).toEqual(["b"]);
    expect(fromBinary(TypedExtensionConfigSchema, resources[0]!.bytes).typedConfig?.typeUrl).toContain("cors.v3.Cors");
  });
});

describe("the outcome of patches", () => {
  const merge = (type: string) =>
    `{applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}, patch: {operation: MERGE, value: {name: renamed, typed_config: {'@type': type.googleapis.com/${type}}}}}`;
  const failing = merge("envoy.extensions.filters.http.cors.v3.Cors");

  function generated(patches: string) {
    const failures: string[] = [];
    const status = new PatchStatus(({ index }, reason) => failures.push(`${index}: ${reason}`));
    const objects = objectsOf(mesh + filter(patches));
    const context = () =>
      new PushContext({ version: "test/1", mesh: defaultMesh(), objects, domain: "cluster.local", patchOutcomes: status });
    const listeners = listenersOf(routerNode(), context());
    listenersOf(routerNode(), context());
    const described = status.describe(context().envoyFilters.objects[0]!);
    return { failures, described, httpFilters: httpFiltersOf(listeners.get("0.0.0.0_8080")!.filterChains[0]!) };
  }

  it("is told once for one that can't be merged, and the others are applied", () => {
    const { failures, described, httpFilters } = generated(`${failing}, ${addHttpFilter("GATEWAY")}`);
    const reason = "envoy.extensions.filters.http.cors.v3.Cors can't be merged into envoy.extensions.filters.http.router.v3.Router";
    expect(failures).toEqual([`0: ${reason}`]);
    expect(httpFilters[0]).toBe("mine");
    expect(httpFilters.at(-1), "nothing of it is half applied").toBe("envoy.filters.http.router");
    expect(described).toMatchObject([
      { patch: "configPatches[0]", applied: false, failures: [reason] },
      { patch: "configPatches[1]", applied: true, failures: [] },
    ]);
  });

  it("is that it was applied nowhere, where it matches nothing", () => {
    expect(generated(addHttpFilter("SIDECAR_INBOUND")).described).toMatchObject([{ applied: false, failures: [] }]);
  });
});
