/** Where a proxy listens that is told no address. */
import type { ProxyNode } from "../../api/node.ts";

function isIpv6Only(proxy: ProxyNode): boolean {
  return proxy.ipAddresses.every((address) => address.includes(":"));
}

/** For everybody who can reach the machine. */
export function wildcardAddress(proxy: ProxyNode): string {
  return isIpv6Only(proxy) ? "::" : "0.0.0.0";
}

/** For the proxy's own machine. */
export function loopbackAddress(proxy: ProxyNode): string {
  return isIpv6Only(proxy) ? "::1" : "127.0.0.1";
}
