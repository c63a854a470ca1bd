/** One side of a proxy as it is patched: inbound, outbound or a gateway's. */
import type { ProxyNode } from "../../../api/node.ts";
import type { ProxyPatches } from "../../push/envoy-filter-index.ts";
import type { PatchContext } from "../../push/envoy-filter-patches.ts";
import type { PatchOutcomes } from "../../push/patch-status.ts";
import type { PushContext } from "../../push/push-context.ts";

export interface PatchedSide {
  readonly patches: ProxyPatches;
  readonly context: PatchContext;
  readonly outcomes: PatchOutcomes;
}

export function inboundSide(proxy: ProxyNode, push: PushContext): PatchedSide {
  return { patches: push.envoyFilters.forProxy(proxy), context: "SIDECAR_INBOUND", outcomes: push.patchOutcomes };
}

/** A gateway has no other. */
export function outboundSide(proxy: ProxyNode, push: PushContext): PatchedSide {
  const context = proxy.type === "router" ? "GATEWAY" : "SIDECAR_OUTBOUND";
  return { patches: push.envoyFilters.forProxy(proxy), context, outcomes: push.patchOutcomes };
}
