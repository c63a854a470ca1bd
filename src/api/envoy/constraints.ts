/**
 * The constraints that Envoy's protos carry (protoc-gen-validate's `validate.rules`), enforced from the descriptors.
 *
 * The rules of a message type are compiled once into a list of checks, so that a message type without rules costs nothing.
 * Messages are those of PGV's C++ code, which is what Envoy prints; the path to the field comes along for our own.
 * Contents of Any fields are checked as messages of their own, as Envoy does when it unpacks them.
 */
import { type DescField, type DescMessage, type DescOneof, getOption, hasOption, type Message, type Registry } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { type Any, anyUnpack, type Duration } from "@bufbuild/protobuf/wkt";
import { RE2JS } from "re2js";
import { isWellKnown } from "../descriptors/well-known.ts";
import { disabled, type FieldRules, KnownRegex, required, rules } from "../gen/validate/validate_pb.js";
import { resolveTypedStruct } from "./typed-struct.ts";

export interface ConstraintViolation {
  /** `ClusterValidationError.Name: value length must be at least 1 characters`, causes of embedded messages joined by ` | caused by `. */
  readonly message: string;
  /** Field names as in the proto, and list indices, from the message that was checked. */
  readonly path: readonly (string | number)[];
}

/** A failed check: its reason, and where below the message. */
interface Failure {
  readonly reason: string;
  readonly path: readonly (string | number)[];
  /** Stems from inside an Any: it keeps its own message up to the top. */
  readonly root?: true;
}

type MessageCheck = (message: ReflectMessage) => Failure | undefined;

/** The first violation in a message; `registry` says which Any contents can be looked into. */
export function checkConstraints(schema: DescMessage, message: Message, registry: Registry): ConstraintViolation | undefined {
  const failure = new Checker(registry).check(schema, reflect(schema, message));
  return failure && { message: failure.reason, path: failure.path };
}

const compiled = new WeakMap<DescMessage, readonly FieldCheck[]>();

type FieldCheck =
  | { readonly kind: "own"; readonly check: MessageCheck }
  | { readonly kind: "message" | "list" | "map"; readonly field: DescField; readonly type: DescMessage; readonly error: string };

class Checker {
  #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  check(desc: DescMessage, message: ReflectMessage): Failure | undefined {
    if (desc.typeName === "google.protobuf.Any") return this.#checkAny(message.message as Any);
    for (const check of checksOf(desc)) {
      const failure = check.kind === "own" ? check.check(message) : this.#checkNested(check, message);
      if (failure) return failure;
    }
    return undefined;
  }

  #checkAny(any: Any): Failure | undefined {
    const content = anyUnpack(resolveTypedStruct(any), this.#registry);
    const desc = content && this.#registry.getMessage(content.$typeName);
    if (!content || !desc) return undefined;
    const failure = this.check(desc, reflect(desc, content));
    return failure && { ...failure, root: true };
  }

  #checkNested(check: Exclude<FieldCheck, { kind: "own" }>, message: ReflectMessage): Failure | undefined {
    const { field, type, error } = check;
    if (!message.isSet(field)) return undefined;
    switch (check.kind) {
      case "message":
        return embedded(this.check(type, message.get(field) as ReflectMessage), error, [field.name]);
      case "list": {
        let index = 0;
        for (const item of message.get(field) as Iterable<ReflectMessage>) {
          const failure = embedded(this.check(type, item), `${error}[${index}]`, [field.name, index]);
          if (failure) return failure;
          index++;
        }
        return undefined;
      }
      case "map":
        for (const [key, item] of message.get(field) as Iterable<[string, ReflectMessage]>) {
          const failure = embedded(this.check(type, item), `${error}[${String(key)}]`, [field.name, String(key)]);
          if (failure) return failure;
        }
        return undefined;
      default:
        return check.kind satisfies never;
    }
  }
}

function embedded(cause: Failure | undefined, error: string, path: readonly (string | number)[]): Failure | undefined {
  if (!cause) return undefined;
  const full = [...path, ...cause.path];
  if (cause.root) return { ...cause, path: full };
  return { reason: `${error}: embedded message failed validation | caused by ${cause.reason}`, path: full };
}

function checksOf(desc: DescMessage): readonly FieldCheck[] {
  let checks = compiled.get(desc);
  if (!checks) {
    checks = compile(desc);
    compiled.set(desc, checks);
  }
  return checks;
}

