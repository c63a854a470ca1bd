/**
 * LDS of a gateway: one listener for each port and bind of its merged servers.
 * Source: Istio pilot/pkg/networking/core/gateway.go, tls.go.
 */
import { create } from "@bufbuild/protobuf";
import { sniCluster } from "../../api/cluster-name.ts";
import { TrafficDirection } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { type Filter, type FilterChain, FilterChainSchema } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { hostCovers, intersectHosts } from "../../api/hostname.ts";
import type { ProxyNode } from "../../api/node.ts";
import { parseProtocol } from "../../registry/protocol.ts";
import { type GatewayListener, type GatewayServer, terminatesTls } from "../push/merged-gateway.ts";
import type { PushContext } from "../push/push-context.ts";
import { listenerAccessLogs } from "./access-log.ts";
import { authFilters } from "./auth-filters.ts";
import { type Addresses, wildcardAddresses } from "./bind-address.ts";
import { downstreamTls } from "./downstream-tls.ts";
import { gatewayTopology } from "./gateway-topology.ts";
import { httpConnectionManager } from "./http-connection-manager.ts";
import { type RouteContext, serviceHash } from "./http-routes.ts";
import { connectionExchange, istioTcpFilters } from "./istio-filters.ts";
import { proxyProtocol, tlsInspector } from "./listener-filters.ts";
import { configMetadata, duration, listensOn } from "./messages.ts";
import { meshAlpn } from "./mutual-tls.ts";
import { routeHash, routeTargets, type TcpForwarding, tcpProxy, type WeightedTarget } from "./tcp-proxy.ts";
import { tunnelOfRoutes } from "./tunnel.ts";

/** Metadata TOPSAIL_BIND_ADDRESS keeps a gateway for trying out on loopback. */
function defaultAddresses(proxy: ProxyNode): Addresses {
  const told = proxy.metadata.TOPSAIL_BIND_ADDRESS;
  return typeof told === "string" && told !== "" ? [told] : wildcardAddresses(proxy);
}

export function gatewayListeners(proxy: ProxyNode, push: PushContext): Listener[] {
  const { wantsProxyHeader } = gatewayTopology(proxy, push.mesh);
  return push.mergedGateway(proxy).listeners.flatMap((listener) => {
    const binds: Addresses = listener.bind ? [listener.bind] : defaultAddresses(proxy);
    const name = `${binds[0]}_${listener.port}`;
    const chains = filterChains(listener, name, proxy, push);
    if (chains.length === 0) return [];
    return [
      create(ListenerSchema, {
        name,
        ...listensOn(binds, listener.port),
        filterChains: chains,
        listenerFilters: [
          ...(wantsProxyHeader ? [proxyProtocol()] : []),
          ...(listener.isPlainHttp || listener.servers.every(({ server }) => !server.tls) ? [] : [tlsInspector()]),
        ],
        trafficDirection: TrafficDirection.OUTBOUND,
        accessLog: listenerAccessLogs(push.mesh),
        continueOnListenerFiltersTimeout: !listener.isPlainHttp,
        maxConnectionsToAcceptPerSocketEvent: 1,
      }),
    ];
  });
}

function filterChains(listener: GatewayListener, name: string, proxy: ProxyNode, push: PushContext): FilterChain[] {
  const [first] = listener.servers;
  if (listener.isPlainHttp && first) {
    return [
      create(FilterChainSchema, {
        filters: [
          httpConnectionManager({
            class: "gateway",
            statPrefix: `outbound_${name}`,
            routes: { rds: first.routeName },
            proxy,
            mesh: push.mesh,
            authFilters: authFilters(proxy, push).http,
            takesGrpcWeb: listener.servers.some(({ server }) => parseProtocol(server.port?.protocol ?? "") === "GRPC-Web"),
          }),
        ],
      }),
    ];
  }
  return listener.servers.flatMap((entry) => {
    if (entry.routeName !== "") return [httpsChain(entry, name, proxy, push)];
    if (entry.server.tls?.mode === "AUTO_PASSTHROUGH") return serverNameChains(entry, proxy, push);
    return terminatesTls(entry.server.tls) || !entry.server.tls ? tcpChains(entry, proxy, push) : passthroughChains(entry, proxy, push);
  });
}

function httpsChain(entry: GatewayServer, listenerName: string, proxy: ProxyNode, push: PushContext): FilterChain {
  return create(FilterChainSchema, {
    filterChainMatch: serverNameMatch(entry.hosts.map(({ host }) => host)),
    filters: [
      httpConnectionManager({
        class: "gateway",
        statPrefix: entry.server.name || `outbound_${listenerName}`,
        routes: { rds: entry.routeName },
        proxy,
        mesh: push.mesh,
        authFilters: authFilters(proxy, push).http,
      }),
    ],
    transportSocket: downstreamTls(entry.server.tls!, { http: true, proxy, mesh: push.mesh }),
    transportSocketConnectTimeout: duration(15_000),
  });
}

