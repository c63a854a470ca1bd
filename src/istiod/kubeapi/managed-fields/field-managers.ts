/**
 * Who set which field (`metadata.managedFields`), and what server-side apply makes of it: an applier owns what it applied; to change
 * what another owns is a conflict, unless it forces; what it applied before and leaves out now goes, if nobody else wants it.
 */
import { isPlainObject } from "../../../api/schema/decode.ts";
import { ApiError, type StatusCause } from "../status.ts";
import type { JsonType } from "../types/json-type.ts";
import { FieldSet, formatSteps } from "./field-set.ts";
import { compareFields, fieldsOf, mergeFields, removeFields } from "./typed-fields.ts";

export interface Writer {
  /** `kubectl-client-side-apply` */
  readonly manager: string;
  /** Of the object as it was written. */
  readonly apiVersion: string;
  /** "" for the object itself. */
  readonly subresource: string;
  readonly nowMs: number;
}

interface Entry {
  readonly manager: string;
  readonly operation: string;
  readonly apiVersion: string;
  readonly subresource: string;
  readonly time: string | undefined;
  readonly fields: FieldSet;
}

type Raw = Record<string, unknown>;

/** Writers by update that are told apart; the oldest beyond become one. Kubernetes' own number. */
const maxUpdaters = 10;
const ancientManager = "ancient-changes";

const untrackedMetadata: ReadonlySet<string> = new Set([
  "name",
  "namespace",
  "generateName",
  "selfLink",
  "uid",
  "resourceVersion",
  "generation",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "managedFields",
]);

/** What is somebody's, as opposed to what names the object or is the system's. */
function tracked(raw: Raw | undefined): Raw {
  if (!raw) return {};
  const { apiVersion: _, kind: __, metadata, ...rest } = raw;
  const own = Object.entries(isPlainObject(metadata) ? metadata : {}).filter(([field]) => !untrackedMetadata.has(field));
  return own.length === 0 ? rest : { metadata: Object.fromEntries(own), ...rest };
}

/** The managed fields after a create, update or patch has made `after` of `before`. */
export function managedAfterUpdate(before: Raw | undefined, after: Raw, type: JsonType, writer: Writer): unknown[] {
  const { changed, removed } = compareFields(tracked(before), tracked(after), type);
  const touched = changed.union(removed);
  if (touched.isEmpty) return encode(entriesOf(after));
  const isWriter = isEntryOf(writer, "Update");
  let own: Entry | undefined;
  const others: Entry[] = [];
  // A client may rewrite the list itself; what it wrote is the base.
  for (const entry of entriesOf(after)) {
    if (isWriter(entry)) own = entry;
    else others.push({ ...entry, fields: entry.fields.without(touched) });
  }
  const fields = (own?.fields ?? new FieldSet()).without(removed).union(changed);
  const entries = others.filter((entry) => !entry.fields.isEmpty);
  if (!fields.isEmpty) entries.push(entryOf(writer, "Update", fields));
  return encode(withoutAncients(entries));
}

/** `live` with `applied` laid over it, and its managed fields. Throws ApiError for conflicts. */
export function applyFields(live: Raw | undefined, applied: Raw, type: JsonType, writer: Writer, isForced: boolean): Raw {
  const intent = fieldsOf(tracked(applied), type);
  const isWriter = isEntryOf(writer, "Apply");
  const entries = entriesOf(live);
  const last = entries.find(isWriter);
  const merged = (live ? mergeFields(live, applied, type) : applied) as Raw;
  const { changed } = compareFields(tracked(live), tracked(merged), type);
  const others: Entry[] = [];
  const conflicts: StatusCause[] = [];
  for (const entry of entries) {
    if (isWriter(entry)) continue;
    const disputed = entry.fields.within(changed);
    for (const path of disputed.paths())
      conflicts.push({ reason: "FieldManagerConflict", message: `conflict with ${nameOf(entry)}`, field: formatSteps(path) });
    others.push({ ...entry, fields: entry.fields.without(disputed) });
  }
  if (conflicts.length > 0 && !isForced) throw new ApiError(409, conflictMessage(conflicts), { details: { causes: conflicts } });

  const kept = others.reduce((all, entry) => all.union(entry.fields), intent);
  const pruned = last ? (removeFields(merged, type, last.fields.without(intent), kept) as Raw) : merged;
  const isSame = last !== undefined && changed.isEmpty && last.fields.without(intent).isEmpty && intent.without(last.fields).isEmpty;
  const managedFields = encode(
    isSame ? entries : [...others.filter((entry) => !entry.fields.isEmpty), ...(intent.isEmpty ? [] : [entryOf(writer, "Apply", intent)])],
  );
  const { managedFields: _, ...metadata } = pruned.metadata as Raw;
  return { ...pruned, metadata: { ...metadata, ...(managedFields.length > 0 ? { managedFields } : {}) } };
}

