/** Reads fields of an object as it was written, of which nothing is known to be there or to have the right type. */
import { isPlainObject } from "../schema/decode.ts";

export type RawObject = Readonly<Record<string, unknown>>;

/** Undefined when a part of the path is missing or is no object. */
export function fieldAt(raw: unknown, ...path: readonly string[]): unknown {
  let value: unknown = raw;
  for (const key of path) {
    if (!isPlainObject(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

export function objectAt(raw: unknown, ...path: readonly string[]): RawObject {
  const value = fieldAt(raw, ...path);
  return isPlainObject(value) ? value : {};
}

/** "" when it isn't text. */
export function textAt(raw: unknown, ...path: readonly string[]): string {
  const value = fieldAt(raw, ...path);
  return typeof value === "string" ? value : "";
}

export function numberAt(raw: unknown, ...path: readonly string[]): number | undefined {
  const value = fieldAt(raw, ...path);
  return typeof value === "number" ? value : undefined;
}

/** Null stands for an empty value in a map of texts or bytes: that is how Go writes bytes that there are none of. */
export function withoutNulls(raw: Record<string, unknown>, ...fields: readonly string[]): Record<string, unknown> {
  const changed: Record<string, unknown> = {};
  for (const field of fields) {
    const map = raw[field];
    if (!isPlainObject(map) || !Object.values(map).includes(null)) continue;
    changed[field] = Object.fromEntries(Object.entries(map).map(([key, value]) => [key, value ?? ""]));
  }
  return Object.keys(changed).length === 0 ? raw : { ...raw, ...changed };
}

/** The objects of a list; whatever else stands in it is passed over. */
export function objectsAt(raw: unknown, ...path: readonly string[]): readonly RawObject[] {
  const value = fieldAt(raw, ...path);
  return Array.isArray(value) ? value.filter(isPlainObject) : [];
}

export function textsAt(raw: unknown, ...path: readonly string[]): readonly string[] {
  const value = fieldAt(raw, ...path);
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
