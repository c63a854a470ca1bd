/**
 * The listeners of a sidecar for what its workload calls.
 *
 *   0.0.0.0_<port>   HTTP ports of all services, by the route configuration `<port>`
 *   <vip>_<port>     TCP ports of services with an address of their own; sniffed ports too, by `<host>:<port>`
 *   <bind>_<port>    what a Sidecar's egress listener asks for
 *
 * They take over what virtualOutbound hands them by its original destination. Where nothing is redirected (capture mode NONE, Unix
 * sockets, nodes without interception) they take their port themselves. A port that a Sidecar declares belongs to its listener alone.
 * Source: Istio pilot/pkg/networking/core/listener.go.
 */
import { create } from "@bufbuild/protobuf";
import { TrafficDirection } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { FilterChainSchema } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import type { Wildcard } from "../../lib/wildcard-address.ts";
import { isHttp, type Protocol } from "../../registry/protocol.ts";
import type { Service, ServicePort } from "../../registry/service.ts";
import type { EgressListener } from "../push/egress-listener.ts";
import type { PushContext } from "../push/push-context.ts";
import { type Addresses, loopbackAddresses, wildcardAddresses } from "./bind-address.ts";
import { httpConnectionManager } from "./http-connection-manager.ts";
import { isIntercepted } from "./inbound-targets.ts";
import { istioTcpFilters } from "./istio-filters.ts";
import { httpInspector, tlsInspector } from "./listener-filters.ts";
import { duration, listensOn } from "./messages.ts";
import { type Chain, tcpChains } from "./sidecar-tcp-chains.ts";
import { tcpProxy } from "./tcp-proxy.ts";

export function outboundListeners(proxy: ProxyNode, push: PushContext): Listener[] {
  const scope = push.sidecarScope(proxy);
  const table = new OutboundTable(proxy, push);
  for (const listener of scope.egress) table.add(listener);
  return table.entries.map((entry) => outboundListener(entry, scope.catchAllCluster, proxy, push));
}

interface Entry {
  readonly binds: Addresses;
  readonly port: number;
  readonly bindsToPort: boolean;
  /** Of the first service; `unsupported` when HTTP and other bytes have to be told apart. */
  protocol: Protocol;
  chains: Chain[];
  isLocked: boolean;
}

class OutboundTable {
  readonly #byAddress = new Map<string, Entry>();
  readonly #proxy: ProxyNode;
  readonly #push: PushContext;
  readonly #wildcards: Addresses<Wildcard>;
  readonly #reserved: ReadonlySet<number>;

  constructor(proxy: ProxyNode, push: PushContext) {
    this.#proxy = proxy;
    this.#push = push;
    this.#wildcards = wildcardAddresses(proxy);
    // Listeners of the proxy's own.
    this.#reserved = new Set([push.mesh.proxyListenPort || 15001, push.mesh.proxyInboundListenPort || 15006, 15021, 15090]);
  }

