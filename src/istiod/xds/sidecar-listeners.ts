/**
 * LDS of a sidecar. Traffic is redirected to two listeners that bind, virtualOutbound and virtualInbound (sidecar-inbound.ts); the others
 * only take over what virtualOutbound hands them by its original destination.
 *
 *   0.0.0.0_<port>   HTTP ports of all services, by the route configuration `<port>`
 *   <vip>_<port>     TCP ports of services with an address of their own; sniffed ports too
 *
 * Source: Istio pilot/pkg/networking/core/listener.go, listener_builder.go.
 */
import { create } from "@bufbuild/protobuf";
import { blackHoleCluster, outboundCluster, passthroughCluster } from "../../api/cluster-name.ts";
import { TrafficDirection } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { type FilterChain, FilterChainSchema } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import { isHttp, isTls } from "../../registry/protocol.ts";
import type { Service, ServicePort } from "../../registry/service.ts";
import type { PushContext } from "../push/push-context.ts";
import { virtualServiceFor } from "../push/sidecar-scope.ts";
import { meshGateway } from "../push/virtual-services.ts";
import { listenerAccessLogs } from "./access-log.ts";
import { httpConnectionManager } from "./http-connection-manager.ts";
import { isIntercepted } from "./inbound-targets.ts";
import { httpInspector, tlsInspector } from "./listener-filters.ts";
import { duration, socketAddress } from "./messages.ts";
import { inboundListeners } from "./sidecar-inbound.ts";
import { routeTargets, tcpProxy } from "./tcp-proxy.ts";

export function sidecarListeners(proxy: ProxyNode, push: PushContext): Listener[] {
  if (!isIntercepted(proxy)) return inboundListeners(proxy, push);
  return [virtualOutbound(push, proxy), ...outboundListeners(proxy, push), ...inboundListeners(proxy, push)];
}

// === outbound ===

function virtualOutbound(push: PushContext, proxy: ProxyNode): Listener {
  const port = push.mesh.proxyListenPort || 15001;
  const catchAll = push.sidecarScope(proxy).outboundMode === "ALLOW_ANY" ? passthroughCluster : blackHoleCluster;
  return create(ListenerSchema, {
    name: "virtualOutbound",
    address: socketAddress("0.0.0.0", port),
    useOriginalDst: true,
    trafficDirection: TrafficDirection.OUTBOUND,
    accessLog: listenerAccessLogs(push.mesh),
    filterChains: [
      // What asks for the port itself would go round in circles.
      create(FilterChainSchema, {
        name: "virtualOutbound-blackhole",
        filterChainMatch: { destinationPort: port },
        filters: [tcpProxy(blackHoleCluster, [{ cluster: blackHoleCluster, weight: 1 }], push.mesh)],
      }),
      create(FilterChainSchema, {
        name: "virtualOutbound-catchall-tcp",
        filters: [tcpProxy(catchAll, [{ cluster: catchAll, weight: 1 }], push.mesh)],
      }),
    ],
    maxConnectionsToAcceptPerSocketEvent: 1,
  });
}

interface OutboundPort {
  readonly bind: string;
  readonly port: number;
  http: boolean;
  /** RDS name where it is not the port. */
  routeName: string | undefined;
  sniffs: boolean;
  tcp: FilterChain[];
}

function outboundListeners(proxy: ProxyNode, push: PushContext): Listener[] {
  const scope = push.sidecarScope(proxy);
  const reserved = new Set([push.mesh.proxyListenPort || 15001, push.mesh.proxyInboundListenPort || 15006, 15021, 15090]);
  const byAddress = new Map<string, OutboundPort>();
  const at = (bind: string, port: number): OutboundPort => {
    const key = `${bind}_${port}`;
    const known = byAddress.get(key);
    if (known) return known;
    const made: OutboundPort = { bind, port, http: false, routeName: undefined, sniffs: false, tcp: [] };
    byAddress.set(key, made);
    return made;
  };
  for (const service of scope.services) {
    for (const port of service.ports) {
      if (port.protocol === "UDP" || port.protocol === "HTTP_PROXY") continue;
      const own = service.addresses.filter((address) => !address.includes("/"));
      if (isHttp(port.protocol)) {
        if (!reserved.has(port.number)) at("0.0.0.0", port.number).http = true;
      } else if (port.protocol === "unsupported") {
        for (const bind of own.length > 0 ? own : ["0.0.0.0"]) {
          if (bind === "0.0.0.0" && reserved.has(port.number)) continue;
          const entry = at(bind, port.number);
          entry.sniffs = true;
          if (bind !== "0.0.0.0") entry.routeName = `${service.host}:${port.number}`;
          addTcp(entry, tcpChain(service, port, proxy, push));
        }
      } else {
        for (const bind of own.length > 0 ? own : ["0.0.0.0"]) {
          if (bind === "0.0.0.0" && reserved.has(port.number)) continue;
          addTcp(at(bind, port.number), tcpChain(service, port, proxy, push));
        }
      }
    }
  }
  return [...byAddress.values()].map((entry) => outboundListener(entry, push));
}

