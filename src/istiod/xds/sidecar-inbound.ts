/**
 * Inbound half of a sidecar's LDS: virtualInbound, to which traffic is redirected, with a set of filter chains for each port of the
 * workload and one for all others; and listeners of their own for what a Sidecar lists with captureMode NONE.
 * Source: Istio pilot/pkg/networking/core/listener_inbound.go.
 */
import { create } from "@bufbuild/protobuf";
import { blackHoleCluster, inboundCluster, inboundPassthroughCluster } from "../../api/cluster-name.ts";
import { TrafficDirection } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { type Filter, type FilterChain, FilterChainSchema } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import type { RouteConfiguration } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import { type MutualTlsMode, modeOfPort, type WorkloadMutualTls } from "../push/peer-authentication.ts";
import type { PushContext } from "../push/push-context.ts";
import { listenerAccessLogs } from "./access-log.ts";
import { type AuthFilters, authFilters } from "./auth-filters.ts";
import { type Addresses, captureAddresses, wildcardAddress } from "./bind-address.ts";
import { downstreamTls } from "./downstream-tls.ts";
import { patchRoutes } from "./envoy-filter/patch-routes.ts";
import { inboundSide } from "./envoy-filter/patched-side.ts";
import { httpConnectionManager } from "./http-connection-manager.ts";
import { type Carried, type InboundPort, inboundFilterChains, inboundShapes, terminating } from "./inbound-filter-chains.ts";
import { type InboundTarget, inboundTargets, isIntercepted, isTransparent } from "./inbound-targets.ts";
import { inspectorsFor } from "./inspectors.ts";
import { connectionExchange, istioTcpFilters } from "./istio-filters.ts";
import { originalDst, originalSrc } from "./listener-filters.ts";
import { configMetadata, duration, listensOn } from "./messages.ts";
import { mutualTlsServer } from "./mutual-tls.ts";
import { inboundRoutes } from "./sidecar-routes.ts";
import { tcpProxy } from "./tcp-proxy.ts";

export function inboundListeners(proxy: ProxyNode, push: PushContext): Listener[] {
  const mutualTls = possible(push.peerAuthentications.forWorkload(proxy.namespace, proxy.labels), proxy);
  const targets = inboundTargets(proxy, push);
  const captured: FilterChain[] = [];
  const bound: Listener[] = [];
  for (const target of targets) {
    const chains = targetChains(target, mutualTls, proxy, push);
    if (target.binds === undefined) captured.push(...chains);
    else bound.push(listener(`${target.binds[0]}_${target.port}`, target.binds, target.port, chains, "bound", push));
  }
  if (!isIntercepted(proxy)) return bound;
  const port = push.mesh.proxyInboundListenPort || 15006;
  const chains = [
    blackHole(port, proxy, push),
    ...passthroughChains(targets, mutualTls, authFilters(proxy, push), proxy, push),
    ...captured,
  ];
  return [
    listener("virtualInbound", captureAddresses(proxy), port, chains, isTransparent(proxy) ? "handed over" : "redirected", push),
    ...bound,
  ];
}

/** Who has no certificate can't be called by mutual TLS where that is left to the client. What is required stays required. */
function possible({ mode, portModes }: WorkloadMutualTls, { hasIdentity }: ProxyNode): WorkloadMutualTls {
  if (hasIdentity) return { mode, portModes };
  const without = (asked: MutualTlsMode) => (asked === "PERMISSIVE" ? "DISABLE" : asked);
  return { mode: without(mode), portModes: new Map([...portModes].map(([port, asked]) => [port, without(asked)])) };
}

function listener(
  name: string,
  addresses: Addresses,
  port: number,
  filterChains: FilterChain[],
  traffic: "redirected" | "handed over" | "bound",
  { mesh }: PushContext,
): Listener {
  return create(ListenerSchema, {
    name,
    ...listensOn(addresses, port),
    trafficDirection: TrafficDirection.INBOUND,
    accessLog: listenerAccessLogs(mesh),
    filterChains,
    ...(traffic === "handed over" ? { transparent: true } : {}),
    listenerFilters: [
      ...(traffic === "bound" ? [] : [originalDst()]),
      ...(traffic === "handed over" ? [originalSrc()] : []),
      ...inspectorsFor(filterChains),
    ],
    listenerFiltersTimeout: duration(mesh.protocolDetectionTimeout ?? 0),
    continueOnListenerFiltersTimeout: true,
    maxConnectionsToAcceptPerSocketEvent: 1,
  });
}