  get entries(): Entry[] {
    return [...this.#byAddress.values()];
  }

  add(listener: EgressListener): void {
    if (!listener.port) for (const entry of this.#byAddress.values()) entry.isLocked = true;
    for (const service of listener.services) {
      for (const port of listener.port ? [listener.port] : service.ports) this.#addPort(service, port, listener);
    }
  }

  #addPort(service: Service, port: ServicePort, listener: EgressListener): void {
    if (port.protocol === "UDP") return;
    const bindsToPort = listener.capturesNothing || !isIntercepted(this.#proxy);
    if (bindsToPort && port.number > 0 && port.number < 1024 && this.#proxy.metadata.UNPRIVILEGED_POD === "true") return;
    const chosen: Addresses | undefined = listener.bind ? [listener.bind] : bindsToPort ? loopbackAddresses(this.#proxy) : undefined;
    const [wildcard] = this.#wildcards;
    for (const binds of chosen ? [chosen] : this.#ownAddresses(service, port)) {
      const [bind] = binds;
      if (bind === wildcard && this.#reserved.has(port.number)) continue;
      const key = `${bind}_${port.number}`;
      const known = this.#byAddress.get(key);
      if (known && !mayJoin(known, port.protocol)) continue;
      const chains = this.#chains(service, port, bind, chosen !== undefined && bind !== wildcard, listener);
      if (known) join(known, port.protocol, chains);
      else {
        const mixes = kindOf(port.protocol) === "sniffed" || chains.some(({ message }) => message.filterChainMatch?.transportProtocol);
        const protocol = mixes ? "unsupported" : port.protocol;
        this.#byAddress.set(key, { binds, port: port.number, bindsToPort, protocol, chains, isLocked: false });
      }
    }
  }

  /** HTTP is told apart by its Host, so that one listener serves for all addresses. */
  #ownAddresses(service: Service, port: ServicePort): Addresses[] {
    if (isHttp(port.protocol)) return [this.#wildcards];
    const own = this.#push.registry.addressesFor(service, this.#proxy).filter((address) => !address.includes("/"));
    return own.length > 0 ? own.map((address) => [address]) : [this.#wildcards];
  }

  #chains(service: Service, port: ServicePort, bind: string, isBoundElsewhere: boolean, listener: EgressListener): Chain[] {
    const { virtualServices } = listener;
    const [wildcard] = this.#wildcards;
    const tcp = () => tcpChains(service, { proxy: this.#proxy, push: this.#push, port, virtualServices, isBoundElsewhere });
    const http = (looks: boolean, routes: string) => httpChain(`${bind}_${port.number}`, routes, looks, this.#proxy, this.#push);
    const sharedRoutes = port.number === 0 ? bind : String(port.number);
    const kind = kindOf(port.protocol);
    switch (kind) {
      case "http":
        // What comes to a wildcard may be no HTTP at all: it is looked at, and let through.
        return [http(bind === wildcard && port.protocol !== "HTTP_PROXY", sharedRoutes)];
      case "tcp":
        return tcp();
      case "sniffed":
        return [...tcp(), http(true, bind === wildcard || port.number === 0 ? sharedRoutes : `${service.host}:${port.number}`)];
      default:
        return kind satisfies never;
    }
  }
}

// === several services on one port ===

function kindOf(protocol: Protocol): "http" | "tcp" | "sniffed" {
  if (protocol === "unsupported") return "sniffed";
  return isHttp(protocol) ? "http" : "tcp";
}

/** Protocols in which the server speaks first: who waits for the client's bytes to look at them waits for ever. */
const serverSpeaksFirst: ReadonlySet<Protocol> = new Set<Protocol>(["Mongo", "MySQL"]);

function mayJoin(entry: Entry, protocol: Protocol): boolean {
  if (entry.isLocked) return false;
  if (protocol !== entry.protocol && (serverSpeaksFirst.has(protocol) || serverSpeaksFirst.has(entry.protocol))) return false;
  // An HTTP listener serves all HTTP services of its port already.
  return kindOf(protocol) !== "http" || kindOf(entry.protocol) === "tcp";
}

/** Of two chains with one condition the first stays: services come in the order of their creation. */
function join(entry: Entry, protocol: Protocol, chains: readonly Chain[]): void {
  const [before, now] = [kindOf(entry.protocol), kindOf(protocol)];
  if (before === "http" && now === "sniffed") entry.chains = [...chains];
  else entry.chains.push(...chains.filter((chain) => !entry.chains.some(({ condition }) => condition === chain.condition)));
  if (before !== now) entry.protocol = "unsupported";
}

// === messages ===

/** With `looks` it takes only what an inspector found to be HTTP. */
function httpChain(listenerName: string, routes: string, looks: boolean, proxy: ProxyNode, push: PushContext): Chain {
  const message = create(FilterChainSchema, {
    ...(looks ? { filterChainMatch: { transportProtocol: "raw_buffer", applicationProtocols: ["http/1.1", "h2c"] } } : {}),
    filters: [
      httpConnectionManager({
        class: "sidecarOutbound",
        statPrefix: `outbound_${listenerName}`,
        routes: { rds: routes },
        proxy,
        mesh: push.mesh,
      }),
    ],
    transportSocketConnectTimeout: duration(15_000),
  });
  return { condition: looks ? "http" : "", message };
}

function outboundListener(entry: Entry, catchAllCluster: string, proxy: ProxyNode, push: PushContext): Listener {
  const chains = entry.chains.filter(({ condition }) => condition !== "").map(({ message }) => message);
  const rest = entry.chains.find(({ condition }) => condition === "")?.message;
  const looksForHttp = chains.some((chain) => chain.filterChainMatch!.applicationProtocols.length > 0);
  const looksForNames = chains.some((chain) => chain.filterChainMatch!.serverNames.length > 0);
  return create(ListenerSchema, {
    name: `${entry.binds[0]}_${entry.port}`,
    ...listensOn(entry.binds, entry.port),
    ...(entry.bindsToPort ? { maxConnectionsToAcceptPerSocketEvent: 1 } : { bindToPort: false }),
    trafficDirection: TrafficDirection.OUTBOUND,
    filterChains: chains.length === 0 && rest ? [rest] : chains,
    ...(chains.length > 0 ? { defaultFilterChain: rest ?? passthroughChain(catchAllCluster, proxy, push) } : {}),
    listenerFilters: [...(looksForNames ? [tlsInspector()] : []), ...(looksForHttp ? [httpInspector()] : [])],
    // A timeout would cut off whoever waits for the server to speak.
    listenerFiltersTimeout: duration(looksForHttp ? (push.mesh.protocolDetectionTimeout ?? 0) : 0),
    continueOnListenerFiltersTimeout: true,
  });
}

/** What comes to a service's port and is not for a service. */
function passthroughChain(cluster: string, proxy: ProxyNode, push: PushContext) {
  return create(FilterChainSchema, {
    name: "PassthroughFilterChain",
    filters: [...istioTcpFilters("sidecarOutbound", proxy, push.mesh), tcpProxy(cluster, [{ cluster, weight: 1 }], push.mesh)],
  });
}
