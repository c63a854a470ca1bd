/** Reads fields of JSON of which nothing is known to be there or to have the right type. */
import { isPlainObject } from "../../api/schema/decode.ts";
import type { Json } from "./proto-json.ts";

export type JsonObject = { readonly [name: string]: Json };

export function fieldAt(value: unknown, ...path: readonly string[]): unknown {
  let found = value;
  for (const name of path) {
    if (!isPlainObject(found) || !Object.hasOwn(found, name)) return undefined;
    found = found[name];
  }
  return found;
}

export function objectAt(value: unknown, ...path: readonly string[]): JsonObject {
  const found = fieldAt(value, ...path);
  return isPlainObject(found) ? (found as JsonObject) : {};
}

export function textAt(value: unknown, ...path: readonly string[]): string {
  const found = fieldAt(value, ...path);
  return typeof found === "string" ? found : "";
}

/** 0 when it is no number. */
export function numberAt(value: unknown, ...path: readonly string[]): number {
  const found = fieldAt(value, ...path);
  return typeof found === "number" ? found : 0;
}

/** The objects of a list. */
export function objectsAt(value: unknown, ...path: readonly string[]): readonly JsonObject[] {
  const found = fieldAt(value, ...path);
  return Array.isArray(found) ? found.filter((one): one is JsonObject => isPlainObject(one)) : [];
}

export function textsAt(value: unknown, ...path: readonly string[]): readonly string[] {
  const found = fieldAt(value, ...path);
  return Array.isArray(found) ? found.filter((one): one is string => typeof one === "string") : [];
}
