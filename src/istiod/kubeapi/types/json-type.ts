/**
 * What the JSON of an object may look like, whichever description it comes from: our schemas for Istio's kinds, the protobuf
 * descriptors for Kubernetes' own. Unknown fields, merging and OpenAPI are worked out of this one form.
 */
export type JsonType =
  | { readonly kind: "string"; readonly values?: readonly string[]; readonly format?: "byte" | "date-time" | "duration" }
  | { readonly kind: "boolean" }
  | { readonly kind: "integer"; readonly format: "int32" | "int64" }
  | { readonly kind: "number" }
  /** Kubernetes' port by number or name, and quantities, which may be written as numbers. */
  | { readonly kind: "intOrString" }
  /** Anything; its fields are not known. */
  | { readonly kind: "any" }
  | ListType
  | MapType
  | ObjectType;

export interface ListType {
  readonly kind: "list";
  readonly element: JsonType;
  /** Whether the list is one value, a set of values, or objects told apart by keys. Kubernetes `x-kubernetes-list-type`. */
  readonly relation: "atomic" | "set" | "map";
  /** Of a `map`: the fields that tell its items apart. */
  readonly keys: readonly string[];
  /** How a strategic merge patch goes about it; absent: it replaces the list. `key` is absent for lists of plain values. */
  readonly patch?: { readonly key?: string } | undefined;
}

export interface MapType {
  readonly kind: "map";
  readonly value: JsonType;
  readonly isAtomic: boolean;
}

export interface ObjectType {
  readonly kind: "object";
  readonly name: string;
  readonly fields: ReadonlyMap<string, JsonType>;
  /** Other spellings of a field that are taken, as proto JSON does. */
  readonly alias?: ((field: string) => string) | undefined;
}

export const anyType: JsonType = { kind: "any" };
