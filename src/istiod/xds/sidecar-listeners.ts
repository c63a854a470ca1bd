/**
 * The two listeners to which a sidecar's traffic is redirected, virtualOutbound and virtualInbound. Those for outbound ports
 * (sidecar-outbound.ts) only take over what virtualOutbound hands them by its original destination.
 *
 * Plaintext only: the chains for mutual TLS come with the CA.
 * Source: Istio pilot/pkg/networking/core/listener_builder.go, listener_inbound.go.
 */
import { create } from "@bufbuild/protobuf";
import { blackHoleCluster, inboundCluster, inboundPassthroughCluster } from "../../api/cluster-name.ts";
import { TrafficDirection } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { type FilterChain, FilterChainSchema } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import { isHttp, type Protocol } from "../../registry/protocol.ts";
import type { Service, ServicePort } from "../../registry/service.ts";
import type { PushContext } from "../push/push-context.ts";
import { listenerAccessLogs } from "./access-log.ts";
import { type AuthFilters, authFilters } from "./auth-filters.ts";
import { wildcardAddress } from "./bind-address.ts";
import { httpConnectionManager } from "./http-connection-manager.ts";
import { httpInspector, originalDst, tlsInspector } from "./listener-filters.ts";
import { duration, socketAddress } from "./messages.ts";
import { catchAllCluster } from "./sidecar-outbound.ts";
import { inboundRoutes } from "./sidecar-routes.ts";
import { tcpProxy } from "./tcp-proxy.ts";

/** Without interception there is none: outbound listeners take their ports themselves. */
export function virtualListeners(proxy: ProxyNode, push: PushContext): Listener[] {
  if (proxy.metadata.INTERCEPTION_MODE === "NONE") return [];
  return [virtualOutbound(proxy, push), virtualInbound(proxy, push)];
}

// === outbound ===

function virtualOutbound(proxy: ProxyNode, push: PushContext): Listener {
  const port = push.mesh.proxyListenPort || 15001;
  const catchAll = catchAllCluster(push.sidecarScope(proxy).outboundMode);
  return create(ListenerSchema, {
    name: "virtualOutbound",
    address: socketAddress(wildcardAddress(proxy), port),
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

// === inbound ===

function virtualInbound(proxy: ProxyNode, push: PushContext): Listener {
  const port = push.mesh.proxyInboundListenPort || 15006;
  const passthrough = [{ cluster: inboundPassthroughCluster, weight: 1 }];
  const auth = authFilters(proxy, push);
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
          authFilters: auth.http,
        }),
      ],
    }),
    create(FilterChainSchema, {
      name: "virtualInbound",
      filters: [...auth.tcp, tcpProxy(inboundPassthroughCluster, passthrough, push.mesh)],
    }),
  ];
  const seen = new Set<number>();
  const own = [...push.registry.servicesAt(proxy.ipAddresses, proxy.namespace)].sort((a, b) => a.endpoint.port - b.endpoint.port);
  for (const { service, endpoint } of own) {
    const servicePort = service.ports.find((candidate) => candidate.name === endpoint.portName);
    if (!servicePort || servicePort.protocol === "UDP" || seen.has(endpoint.port)) continue;
    seen.add(endpoint.port);
    chains.push(...inboundChains(endpoint.port, servicePort, service, auth, push));
  }
  return create(ListenerSchema, {
    name: "virtualInbound",
    address: socketAddress(wildcardAddress(proxy), port),
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

function inboundChains(workloadPort: number, port: ServicePort, service: Service, auth: AuthFilters, push: PushContext): FilterChain[] {
  const name = `0.0.0.0_${workloadPort}`;
  const cluster = inboundCluster(workloadPort);
  const http = () => [
    httpConnectionManager({
      class: "sidecarInbound",
      statPrefix: `inbound_${name}`,
      routes: { inline: inboundRoutes(cluster, port.number, `${service.host}:${port.number}/*`) },
      mesh: push.mesh,
      authFilters: auth.http,
    }),
  ];
  const tcp = () => [...auth.tcp, tcpProxy(cluster, [{ cluster, weight: 1 }], push.mesh)];
  const chain = (match: object, filters: ReturnType<typeof tcp>) =>
    create(FilterChainSchema, { name, filterChainMatch: { destinationPort: workloadPort, ...match }, filters });
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
