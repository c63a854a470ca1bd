/** Where a proxy listens that is told no address. */
import type { ProxyNode } from "../../api/node.ts";
import { wildcardAddress as wildcardOf } from "../../lib/wildcard-address.ts";

/** For everybody who can reach the machine. */
export function wildcardAddress(proxy: ProxyNode): "0.0.0.0" | "::" {
  return wildcardOf(proxy.ipAddresses);
}

/** For the proxy's own machine. */
export function loopbackAddress(proxy: ProxyNode): string {
  return wildcardAddress(proxy) === "::" ? "::1" : "127.0.0.1";
}
