/**
 * Messages to JSON as Envoy's admin interface prints them: field names of the proto, defaults left out, 64-bit integers
 * as strings, one space of indentation. An Any of a type we don't have shows its type and nothing else.
 */
import { type DescMessage, type JsonObject, type JsonValue, type MessageShape, toJson } from "@bufbuild/protobuf";
import { lenientEnvoyTypes } from "./type-registry.ts";

export function writeJson<S extends DescMessage>(schema: S, message: MessageShape<S>): JsonObject {
  return typesFirst(toJson(schema, message, { registry: lenientEnvoyTypes, useProtoFieldName: true })) as JsonObject;
}

/** As above, with defaults: `/server_info` and `/memory` show every field. */
export function writeFullJson<S extends DescMessage>(schema: S, message: MessageShape<S>): JsonObject {
  return toJson(schema, message, { registry: lenientEnvoyTypes, useProtoFieldName: true, alwaysEmitImplicit: true }) as JsonObject;
}

export function jsonText(json: JsonValue): string {
  return JSON.stringify(json, null, 1);
}

/** `@type` before the fields, as everybody but our library writes it. */
function typesFirst(json: JsonValue): JsonValue {
  if (Array.isArray(json)) return json.map(typesFirst);
  if (typeof json !== "object" || json === null) return json;
  const fields = Object.entries(json).map(([key, value]) => [key, typesFirst(value as JsonValue)] as const);
  const type = (json as JsonObject)["@type"];
  return type === undefined ? Object.fromEntries(fields) : { "@type": type, ...Object.fromEntries(fields) };
}
