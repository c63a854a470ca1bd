/**
 * Proto JSON (from YAML or JSON text) to messages, with errors a user can act on.
 *
 * Protobuf's own decoder stops at the first problem without saying where. So the tree is walked first, against the
 * descriptors: every field known, every value of its type, every Any of a known type; complaints have Envoy's words, the
 * path of the field and its line. What passes is then decoded by the library.
 */

import type { Message } from "@bufbuild/protobuf";
import {
  type DescEnum,
  type DescField,
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  type MessageShape,
  type Registry,
  ScalarType,
} from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import { ConfigError, type ConfigErrorOptions, type SourcePosition } from "../config-error.ts";
import { isWellKnown } from "../descriptors/well-known.ts";
import { newerFields } from "./newer-fields.ts";

export type FieldPath = readonly (string | number)[];

export interface ReadJsonOptions {
  readonly registry: Registry;
  /** Where a path stands in the user's text. */
  readonly locate?: (path: FieldPath) => SourcePosition | undefined;
  /** Called for a field that nobody knows; without it such a field is an error. */
  readonly onUnknownField?: (path: FieldPath, typeName: string) => void;
  /** Called for a field that is newer than our protos; without it such a field is passed over. */
  readonly onNewerField?: (path: FieldPath, typeName: string) => void;
}

/** Protobuf's own limit. */
const maxDepth = 100;

/** The message is in Envoy's words. `path` and `reason` are for those who have a place of their own for the one, and words for the other. */
export class JsonError extends ConfigError {
  readonly path: FieldPath;
  readonly reason: string;

  constructor(message: string, path: FieldPath, reason: string, options: ConfigErrorOptions) {
    super(message, { ...options, field: pathText(path) });
    this.path = path;
    this.reason = reason;
  }
}

/** Throws JsonError. */
export function readJson<T extends Message>(schema: GenMessage<T>, json: JsonValue, options: ReadJsonOptions): T {
  const checked = new Walk(schema, options).message(schema, json, [], []);
  try {
    return fromJson(schema, checked, { registry: options.registry, ignoreUnknownFields: true }) as MessageShape<typeof schema> as T;
  } catch (cause) {
    const reason = (cause as Error).message;
    throw new JsonError(`Unable to parse JSON as proto (INVALID_ARGUMENT: ${reason})`, [], reason, { cause });
  }
}

class Walk {
  #root: DescMessage;
  #options: ReadJsonOptions;

  constructor(root: DescMessage, options: ReadJsonOptions) {
    this.#root = root;
    this.#options = options;
  }

  /** `path` leads through the user's text, `shown` is the same as Envoy writes it, with `<any>` where a type begins. */
  message(desc: DescMessage, json: JsonValue, path: FieldPath, shown: readonly string[]): JsonValue {
    if (path.length > maxDepth) this.#fail(path, shown, `message ${desc.typeName}`, "JSON content too deeply nested");
    const wellKnown = this.#wellKnown(desc, json, path, shown);
    if (wellKnown !== undefined) return wellKnown;
    if (!isObject(json))
      return this.#fail(path, shown, `message ${desc.typeName}`, `unexpected character: '${startOf(json)}'; expected '{'`);
    return this.#fields(desc, json, path, shown);
  }

  #fields(desc: DescMessage, json: JsonObject, path: FieldPath, shown: readonly string[]): JsonObject {
    const byName = fieldsByName(desc);
    const out: JsonObject = {};
    const oneofs = new Map<string, string>();
    for (const [key, value] of Object.entries(json)) {
      const at = [...path, key];
      if (key === "@type") continue;
      const field = byName.get(key);
      if (!field) {
        if (newerFields[desc.typeName]?.includes(snakeCase(key))) this.#options.onNewerField?.(at, desc.typeName);
        else if (this.#options.onUnknownField) this.#options.onUnknownField(at, desc.typeName);
        else this.#unknownField(at, desc, shown, key);
        continue;
      }
      const isValue = field.fieldKind === "message" && field.message.typeName === "google.protobuf.Value";
      if (value === null && !isValue) continue;
      const below = [...shown, field.name];
      if (Object.hasOwn(out, field.name) || (field.oneof && oneofs.has(field.oneof.name))) {
        this.#fail(at, below, typeText(field), `'${field.name}' has already been set (either directly or as part of a oneof)`);
      }
      if (field.oneof) oneofs.set(field.oneof.name, field.name);
      out[field.name] = this.#field(field, value as JsonValue, at, below);
    }
    return out;
  }

