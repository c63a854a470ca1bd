/**
 * Where who listens for the outside binds on a machine with these addresses: on one of IPv6 alone nobody comes to 0.0.0.0. As Istio, for whom a
 * machine that has both is one of IPv4. Control plane, agent and the rules of capture have to be of one mind about it.
 */
export function wildcardAddress(addresses: readonly string[]): "0.0.0.0" | "::" {
  return addresses.length > 0 && addresses.every((address) => address.includes(":")) ? "::" : "0.0.0.0";
}
