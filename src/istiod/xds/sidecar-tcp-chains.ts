/**
 * The filter chains by which a sidecar passes bytes to one service: what its VirtualServices say of tcp and tls, else all to the service.
 * Source: Istio pilot/pkg/networking/core/tls.go.
 */
import { create } from "@bufbuild/protobuf";
import { outboundCluster } from "../../api/cluster-name.ts";
import { type Filter, type FilterChain, FilterChainSchema } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { hostsMatch } from "../../api/hostname.ts";
import type { L4MatchAttributes, RouteDestination, TLSMatchAttributes } from "../../api/kinds/virtual-service.ts";
import type { ProxyNode } from "../../api/node.ts";
import { isTls } from "../../registry/protocol.ts";
import { type Service, type ServicePort, selectorMatches } from "../../registry/service.ts";
import type { PushContext } from "../push/push-context.ts";
import { meshGateway, type ResolvedVirtualService } from "../push/virtual-services.ts";
import { serviceHash } from "./http-routes.ts";
import { istioTcpFilters } from "./istio-filters.ts";
import { configMetadata, duration } from "./messages.ts";
import { routeHash, routeTargets, tcpProxy } from "./tcp-proxy.ts";
import { tunnelOfRoutes, tunnelOfService } from "./tunnel.ts";

/** A chain of a listener in the making; two with the same condition can't stand side by side. */
export interface Chain {
  /** What its match says, as text; "" takes everything. */
  readonly condition: string;
  readonly message: FilterChain;
}

export interface TcpChainContext {
  readonly proxy: ProxyNode;
  readonly push: PushContext;
  /** Port that clients use; a Unix socket has number 0. */
  readonly port: ServicePort;
  readonly virtualServices: readonly ResolvedVirtualService[];
  /** The listener stands on an address that its Sidecar names: there is no original address to tell services apart by. */
  readonly isBoundElsewhere: boolean;
}

interface ChainMatch {
  readonly serverNames?: readonly string[];
  /** `10.0.0.0/8` or an address. */
  readonly subnets?: readonly string[];
}

export function tcpChains(service: Service, context: TcpChainContext): Chain[] {
  const concerning = context.virtualServices.filter(({ hosts }) => hosts.some((host) => hostsMatch(host, service.host)));
  return isTls(context.port.protocol) ? tlsChains(service, concerning, context) : plainChains(service, concerning, context);
}

// === tls ===

function tlsChains(service: Service, virtualServices: readonly ResolvedVirtualService[], context: TcpChainContext): Chain[] {
  const own = ownSubnets(service, context);
  const chains = new Map<string, Chain>();
  for (const virtualService of virtualServices) {
    for (const { match, route } of virtualService.spec.tls) {
      for (const condition of match) {
        if (route.length === 0 || !applies(condition, context)) continue;
        const subnets = condition.destinationSubnets.length > 0 && context.port.number > 0 ? condition.destinationSubnets : own;
        const chain = ruleChain({ serverNames: condition.sniHosts, subnets }, route, virtualService, context);
        // Of matches that differ only in what is decided here, the first one counts.
        if (!chains.has(chain.condition)) chains.set(chain.condition, chain);
      }
    }
  }
  if (chains.size > 0) return [...chains.values()];
  const addresses = context.push.registry.addressesFor(service, context.proxy);
  const hasOwnAddress = addresses.some((address) => !address.includes("/"));
  const hasNoAddress = addresses.length === 0;
  // Behind an address of its own nobody else can be meant; otherwise the server's name is all there is to go by.
  const serverNames = !hasOwnAddress && !(hasNoAddress && context.isBoundElsewhere) ? [service.host] : [];
  return [serviceChain({ serverNames, subnets: own }, service, context)];
}

// === tcp ===

function plainChains(service: Service, virtualServices: readonly ResolvedVirtualService[], context: TcpChainContext): Chain[] {
  const own = ownSubnets(service, context);
  const chains: Chain[] = [];
  for (const virtualService of virtualServices) {
    for (const { match, route } of virtualService.spec.tcp) {
      if (route.length === 0) continue;
      const applying = match.filter((condition) => applies(condition, context));
      if (match.length > 0 && applying.length === 0) continue;
      const takesAll =
        match.length === 0 || context.port.number === 0 || applying.some(({ destinationSubnets }) => destinationSubnets.length === 0);
      if (takesAll) return [...chains, ruleChain({ subnets: own }, route, virtualService, context)];
      const subnets = applying.flatMap(({ destinationSubnets }) => destinationSubnets);
      chains.push(ruleChain({ subnets }, route, virtualService, context));
    }
  }
  const rest = serviceChain({ subnets: own }, service, context);
  return chains.some(({ condition }) => condition === rest.condition) ? chains : [...chains, rest];
}