  #field(field: DescField, json: JsonValue, path: FieldPath, shown: readonly string[]): JsonValue {
    switch (field.fieldKind) {
      case "scalar":
        return this.#scalar(field.scalar, json, path, shown);
      case "enum":
        return this.#enum(field.enum, json, path, shown);
      case "message":
        return this.message(field.message, json, path, shown);
      case "list": {
        if (!Array.isArray(json)) return this.#fail(path, shown, typeText(field), `unexpected character: '${startOf(json)}'; expected '['`);
        return json.map((item, index) => {
          const at = [...path, index];
          const below = [...shown.slice(0, -1), `${shown.at(-1)}[${index}]`];
          if (field.listKind === "message") return this.message(field.message, item, at, below);
          if (field.listKind === "enum") return this.#enum(field.enum, item, at, below);
          return this.#scalar(field.scalar, item, at, below);
        });
      }
      case "map": {
        if (!isObject(json)) return this.#fail(path, shown, typeText(field), `unexpected character: '${startOf(json)}'; expected '{'`);
        const out: JsonObject = {};
        for (const [key, item] of Object.entries(json)) {
          const at = [...path, key];
          const below = [...shown.slice(0, -1), `${shown.at(-1)}[${JSON.stringify(key)}]`];
          const value = item as JsonValue;
          if (field.mapKind === "message") out[key] = this.message(field.message, value, at, below);
          else if (field.mapKind === "enum") out[key] = this.#enum(field.enum, value, at, below);
          else out[key] = this.#scalar(field.scalar, value, at, below);
        }
        return out;
      }
      default:
        return field satisfies never;
    }
  }

  #wellKnown(desc: DescMessage, json: JsonValue, path: FieldPath, shown: readonly string[]): JsonValue | undefined {
    switch (desc.typeName) {
      case "google.protobuf.Any":
        return this.#any(json, path, shown);
      case "google.protobuf.Duration":
        if (typeof json !== "string")
          return this.#fail(path, shown, `message ${desc.typeName}`, `unexpected character: '${startOf(json)}'; expected '"'`);
        if (!json.endsWith("s")) return this.#fail(path, shown, `message ${desc.typeName}`, "duration must end with a single 's'");
        if (!/^-?\d{1,12}(\.\d{1,9})?s$/.test(json))
          return this.#fail(path, shown, `message ${desc.typeName}`, `duration had bad seconds: '${json}'`);
        return json;
      case "google.protobuf.Timestamp":
      case "google.protobuf.FieldMask":
        return this.#scalar(ScalarType.STRING, json, path, shown);
      case "google.protobuf.Struct":
        return isObject(json)
          ? json
          : this.#fail(path, shown, `message ${desc.typeName}`, `unexpected character: '${startOf(json)}'; expected '{'`);
      case "google.protobuf.ListValue":
        return Array.isArray(json)
          ? json
          : this.#fail(path, shown, `message ${desc.typeName}`, `unexpected character: '${startOf(json)}'; expected '['`);
      case "google.protobuf.Value":
        return json;
      case "google.protobuf.DoubleValue":
      case "google.protobuf.FloatValue":
      case "google.protobuf.Int64Value":
      case "google.protobuf.UInt64Value":
      case "google.protobuf.Int32Value":
      case "google.protobuf.UInt32Value":
      case "google.protobuf.BoolValue":
      case "google.protobuf.StringValue":
      case "google.protobuf.BytesValue": {
        const value = desc.fields[0]!;
        return value.fieldKind === "scalar" ? this.#scalar(value.scalar, json, path, shown) : undefined;
      }
      default:
        return undefined;
    }
  }

  #any(json: JsonValue, path: FieldPath, shown: readonly string[]): JsonValue {
    const type = "message google.protobuf.Any";
    if (!isObject(json)) return this.#fail(path, shown, type, `unexpected character: '${startOf(json)}'; expected '{'`);
    const keys = Object.keys(json);
    if (keys.length === 0) return json;
    const typeUrl = json["@type"];
    if (typeof typeUrl !== "string") return this.#fail(path, shown, type, "missing @type in Any is only allowed for an empty object");
    const desc = this.#options.registry.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1));
    if (!desc) {
      const reason = `could not find @type '${typeUrl}'`;
      throw new JsonError(`Unable to parse JSON as proto (INVALID_ARGUMENT: ${reason})`, path, reason, {
        position: this.#options.locate?.(path),
      });
    }
    const below = [...shown.slice(0, -1), `${shown.at(-1) ?? ""}.<any>`];
    if (isWellKnown(desc) && desc.typeName !== "google.protobuf.Empty") {
      // Well-known types with a JSON form of their own stand under "value".
      return { "@type": typeUrl, value: this.message(desc, (json.value ?? null) as JsonValue, [...path, "value"], below) };
    }
    const { "@type": _type, ...fields } = json;
    return { "@type": typeUrl, ...this.#fields(desc, fields as JsonObject, path, below) };
  }

  #scalar(scalar: ScalarType, json: JsonValue, path: FieldPath, shown: readonly string[]): JsonValue {
    const type = ScalarType[scalar]!.toLowerCase();
    switch (scalar) {
      case ScalarType.STRING:
      case ScalarType.BYTES:
        return typeof json === "string" ? json : this.#fail(path, shown, type, `unexpected character: '${startOf(json)}'; expected '"'`);
      case ScalarType.BOOL:
        if (typeof json === "boolean") return json;
        // YAML 1.1 spellings, which Envoy's reader knows and YAML 1.2 reads as strings.
        if (typeof json === "string" && /^(y|yes|on|true)$/i.test(json)) return true;
        if (typeof json === "string" && /^(n|no|off|false)$/i.test(json)) return false;
        return this.#fail(path, shown, type, "expected 'true' or 'false'");
      case ScalarType.DOUBLE:
      case ScalarType.FLOAT:
        if (typeof json === "number" || (typeof json === "string" && (/^(NaN|-?Infinity)$/.test(json) || isNumeric(json)))) return json;
        return this.#fail(path, shown, type, `invalid number: '${String(json)}'`);
      default: {
        const number = typeof json === "string" && isNumeric(json) ? Number(json) : json;
        if (typeof number !== "number")
          return this.#fail(path, shown, type, `invalid number: '${typeof json === "string" ? json : startOf(json)}'`);
        const [low, high] = integerRange(scalar);
        if (!Number.isInteger(number) || number < low || number > high) {
          return this.#fail(path, shown, type, "JSON number out of range for int");
        }
        return json;
      }
    }
  }

  #enum(desc: DescEnum, json: JsonValue, path: FieldPath, shown: readonly string[]): JsonValue {
    if (desc.typeName === "google.protobuf.NullValue") return null;
    if (typeof json === "number" && Number.isInteger(json)) return json;
    if (typeof json !== "string")
      return this.#fail(path, shown, `enum ${desc.typeName}`, `unexpected character: '${startOf(json)}'; expected '"'`);
    if (desc.values.some((value) => value.name === json)) return json;
    const number = isNumeric(json) ? Number(json) : Number.NaN;
    if (Number.isInteger(number)) return number;
    const reason = `unknown enum value: '${json}'`;
    throw new JsonError(
      `Protobuf message (type ${this.#root.typeName} reason INVALID_ARGUMENT: ${reason}) has unknown fields`,
      path,
      reason,
      {
        position: this.#options.locate?.(path),
        hint: `one of ${desc.values.map((value) => value.name).join(", ")}`,
      },
    );
  }

  #unknownField(path: FieldPath, desc: DescMessage, shown: readonly string[], key: string): never {
    const where = this.#where(path, shown, shown.length === 0 ? undefined : `message ${desc.typeName}`);
    const reason = `no such field: '${key}'`;
    throw new JsonError(
      `Protobuf message (type ${this.#root.typeName} reason INVALID_ARGUMENT: ${where}: ${reason}) has unknown fields`,
      path,
      reason,
      { position: this.#options.locate?.(path) },
    );
  }

  #fail(path: FieldPath, shown: readonly string[], type: string, reason: string): never {
    const message = `Unable to parse JSON as proto (INVALID_ARGUMENT: ${this.#where(path, shown, type)}: ${reason})`;
    throw new JsonError(message, path, `is not a ${type}: ${reason}`, { position: this.#options.locate?.(path) });
  }

  /** `invalid JSON in envoy.config.bootstrap.v3.Bootstrap @ static_resources.listeners[0]: message ..., near 12:5` */
  #where(path: FieldPath, shown: readonly string[], type: string | undefined): string {
    const position = this.#options.locate?.(path);
    const near = position ? `, near ${position.line}:${position.column ?? 1}` : "";
    const at = shown.length === 0 || type === undefined ? "" : ` @ ${shown.join(".")}: ${type}`;
    return `invalid JSON in ${this.#root.typeName}${at}${near}`;
  }
}

