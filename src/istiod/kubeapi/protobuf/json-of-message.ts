/** A decoded message of Kubernetes' as JSON. Fields with their zero value are left away, but for those that may be absent (`optional`). */
import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { inlinedFields } from "../types/from-descriptor.ts";

export function jsonOfMessage(schema: DescMessage, message: Message): unknown {
  return toJson(reflect(schema, message));
}

const microsecond = 1000;

/** Undefined: there is nothing to say. */
function toJson(message: ReflectMessage): unknown {
  const scalar = (name: string) => {
    const field = message.desc.fields.find((one) => one.name === name);
    return field ? (message.get(field) as unknown) : undefined;
  };
  switch (message.desc.name) {
    case "Time":
      return timestamp(scalar("seconds"));
    case "MicroTime":
      return timestamp(scalar("seconds"), Math.floor(Number(scalar("nanos")) / microsecond));
    case "Quantity":
      return scalar("string");
    case "IntOrString":
      return Number(scalar("type")) === 1 ? scalar("strVal") : scalar("intVal");
    case "FieldsV1":
      return JSON.parse(Buffer.from(scalar("Raw") as Uint8Array).toString("utf8") || "{}");
    case "ExtraValue":
      return [...((scalar("items") ?? []) as Iterable<unknown>)];
    default:
  }
  const entries: [string, unknown][] = [];
  for (const field of message.desc.fields) {
    if (!message.isSet(field)) continue;
    const value = fieldToJson(message, field);
    if (value === undefined) continue;
    if (field.message && field.fieldKind === "message" && inlinedFields.has(field.name)) entries.push(...Object.entries(value as object));
    else entries.push([field.name, value]);
  }
  return Object.fromEntries(entries);
}

function fieldToJson(message: ReflectMessage, field: DescField): unknown {
  switch (field.fieldKind) {
    case "list":
      return [...message.get(field)].map(itemToJson);
    case "map":
      return Object.fromEntries([...message.get(field)].map(([key, value]) => [String(key), itemToJson(value)]));
    case "message":
      return toJson(message.get(field));
    default:
      return scalarToJson(message.get(field));
  }
}

function itemToJson(value: unknown): unknown {
  return typeof value === "object" && value !== null && "desc" in value ? toJson(value as ReflectMessage) : scalarToJson(value);
}

function scalarToJson(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  return value instanceof Uint8Array ? Buffer.from(value).toString("base64") : value;
}

/** Go's zero time is the year 1, and means none. */
function timestamp(seconds: unknown, microseconds?: number): string | undefined {
  const ms = Number(seconds) * 1000;
  if (ms <= 0) return undefined;
  const text = new Date(ms).toISOString().slice(0, "2026-01-01T00:00:00".length);
  return microseconds === undefined ? `${text}Z` : `${text}.${String(microseconds).padStart(6, "0")}Z`;
}
