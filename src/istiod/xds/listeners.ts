/** LDS: the listeners of a proxy, as EnvoyFilters patch them. */
import { type EncodedResource, encodeResource } from "../../ads/resource.ts";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import type { ProxyNode } from "../../api/node.ts";
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
  // The outbound ones are the same for many sidecars; virtualOutbound and the inbound ones are a sidecar's own.
  const shared = push.shared("lds", proxy, () =>
    encode([...patchListeners(outboundListeners(proxy, push), outbound), ...addedListeners(outbound)]),
  );
  const inbound = inboundSide(proxy, push);
  const own = [
    ...patchListeners(virtualOutbound(proxy, push), outbound),
    ...patchListeners(inboundListeners(proxy, push), inbound),
    ...addedListeners(inbound),
  ];
  return firstOfEachName([...shared, ...encode(own)]);
}

function encode(messages: readonly Listener[]): EncodedResource[] {
  return firstOfEachName(messages.map((listener) => encodeResource(listener.name, ListenerSchema, listener)));
}
