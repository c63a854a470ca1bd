/** Patches of a listener's filter chains and of the network filters in them. */
import { clone } from "@bufbuild/protobuf";
import {
  type Filter,
  type FilterChain,
  FilterChainSchema,
  FilterSchema,
} from "../../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { Listener } from "../../../api/gen/envoy/config/listener/v3/listener_pb.js";
import type { Patch } from "../../push/envoy-filter-patches.ts";
import type { PatchOutcomes } from "../../push/patch-status.ts";
import { mergePatch } from "./apply-patch.ts";
import { matchesFilterChain, matchesListener, wantedNetworkFilter } from "./match-listener.ts";
import { mergeFilter, mergeTypedConfig } from "./merge-typed.ts";
import { connectionManagerName, patchHttpFilters } from "./patch-http-filters.ts";
import { patchFilters } from "./patch-list.ts";
import type { PatchedSide } from "./patched-side.ts";

export function patchFilterChains(listener: Listener, side: PatchedSide): void {
  const { patches, context, outcomes } = side;
  const keeps = (chain: FilterChain) => patchFilterChain(listener, chain, side);
  listener.filterChains = listener.filterChains.filter(keeps);
  const { defaultFilterChain } = listener;
  if (defaultFilterChain && !keeps(defaultFilterChain)) delete listener.defaultFilterChain;
  for (const patch of patches.of("FILTER_CHAIN", context)) {
    if (patch.operation !== "ADD" || !matchesListener(listener, patch)) continue;
    const chain = clone(FilterChainSchema, patch.value as FilterChain);
    if (chain.filters.length === 0) {
      outcomes.failed(patch, "a chain without filters is not added");
      continue;
    }
    listener.filterChains.push(chain);
    outcomes.applied(patch);
  }
}

/** False: it is removed. */
function patchFilterChain(listener: Listener, chain: FilterChain, side: PatchedSide): boolean {
  const { patches, context, outcomes } = side;
  for (const patch of patches.of("FILTER_CHAIN", context)) {
    if (!matchesListener(listener, patch) || !matchesFilterChain(listener, chain, patch)) continue;
    switch (patch.operation) {
      case "REMOVE":
        outcomes.applied(patch);
        return false;
      case "MERGE":
      case "MERGE_AND_REPLACE_LIST":
        mergeFilterChain(chain, patch, outcomes);
        break;
    }
  }
  patchNetworkFilters(listener, chain, side);
  return true;
}

/** Where both have a transport socket of one name, the patch changes its configuration and nothing else, as in Istio. */
function mergeFilterChain(chain: FilterChain, patch: Patch, outcomes: PatchOutcomes): void {
  const [has, given] = [chain.transportSocket, (patch.value as FilterChain).transportSocket];
  if (!has || !given || has.name !== given.name) {
    mergePatch(FilterChainSchema, chain, patch, outcomes);
    return;
  }
  if (has.configType.case !== "typedConfig" || given.configType.case !== "typedConfig") return;
  const merged = mergeTypedConfig(has.configType.value, given.configType.value, patch, outcomes);
  if (merged) has.configType = { case: "typedConfig", value: merged };
}

/** First what changes the list, then what is merged into its members, patch by patch for each of them. */
function patchNetworkFilters(listener: Listener, chain: FilterChain, side: PatchedSide): void {
  const { patches, context, outcomes } = side;
  const concerning = (patch: Patch) => matchesListener(listener, patch) && matchesFilterChain(listener, chain, patch);
  const own = patches.of("NETWORK_FILTER", context).filter(concerning);
  for (const patch of own) patchFilters<Filter>(FilterSchema, chain.filters, patch, wantedNetworkFilter(patch), outcomes);
  const ofHttpFilters = patches.of("HTTP_FILTER", context).filter(concerning);
  for (const filter of chain.filters) {
    for (const patch of own) {
      if (patch.operation === "MERGE" && isWanted(filter.name, wantedNetworkFilter(patch))) mergeFilter(filter, patch, outcomes);
    }
    if (filter.name !== connectionManagerName) continue;
    patchHttpFilters(
      filter,
      ofHttpFilters.filter((patch) => isWanted(filter.name, wantedNetworkFilter(patch))),
      outcomes,
    );
  }
}

function isWanted(name: string, wanted: string | undefined): boolean {
  return wanted === undefined || wanted === name;
}
