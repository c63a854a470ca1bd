/** Where a proxy listens that is told no address. */
import type { ProxyNode } from "../../api/node.ts";
import { type Wildcard, wildcardAddresses as wildcardsOf } from "../../lib/wildcard-address.ts";

/** The first, or only one, of an `Addresses` is the one by which a listener is called. */
export type Addresses<Address extends string = string> = readonly [Address, ...Address[]];

/** For everybody who can reach the machine: of both families where the proxy listens to both. */
export function wildcardAddresses(proxy: ProxyNode): Addresses<Wildcard> {
  return wildcardsOf(proxy.ipAddresses, proxy.isDualStack);
}

export function wildcardAddress(proxy: ProxyNode): Wildcard {
  return wildcardAddresses(proxy)[0];
}

/** For what is captured: on a machine of IPv6 that is IPv4 as well, which it may have within itself. */
export function captureAddresses(proxy: ProxyNode): Addresses<Wildcard> {
  const addresses = wildcardAddresses(proxy);
  return addresses[0] === "::" ? ["::", "0.0.0.0"] : addresses;
}

const loopbacks: Readonly<Record<Wildcard, string>> = { "0.0.0.0": "127.0.0.1", "::": "::1" };

/** For the proxy's own machine. */
export function loopbackAddresses(proxy: ProxyNode): Addresses {
  const [first, ...others] = wildcardAddresses(proxy);
  return [loopbacks[first], ...others.map((address) => loopbacks[address])];
}

export function loopbackAddress(proxy: ProxyNode): string {
  return loopbackAddresses(proxy)[0];
}