/** A plain TCP server, or one whose TLS ends here: the first VirtualService with a tcp rule for the gateway decides. */
function tcpChains(entry: GatewayServer, proxy: ProxyNode, push: PushContext): FilterChain[] {
  const context = routeContext(entry, proxy, push);
  for (const virtualService of push.virtualServices.forGateway(entry.gateway, proxy.namespace)) {
    if (!binds(entry, virtualService.namespace, virtualService.hosts)) continue;
    for (const rule of virtualService.spec.tcp) {
      const applies =
        rule.match.length === 0 ||
        rule.match.some(
          (match) =>
            (match.port === 0 || match.port === entry.port) && (match.gateways.length === 0 || match.gateways.includes(entry.gateway)),
        );
      if (!applies) continue;
      const targets = routeTargets(rule.route, virtualService.namespace, context);
      if (targets.length === 0) continue;
      const hash = routeHash(rule.route, virtualService.namespace, context);
      const tunnel = tunnelOfRoutes(rule.route, virtualService.namespace, context);
      const match = entry.server.tls ? serverNameMatch(entry.hosts.map(({ host }) => host)) : undefined;
      return [
        create(FilterChainSchema, {
          ...(match ? { filterChainMatch: match } : {}),
          filters: [
            ...(entry.server.tls?.mode === "ISTIO_MUTUAL" ? connectionExchange(proxy) : []),
            ...tcpFilters(targets, { hash, tunnel }, proxy, push),
          ],
          metadata: configMetadata(virtualService.object),
          ...(entry.server.tls
            ? {
                transportSocket: downstreamTls(entry.server.tls, { http: false, proxy, mesh: push.mesh }),
                transportSocketConnectTimeout: duration(15_000),
              }
            : {}),
        }),
      ];
    }
  }
  return [];
}

/** TLS that passes through, by SNI: a chain for each tls match of the VirtualServices that are bound to the server. */
function passthroughChains(entry: GatewayServer, proxy: ProxyNode, push: PushContext): FilterChain[] {
  const context = routeContext(entry, proxy, push);
  const chains: FilterChain[] = [];
  const taken = new Set<string>();
  for (const virtualService of push.virtualServices.forGateway(entry.gateway, proxy.namespace)) {
    if (!binds(entry, virtualService.namespace, virtualService.hosts)) continue;
    for (const rule of virtualService.spec.tls) {
      for (const match of rule.match) {
        if (match.port !== 0 && match.port !== entry.port) continue;
        if (match.gateways.length > 0 && !match.gateways.includes(entry.gateway)) continue;
        const names = match.sniHosts
          .map((sni) => sni.toLowerCase())
          .filter((sni) => entry.hosts.some(({ host }) => hostCovers(host, sni) || hostCovers(sni, host)))
          // Two chains with the same name would make Envoy refuse the listener; the older VirtualService keeps it.
          .filter((sni) => !taken.has(sni));
        const targets = routeTargets(rule.route, virtualService.namespace, context);
        if (names.length === 0 || targets.length === 0) continue;
        for (const sni of names) taken.add(sni);
        const hash = routeHash(rule.route, virtualService.namespace, context);
        const chainMatch = serverNameMatch(names);
        chains.push(
          create(FilterChainSchema, {
            ...(chainMatch ? { filterChainMatch: chainMatch } : {}),
            filters: tcpFilters(targets, { hash, tunnel: tunnelOfRoutes(rule.route, virtualService.namespace, context) }, proxy, push),
            metadata: configMetadata(virtualService.object),
          }),
        );
      }
    }
  }
  return chains;
}

/**
 * Mutual TLS of the mesh that passes through: the server name that its clients ask for is the name of a cluster. Together with the ALPN
 * that only the mesh's clients offer, and clusters of nothing but endpoints that ask for certificates, nobody gets in without one.
 */
function serverNameChains(entry: GatewayServer, proxy: ProxyNode, push: PushContext): FilterChain[] {
  return push
    .servicesFor(proxy)
    .filter((service) => !service.isExternal && entry.hosts.some(({ host }) => hostCovers(host, service.host)))
    .flatMap((service) => {
      const subsets = push.destinationRules.forService(proxy, service)?.spec.subsets.map(({ name }) => name) ?? [];
      return service.ports
        .filter(({ protocol }) => protocol !== "UDP")
        .flatMap(({ number }) =>
          ["", ...subsets].map((subset) => ({
            cluster: sniCluster(service.host, number, subset),
            hash: serviceHash(service, subset, number, { proxy, push }),
          })),
        );
    })
    .map(({ cluster, hash }) =>
      create(FilterChainSchema, {
        filterChainMatch: { serverNames: [cluster], applicationProtocols: [...meshAlpn.all] },
        filters: tcpFilters([{ cluster, weight: 1 }], { hash }, proxy, push),
      }),
    );
}

function tcpFilters(targets: readonly WeightedTarget[], how: TcpForwarding, proxy: ProxyNode, push: PushContext): Filter[] {
  const stats = istioTcpFilters("gateway", proxy, push.mesh);
  return [...authFilters(proxy, push).tcp, ...stats, tcpProxy(targets[0]!.cluster, targets, push.mesh, how)];
}

function routeContext(entry: GatewayServer, proxy: ProxyNode, push: PushContext): RouteContext {
  return {
    proxy,
    push,
    port: entry.server.port?.number ?? entry.port,
    gateways: new Set([entry.gateway]),
    isTls: entry.server.tls !== undefined,
  };
}

/** Whether a VirtualService of the namespace and hosts may be served by this server. */
function binds(entry: GatewayServer, namespace: string, hosts: readonly string[]): boolean {
  return boundHosts(entry, namespace, hosts).length > 0;
}

/** The names that both the server and the VirtualService stand for. */
export function boundHosts(entry: GatewayServer, namespace: string, hosts: readonly string[]): string[] {
  const names = new Set<string>();
  for (const server of entry.hosts) {
    if (server.namespace !== "*" && server.namespace !== namespace) continue;
    for (const host of hosts) {
      const common = intersectHosts(server.host, host);
      if (common !== undefined) names.add(common);
    }
  }
  return [...names];
}

/** `*` is no SNI match but the absence of one. */
function serverNameMatch(hosts: readonly string[]) {
  if (hosts.includes("*")) return undefined;
  return { serverNames: [...new Set(hosts)] };
}