function compile(desc: DescMessage): FieldCheck[] {
  if (hasOption(desc, disabled) && getOption(desc, disabled)) return [];
  const checks: FieldCheck[] = [];
  if (isWellKnown(desc)) return [];
  for (const field of desc.fields) {
    const error = `${desc.name}ValidationError.${camelName(field.name)}`;
    const fieldRules = hasOption(field, rules) ? getOption(field, rules) : undefined;
    if (fieldRules) checks.push(...compileField(field, fieldRules, error));
    if (fieldRules?.message?.skip) continue;
    if (field.fieldKind === "message") {
      if (mayCarryRules(field.message)) checks.push({ kind: "message", field, type: field.message, error });
    } else if (field.fieldKind === "list" && field.listKind === "message") {
      if (mayCarryRules(field.message)) checks.push({ kind: "list", field, type: field.message, error });
    } else if (field.fieldKind === "map" && field.mapKind === "message") {
      if (mayCarryRules(field.message)) checks.push({ kind: "map", field, type: field.message, error });
    }
  }
  for (const oneof of desc.oneofs) {
    if (!hasOption(oneof, required) || !getOption(oneof, required)) continue;
    checks.push({ kind: "own", check: requiredOneof(oneof) });
  }
  return checks;
}

/** Well-known types have no rules, except that an Any may hold a message that does. */
function mayCarryRules(type: DescMessage): boolean {
  return type.typeName === "google.protobuf.Any" || !isWellKnown(type);
}

function requiredOneof(oneof: DescOneof): MessageCheck {
  const failure: Failure = { reason: `field: "${oneof.name}", reason: is required`, path: [] };
  return (message) => (oneof.fields.some((field) => message.isSet(field)) ? undefined : failure);
}

/** `path_specifier` to `PathSpecifier`, as PGV names fields. */
function camelName(name: string): string {
  return name
    .split("_")
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join("");
}

/** The reason why a value is refused. */
type ValueCheck = (value: unknown) => string | undefined;

function compileField(field: DescField, fieldRules: FieldRules, error: string): FieldCheck[] {
  const isWrapper =
    field.fieldKind === "message" && field.message.typeName.endsWith("Value") && field.message.file.name.includes("wrappers");
  const isMember = field.oneof !== undefined;
  const checks: FieldCheck[] = [];
  const failure = (reason: string): Failure => ({ reason: `${error}: ${reason}`, path: [field.name] });

  const needsPresence =
    fieldRules.message?.required ||
    (fieldRules.type.case === "duration" && fieldRules.type.value.required) ||
    (fieldRules.type.case === "timestamp" && fieldRules.type.value.required) ||
    (fieldRules.type.case === "any" && fieldRules.type.value.required);
  // Within a oneof the rule is about the chosen member, which is there.
  if (needsPresence && !isMember) {
    checks.push({ kind: "own", check: (message) => (message.isSet(field) ? undefined : failure("value is required")) });
  }

  if (fieldRules.type.case === "repeated") {
    const { minItems, maxItems, unique, items } = fieldRules.type.value;
    const itemCheck = items && compileValue(items, field);
    checks.push({
      kind: "own",
      check: (message) => {
        const list = [...(message.get(field) as Iterable<unknown>)];
        if (list.length < minItems) return failure(`value must contain at least ${minItems} item(s)`);
        if (maxItems > 0n && list.length > maxItems) return failure(`value must contain no more than ${maxItems} item(s)`);
        if (unique && new Set(list).size !== list.length) return failure("repeated value must contain unique items");
        for (const [index, item] of itemCheck ? list.entries() : []) {
          const reason = itemCheck!(item);
          if (reason) return { reason: `${error}[${index}]: ${reason}`, path: [field.name, index] };
        }
        return undefined;
      },
    });
    return checks;
  }
  if (fieldRules.type.case === "map") {
    const { minPairs, maxPairs, keys, values } = fieldRules.type.value;
    const keyCheck = keys && compileValue(keys, field);
    const valueCheck = values && compileValue(values, field);
    checks.push({
      kind: "own",
      check: (message) => {
        const pairs = [...(message.get(field) as Iterable<[unknown, unknown]>)];
        if (pairs.length < minPairs) return failure(`value must contain at least ${minPairs} pair(s)`);
        if (maxPairs > 0n && pairs.length > maxPairs) return failure(`value must contain no more than ${maxPairs} pair(s)`);
        for (const [key, value] of pairs) {
          const reason = keyCheck?.(key) ?? valueCheck?.(value);
          if (reason) return { reason: `${error}[${String(key)}]: ${reason}`, path: [field.name, String(key)] };
        }
        return undefined;
      },
    });
    return checks;
  }

  const valueCheck = compileValue(fieldRules, field);
  if (valueCheck) {
    checks.push({
      kind: "own",
      check: (message) => {
        // A message that is absent passes; an absent scalar has its default, which must pass too, unless it belongs to a oneof.
        if ((field.fieldKind === "message" || isMember) && !message.isSet(field)) return undefined;
        const raw = message.get(field);
        const reason = valueCheck(isWrapper && isReflect(raw) ? raw.get(raw.desc.fields[0]!) : raw);
        return reason ? failure(reason) : undefined;
      },
    });
  }
  return checks;
}

