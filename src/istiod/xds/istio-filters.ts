/**
 * The filters that Istio's proxy and ours have beyond Envoy's, for proxies that have them: metadata exchange, by which each side learns which
 * workload the other is of, Istio's metrics, and the ALPN of the mesh. Source: Istio pilot/pkg/xds/filters/filters.go, pilot/pkg/model/telemetry.go.
 */
import { create } from "@bufbuild/protobuf";
import { type Filter as ClusterFilter, FilterSchema as ClusterFilterSchema } from "../../api/gen/envoy/config/cluster/v3/filter_pb.js";
import { type Filter, FilterSchema } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { HttpFilter } from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { MetadataExchangeSchema } from "../../api/gen/envoy/tcp/metadataexchange/config/metadata_exchange_pb.js";
import { FilterConfigSchema, FilterConfig_Protocol as Protocol } from "../../api/gen/istio/alpn/config_pb.js";
import { ConfigSchema as PeerMetadataSchema } from "../../api/gen/istio/http/peer_metadata/config_pb.js";
import { PluginConfigSchema } from "../../api/gen/istio/stats/plugin_config_pb.js";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import type { ProxyNode } from "../../api/node.ts";
import type { ListenerClass } from "./http-connection-manager.ts";
import { any, httpFilter } from "./messages.ts";
import { peerExchangeProtocol } from "./mutual-tls.ts";

const exchangeName = "istio.metadata_exchange";
const statsName = "istio.stats";

interface HttpFilters {
  /** Before all others, so that what any of them refuses is known by its peer. */
  readonly first: HttpFilter[];
  readonly beforeFault: HttpFilter[];
  readonly beforeRouter: HttpFilter[];
}

export function istioHttpFilters(listenerClass: ListenerClass, proxy: ProxyNode, mesh: MeshConfig): HttpFilters {
  if (!proxy.hasIstioFilters) return { first: [], beforeFault: [], beforeRouter: [] };
  return {
    first: [listenerClass === "sidecarInbound" ? serverExchange : clientExchange(proxy)],
    beforeFault: listenerClass === "sidecarInbound" ? [] : [alpn],
    beforeRouter: countsForPrometheus(mesh) ? [httpFilter(statsName, PluginConfigSchema, statsConfig(listenerClass))] : [],
  };
}

/** Before tcp_proxy. */
export function istioTcpFilters(listenerClass: ListenerClass, proxy: ProxyNode, mesh: MeshConfig): Filter[] {
  if (!proxy.hasIstioFilters || !countsForPrometheus(mesh)) return [];
  return [networkFilter(statsName, any(PluginConfigSchema, statsConfig(listenerClass)))];
}

/** Before all others, where mutual TLS of the mesh ends. */
export function connectionExchange({ hasIstioFilters }: ProxyNode): Filter[] {
  return hasIstioFilters ? [networkFilter(exchangeName, any(MetadataExchangeSchema, exchangeConfig))] : [];
}

/** The client's half of it. */
export function clusterExchange({ hasIstioFilters }: ProxyNode): ClusterFilter[] {
  if (!hasIstioFilters) return [];
  return [create(ClusterFilterSchema, { name: exchangeName, typedConfig: any(MetadataExchangeSchema, exchangeConfig) })];
}

const exchangeConfig = { protocol: peerExchangeProtocol, enableDiscovery: true };

function networkFilter(name: string, typedConfig: ReturnType<typeof any>): Filter {
  return create(FilterSchema, { name, configType: { case: "typedConfig", value: typedConfig } });
}

const byHeaders = { methodSpecifier: { case: "istioHeaders", value: {} } } as const;
const byDiscovery = { methodSpecifier: { case: "workloadDiscovery", value: {} } } as const;

const serverExchange = httpFilter(exchangeName, PeerMetadataSchema, {
  downstreamDiscovery: [byHeaders, byDiscovery],
  downstreamPropagation: [byHeaders],
});

function clientExchange({ tellsOnlyMesh }: ProxyNode): HttpFilter {
  return httpFilter(exchangeName, PeerMetadataSchema, {
    upstreamDiscovery: [byHeaders, byDiscovery],
    upstreamPropagation: [{ methodSpecifier: { case: "istioHeaders", value: { skipExternalClusters: tellsOnlyMesh } } }],
  });
}

/** With `istio` for servers of old, and what any server knows. */
const alpn = httpFilter("istio.alpn", FilterConfigSchema, {
  alpnOverride: [
    { upstreamProtocol: Protocol.HTTP10, alpnOverride: ["istio-http/1.0", "istio", "http/1.0"] },
    { upstreamProtocol: Protocol.HTTP11, alpnOverride: ["istio-http/1.1", "istio", "http/1.1"] },
    { upstreamProtocol: Protocol.HTTP2, alpnOverride: ["istio-h2", "istio", "h2"] },
  ],
});

/** What clients outside call a service says nothing of it. */
function statsConfig(listenerClass: ListenerClass) {
  return { disableHostHeaderFallback: listenerClass !== "sidecarOutbound" };
}

function countsForPrometheus({ defaultProviders, extensionProviders }: MeshConfig): boolean {
  const wanted = new Set(defaultProviders?.metrics);
  return extensionProviders.some(({ name, prometheus }) => prometheus !== undefined && wanted.has(name));
}
