/** Objects seen as sets of places: what an object holds, what differs between two, how one is merged into another. By the object's type. */
import { isDeepStrictEqual } from "node:util";
import { isPlainObject } from "../../../api/schema/decode.ts";
import { anyType, type JsonType, type ListType } from "../types/json-type.ts";
import { FieldSet } from "./field-set.ts";

/** A value taken apart into steps and what stands there; undefined when it is one value. */
function partsOf(value: unknown, type: JsonType): { step: string; value: unknown; type: JsonType; isItem: boolean }[] | undefined {
  if (isPlainObject(value)) {
    if (type.kind === "map" && type.isAtomic) return undefined;
    const isItem = type.kind !== "object";
    return Object.entries(value).map(([name, item]) => {
      const itemType = type.kind === "object" ? (type.fields.get(name) ?? anyType) : type.kind === "map" ? type.value : anyType;
      return { step: `f:${name}`, value: item, type: itemType, isItem };
    });
  }
  if (Array.isArray(value) && type.kind === "list" && type.relation !== "atomic") {
    return value.map((item) => ({ step: stepOfItem(item, type), value: item, type: type.element, isItem: true }));
  }
  return undefined;
}

function stepOfItem(item: unknown, type: ListType): string {
  if (type.relation === "set") return `v:${JSON.stringify(item)}`;
  const keys = type.keys.map((key) => [key, (isPlainObject(item) ? item[key] : undefined) ?? defaultKeys[key] ?? null] as const);
  return `k:${JSON.stringify(Object.fromEntries(keys.toSorted(([a], [b]) => (a < b ? -1 : 1))))}`;
}

/** Keys that may be left away in what is applied, for the API server fills them in. */
const defaultKeys: Readonly<Record<string, unknown>> = { protocol: "TCP" };

/** All places that a value holds. */
export function fieldsOf(value: unknown, type: JsonType): FieldSet {
  const set = new FieldSet();
  collect(value, type, set);
  return set;
}

function collect(value: unknown, type: JsonType, set: FieldSet): void {
  const parts = partsOf(value, type);
  if (!parts) {
    set.isMember = true;
    return;
  }
  for (const part of parts) {
    const place = set.open(part.step);
    collect(part.value, part.type, place);
    if (part.isItem || place.isEmpty) place.isMember = true;
  }
}

export interface Comparison {
  /** Places that are new or have another value. */
  readonly changed: FieldSet;
  readonly removed: FieldSet;
}

export function compareFields(before: unknown, after: unknown, type: JsonType): Comparison {
  const result = { changed: new FieldSet(), removed: new FieldSet() };
  compare(before, after, type, result);
  return result;
}

function compare(before: unknown, after: unknown, type: JsonType, { changed, removed }: Comparison): void {
  const [partsBefore, partsAfter] = [partsOf(before, type), partsOf(after, type)];
  if (!partsBefore || !partsAfter) {
    if (before === undefined) collect(after, type, changed);
    else if (after === undefined) collect(before, type, removed);
    else if (!isDeepStrictEqual(before, after)) changed.isMember = true;
    return;
  }
  const known = new Map(partsBefore.map((part) => [part.step, part]));
  for (const part of partsAfter) {
    const counterpart = known.get(part.step);
    known.delete(part.step);
    if (counterpart && counterpart.value === part.value) continue;
    const below = { changed: new FieldSet(), removed: new FieldSet() };
    compare(counterpart?.value, part.value, part.type, below);
    if (!counterpart && (part.isItem || below.changed.isEmpty)) below.changed.isMember = true;
    changed.attach(part.step, below.changed);
    removed.attach(part.step, below.removed);
  }
  for (const part of known.values()) {
    const place = removed.open(part.step);
    collect(part.value, part.type, place);
    if (part.isItem || place.isEmpty) place.isMember = true;
  }
}

/** `applied` laid over `live`: what it says wins, what it does not say stays. */
export function mergeFields(live: unknown, applied: unknown, type: JsonType): unknown {
  if (isPlainObject(live) && isPlainObject(applied) && !(type.kind === "map" && type.isAtomic)) {
    const merged: Record<string, unknown> = { ...live };
    for (const [name, item] of Object.entries(applied)) {
      const itemType = type.kind === "object" ? (type.fields.get(name) ?? anyType) : type.kind === "map" ? type.value : anyType;
      merged[name] = mergeFields(Object.hasOwn(live, name) ? live[name] : undefined, item, itemType);
    }
    return merged;
  }
  if (Array.isArray(live) && Array.isArray(applied) && type.kind === "list" && type.relation !== "atomic") {
    const items = new Map(live.map((item) => [stepOfItem(item, type), item as unknown]));
    for (const item of applied) {
      const step = stepOfItem(item, type);
      items.set(step, mergeFields(items.get(step), item, type.element));
    }
    return [...items.values()];
  }
  return applied;
}

/** The value without these places. An object or item goes as a whole when it is one of them and `kept` has nothing in it. */
export function removeFields(value: unknown, type: JsonType, gone: FieldSet, kept: FieldSet): unknown {
  const parts = partsOf(value, type);
  if (!parts) return value;
  const remaining = parts.flatMap((part) => {
    const [goes, stays] = [gone.child(part.step), kept.child(part.step)];
    if (!goes) return [part];
    if (goes.isMember && (!stays || stays.isEmpty)) return [];
    const left = removeFields(part.value, part.type, goes, stays ?? new FieldSet());
    // An object of which nothing is left, and which nobody wanted empty, was only there for its fields.
    const isHollow =
      isPlainObject(left) && Object.keys(left).length === 0 && isPlainObject(part.value) && Object.keys(part.value).length > 0;
    return isHollow && (!stays || stays.isEmpty) ? [] : [{ ...part, value: left }];
  });
  return Array.isArray(value)
    ? remaining.map((part) => part.value)
    : Object.fromEntries(remaining.map((part) => [part.step.slice(2), part.value]));
}
