/**
 * Secrets out of dumps: every field that the protos mark `udpa.annotations.sensitive` is replaced by `[redacted]`, in the
 * JSON form of a message (proto field names), inside typed_config too.
 */
import { type DescField, type DescMessage, getOption, hasOption, type JsonObject, type JsonValue, type Registry } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { isWellKnown } from "../descriptors/well-known.ts";
import { sensitive } from "../gen/udpa/annotations/sensitive_pb.js";
import { isTypedStruct } from "./typed-struct.ts";

const redactedText = "[redacted]";
const redactedBytes = Buffer.from(redactedText).toString("base64");

/** Returns a copy where something was sensitive, else the same object. */
export function redactJson(desc: DescMessage, json: JsonObject, registry: Registry): JsonObject {
  if (desc.typeName === "google.protobuf.Any") {
    const typeUrl = json["@type"];
    const inner = typeof typeUrl === "string" ? registry.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1)) : undefined;
    return inner ? redactJson(inner, json, registry) : json;
  }
  if (isTypedStruct(desc.typeName)) {
    if (typeof json.type_url !== "string" || json.value === undefined || !isObject(json.value)) return json;
    const value = redactJson(AnySchema, { ...json.value, "@type": json.type_url }, registry);
    const { "@type": _type, ...fields } = value;
    return { ...json, value: fields };
  }
  if (isWellKnown(desc) || !mayHold(desc)) return json;
  let out = json;
  for (const field of desc.fields) {
    // A TypedStruct may be written by either name.
    const name = Object.hasOwn(json, field.name) ? field.name : field.jsonName;
    const value = json[name];
    if (value === undefined) continue;
    const changed =
      hasOption(field, sensitive) && getOption(field, sensitive) ? redactValue(field, value) : redactInside(field, value, registry);
    if (changed !== value) out = { ...out, [name]: changed };
  }
  return out;
}

function redactInside(field: DescField, value: JsonValue, registry: Registry): JsonValue {
  const { message } = field;
  if (!message) return value;
  const each = (item: JsonValue) => (isObject(item) ? redactJson(message, item, registry) : item);
  if (Array.isArray(value)) return mapChanged(value, each);
  if (field.fieldKind !== "map" || !isObject(value)) return each(value);
  const entries = Object.entries(value).map(([key, item]) => [key, each(item as JsonValue)] as const);
  return entries.some(([key, item]) => item !== value[key]) ? Object.fromEntries(entries) : value;
}

/** Everything below a sensitive field: texts and bytes lose their content, the shape stays. */
function redactValue(field: DescField, value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map((item) => redactValue(field, item));
  if (isObject(value)) {
    const byName = new Map(field.message?.fields.map((inner) => [inner.name, inner]));
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => {
        const inner = byName.get(key);
        return [key, inner ? redactValue(inner, item as JsonValue) : typeof item === "string" ? redactedText : (item as JsonValue)];
      }),
    );
  }
  if (typeof value !== "string") return value;
  return field.scalar === 12 /* bytes */ ? redactedBytes : redactedText;
}

function mapChanged(list: readonly JsonValue[], change: (item: JsonValue) => JsonValue): JsonValue {
  let isChanged = false;
  const out = list.map((item) => {
    const changed = change(item);
    isChanged ||= changed !== item;
    return changed;
  });
  return isChanged ? out : (list as JsonValue);
}

const known = new WeakMap<DescMessage, boolean>();

/** Whether anything sensitive can be in a message of this type; most of a configuration can't hold any. */
function mayHold(desc: DescMessage): boolean {
  const answer = known.get(desc);
  if (answer !== undefined) return answer;
  known.set(desc, false); // a type that contains itself adds nothing
  const result = desc.fields.some(
    (field) =>
      (hasOption(field, sensitive) && getOption(field, sensitive)) ||
      (field.message !== undefined && (field.message.typeName === "google.protobuf.Any" || mayHold(field.message))),
  );
  known.set(desc, result);
  return result;
}

function isObject(json: JsonValue): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}
