/**
 * LDS of a sidecar. Traffic is redirected to two listeners that bind, virtualOutbound and virtualInbound; the others only take over
 * what virtualOutbound hands them by its original destination.
 *
 *   0.0.0.0_<port>   HTTP ports of all services, by the route configuration `<port>`
 *   <vip>_<port>     TCP ports of services with an address of their own; sniffed ports too
 *
 * Plaintext only: the chains for mutual TLS come with the CA.
 * Source: Istio pilot/pkg/networking/core/listener.go, listener_inbound.go, listener_builder.go.
 */
import { create } from "@bufbuild/protobuf";
import {
  blackHoleCluster,
  inboundCluster,
  inboundPassthroughCluster,
  outboundCluster,
  passthroughCluster,
} from "../../api/cluster-name.ts";
import { TrafficDirection } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import {
  type FilterChain,
  FilterChainSchema,
  type ListenerFilter,
  ListenerFilterSchema,
} from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { HttpInspectorSchema } from "../../api/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { OriginalDstSchema } from "../../api/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import { isHttp, isTls, type Protocol } from "../../registry/protocol.ts";
import type { Service, ServicePort } from "../../registry/service.ts";
import type { PushContext } from "../push/push-context.ts";
import { virtualServiceFor } from "../push/sidecar-scope.ts";
import { meshGateway } from "../push/virtual-services.ts";
import { listenerAccessLogs } from "./access-log.ts";
import { tlsInspector } from "./gateway-listeners.ts";
import { httpConnectionManager } from "./http-connection-manager.ts";
import { any, duration, socketAddress } from "./messages.ts";
import { inboundRoutes } from "./sidecar-routes.ts";
import { routeTargets, tcpProxy } from "./tcp-proxy.ts";

export function sidecarListeners(proxy: ProxyNode, push: PushContext): Listener[] {
  if (proxy.metadata.INTERCEPTION_MODE === "NONE") return [];
  return [virtualOutbound(push, proxy), ...outboundListeners(proxy, push), virtualInbound(proxy, push)];
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

// === inbound ===

function virtualInbound(proxy: ProxyNode, push: PushContext): Listener {
  const port = push.mesh.proxyInboundListenPort || 15006;
  const passthrough = [{ cluster: inboundPassthroughCluster, weight: 1 }];
  const chains: FilterChain[] = [
    create(FilterChainSchema, {
      name: "virtualInbound-blackhole",
      filterChainMatch: { destinationPort: port },
      filters: [tcpProxy(blackHoleCluster, [{ cluster: blackHoleCluster, weight: 1 }], push.mesh)],
    }),
    create(FilterChainSchema, {
      name: "virtualInbound-catchall-http",
      filterChainMatch: { transportProtocol: "raw_buffer", applicationProtocols: ["http/1.1", "h2c"] },
      filters: [
        httpConnectionManager({
          class: "sidecarInbound",
          statPrefix: inboundPassthroughCluster,
          routes: { inline: inboundRoutes(inboundPassthroughCluster, 0, "") },
          mesh: push.mesh,
        }),
      ],
    }),
    create(FilterChainSchema, { name: "virtualInbound", filters: [tcpProxy(inboundPassthroughCluster, passthrough, push.mesh)] }),
  ];
  const seen = new Set<number>();
  const own = [...push.registry.servicesAt(proxy.ipAddresses, proxy.namespace)].sort((a, b) => a.endpoint.port - b.endpoint.port);
  for (const { service, endpoint } of own) {
    const servicePort = service.ports.find((candidate) => candidate.name === endpoint.portName);
    if (!servicePort || servicePort.protocol === "UDP" || seen.has(endpoint.port)) continue;
    seen.add(endpoint.port);
    chains.push(...inboundChains(endpoint.port, servicePort, service, push));
  }
  return create(ListenerSchema, {
    name: "virtualInbound",
    address: socketAddress("0.0.0.0", port),
    useOriginalDst: true,
    trafficDirection: TrafficDirection.INBOUND,
    accessLog: listenerAccessLogs(push.mesh),
    filterChains: chains,
    listenerFilters: [originalDst(), tlsInspector(), httpInspector()],
    listenerFiltersTimeout: duration(push.mesh.protocolDetectionTimeout ?? 0),
    continueOnListenerFiltersTimeout: true,
    maxConnectionsToAcceptPerSocketEvent: 1,
  });
}

function inboundChains(workloadPort: number, port: ServicePort, service: Service, push: PushContext): FilterChain[] {
  const name = `0.0.0.0_${workloadPort}`;
  const cluster = inboundCluster(workloadPort);
  const http = () =>
    httpConnectionManager({
      class: "sidecarInbound",
      statPrefix: `inbound_${name}`,
      routes: { inline: inboundRoutes(cluster, port.number, `${service.host}:${port.number}/*`) },
      mesh: push.mesh,
    });
  const tcp = () => tcpProxy(cluster, [{ cluster, weight: 1 }], push.mesh);
  const chain = (match: object, filter: ReturnType<typeof tcp>) =>
    create(FilterChainSchema, { name, filterChainMatch: { destinationPort: workloadPort, ...match }, filters: [filter] });
  const kind = inboundKind(port.protocol);
  switch (kind) {
    case "http":
      return [chain({ transportProtocol: "raw_buffer" }, http())];
    case "tcp":
      return [chain({}, tcp())];
    case "sniffed":
      return [
        chain({ transportProtocol: "raw_buffer", applicationProtocols: ["http/1.1", "h2c"] }, http()),
        chain({ transportProtocol: "raw_buffer" }, tcp()),
        chain({ transportProtocol: "tls" }, tcp()),
      ];
    default:
      return kind satisfies never;
  }
}

function inboundKind(protocol: Protocol): "http" | "tcp" | "sniffed" {
  if (isHttp(protocol)) return "http";
  return protocol === "unsupported" ? "sniffed" : "tcp";
}

function originalDst(): ListenerFilter {
  return create(ListenerFilterSchema, {
    name: "envoy.filters.listener.original_dst",
    configType: { case: "typedConfig", value: any(OriginalDstSchema, {}) },
  });
}

function httpInspector(): ListenerFilter {
  return create(ListenerFilterSchema, {
    name: "envoy.filters.listener.http_inspector",
    configType: { case: "typedConfig", value: any(HttpInspectorSchema, {}) },
  });
}
