/**
 * TypedStruct: a message as JSON, under the type URL that it would have in an Any. Envoy takes it for the message itself wherever it
 * looks up an extension by its type, and Istio's recipes for local rate limits are written so.
 */
import { fromBinary, type JsonObject } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import { TypedStructSchema as UdpaTypedStructSchema } from "../gen/udpa/type/v1/typed_struct_pb.js";
import { TypedStructSchema } from "../gen/xds/type/v3/typed_struct_pb.js";
import { readJson } from "./read-json.ts";
import { envoyTypes } from "./type-registry.ts";

const resolved = new WeakMap<Any, Any>();

/**
 * What a TypedStruct stands for; anything else as it is. One of a type that we don't know becomes an empty Any of that type. Fields
 * that we don't know are passed over. Throws ConfigError for a value that is none of the type.
 */
export function resolveTypedStruct(any: Any): Any {
  if (!any.typeUrl.endsWith(".TypedStruct")) return any;
  const known = resolved.get(any);
  if (known) return known;
  const struct = unpack(any);
  if (!struct) return any;
  const { typeUrl, value = {} } = struct;
  const schema = envoyTypes.getMessage(typeName(typeUrl)) as GenMessage<never> | undefined;
  const result: Any = schema
    ? anyPack(schema, readJson(schema, value, { registry: envoyTypes, onUnknownField() {} }))
    : { $typeName: "google.protobuf.Any", typeUrl, value: new Uint8Array() };
  resolved.set(any, result);
  return result;
}

/** Both have the same fields under two names. */
export function isTypedStruct(name: string): boolean {
  return name === TypedStructSchema.typeName || name === UdpaTypedStructSchema.typeName;
}

function unpack({ typeUrl, value }: Any): { readonly typeUrl: string; readonly value?: JsonObject | undefined } | undefined {
  switch (typeName(typeUrl)) {
    case TypedStructSchema.typeName:
      return fromBinary(TypedStructSchema, value);
    case UdpaTypedStructSchema.typeName:
      return fromBinary(UdpaTypedStructSchema, value);
    default:
      return undefined;
  }
}

function typeName(typeUrl: string): string {
  return typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
}
