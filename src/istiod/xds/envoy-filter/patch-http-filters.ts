/** Patches of the HTTP filters of a connection manager. */
import { fromBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import type { Filter } from "../../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import {
  HttpConnectionManagerSchema,
  type HttpFilter,
  HttpFilterSchema,
} from "../../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { Patch } from "../../push/envoy-filter-patches.ts";
import type { PatchOutcomes } from "../../push/patch-status.ts";
import { wantedHttpFilter } from "./match-listener.ts";
import { mergeFilter, typedConfigOf } from "./merge-typed.ts";
import { patchFilters } from "./patch-list.ts";

export const connectionManagerName = "envoy.filters.network.http_connection_manager";

/** `patches`: those of HTTP filters that mean this connection manager. */
export function patchHttpFilters(filter: Filter, patches: readonly Patch[], outcomes: PatchOutcomes): void {
  const config = typedConfigOf(filter);
  if (patches.length === 0 || !config?.typeUrl.endsWith(`/${HttpConnectionManagerSchema.typeName}`)) return;
  const manager = fromBinary(HttpConnectionManagerSchema, config.value);
  for (const patch of patches) {
    patchFilters<HttpFilter>(HttpFilterSchema, manager.httpFilters, patch, wantedHttpFilter(patch), outcomes);
  }
  for (const httpFilter of manager.httpFilters) {
    for (const patch of patches) {
      const wanted = wantedHttpFilter(patch);
      if (patch.operation === "MERGE" && (wanted === undefined || wanted === httpFilter.name)) mergeFilter(httpFilter, patch, outcomes);
    }
  }
  filter.configType = { case: "typedConfig", value: anyPack(HttpConnectionManagerSchema, manager) };
}
