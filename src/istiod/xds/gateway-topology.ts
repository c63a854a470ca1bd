/**
 * What stands before a gateway: how many proxies, and whether they tell of clients by the PROXY protocol. A gateway's own ProxyConfig
 * (PROXY_CONFIG, or the annotation proxy.istio.io/config) goes before the mesh's. Agents have both merged when they start; what the mesh says
 * later counts here as well, where Istio keeps to what the agent said. Source: Istio NodeMetadata.ProxyConfigOrDefault.
 */
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import type { ProxyNode } from "../../api/node.ts";
import { isPlainObject } from "../../api/schema/decode.ts";

const forwarding = ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"] as const;

export interface GatewayTopology {
  readonly trustedProxies: number;
  readonly forwardClientCertDetails: (typeof forwarding)[number] | undefined;
  readonly wantsProxyHeader: boolean;
}

/** Nobody has checked a node's metadata: what is wrong in it counts as not said. */
export function gatewayTopology(proxy: ProxyNode, mesh: MeshConfig): GatewayTopology {
  const own = proxy.metadata.PROXY_CONFIG;
  const topology: unknown = (isPlainObject(own) ? own.gatewayTopology : undefined) ?? mesh.defaultConfig?.gatewayTopology;
  const { numTrustedProxies, forwardClientCertDetails, proxyProtocol } = isPlainObject(topology) ? topology : {};
  return {
    trustedProxies: Number.isSafeInteger(numTrustedProxies) && Number(numTrustedProxies) >= 0 ? Number(numTrustedProxies) : 0,
    forwardClientCertDetails: forwarding.find((name) => name === forwardClientCertDetails),
    wantsProxyHeader: isPlainObject(proxyProtocol),
  };
}
