/**
 * Kubernetes' strategic merge patch: a merge patch that knows which lists hold objects with keys. Besides values it holds directives:
 *
 *   $patch: replace | delete | merge     of an object, or of a list as one of its items
 *   $retainKeys: [names]                 fields that stay; all others of the object go
 *   $setElementOrder/FIELD: [...]        order of a list after the merge, by values or by objects with the key alone
 *   $deleteFromPrimitiveList/FIELD: [..] values that a list loses
 */
import { isPlainObject } from "../../../api/schema/decode.ts";
import { anyType, type JsonType } from "../types/json-type.ts";
import { PatchError } from "./patch-error.ts";

const orderPrefix = "$setElementOrder/";
const deletePrefix = "$deleteFromPrimitiveList/";

type Item = unknown;

/** Throws PatchError. Neither argument is changed. */
export function strategicMerge(target: unknown, patch: unknown, type: JsonType): unknown {
  if (!isPlainObject(patch)) throw new PatchError(400, "a strategic merge patch is an object");
  return mergeObject(isPlainObject(target) ? target : {}, patch, type);
}

function mergeObject(target: Record<string, unknown>, patch: Record<string, unknown>, type: JsonType): Record<string, unknown> {
  switch (patch.$patch) {
    case undefined:
    case "merge":
      break;
    case "replace": {
      const { $patch: _, ...replacement } = patch;
      return mergeObject({}, replacement, type);
    }
    case "delete":
      return {};
    default:
      throw new PatchError(400, `unknown directive $patch: ${JSON.stringify(patch.$patch)}`);
  }
  const merged = retained(target, patch);
  for (const field of namedFields(patch)) {
    const value = Object.hasOwn(patch, field) ? patch[field] : undefined;
    const current = Object.hasOwn(merged, field) ? merged[field] : undefined;
    const fieldType = typeOfField(type, field);
    if (value === null) delete merged[field];
    else if (value === undefined || (Array.isArray(value) && fieldType.kind === "list" && fieldType.patch)) {
      const key = fieldType.kind === "list" ? fieldType.patch?.key : undefined;
      const element = fieldType.kind === "list" ? fieldType.element : anyType;
      if (value !== undefined || Array.isArray(current))
        merged[field] = mergeList(Array.isArray(current) ? current : [], field, patch, key, element);
    } else if (!isPlainObject(value)) merged[field] = value;
    else if (value.$patch === "delete") delete merged[field];
    else merged[field] = mergeObject(isPlainObject(current) ? current : {}, value, fieldType);
  }
  return merged;
}

const listDirective = /^\$(?:setElementOrder|deleteFromPrimitiveList)\/(?<field>.+)$/;

/** Fields that the patch has something for, be it only an order. */
function namedFields(patch: Record<string, unknown>): Set<string> {
  return new Set(Object.keys(patch).flatMap((name) => (name.startsWith("$") ? (listDirective.exec(name)?.groups?.field ?? []) : name)));
}

function typeOfField(type: JsonType, field: string): JsonType {
  if (type.kind === "object") return type.fields.get(field) ?? anyType;
  return type.kind === "map" ? type.value : anyType;
}

function retained(target: Record<string, unknown>, { $retainKeys }: Record<string, unknown>): Record<string, unknown> {
  if ($retainKeys === undefined) return { ...target };
  if (!Array.isArray($retainKeys)) throw new PatchError(400, "$retainKeys is not a list");
  return Object.fromEntries(Object.entries(target).filter(([field]) => $retainKeys.includes(field)));
}

function mergeList(
  current: readonly Item[],
  field: string,
  patch: Record<string, unknown>,
  key: string | undefined,
  element: JsonType,
): Item[] {
  const given = listIn(patch, field) ?? [];
  const items = given.filter((item) => !isReplacement(item));
  if (items.length < given.length) return mergedItems([], items, key, element);
  const gone = listIn(patch, `${deletePrefix}${field}`) ?? [];
  const merged = mergedItems(gone.length > 0 ? current.filter((item) => !gone.includes(item)) : current, items, key, element);
  return inOrder(merged, listIn(patch, `${orderPrefix}${field}`) ?? items, current, key);
}

function listIn(patch: Record<string, unknown>, name: string): Item[] | undefined {
  const list = Object.hasOwn(patch, name) ? patch[name] : undefined;
  if (list !== undefined && !Array.isArray(list)) throw new PatchError(400, `${name} is not a list`);
  return list;
}

/** `{ $patch: replace }` as an item: the list's other items are all that is to be in it. */
function isReplacement(item: Item): boolean {
  return isPlainObject(item) && item.$patch === "replace" && Object.keys(item).length === 1;
}

function mergedItems(current: readonly Item[], additions: readonly Item[], key: string | undefined, element: JsonType): Item[] {
  if (key === undefined) return [...new Set([...current, ...additions])];
  // A map keeps the order in which its keys came.
  const items = new Map<unknown, Item>();
  for (const [index, item] of current.entries()) items.set(keyOf(item, key) ?? `#${index}`, item);
  for (const item of additions) {
    const name = keyOf(item, key);
    if (!isPlainObject(item) || name === undefined) throw new PatchError(400, `an item of the list has no merge key "${key}"`);
    if (item.$patch === "delete") {
      items.delete(name);
    } else {
      const existing = items.get(name);
      items.set(name, mergeObject(isPlainObject(existing) ? existing : {}, item, element));
    }
  }
  return [...items.values()];
}

function keyOf(item: Item, key: string): unknown {
  return isPlainObject(item) && Object.hasOwn(item, key) ? item[key] : undefined;
}

/**
 * Items that the order names stand in it; the others, which only the server has, keep their place before those that they were before.
 * A patch that says nothing of an order has the order of its items.
 */
function inOrder(list: readonly Item[], order: readonly unknown[], before: readonly Item[], key: string | undefined): Item[] {
  const nameOf = (item: Item) => (key === undefined ? item : (keyOf(item, key) ?? item));
  const places = new Map(order.map((item, index) => [nameOf(item), index]));
  const positions = new Map(before.map((item, index) => [nameOf(item), index]));
  const named = list.filter((item) => places.has(nameOf(item)));
  named.sort((a, b) => places.get(nameOf(a))! - places.get(nameOf(b))!);
  const others = list.filter((item) => !places.has(nameOf(item)));
  const merged: Item[] = [];
  for (const item of named) {
    const position = positions.get(nameOf(item));
    while (others.length > 0 && position !== undefined && (positions.get(nameOf(others[0])) ?? Number.POSITIVE_INFINITY) < position)
      merged.push(others.shift());
    merged.push(item);
  }
  return [...merged, ...others];
}
