/**
 * Whether a listener, or a part of it, is one that a patch means. What is above the part has been matched already.
 * Source: Istio pilot/pkg/networking/core/envoyfilter/listener_patch.go.
 */
import type { FilterChain } from "../../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { Listener } from "../../../api/gen/envoy/config/listener/v3/listener_pb.js";
import type { Patch } from "../../push/envoy-filter-patches.ts";

export function matchesListener({ name, address }: Listener, { match, applyTo }: Patch): boolean {
  const wanted = match?.listener;
  if (!wanted) return true;
  if (wanted.name !== "" && wanted.name !== name) return false;
  if (wanted.portNumber === 0 || (applyTo !== "LISTENER" && isVirtual(name))) return true;
  return address?.address.case === "socketAddress" && address.address.value.portSpecifier.value === wanted.portNumber;
}

export function matchesFilterChain({ name }: Listener, chain: FilterChain, { match }: Patch): boolean {
  const wanted = match?.listener;
  if (!wanted) return true;
  const { filterChainMatch: has } = chain;
  // What is redirected to them tells its port by the chain's match.
  if (isVirtual(name) && wanted.portNumber > 0 && has?.destinationPort !== wanted.portNumber) return false;
  const { filterChain } = wanted;
  if (!filterChain) return true;
  const { sni, transportProtocol, applicationProtocols, destinationPort } = filterChain;
  return (
    (filterChain.name === "" || filterChain.name === chain.name) &&
    (sni === "" || has?.serverNames.includes(sni) === true) &&
    (transportProtocol === "" || has?.transportProtocol === transportProtocol) &&
    (applicationProtocols === "" ||
      applicationProtocols.split(",").every((protocol) => has?.applicationProtocols.includes(protocol) === true)) &&
    (destinationPort === 0 || has?.destinationPort === destinationPort)
  );
}

/** The listeners to which a sidecar's traffic is redirected. */
function isVirtual(name: string): boolean {
  return name === "virtualInbound" || name === "virtualOutbound";
}

// Names of filters that patches ask for; undefined: of none in particular.

export function wantedListenerFilter({ match }: Patch): string | undefined {
  return match?.listener?.listenerFilter || undefined;
}

export function wantedNetworkFilter({ match }: Patch): string | undefined {
  return match?.listener?.filterChain?.filter?.name;
}

export function wantedHttpFilter({ match }: Patch): string | undefined {
  return match?.listener?.filterChain?.filter?.subFilter?.name;
}