function isReflect(value: unknown): value is ReflectMessage {
  return typeof value === "object" && value !== null && "desc" in value;
}

function compileValue(fieldRules: FieldRules, field: DescField): ValueCheck | undefined {
  const type = fieldRules.type;
  switch (type.case) {
    case "string":
      return compileString(type.value);
    case "bytes": {
      const { minLen, maxLen } = type.value;
      return (value) => {
        const { length } = value as Uint8Array;
        if (length < minLen) return `value length must be at least ${minLen} bytes`;
        return maxLen > 0n && length > maxLen ? `value length must be at most ${maxLen} bytes` : undefined;
      };
    }
    case "enum": {
      const { definedOnly, in: allowed, notIn } = type.value;
      const known = field.enum && new Set(field.enum.values.map((value) => value.number));
      const names = (numbers: readonly number[]) => numbers.map((number) => field.enum?.value[number]?.name ?? number).join(" ");
      return (value) => {
        if (definedOnly && known && !known.has(value as number)) return "value must be one of the defined enum values";
        if (allowed.length > 0 && !allowed.includes(value as number)) return `value must be in list [${allowed.join(" ")}]`;
        return notIn.includes(value as number) ? `value must not be in list [${names(notIn)}]` : undefined;
      };
    }
    case "bool": {
      const wanted = type.value.const;
      return hasField(type.value, "const") ? (value) => (value === wanted ? undefined : `value must equal ${wanted}`) : undefined;
    }
    case "duration": {
      const bounds = type.value;
      return compileRange<Duration>(
        bounds,
        (value) => nanoseconds(isReflect(value) ? (value.message as unknown as Duration) : (value as Duration)),
        durationText,
      );
    }
    case "any": {
      const { in: allowed } = type.value;
      if (allowed.length === 0) return undefined;
      return (value) => (allowed.includes((value as Any).typeUrl) ? undefined : `type_url must be in list [${allowed.join(" ")}]`);
    }
    case "float":
    case "double":
    case "int32":
    case "int64":
    case "uint32":
    case "uint64":
    case "sint32":
    case "sint64":
    case "fixed32":
    case "fixed64":
    case "sfixed32":
    case "sfixed64": {
      const numeric = type.value as Bounds<number | bigint> & { in?: (number | bigint)[]; notIn?: (number | bigint)[] };
      const range = compileRange(numeric, (value) => value as number | bigint, String);
      const allowed = numeric.in ?? [];
      const refused = numeric.notIn ?? [];
      return (value) => {
        if (allowed.length > 0 && !allowed.includes(value as number)) return `value must be in list [${allowed.join(" ")}]`;
        if (refused.includes(value as number)) return `value must not be in list [${refused.join(" ")}]`;
        return range?.(value);
      };
    }
    default:
      return undefined; // "repeated" and "map" are handled by the caller, timestamps only ask for presence
  }
}

interface Bounds<T> {
  readonly const?: T | undefined;
  readonly lt?: T | undefined;
  readonly lte?: T | undefined;
  readonly gt?: T | undefined;
  readonly gte?: T | undefined;
}

/** Proto2 optional: a prototype gives the default, so only an own property was really written. */
function hasField(message: object, name: string): boolean {
  return Object.hasOwn(message, name) && (message as Record<string, unknown>)[name] !== undefined;
}

function compileRange<T>(bounds: Bounds<T>, read: (value: unknown) => number | bigint, show: (value: T) => string): ValueCheck | undefined {
  const bound = (name: keyof Bounds<T>) => (hasField(bounds, name) ? (bounds[name] as T) : undefined);
  const exact = bound("const");
  const low = bound("gt") ?? bound("gte");
  const high = bound("lt") ?? bound("lte");
  const lowOpen = bound("gt") !== undefined;
  const highOpen = bound("lt") !== undefined;
  if (exact === undefined && low === undefined && high === undefined) return undefined;
  const lowReason = low === undefined ? "" : `value must be greater than ${lowOpen ? "" : "or equal to "}${show(low)}`;
  const highReason = high === undefined ? "" : `value must be less than ${highOpen ? "" : "or equal to "}${show(high)}`;
  const both =
    low !== undefined && high !== undefined
      ? `value must be inside range ${lowOpen ? "(" : "["}${show(low)}, ${show(high)}${highOpen ? ")" : "]"}`
      : undefined;
  const lowValue = low === undefined ? undefined : read(low);
  const highValue = high === undefined ? undefined : read(high);
  return (value) => {
    const actual = read(value);
    if (exact !== undefined && actual !== read(exact)) return `value must equal ${show(exact)}`;
    if (lowValue !== undefined && (lowOpen ? actual <= lowValue : actual < lowValue)) return both ?? lowReason;
    if (highValue !== undefined && (highOpen ? actual >= highValue : actual > highValue)) return both ?? highReason;
    return undefined;
  };
}

