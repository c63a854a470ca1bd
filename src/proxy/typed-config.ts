/** What a `typed_config` holds: a message of its type, or the same as JSON in a TypedStruct, as Istio's control plane sends its own filters. */
import { type DescMessage, fromBinary, fromJson, type JsonObject, type MessageShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../api/config-error.ts";
import { TypedStructSchema as UdpaTypedStructSchema } from "../api/gen/udpa/type/v1/typed_struct_pb.js";
import { TypedStructSchema } from "../api/gen/xds/type/v3/typed_struct_pb.js";

/** `stats.PluginConfig`, whichever way it is packed. */
export function configTypeName(any: Any): string {
  const struct = typedStructOf(any);
  return afterSlash(struct ? struct.typeUrl : any.typeUrl);
}

/** Throws ConfigError. */
export function decodeConfig<S extends DescMessage>(schema: S, any: Any): MessageShape<S> {
  const struct = typedStructOf(any);
  if (struct === undefined) return fromBinary(schema, any.value);
  try {
    return fromJson(schema, struct.value ?? {}, { ignoreUnknownFields: true });
  } catch (cause) {
    throw new ConfigError(`${schema.typeName}: ${(cause as Error).message}`, { cause });
  }
}

function typedStructOf(any: Any): { readonly typeUrl: string; readonly value?: JsonObject | undefined } | undefined {
  const typeName = afterSlash(any.typeUrl);
  if (typeName === TypedStructSchema.typeName) return fromBinary(TypedStructSchema, any.value);
  if (typeName === UdpaTypedStructSchema.typeName) return fromBinary(UdpaTypedStructSchema, any.value);
  return undefined;
}

function afterSlash(typeUrl: string): string {
  return typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
}
