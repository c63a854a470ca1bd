/**
 * Merging as protobuf merges, which is what concatenating two encoded messages does: what is set replaces, messages are merged field by
 * field, lists grow, entries of maps are replaced. A wrapper (BoolValue, UInt32Value ...) of a zero value changes nothing for that reason.
 * Durations are replaced: 5 s over 1.5 s are not 5.5 s. So is what stands in an Any, of which bytes can't be merged.
 * Source: Istio pkg/proto/merge/merge.go; pilot/pkg/networking/util/util.go (MergeAnyWithAny).
 */
import { type DescMessage, type Message, mergeFromBinary, toBinary } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { type Any, anyPack, anyUnpack } from "@bufbuild/protobuf/wkt";
import { patchTypes } from "../../../api/envoy/patch-types.ts";

export interface MergeOptions {
  /** Lists of the patch replace those that they meet, instead of being appended. */
  readonly replacesLists?: boolean;
}

/** Changes `target`; `patch` is of the same type and stays as it is. */
export function mergeMessage(schema: DescMessage, target: Message, patch: Message, { replacesLists = false }: MergeOptions = {}): void {
  clearReplaced(reflect(schema, target), reflect(schema, patch), replacesLists);
  mergeFromBinary(schema, target, toBinary(schema, patch));
}

function clearReplaced(target: ReflectMessage, patch: ReflectMessage, replacesLists: boolean): void {
  for (const field of patch.desc.fields) {
    if (!patch.isSet(field) || !target.isSet(field)) continue;
    if (field.fieldKind === "list" && replacesLists) target.clear(field);
    if (field.fieldKind !== "message") continue;
    const { typeName } = field.message;
    if (typeName === "google.protobuf.Duration" || typeName === "google.protobuf.Any") target.clear(field);
    else if (!typeName.startsWith("google.protobuf.")) {
      clearReplaced(target.get(field) as ReflectMessage, patch.get(field) as ReflectMessage, replacesLists);
    }
  }
}

/** Undefined where the two are of different types, or of one that we don't know: there is nothing to merge. */
export function mergeAny(target: Any, patch: Any): Any | undefined {
  const [into, from] = [anyUnpack(target, patchTypes), anyUnpack(patch, patchTypes)];
  if (!into || !from || into.$typeName !== from.$typeName) return undefined;
  const schema = patchTypes.getMessage(into.$typeName)!;
  mergeMessage(schema, into, from);
  return anyPack(schema, into);
}