function isEntryOf(writer: Writer, operation: "Apply" | "Update"): (entry: Entry) => boolean {
  return (entry) =>
    entry.operation === operation &&
    entry.manager === writer.manager &&
    entry.subresource === writer.subresource &&
    (operation === "Apply" || entry.apiVersion === writer.apiVersion);
}

function entryOf(writer: Writer, operation: "Apply" | "Update", fields: FieldSet): Entry {
  const { manager, apiVersion, subresource, nowMs } = writer;
  const time = new Date(nowMs).toISOString().replace(/\.\d+Z$/, "Z");
  return { manager, operation, apiVersion, subresource, time, fields };
}

/** What can't be read counts as nobody's. */
function entriesOf(raw: Raw | undefined): Entry[] {
  const list = isPlainObject(raw?.metadata) ? raw.metadata.managedFields : undefined;
  if (!Array.isArray(list)) return [];
  return list.filter(isPlainObject).flatMap((entry) => {
    const { manager = "", operation, apiVersion = "", subresource = "", time, fieldsV1 } = entry as Record<string, string | undefined>;
    if (operation !== "Apply" && operation !== "Update") return [];
    return [{ manager, operation, apiVersion, subresource, time, fields: FieldSet.fromJson(fieldsV1) }];
  });
}

function encode(entries: readonly Entry[]): unknown[] {
  return entries.map(({ manager, operation, apiVersion, subresource, time, fields }) => ({
    manager,
    operation,
    apiVersion,
    ...(time ? { time } : {}),
    fieldsType: "FieldsV1",
    fieldsV1: fields.toJson(),
    ...(subresource ? { subresource } : {}),
  }));
}

function withoutAncients(entries: readonly Entry[]): readonly Entry[] {
  const updaters = entries.filter(({ operation }) => operation === "Update");
  if (updaters.length <= maxUpdaters) return entries;
  const byAge = updaters.toSorted((a, b) => (ageKey(a) < ageKey(b) ? -1 : 1));
  const oldest = byAge.slice(0, updaters.length - maxUpdaters + 1);
  const fields = oldest.reduce((all, entry) => all.union(entry.fields), new FieldSet());
  const ancient: Entry = { ...oldest[0]!, manager: ancientManager, subresource: "", fields };
  return [ancient, ...entries.filter((entry) => !oldest.includes(entry))];
}

function ageKey({ manager, time }: Entry): string {
  return manager === ancientManager ? "" : (time ?? "0");
}

/** `"kubectl" with subresource "scale" using apps/v1 at 2026-01-01T00:00:00Z` */
function nameOf({ manager, operation, apiVersion, subresource, time }: Entry): string {
  const name = `${JSON.stringify(manager)}${subresource ? ` with subresource ${JSON.stringify(subresource)}` : ""}`;
  return operation === "Apply" ? name : `${name} using ${apiVersion}${time ? ` at ${time}` : ""}`;
}

function conflictMessage(conflicts: readonly StatusCause[]): string {
  const [only] = conflicts;
  if (conflicts.length === 1) return `Apply failed with 1 conflict: ${only!.message}: ${only!.field}`;
  const lines = [...new Set(conflicts.map(({ message }) => message))].flatMap((message) => [
    `${message.replace("conflict", "conflicts")}:`,
    ...conflicts.filter((conflict) => conflict.message === message).map(({ field }) => `- ${field}`),
  ]);
  return `Apply failed with ${conflicts.length} conflicts: ${lines.join("\n")}`;
}