/** What asks for the listener's own port would go round in circles. */
function blackHole(port: number, proxy: ProxyNode, { mesh }: PushContext): FilterChain {
  return create(FilterChainSchema, {
    name: "virtualInbound-blackhole",
    filterChainMatch: { destinationPort: port },
    filters: [
      ...connectionExchange(proxy),
      ...istioTcpFilters("sidecarInbound", proxy, mesh),
      tcpProxy(blackHoleCluster, [{ cluster: blackHoleCluster, weight: 1 }], mesh),
    ],
  });
}

/** Of all ports that no service declares; those that a PeerAuthentication names have chains of their own. */
function passthroughChains(
  targets: readonly InboundTarget[],
  mutualTls: WorkloadMutualTls,
  auth: AuthFilters,
  proxy: ProxyNode,
  push: PushContext,
): FilterChain[] {
  const side = inboundSide(proxy, push);
  const declared = new Set(targets.map(({ port }) => port));
  const named = [...mutualTls.portModes.keys()].filter((port) => !declared.has(port)).sort((a, b) => a - b);
  return [undefined, ...named].flatMap((port) => {
    const chains: InboundPort = {
      port,
      name: (carries) => (carries === "http" ? "virtualInbound-catchall-http" : "virtualInbound"),
      filters: (carries) => {
        const cluster = inboundPassthroughCluster;
        const routes = patchRoutes(inboundRoutes(cluster, 0, ""), side);
        return inboundFilters(carries, { cluster, statPrefix: cluster, routes }, auth, proxy, push);
      },
      transportSocket: (carries) => mutualTlsServer(carries, proxy, push.mesh),
    };
    return inboundFilterChains(chains, inboundShapes(port === undefined ? mutualTls.mode : modeOfPort(mutualTls, port), "unsupported"));
  });
}

function targetChains(target: InboundTarget, mutualTls: WorkloadMutualTls, proxy: ProxyNode, push: PushContext): FilterChain[] {
  const { port, protocol, ingress } = target;
  const name = `${target.binds?.[0] ?? wildcardAddress(proxy)}_${port}`;
  const cluster = inboundCluster(port);
  const mode = modeOfPort(mutualTls, port);
  const auth = authFilters(proxy, push);
  // TLS of the port's own would be in the way of the mesh's.
  const ownTls = mode === "DISABLE" ? ingress?.tls : undefined;
  const chains = inboundFilterChains(
    {
      port,
      name: () => name,
      filters: (carries) => {
        const own = inboundRoutes(cluster, target.servicePort, `${target.host}:${target.servicePort}/*`);
        const routes = patchRoutes(own, inboundSide(proxy, push));
        const traffic = { cluster, statPrefix: `inbound_${name}`, routes, takesGrpcWeb: protocol === "GRPC-Web" };
        return inboundFilters(carries, traffic, auth, proxy, push);
      },
      transportSocket: (carries) =>
        ownTls ? downstreamTls(ownTls, { http: carries === "http", proxy, mesh: push.mesh }) : mutualTlsServer(carries, proxy, push.mesh),
    },
    ownTls ? terminating(protocol) : inboundShapes(mode, protocol),
  );
  const sidecar = push.sidecarScope(proxy).object;
  if (ingress && sidecar) for (const chain of chains) chain.metadata = configMetadata(sidecar);
  return chains;
}

interface InboundTraffic {
  readonly cluster: string;
  /** Of requests. */
  readonly statPrefix: string;
  readonly routes: RouteConfiguration;
  readonly takesGrpcWeb?: boolean;
}

function inboundFilters(
  carries: Carried,
  { cluster, statPrefix, routes, takesGrpcWeb = false }: InboundTraffic,
  auth: AuthFilters,
  proxy: ProxyNode,
  { mesh }: PushContext,
): Filter[] {
  const exchange = connectionExchange(proxy);
  if (carries === "tcp") {
    const stats = istioTcpFilters("sidecarInbound", proxy, mesh);
    return [...exchange, ...auth.tcp, ...stats, tcpProxy(cluster, [{ cluster, weight: 1 }], mesh)];
  }
  const manager = {
    class: "sidecarInbound",
    statPrefix,
    routes: { inline: routes },
    proxy,
    mesh,
    authFilters: auth.http,
    takesGrpcWeb,
  } as const;
  return [...exchange, httpConnectionManager(manager)];
}
