/**
 * What a proxy sees of endpoints in other networks: the gateways of those networks in their place, which pass mutual TLS on by its server
 * name. Source: Istio pilot/pkg/xds/endpoints/ep_filters.go.
 */
import { isIPv6 } from "node:net";
import { formatLocality, type ProxyNode } from "../../api/node.ts";
import type { NetworkGateway } from "../../registry/networks.ts";
import type { Endpoint } from "../../registry/service.ts";
import type { PushContext } from "../push/push-context.ts";

const maxWeight = 0xffff_ffff;

/** What a proxy's view depends on, for the keys of what is shared; "" when all see the same. */
export function networkViewKey(proxy: ProxyNode, { networks }: PushContext): string {
  const view = requestedView(proxy);
  if (!networks.areSeveral && view.length === 0) return "";
  return `${proxy.network}|${view.join(",")}|${families(proxy).join("")}`;
}

export function splitHorizon(endpoints: readonly Endpoint[], proxy: ProxyNode, { networks }: PushContext): readonly Endpoint[] {
  const view = requestedView(proxy);
  const seen = endpoints.map((endpoint) => ({
    endpoint,
    network: endpoint.network || networks.networkOf(endpoint.address, proxy.clusterId),
  }));
  const visible = view.length === 0 ? seen : seen.filter(({ network }) => network === "" || view.includes(network));
  if (!networks.areSeveral) return view.length === 0 ? endpoints : visible.map(({ endpoint }) => endpoint);

  const direct: Endpoint[] = [];
  const behind = new Map<string, Endpoint>();
  for (const { endpoint, network } of visible) {
    const weight = Math.min(endpoint.weight * networks.weightScale, maxWeight);
    const gateways = networks.gatewaysOf(network);
    if (isDirect(proxy, network, gateways)) {
      direct.push({ ...endpoint, weight });
      continue;
    }
    // The gateway reads the server name of mutual TLS and nothing else; and an address of the wrong family is no way either.
    if (endpoint.tlsMode !== "istio" || endpoint.health === "withheld" || endpoint.health === "draining") continue;
    const reachable = gateways.filter(({ address }) => families(proxy).includes(isIPv6(address) ? 6 : 4));
    for (const gateway of reachable) {
      const key = `${formatLocality(endpoint.locality)}|${gateway.address}|${gateway.port}`;
      const known = behind.get(key);
      const share = weight / reachable.length;
      behind.set(key, known ? { ...known, weight: known.weight + share } : gatewayEndpoint(endpoint, gateway, share));
    }
  }
  const rounded = [...behind.values()].map((endpoint) => ({
    ...endpoint,
    weight: Math.min(Math.max(Math.floor(endpoint.weight), 1), maxWeight),
  }));
  return [...direct, ...rounded];
}

/** A proxy that does not know its network is in all of them, but for those that have a gateway. */
function isDirect(proxy: ProxyNode, network: string, gateways: readonly NetworkGateway[]): boolean {
  if (gateways.length === 0) return true;
  return proxy.network === "" ? network === "" : network === "" || network === proxy.network;
}

function gatewayEndpoint(endpoint: Endpoint, { network, address, port }: NetworkGateway, weight: number): Endpoint {
  return {
    ...endpoint,
    address,
    port,
    weight,
    network,
    labels: {},
    workloadName: "",
    serviceAccount: "",
    health: "healthy",
    tlsMode: "istio",
  };
}

/** Networks that a gateway is to lead to alone, from ISTIO_META_REQUESTED_NETWORK_VIEW. */
function requestedView({ metadata }: ProxyNode): readonly string[] {
  const text = metadata.REQUESTED_NETWORK_VIEW;
  return typeof text === "string" ? text.split(",").filter(Boolean) : [];
}

function families({ ipAddresses }: ProxyNode): readonly (4 | 6)[] {
  return ([4, 6] as const).filter((family) => ipAddresses.some((address) => isIPv6(address) === (family === 6)));
}
