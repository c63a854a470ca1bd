/** LDS: the listeners of a proxy, as EnvoyFilters patch them. */
import { type EncodedResource, encodeResource } from "../../ads/resource.ts";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import { typeUrls } from "../../api/type-urls.ts";
import { sameElements } from "../../lib/same-elements.ts";
import type { PushContext } from "../push/push-context.ts";
import { addedListeners, patchListeners } from "./envoy-filter/patch-listeners.ts";
import { inboundSide, outboundSide } from "./envoy-filter/patched-side.ts";
import { firstOfEachName } from "./first-of-each-name.ts";
import { gatewayListeners } from "./gateway-listeners.ts";
import { inboundListeners } from "./sidecar-inbound.ts";
import { virtualOutbound } from "./sidecar-listeners.ts";
import { outboundListeners } from "./sidecar-outbound.ts";

export function listeners(proxy: ProxyNode, push: PushContext): EncodedResource[] {
  const outbound = outboundSide(proxy, push);
  if (proxy.type === "router") {
    return encode([...patchListeners(gatewayListeners(proxy, push), outbound), ...addedListeners(outbound)]);
  }
  const shared = push.shared(typeUrls.lds, "outbound", proxy, () =>
    encode([...patchListeners(outboundListeners(proxy, push), outbound), ...addedListeners(outbound)]),
  );
  return firstOfEachName([...shared, ...ownListeners(proxy, push)]);
}

interface OwnListeners {
  readonly inputs: readonly unknown[];
  readonly resources: readonly EncodedResource[];
}

const madeBefore = new WeakMap<ProxyNode, OwnListeners>();

/** virtualOutbound and the inbound ones, of which hardly any change alters anything: the ones of before, as long as they would be the same. */
function ownListeners(proxy: ProxyNode, push: PushContext): readonly EncodedResource[] {
  const { jwtRules, byAction } = push.securityPolicies.forWorkload(proxy);
  // The keys of token issuers, and the places of authorizers, stand in them.
  if (jwtRules.length > 0 || byAction.CUSTOM.length > 0) return makeOwnListeners(proxy, push);
  const { object, catchAllCluster } = push.sidecarScope(proxy);
  const served = push.registry.servicesAt(proxy).flatMap(({ service, endpoint }) => [service, endpoint]);
  const { mesh, peerAuthentications, securityPolicies, envoyFilters } = push;
  const inputs = [mesh, peerAuthentications, securityPolicies, envoyFilters, object, catchAllCluster, ...served];
  const known = madeBefore.get(proxy);
  if (known && sameElements(known.inputs, inputs)) return known.resources;
  const resources = makeOwnListeners(proxy, push);
  madeBefore.set(proxy, { inputs, resources });
  return resources;
}

function makeOwnListeners(proxy: ProxyNode, push: PushContext): readonly EncodedResource[] {
  const [outbound, inbound] = [outboundSide(proxy, push), inboundSide(proxy, push)];
  return encode([
    ...patchListeners(virtualOutbound(proxy, push), outbound),
    ...patchListeners(inboundListeners(proxy, push), inbound),
    ...addedListeners(inbound),
  ]);
}

function encode(messages: readonly Listener[]): EncodedResource[] {
  return firstOfEachName(messages.map((listener) => encodeResource(listener.name, ListenerSchema, listener)));
}
