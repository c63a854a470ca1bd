import { parseDurationMs } from "./duration.ts";
import type { FieldReport } from "./field-report.ts";
import type { MessageNode, Schema, SchemaNode } from "./schema.ts";

/**
 * Decodes a parsed YAML or JSON value by a schema, with the rules of proto JSON as Istio applies them (golang's jsonpb):
 * names in camelCase or snake_case, numbers also as strings, enums also by number, null as absence, durations in Go's
 * notation. Every problem is written into the report and decoding goes on, so that one run tells them all; the result is
 * only of use when the report has no errors.
 */
export function decode<T>(schema: Schema<T>, value: unknown, report: FieldReport): T {
  return decodeNode(schema.node, value, report) as T;
}

/** What a field of this schema holds when it isn't written. Lists and maps are fresh each time. */
function absentValue(schema: Schema): unknown {
  if (schema.explicit) return undefined;
  switch (schema.node.kind) {
    case "string":
      return "";
    case "bool":
      return false;
    case "integer":
    case "double":
      return 0;
    case "bytes":
      return new Uint8Array(0);
    case "enum":
      return schema.node.first;
    case "list":
      return [];
    case "map":
      return {};
    default:
      return undefined;
  }
}

function decodeNode(node: SchemaNode, value: unknown, report: FieldReport): unknown {
  switch (node.kind) {
    case "string":
      return typeof value === "string" ? value : wrongType(report, "a string", value, "");
    case "bool":
      return typeof value === "boolean" ? value : wrongType(report, "true or false", value, false);
    case "integer":
      return decodeInteger(node.min, node.max, value, report);
    case "double":
      return decodeDouble(value, report);
    case "bytes":
      return decodeBytes(value, report);
    case "duration":
      return decodeDuration(value, report);
    case "intOrString":
      if (typeof value === "string") return value;
      return decodeInteger(-(2 ** 31), 2 ** 31 - 1, value, report);
    case "struct":
      return isPlainObject(value) ? value : wrongType(report, "an object", value, {});
    case "anything":
      return value;
    case "enum":
      return decodeEnum(node.numbers, node.first, value, report);
    case "list":
      return decodeList(node.element, value, report);
    case "map":
      return decodeMap(node.key, node.value, value, report);
    case "message":
      return decodeMessage(node, value, report);
    default:
      return node satisfies never;
  }
}

function decodeMessage(node: MessageNode, value: unknown, report: FieldReport): unknown {
  const source = isPlainObject(value) ? value : wrongType(report, "an object", value, {});
  const given = new Map<string, unknown>();
  for (const [key, fieldValue] of Object.entries(source)) {
    const name = node.fields.has(key) || node.lenient ? key : jsonName(key);
    if (!node.fields.has(name)) {
      if (!node.lenient) report.at(key).error(unknownField(node, key));
    } else if (given.has(name)) {
      report.at(key).error(`is given twice, as "${name}" and as "${key}"`);
    } else if (fieldValue !== null && fieldValue !== undefined) {
      given.set(name, decodeNode((node.fields.get(name) as Schema).node, fieldValue, report.at(key)));
    }
  }
  for (const group of node.oneofs) {
    const present = group.filter((name) => given.has(name));
    if (present.length > 1) report.error(`only one of ${present.join(", ")} may be given`);
  }
  const decoded: Record<string, unknown> = {};
  for (const [name, field] of node.fields) {
    const fieldValue = given.has(name) ? given.get(name) : absentValue(field);
    if (fieldValue !== undefined) decoded[name] = fieldValue;
  }
  return decoded;
}

function decodeList(element: Schema, value: unknown, report: FieldReport): unknown {
  if (!Array.isArray(value)) return wrongType(report, "a list", value, []);
  return value.map((item, index) => {
    const place = report.at(index);
    if (item === null)
      return isMessageLike(element) ? decodeNode(element.node, {}, place) : wrongType(place, "a value", item, absentValue(element));
    return decodeNode(element.node, item, place);
  });
}

/** `- ` alone in a YAML list of messages is an empty message to jsonpb. */
function isMessageLike(schema: Schema): boolean {
  return schema.node.kind === "message";
}

