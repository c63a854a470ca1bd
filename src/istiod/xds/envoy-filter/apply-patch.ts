/** What patches of everything that is a message of its own have in common. */
import { clone, type DescMessage, type Message, type MessageShape } from "@bufbuild/protobuf";
import type { Patch } from "../../push/envoy-filter-patches.ts";
import type { PatchOutcomes } from "../../push/patch-status.ts";
import { mergeMessage } from "./merge-message.ts";
import type { PatchedSide } from "./patched-side.ts";

/** MERGE and MERGE_AND_REPLACE_LIST. Changes `target`. */
export function mergePatch(schema: DescMessage, target: Message, patch: Patch, outcomes: PatchOutcomes): void {
  mergeMessage(schema, target, patch.value!, { replacesLists: patch.operation === "MERGE_AND_REPLACE_LIST" });
  outcomes.applied(patch);
}

/** Those that the patches add, which are not patched themselves; without a context they are added on the way out alone. */
export function addedBy<T extends DescMessage>(
  applyTo: "CLUSTER" | "LISTENER",
  schema: T,
  { patches, context, outcomes }: PatchedSide,
): MessageShape<T>[] {
  return patches
    .of(applyTo, context)
    .filter((patch) => patch.operation === "ADD" && (patch.context !== "ANY" || context !== "SIDECAR_INBOUND"))
    .map((patch) => {
      outcomes.applied(patch);
      return clone(schema, patch.value as MessageShape<T>);
    });
}
