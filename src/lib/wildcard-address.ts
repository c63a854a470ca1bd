export type Wildcard = "0.0.0.0" | "::";

/** All addresses of a family: nobody is called by it. */
export function isWildcard(host: string): host is Wildcard {
  return host === "0.0.0.0" || host === "::";
}

/**
 * Where who listens for the outside binds on a machine with these addresses; control plane, agent and the rules of capture have to be of one
 * mind about it. On a machine of IPv6 alone nobody comes to 0.0.0.0. One that has both is listened to by both, unless it is told not to
 * (`isDualStack` false): then it is one of IPv4, as for Istio.
 */
export function wildcardAddresses(addresses: readonly string[], isDualStack: boolean): readonly [Wildcard, ...Wildcard[]] {
  const hasIpv6 = addresses.some((address) => address.includes(":"));
  const hasIpv4 = addresses.some((address) => !address.includes(":"));
  if (!hasIpv6) return ["0.0.0.0"];
  if (!hasIpv4) return ["::"];
  return isDualStack ? ["0.0.0.0", "::"] : ["0.0.0.0"];
}
