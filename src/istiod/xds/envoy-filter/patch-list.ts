/**
 * The operations on a list of filters: of a listener, of a chain or of an HTTP connection manager. MERGE is not among them.
 * Source: Istio pilot/pkg/networking/core/envoyfilter/listener_patch.go, util.go.
 */
import { clone, type DescMessage, type Message } from "@bufbuild/protobuf";
import type { Patch } from "../../push/envoy-filter-patches.ts";
import type { PatchOutcomes } from "../../push/patch-status.ts";

interface Named extends Message {
  readonly name: string;
}

/** `wanted`: name of the filter that the patch asks for; without one, to insert before is to put first, and to insert after to put last. */
export function patchFilters<T extends Named>(
  schema: DescMessage,
  filters: T[],
  patch: Patch,
  wanted: string | undefined,
  outcomes: PatchOutcomes,
): void {
  const at = wanted === undefined ? -1 : filters.findIndex(({ name }) => name === wanted);
  const insert = (index: number, replaced = 0) => {
    filters.splice(index, replaced, clone(schema, patch.value!) as T);
    outcomes.applied(patch);
  };
  switch (patch.operation) {
    case "ADD":
      insert(filters.length);
      return;
    case "INSERT_FIRST":
      insert(0);
      return;
    case "INSERT_BEFORE":
      if (wanted === undefined) insert(0);
      else if (at >= 0) insert(at);
      return;
    case "INSERT_AFTER":
      if (wanted === undefined) insert(filters.length);
      else if (at >= 0) insert(at + 1);
      return;
    case "REPLACE":
      if (at >= 0) insert(at, 1);
      return;
    case "REMOVE":
      for (let index = at; index >= 0; index = filters.findIndex(({ name }) => name === wanted)) {
        filters.splice(index, 1);
        outcomes.applied(patch);
      }
      return;
    case "MERGE":
    case "MERGE_AND_REPLACE_LIST":
      return;
    default:
      patch.operation satisfies never;
  }
}