function decodeMap(key: "string" | "uint32", schema: Schema, value: unknown, report: FieldReport): unknown {
  if (!isPlainObject(value)) return wrongType(report, "a map", value, {});
  const entries: [string, unknown][] = [];
  for (const [name, item] of Object.entries(value)) {
    const place = report.at(name);
    if (key === "uint32" && !/^(0|[1-9]\d{0,9})$/.test(name)) place.error(`key ${quote(name)} is not a number`);
    if (item === null && !isMessageLike(schema)) place.error("is empty");
    entries.push([name, decodeNode(schema.node, item ?? (isMessageLike(schema) ? {} : absentValue(schema)), place)]);
  }
  // fromEntries defines properties, so that a key like __proto__ is data and nothing else.
  return Object.fromEntries(entries);
}

function decodeInteger(min: number, max: number, value: unknown, report: FieldReport): number {
  const number = numberOf(value);
  if (number === undefined || !Number.isInteger(number)) return wrongType(report, "a whole number", value, 0);
  if (number < min || number > max) {
    report.error(`${number} is out of range: must be between ${min} and ${max}`);
    return 0;
  }
  return number;
}

function decodeDouble(value: unknown, report: FieldReport): number {
  if (value === "NaN" || value === "Infinity" || value === "-Infinity") return Number(value);
  return numberOf(value) ?? wrongType(report, "a number", value, 0);
}

function numberOf(value: unknown): number | undefined {
  if (typeof value === "number") return value;
  if (typeof value === "string" && /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(value)) return Number(value);
  return undefined;
}

function decodeDuration(value: unknown, report: FieldReport): number {
  if (typeof value !== "string") return wrongType(report, 'a duration such as "1.5s"', value, 0);
  const parsed = parseDurationMs(value);
  if (parsed !== undefined) return parsed;
  report.error(`${quote(value)} is not a duration such as "1.5s", "300ms" or "1h"`);
  return 0;
}

function decodeBytes(value: unknown, report: FieldReport): Uint8Array {
  if (typeof value !== "string") return wrongType(report, "base64 text", value, new Uint8Array(0));
  const text = value.replaceAll(/[\r\n]/g, "");
  if (!/^[A-Za-z0-9+/_-]*={0,2}$/.test(text)) {
    report.error("is not base64");
    return new Uint8Array(0);
  }
  return new Uint8Array(Buffer.from(text, "base64"));
}

function decodeEnum(numbers: ReadonlyMap<string, number>, first: string, value: unknown, report: FieldReport): string {
  if (typeof value === "string" && numbers.has(value)) return value;
  if (typeof value === "number") {
    for (const [name, number] of numbers) if (number === value) return name;
  }
  report.error(`${quote(value)} is not one of ${[...numbers.keys()].join(", ")}`);
  return first;
}

function wrongType<T>(report: FieldReport, wanted: string, value: unknown, replacement: T): T {
  report.error(`must be ${wanted}, not ${describeValue(value)}`);
  return replacement;
}

function describeValue(value: unknown): string {
  if (value === null || value === undefined) return "empty";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  return `the ${typeof value} ${quote(value)}`;
}

function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** A key's proto JSON name: `max_ejection_percent` is `maxEjectionPercent`. */
export function jsonName(key: string): string {
  return key.includes("_") ? key.replaceAll(/_+(.?)/g, (_, next: string) => next.toUpperCase()) : key;
}

function unknownField(node: MessageNode, key: string): string {
  const near = nearest(jsonName(key), [...node.fields.keys()]);
  return `unknown field ${quote(key)} in ${node.name}${near ? ` (is ${quote(near)} meant?)` : ""}`;
}

/** The candidate that differs by at most two edits, if there is one. */
function nearest(name: string, candidates: readonly string[]): string | undefined {
  if (name.length > 64) return undefined;
  let best: string | undefined;
  let bestDistance = Math.min(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, (previous[j] as number) + 1, (current[j - 1] as number) + 1));
    }
    previous = current;
  }
  return previous[b.length] as number;
}

export function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
}