// === both ===

function applies(match: L4MatchAttributes | TLSMatchAttributes, { proxy, port }: TcpChainContext): boolean {
  return (
    (match.gateways.length === 0 || match.gateways.includes(meshGateway)) &&
    (match.port === 0 || match.port === port.number) &&
    (match.sourceNamespace === "" || match.sourceNamespace === proxy.namespace) &&
    selectorMatches(match.sourceLabels, proxy.labels)
  );
}

/** The address ranges of a service that has no address of its own. */
function ownSubnets(service: Service, { isBoundElsewhere, proxy, push }: TcpChainContext): readonly string[] {
  const addresses = push.registry.addressesFor(service, proxy);
  return isBoundElsewhere || addresses.some((address) => !address.includes("/")) ? [] : addresses;
}

function ruleChain(
  match: ChainMatch,
  route: readonly RouteDestination[],
  virtualService: ResolvedVirtualService,
  { proxy, push, port }: TcpChainContext,
): Chain {
  const context = { proxy, push, port: port.number, gateways: new Set([meshGateway]), isTls: false };
  const targets = routeTargets(route, virtualService.namespace, context);
  const statPrefix = targets.length === 1 ? targets[0]!.cluster : `${virtualService.name}.${virtualService.namespace}`;
  const how = {
    hash: routeHash(route, virtualService.namespace, context),
    tunnel: tunnelOfRoutes(route, virtualService.namespace, context),
  };
  const filter = tcpProxy(statPrefix, targets, push.mesh, how);
  return chain(match, filter, proxy, push, { metadata: configMetadata(virtualService.object) });
}

/** A Sidecar's port that is no port of the service leads to the service's only one. */
function serviceChain(match: ChainMatch, service: Service, { proxy, push, port }: TcpChainContext): Chain {
  const number = service.ports.length === 1 ? service.ports[0]!.number : port.number;
  const cluster = outboundCluster(service.host, number);
  const how = { hash: serviceHash(service, "", number, { proxy, push }), tunnel: tunnelOfService(service, { proxy, push }) };
  return chain(match, tcpProxy(cluster, [{ cluster, weight: 1 }], push.mesh, how), proxy, push, {});
}

function chain(
  { serverNames = [], subnets = [] }: ChainMatch,
  terminal: Filter,
  proxy: ProxyNode,
  push: PushContext,
  rest: Pick<Partial<FilterChain>, "metadata">,
): Chain {
  const names = serverNames.includes("*") ? [] : [...new Set(serverNames.map((name) => name.toLowerCase()))].sort();
  const ranges = [...new Set(subnets.map(masked))].sort();
  const isMatchAll = names.length === 0 && ranges.length === 0;
  const message = create(FilterChainSchema, {
    ...(isMatchAll ? {} : { filterChainMatch: { serverNames: names, prefixRanges: ranges.map(prefixRange) } }),
    filters: [...istioTcpFilters("sidecarOutbound", proxy, push.mesh), terminal],
    transportSocketConnectTimeout: duration(15_000),
    ...rest,
  });
  return { condition: isMatchAll ? "" : `${names.join()}|${ranges.join()}`, message };
}

function prefixRange(subnet: string) {
  const [addressPrefix = "", length = ""] = subnet.split("/");
  return { addressPrefix, prefixLen: Number(length) };
}

/** `10.1.2.3/8` is `10.0.0.0/8`: Envoy compares what is left of the mask. IPv6 is taken as it is written. */
function masked(subnet: string): string {
  const [address = "", length] = subnet.split("/");
  if (address.includes(":")) return `${address}/${length ?? 128}`;
  const bits = Number(length ?? 32);
  const octets = address.split(".").map((octet, index) => {
    const kept = Math.min(8, Math.max(0, bits - index * 8));
    return Number(octet) & (256 - 2 ** (8 - kept));
  });
  return `${octets.join(".")}/${bits}`;
}
