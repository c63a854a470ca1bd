/**
 * Patches of listeners and of all that is in them.
 * Source: Istio pilot/pkg/networking/core/envoyfilter/listener_patch.go.
 */
import { clone } from "@bufbuild/protobuf";
import { type ListenerFilter, ListenerFilterSchema } from "../../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "../../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { addedBy, mergePatch } from "./apply-patch.ts";
import { matchesListener, wantedListenerFilter } from "./match-listener.ts";
import { mergeFilter } from "./merge-typed.ts";
import { patchFilterChains } from "./patch-filter-chains.ts";
import { patchFilters } from "./patch-list.ts";
import type { PatchedSide } from "./patched-side.ts";

const targets = ["LISTENER", "LISTENER_FILTER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER"] as const;

/** The listeners as the patches make them, without those that they remove. What is given stays as it is. */
export function patchListeners(listeners: readonly Listener[], side: PatchedSide): Listener[] {
  if (!side.patches.hasAny(targets, side.context)) return [...listeners];
  return listeners.flatMap((listener) => patchListener(clone(ListenerSchema, listener), side) ?? []);
}

export function addedListeners(side: PatchedSide): Listener[] {
  return addedBy("LISTENER", ListenerSchema, side);
}

/** Undefined: it is removed. */
function patchListener(listener: Listener, side: PatchedSide): Listener | undefined {
  const { patches, context, outcomes } = side;
  for (const patch of patches.of("LISTENER", context)) {
    if (!matchesListener(listener, patch)) continue;
    switch (patch.operation) {
      case "REMOVE":
        outcomes.applied(patch);
        return undefined;
      case "MERGE":
      case "MERGE_AND_REPLACE_LIST":
        mergePatch(ListenerSchema, listener, patch, outcomes);
        break;
    }
  }
  patchListenerFilters(listener, side);
  patchFilterChains(listener, side);
  return listener;
}

function patchListenerFilters(listener: Listener, { patches, context, outcomes }: PatchedSide): void {
  for (const patch of patches.of("LISTENER_FILTER", context)) {
    if (!matchesListener(listener, patch)) continue;
    const wanted = wantedListenerFilter(patch);
    patchFilters<ListenerFilter>(ListenerFilterSchema, listener.listenerFilters, patch, wanted, outcomes);
    // Istio merges into all filters of the listener, of whatever type; what is meant is the one that was asked for.
    if (patch.operation !== "MERGE" || wanted === undefined) continue;
    for (const filter of listener.listenerFilters) if (filter.name === wanted) mergeFilter(filter, patch, outcomes);
  }
}