/** `static_resources.listeners[0].name` */
export function pathText(path: FieldPath): string {
  return path.reduce<string>((text, part) => (typeof part === "number" ? `${text}[${part}]` : text === "" ? part : `${text}.${part}`), "");
}

const fieldMaps = new WeakMap<DescMessage, ReadonlyMap<string, DescField>>();

/** Fields by both of their spellings, snake_case and camelCase. */
function fieldsByName(desc: DescMessage): ReadonlyMap<string, DescField> {
  let map = fieldMaps.get(desc);
  if (!map) {
    map = new Map(desc.fields.flatMap((field) => [[field.name, field] as const, [field.jsonName, field] as const]));
    fieldMaps.set(desc, map);
  }
  return map;
}

function typeText(field: DescField): string {
  if (field.message) return `message ${field.message.typeName}`;
  if (field.enum) return `enum ${field.enum.typeName}`;
  return ScalarType[field.scalar]!.toLowerCase();
}

function integerRange(scalar: ScalarType): readonly [number, number] {
  switch (scalar) {
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return [0, 2 ** 32 - 1];
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return [0, 2 ** 64];
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return [-(2 ** 63), 2 ** 63];
    default:
      return [-(2 ** 31), 2 ** 31 - 1];
  }
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function isNumeric(text: string): boolean {
  return /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text);
}

function isObject(json: JsonValue): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

/** The first character of a value's JSON text, as parsers name what they did not expect. */
function startOf(json: JsonValue): string {
  return (JSON.stringify(json) ?? "").charAt(0);
}