function nanoseconds(duration: Duration): bigint {
  return BigInt(duration.seconds) * 1_000_000_000n + BigInt(duration.nanos);
}

/** As Go prints durations: `0s`, `1ms`, `1.5s`, `1m0s`, `2h0m30s`. */
function durationText(duration: Duration): string {
  const total = nanoseconds(duration);
  if (total === 0n || total >= 1_000_000_000n) {
    const minutes = total / 60_000_000_000n;
    const seconds = `${Number(total % 60_000_000_000n) / 1e9}s`;
    if (minutes === 0n) return seconds;
    return minutes < 60n ? `${minutes}m${seconds}` : `${minutes / 60n}h${minutes % 60n}m${seconds}`;
  }
  if (total >= 1_000_000n) return `${Number(total) / 1e6}ms`;
  return total >= 1000n ? `${Number(total) / 1e3}us` : `${total}ns`;
}

const headerPatterns = {
  strictName: "^:?[0-9a-zA-Z!#$%&'*+-.^_|~`]+$",
  strictValue: "^[^\\x00-\\x08\\n-\\x1f\\x7f]*$",
  loose: "^[^\\x00\\n\\r]*$",
};

function compileString(string: Extract<FieldRules["type"], { case: "string" }>["value"]): ValueCheck {
  const known = string.wellKnown.case === "wellKnownRegex" ? string.wellKnown.value : KnownRegex.UNKNOWN;
  const isUri = uriCheck(string.wellKnown.case);
  let pattern = string.pattern;
  if (known === KnownRegex.HTTP_HEADER_NAME) pattern = string.strict ? headerPatterns.strictName : headerPatterns.loose;
  if (known === KnownRegex.HTTP_HEADER_VALUE) pattern = string.strict ? headerPatterns.strictValue : headerPatterns.loose;
  const regex = pattern === "" ? undefined : RE2JS.compile(pattern);
  const { minLen, maxLen, len, minBytes, maxBytes, prefix, suffix, contains, notContains, in: allowed, notIn, ignoreEmpty } = string;
  const exact = hasField(string, "const") ? string.const : undefined;
  return (raw) => {
    const value = raw as string;
    if (value === "" && ignoreEmpty) return undefined;
    if (exact !== undefined && value !== exact) return `value must equal ${exact}`;
    if (allowed.length > 0 && !allowed.includes(value)) return `value must be in list [${allowed.join(" ")}]`;
    if (notIn.includes(value)) return `value must not be in list [${notIn.join(" ")}]`;
    const characters = minLen > 0n || maxLen > 0n || len > 0n ? [...value].length : 0;
    if (len > 0n && characters !== Number(len)) return `value length must be ${len} characters`;
    if (minLen > 0n && maxLen > 0n && (characters < minLen || characters > maxLen)) {
      return `value must have between ${minLen} and ${maxLen} characters inclusive`;
    }
    if (characters < minLen) return `value length must be at least ${minLen} characters`;
    if (maxLen > 0n && characters > maxLen) return `value length must be at most ${maxLen} characters`;
    const bytes = minBytes > 0n || maxBytes > 0n ? Buffer.byteLength(value) : 0;
    if (bytes < minBytes) return `value length must be at least ${minBytes} bytes`;
    if (maxBytes > 0n && bytes > maxBytes) return `value length must be at most ${maxBytes} bytes`;
    if (prefix !== "" && !value.startsWith(prefix)) return `value does not have prefix "${prefix}"`;
    if (suffix !== "" && !value.endsWith(suffix)) return `value does not have suffix "${suffix}"`;
    if (contains !== "" && !value.includes(contains)) return `value does not contain substring "${contains}"`;
    if (notContains !== "" && value.includes(notContains)) return `value contains substring "${notContains}"`;
    if (regex && !regex.matches(value)) return `value does not match regex pattern "${pattern}"`;
    return isUri && !isUri(value) ? "value must be a valid URI" : undefined;
  };
}

function uriCheck(format: string | undefined): ((text: string) => boolean) | undefined {
  if (format === "uri") return (text) => URL.canParse(text);
  return format === "uriRef" ? (text) => URL.canParse(text, "http://localhost") : undefined;
}
