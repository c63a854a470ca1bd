/** A field mask applied to the JSON form of a message: only what the paths name is kept. */
import type { DescMessage, JsonObject, JsonValue } from "@bufbuild/protobuf";
import { envoyTypes } from "../../api/envoy/type-registry.ts";

/** Undefined when a path names a field that the message does not have: the mask is not for it. */
export function maskJson(desc: DescMessage, json: JsonObject, paths: readonly string[]): JsonObject | undefined {
  const below = new Map<string, string[]>();
  for (const path of paths) {
    const [name = "", ...rest] = path.trim().split(".");
    const list = below.get(name) ?? [];
    if (rest.length > 0) list.push(rest.join("."));
    below.set(name, list);
  }
  const out: JsonObject = "@type" in json ? { "@type": json["@type"]! } : {};
  for (const [name, inner] of below) {
    const field = desc.fields.find((candidate) => candidate.name === name);
    if (!field) return undefined;
    const value = json[name];
    if (value === undefined) continue;
    const { message } = field;
    if (inner.length === 0 || !message) {
      out[name] = value;
    } else {
      const kept = maskValue(message, value, inner);
      if (kept === undefined) return undefined;
      out[name] = kept;
    }
  }
  return out;
}

function maskValue(desc: DescMessage, value: JsonValue, paths: readonly string[]): JsonValue | undefined {
  if (Array.isArray(value)) {
    const kept = value.map((item) => maskValue(desc, item, paths));
    return kept.includes(undefined) ? undefined : (kept as JsonValue[]);
  }
  if (typeof value !== "object" || value === null) return value;
  const object = value as JsonObject;
  if (desc.typeName !== "google.protobuf.Any") return maskJson(desc, object, paths);
  const inner = envoyTypes.getMessage(String(object["@type"]).slice("type.googleapis.com/".length));
  return inner ? maskJson(inner, object, paths) : object;
}
