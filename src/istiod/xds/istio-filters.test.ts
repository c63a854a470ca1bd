import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { clustersOf, listenersOf, pushContextOf, routerNode, sidecarNode } from "../../../test/support/mesh.ts";
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { FilterChain } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { HttpConnectionManagerSchema } from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { DownstreamTlsContextSchema, UpstreamTlsContextSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { ConfigSchema } from "../../api/gen/istio/http/peer_metadata/config_pb.js";
import { PluginConfigSchema } from "../../api/gen/istio/stats/plugin_config_pb.js";

const yaml = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 90, targetPort: 9090}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-1, namespace: default}
spec: {address: 10.9.1.1, labels: {app: web}, serviceAccount: web}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 90, name: tcp, protocol: TCP}, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: default}
spec:
  hosts: ["*"]
  gateways: [door]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
  tcp: [{match: [{port: 90}], route: [{destination: {host: web, port: {number: 90}}}]}]
`;

const sidecar = (hasIstioFilters: boolean, metadata = {}) =>
  sidecarNode({ ip: "10.9.1.1", labels: { app: "web" }, hasIstioFilters, metadata });

const names = (filters: readonly { readonly name: string }[] | undefined) =>
  filters?.map(({ name }) => name.replace(/^envoy\.filters\.\w+\./, ""));

function managerOf(chain: FilterChain | undefined) {
  const filter = chain?.filters.find(({ name }) => name === "envoy.filters.network.http_connection_manager");
  if (filter?.configType.case !== "typedConfig") throw new Error("no connection manager");
  return anyUnpack(filter.configType.value, HttpConnectionManagerSchema)!;
}

function inbound(node = sidecar(true), meshYaml = "") {
  const { filterChains } = listenersOf(node, pushContextOf(yaml, meshYaml)).get("virtualInbound")!;
  const chain = (port: number) =>
    filterChains.find(({ filterChainMatch }) => filterChainMatch?.destinationPort === port && filterChainMatch.transportProtocol === "tls");
  return { http: chain(8080), tcp: chain(9090) };
}

describe("Istio's own filters", () => {
  it("go to a proxy that has them, in Istio's order", () => {
    const { http, tcp } = inbound();
    expect(names(http?.filters)).toEqual(["istio.metadata_exchange", "http_connection_manager"]);
    expect(names(managerOf(http).httpFilters)).toEqual(["istio.metadata_exchange", "grpc_stats", "fault", "cors", "istio.stats", "router"]);
    expect(names(tcp?.filters)).toEqual(["istio.metadata_exchange", "istio.stats", "tcp_proxy"]);

    const listeners = listenersOf(sidecar(true), pushContextOf(yaml));
    const outbound = managerOf(listeners.get("0.0.0.0_80")?.filterChains[0]).httpFilters;
    expect(names(outbound)).toEqual(["istio.metadata_exchange", "grpc_stats", "istio.alpn", "fault", "cors", "istio.stats", "router"]);
    expect(names(listeners.get("virtualOutbound")?.filterChains.at(-1)?.filters)).toEqual(["istio.stats", "tcp_proxy"]);

    const gateway = listenersOf(routerNode({ hasIstioFilters: true }), pushContextOf(yaml));
    expect(names(managerOf(gateway.get("0.0.0.0_80")?.filterChains[0]).httpFilters)).toContain("istio.alpn");
    expect(names(gateway.get("0.0.0.0_90")?.filterChains[0]?.filters)).toEqual(["istio.stats", "tcp_proxy"]);
  });

  it("don't go to a stock Envoy, which would refuse them", () => {
    const push = pushContextOf(yaml);
    const text = JSON.stringify(
      [
        ...listenersOf(sidecar(false), push).values(),
        ...listenersOf(routerNode(), push).values(),
        ...clustersOf(sidecar(false), push).values(),
      ],
      (_, value: unknown) =>
        value instanceof Uint8Array ? Buffer.from(value).toString("latin1") : typeof value === "bigint" ? Number(value) : value,
    );
    expect(text).not.toMatch(/istio\.(metadata_exchange|stats|alpn)/);
  });

  it("go without grpc_stats to a proxy of ours that is older than that, in the same push as to others", () => {
    const push = pushContextOf(yaml);
    const now = sidecar(true);
    const older = sidecarNode({ ip: "10.9.1.1", labels: { app: "web" }, hasIstioFilters: true, lacks: "envoy.filters.http.grpc_stats" });
    const httpFilters = (node: typeof now) =>
      [listenersOf(node, push).get("0.0.0.0_80")?.filterChains[0], inbound(node).http].map((chain) => names(managerOf(chain).httpFilters));
    for (const filters of httpFilters(older)) {
      expect(filters).toContain("fault");
      expect(filters).not.toContain("grpc_stats");
    }
    for (const filters of httpFilters(now)) expect(filters).toContain("grpc_stats");
  });

  it("are different bytes for both kinds of proxies in one push", () => {
    const push = pushContextOf(yaml);
    const filtersOf = (node = sidecar(true)) => clustersOf(node, push).get("outbound|90||web.default.svc.cluster.local")?.filters.length;
    expect([filtersOf(sidecar(false)), filtersOf(sidecar(true)), filtersOf(sidecar(false))]).toEqual([0, 1, 0]);
  });

  it("exchange metadata on connections only with whom can do so too", () => {
    const alpnOf = (cluster: Cluster | undefined) => {
      const socket = cluster?.transportSocketMatches[0]?.transportSocket;
      return (
        socket?.configType.case === "typedConfig" &&
        anyUnpack(socket.configType.value, UpstreamTlsContextSchema)?.commonTlsContext?.alpnProtocols
      );
    };
    const acceptedBy = (chain: FilterChain | undefined) => {
      const socket = chain?.transportSocket;
      return (
        socket?.configType.case === "typedConfig" &&
        anyUnpack(socket.configType.value, DownstreamTlsContextSchema)?.commonTlsContext?.alpnProtocols
      );
    };
    for (const [has, offered, accepted] of [
      [true, ["istio-peer-exchange", "istio"], ["istio-peer-exchange", "h2", "http/1.1"]],
      [false, ["istio"], ["h2", "http/1.1"]],
    ] as const) {
      const clusters = clustersOf(sidecar(has), pushContextOf(yaml));
      expect(alpnOf(clusters.get("outbound|90||web.default.svc.cluster.local"))).toEqual(offered);
      expect(acceptedBy(inbound(sidecar(has)).tcp)).toEqual(accepted);
    }
    expect(clustersOf(sidecar(true), pushContextOf(yaml)).get("PassthroughCluster")?.filters).toHaveLength(1);
  });

  it("tell servers outside of the mesh nothing when the proxy is told so", () => {
    const skips = (metadata: Record<string, object>) => {
      const listener = listenersOf(sidecar(true, metadata), pushContextOf(yaml)).get("0.0.0.0_80");
      const filter = managerOf(listener?.filterChains[0]).httpFilters[0];
      if (filter?.configType.case !== "typedConfig") throw new Error("no configuration");
      const method = anyUnpack(filter.configType.value, ConfigSchema)?.upstreamPropagation[0]?.methodSpecifier;
      return method?.case === "istioHeaders" && method.value.skipExternalClusters;
    };
    expect(skips({})).toBe(false);
    expect(skips({ PROXY_CONFIG: { proxyHeaders: { metadataExchangeHeaders: { mode: "IN_MESH" } } } })).toBe(true);
  });

  it("believe a client's Host only where it is the own application's", () => {
    const fallback = (chain: FilterChain | undefined) => {
      const filter = managerOf(chain).httpFilters.find(({ name }) => name === "istio.stats");
      if (filter?.configType.case !== "typedConfig") throw new Error("no configuration");
      return !anyUnpack(filter.configType.value, PluginConfigSchema)?.disableHostHeaderFallback;
    };
    expect(fallback(inbound().http)).toBe(false);
    expect(fallback(listenersOf(sidecar(true), pushContextOf(yaml)).get("0.0.0.0_80")?.filterChains[0])).toBe(true);
    expect(fallback(listenersOf(routerNode({ hasIstioFilters: true }), pushContextOf(yaml)).get("0.0.0.0_80")?.filterChains[0])).toBe(
      false,
    );
  });

  it("count nothing without a provider of metrics", () => {
    const filters = (meshYaml: string) => names(inbound(sidecar(true), meshYaml).tcp?.filters);
    expect(filters("defaultProviders: {metrics: []}")).toEqual(["istio.metadata_exchange", "tcp_proxy"]);
    expect(filters("defaultProviders: {metrics: [stackdriver]}")).toEqual(["istio.metadata_exchange", "tcp_proxy"]);
    const own = "{defaultProviders: {metrics: [mine]}, extensionProviders: [{name: mine, prometheus: {}}]}";
    expect(filters(own)).toEqual(["istio.metadata_exchange", "istio.stats", "tcp_proxy"]);
  });
});
