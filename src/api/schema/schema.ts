/**
 * The schema language: each message of Istio's API is declared once, and from the declaration come its TypeScript type
 * (`Infer`), its decoder (decode.ts) and, because a schema is plain data, whatever describes it (CRDs, OpenAPI, help).
 *
 * Presence follows proto3. A scalar, list or map that is not written has its default ("" 0 false, first enum value, [] {}),
 * so readers need no checks. Messages, durations and what is wrapped in `optional` (protobuf's wrapper types and the members
 * of a oneof) may be absent: `field?: T | undefined`.
 *
 *     export const percentSchema = message("Percent", { value: double() });
 *     export type Percent = Infer<typeof percentSchema>; // { value: number }
 */
export interface Schema<T = unknown, Explicit extends boolean = boolean> {
  readonly node: SchemaNode;
  /** Whether absence is told apart from the default. */
  readonly explicit: Explicit;
  /** Exists for the type checker alone. */
  readonly inferred?: T;
}

export type SchemaNode =
  | { readonly kind: "string" }
  | { readonly kind: "bool" }
  | { readonly kind: "integer"; readonly min: number; readonly max: number }
  | { readonly kind: "double" }
  | { readonly kind: "bytes" }
  | { readonly kind: "duration" }
  | { readonly kind: "intOrString" }
  | { readonly kind: "struct" }
  | { readonly kind: "anything" }
  | { readonly kind: "enum"; readonly numbers: ReadonlyMap<string, number>; readonly first: string }
  | { readonly kind: "list"; readonly element: Schema }
  | { readonly kind: "map"; readonly key: "string" | "uint32"; readonly value: Schema }
  | MessageNode;

export interface MessageNode {
  readonly kind: "message";
  readonly name: string;
  readonly fields: ReadonlyMap<string, Schema>;
  /** Of the fields of a group at most one may be given. */
  readonly oneofs: readonly (readonly string[])[];
  /** Lenient messages (Kubernetes' own records) pass over fields that are not declared; others refuse them. */
  readonly lenient: boolean;
}

/** The type of a decoded value. */
export type Infer<S> = S extends Schema<infer T, boolean> ? T : never;

type Fields = Readonly<Record<string, Schema>>;
type ExplicitKeys<F extends Fields> = { [K in keyof F]: F[K] extends Schema<unknown, true> ? K : never }[keyof F];
type Flat<T> = { [K in keyof T]: T[K] };
type MessageOf<F extends Fields> = Flat<
  { [K in Exclude<keyof F, ExplicitKeys<F>>]: Infer<F[K]> } & { [K in ExplicitKeys<F>]?: Infer<F[K]> | undefined }
>;

function schema<T, Explicit extends boolean>(node: SchemaNode, explicit: Explicit): Schema<T, Explicit> {
  return { node, explicit };
}

export function string(): Schema<string, false> {
  return schema({ kind: "string" }, false);
}

export function bool(): Schema<boolean, false> {
  return schema({ kind: "bool" }, false);
}

export function int32(): Schema<number, false> {
  return schema({ kind: "integer", min: -(2 ** 31), max: 2 ** 31 - 1 }, false);
}

export function uint32(): Schema<number, false> {
  return schema({ kind: "integer", min: 0, max: 2 ** 32 - 1 }, false);
}

/** 64-bit integers are JavaScript numbers here: no field of Istio's has a use beyond 2^53, and such a value is refused. */
export function int64(): Schema<number, false> {
  return schema({ kind: "integer", min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER }, false);
}

export function uint64(): Schema<number, false> {
  return schema({ kind: "integer", min: 0, max: Number.MAX_SAFE_INTEGER }, false);
}

export function double(): Schema<number, false> {
  return schema({ kind: "double" }, false);
}

/** Base64 in the text. */
export function bytes(): Schema<Uint8Array, false> {
  return schema({ kind: "bytes" }, false);
}

/** Milliseconds, may have a fraction. Written `1.5s`, `500ms`, `1h30m`. */
export function duration(): Schema<number, true> {
  return schema({ kind: "duration" }, true);
}

/** Kubernetes' port by number or name. */
export function intOrString(): Schema<number | string, true> {
  return schema({ kind: "intOrString" }, true);
}

/** google.protobuf.Struct: a plain object as it was written. */
export function struct(): Schema<Record<string, unknown>, true> {
  return schema({ kind: "struct" }, true);
}

/** Any value as it was written. */
export function anything(): Schema<unknown, true> {
  return schema({ kind: "anything" }, true);
}

/** Values in the order of their proto numbers from 0; the first is the default. */
export function enumeration<const V extends readonly [string, ...string[]]>(...values: V): Schema<V[number], false> {
  return schema({ kind: "enum", numbers: new Map(values.map((value, number) => [value, number])), first: values[0] }, false);
}

/** An enum whose numbers have gaps. */
export function numberedEnumeration<const V extends Readonly<Record<string, number>>>(values: V): Schema<keyof V & string, false> {
  const numbers = new Map(Object.entries(values));
  const first = [...numbers].find(([, number]) => number === 0)?.[0];
  if (first === undefined) throw new Error("A proto3 enum has a value 0");
  return schema({ kind: "enum", numbers, first }, false);
}

export function list<T>(element: Schema<T>): Schema<T[], false> {
  return schema({ kind: "list", element }, false);
}

export function map<T>(value: Schema<T>): Schema<Record<string, T>, false> {
  return schema({ kind: "map", key: "string", value }, false);
}

/** A map whose keys are numbers in decimal. */
export function mapByNumber<T>(value: Schema<T>): Schema<Record<string, T>, false> {
  return schema({ kind: "map", key: "uint32", value }, false);
}

/** A scalar that may be absent: protobuf's wrapper types, and the members of a oneof. */
export function optional<T>(inner: Schema<T>): Schema<T, true> {
  return schema(inner.node, true);
}

export interface MessageOptions<Name extends string> {
  readonly oneofs?: readonly (readonly Name[])[];
  readonly lenient?: boolean;
}

export function message<F extends Fields>(
  name: string,
  fields: F,
  options: MessageOptions<keyof F & string> = {},
): Schema<MessageOf<F>, true> {
  const node: MessageNode = {
    kind: "message",
    name,
    fields: new Map(Object.entries(fields)),
    oneofs: options.oneofs ?? [],
    lenient: options.lenient ?? false,
  };
  return schema(node, true);
}

/** A message of Kubernetes' own, of which only what a control plane reads is declared. */
export function record<F extends Fields>(name: string, fields: F): Schema<MessageOf<F>, true> {
  return message(name, fields, { lenient: true });
}