/** The first of two chains with the same match stays: services come in the order of their creation. */
function addTcp(entry: OutboundPort, chain: FilterChain): void {
  const key = JSON.stringify(chain.filterChainMatch ?? {});
  if (!entry.tcp.some((known) => JSON.stringify(known.filterChainMatch ?? {}) === key)) entry.tcp.push(chain);
}

function tcpChain(service: Service, port: ServicePort, proxy: ProxyNode, push: PushContext): FilterChain {
  const scope = push.sidecarScope(proxy);
  const context = { proxy, push, port: port.number, gateways: new Set([meshGateway]), isTls: false };
  const virtualService = virtualServiceFor(service.host, scope.virtualServices);
  const rules = virtualService ? (isTls(port.protocol) ? virtualService.spec.tls : virtualService.spec.tcp) : [];
  const rule = rules.find(
    (candidate) =>
      candidate.match.length === 0 ||
      candidate.match.some(
        (match) =>
          (match.port === 0 || match.port === port.number) && (match.gateways.length === 0 || match.gateways.includes(meshGateway)),
      ),
  );
  const cluster = outboundCluster(service.host, port.number);
  const routed = virtualService && rule ? routeTargets(rule.route, virtualService.namespace, context) : [];
  const targets = routed.length > 0 ? routed : [{ cluster, weight: 1 }];
  const match = tcpMatch(service, port);
  return create(FilterChainSchema, {
    ...(match ? { filterChainMatch: match } : {}),
    filters: [tcpProxy(targets.length === 1 ? targets[0]!.cluster : cluster, targets, push.mesh)],
  });
}

/** A service without an address of its own is known by SNI where there is one, or by its address ranges. */
function tcpMatch(service: Service, port: ServicePort) {
  if (service.addresses.some((address) => !address.includes("/"))) return undefined;
  if (isTls(port.protocol)) return { serverNames: [service.host] };
  const ranges = service.addresses.map((address) => {
    const [addressPrefix = "", length = "32"] = address.split("/");
    return { addressPrefix, prefixLen: Number(length) };
  });
  return ranges.length > 0 ? { prefixRanges: ranges } : undefined;
}

function outboundListener(entry: OutboundPort, push: PushContext): Listener {
  const name = `${entry.bind}_${entry.port}`;
  const hasHttp = entry.http || entry.sniffs;
  const mixes = hasHttp && (entry.sniffs || entry.tcp.length > 0);
  const chains: FilterChain[] = [];
  if (hasHttp) {
    chains.push(
      create(FilterChainSchema, {
        filterChainMatch: { transportProtocol: "raw_buffer", applicationProtocols: ["http/1.1", "h2c"] },
        filters: [
          httpConnectionManager({
            class: "sidecarOutbound",
            statPrefix: `outbound_${name}`,
            routes: { rds: entry.routeName ?? String(entry.port) },
            mesh: push.mesh,
          }),
        ],
        transportSocketConnectTimeout: duration(15_000),
      }),
    );
  }
  const namesServers = entry.tcp.some((chain) => (chain.filterChainMatch?.serverNames.length ?? 0) > 0);
  const tcp = entry.tcp.filter((chain) => chain.filterChainMatch);
  const plain = entry.tcp.find((chain) => !chain.filterChainMatch);
  const fallback =
    plain ??
    (hasHttp
      ? create(FilterChainSchema, {
          name: "PassthroughFilterChain",
          filters: [tcpProxy(passthroughCluster, [{ cluster: passthroughCluster, weight: 1 }], push.mesh)],
        })
      : undefined);
  return create(ListenerSchema, {
    name,
    address: socketAddress(entry.bind, entry.port),
    bindToPort: false,
    trafficDirection: TrafficDirection.OUTBOUND,
    accessLog: listenerAccessLogs(push.mesh),
    filterChains: hasHttp || tcp.length > 0 ? [...chains, ...tcp] : fallback ? [fallback] : [],
    ...(fallback && (hasHttp || tcp.length > 0) ? { defaultFilterChain: fallback } : {}),
    listenerFilters: [...(hasHttp || mixes || namesServers ? [tlsInspector()] : []), ...(hasHttp ? [httpInspector()] : [])],
    ...(hasHttp || namesServers
      ? { listenerFiltersTimeout: duration(push.mesh.protocolDetectionTimeout ?? 0), continueOnListenerFiltersTimeout: true }
      : {}),
  });
}
