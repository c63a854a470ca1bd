/** MERGE of something that has its configuration in an Any: filters and transport sockets. */
import type { Any } from "@bufbuild/protobuf/wkt";
import type { Patch } from "../../push/envoy-filter-patches.ts";
import type { PatchOutcomes } from "../../push/patch-status.ts";
import { mergeAny } from "./merge-message.ts";

/** Filters of all sorts, as far as they are alike. */
export interface TypedFilter {
  name: string;
  configType: { readonly case: string | undefined; readonly value?: unknown };
}

/** A filter whose configuration comes by discovery has nothing to merge with, and stays as it is. */
export function mergeFilter(filter: TypedFilter, patch: Patch, outcomes: PatchOutcomes): void {
  const [target, given] = [filter, patch.value as unknown as TypedFilter].map(typedConfigOf);
  if (!target) return;
  const { name } = patch.value as unknown as TypedFilter;
  if (given) {
    const merged = mergeTypedConfig(target, given, patch, outcomes);
    if (!merged) return;
    filter.configType = { case: "typedConfig", value: merged };
  } else outcomes.applied(patch);
  if (name !== "") filter.name = name;
}

export function typedConfigOf({ configType }: TypedFilter): Any | undefined {
  return configType.case === "typedConfig" ? (configType.value as Any) : undefined;
}

/** Undefined, and told as a failure, where the types differ. */
export function mergeTypedConfig(target: Any, given: Any, patch: Patch, outcomes: PatchOutcomes): Any | undefined {
  const merged = mergeAny(target, given);
  if (merged) outcomes.applied(patch);
  else outcomes.failed(patch, `${typeName(given)} can't be merged into ${typeName(target)}`);
  return merged;
}

function typeName({ typeUrl }: Any): string {
  return typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
}
