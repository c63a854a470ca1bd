/**
 * Access log formats, and everything else that is written in Envoy's format language (header values, local reply bodies).
 *
 *     text   `%REQ(:METHOD)% took %DURATION% ms`     one string per stream
 *     JSON   {method: "%REQ(:METHOD)%", ...}         one line; keys sorted; a value that is one operator keeps its type
 *
 * `%NAME(parameter):length%` is an operator, `%%` a percent sign. Compiled once, evaluated per stream.
 *
 * What comes out is a latin1 string that stands for bytes, as header values are; text of the format itself is turned into
 * its UTF-8 bytes, so that both can stand in one line.
 */

import { isUtf8 } from "node:buffer";
import type { JsonValue } from "@bufbuild/protobuf";
import { ConfigError } from "../../api/config-error.ts";
import type { StreamInfo } from "../stream-info.ts";
import { type AccessLogType, compileOperator, type FormatValue, type Operator } from "./operators.ts";
import { utf8AsLatin1 } from "./sinks.ts";

export interface FormatOptions {
  /** Print nothing instead of `-` for a missing value, and leave JSON keys without a value out. Default false. */
  readonly omitEmpty?: boolean;
  /** Names of extension formatters the configuration lists, such as `envoy.formatter.req_without_query`. */
  readonly formatters?: ReadonlySet<string>;
  /** For %ENVIRONMENT(NAME)%. Default: the process's own, which is what the operator is defined as. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
}

/** `logType` is what %ACCESS_LOG_TYPE% prints, by default `NotSet`. */
export type CompiledFormat = (info: StreamInfo, logType?: AccessLogType) => string;

/** Envoy's default for HTTP and TCP alike. */
export const defaultTextFormat =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" ' +
  '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n';

type Segment = string | Operator;

const operatorPattern = /%([A-Z0-9_]+)(?:\(([^)]*)\))?(?::([0-9]+))?%/y;

/** A format that is one operator and nothing besides, whose value keeps its type; undefined for any other. Throws ConfigError as well. */
export function compileOneOperator(format: string): Operator | undefined {
  const [only, ...more] = parse(format, {});
  return typeof only === "function" && more.length === 0 ? only : undefined;
}

/** Throws ConfigError, in Envoy's words, for what is no format. */
export function compileFormat(format: string, options: FormatOptions = {}): CompiledFormat {
  const segments = parse(format, options);
  const missing = options.omitEmpty ? "" : "-";
  if (segments.length === 0) return () => "";
  if (segments.length === 1) {
    const only = segments[0]!;
    if (typeof only === "string") return () => only;
    return (info, logType = "NotSet") => toText(only(info, logType), missing);
  }
  return (info, logType = "NotSet") => {
    let out = "";
    for (let index = 0; index < segments.length; index++) {
      const segment = segments[index]!;
      out += typeof segment === "string" ? segment : toText(segment(info, logType), missing);
    }
    return out;
  };
}

/** A `json_format`: gives one JSON object and a newline. */
export function compileJsonFormat(format: JsonValue, options: FormatOptions = {}): CompiledFormat {
  const write = compileJson(format, options, false);
  return (info, logType = "NotSet") => `${write(info, logType) ?? "{}"}\n`;
}

/** JSON text of one node; undefined where it is left out. */
type JsonWriter = (info: StreamInfo, logType: AccessLogType) => string | undefined;

function compileJson(node: JsonValue, options: FormatOptions, inList: boolean): JsonWriter {
  if (typeof node === "string") return compileJsonString(node, options);
  if (Array.isArray(node)) {
    const items = node.map((item) => compileJson(item, options, true));
    return (info, logType) => {
      const texts: string[] = [];
      for (const item of items) {
        const text = item(info, logType);
        if (text !== undefined) texts.push(text);
      }
      return `[${texts.join(",")}]`;
    };
  }
  if (typeof node === "object" && node !== null) {
    const fields = Object.entries(node)
      .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
      .map(([key, value]) => ({ key: `${utf8AsLatin1(JSON.stringify(key))}:`, write: compileJson(value, options, false) }));
    return (info, logType) => {
      let out = "";
      for (const field of fields) {
        const text = field.write(info, logType);
        if (text !== undefined) out += out === "" ? field.key + text : `,${field.key}${text}`;
      }
      return out === "" && options.omitEmpty ? undefined : `{${out}}`;
    };
  }
  // Envoy prints constant numbers inside lists as strings; those that compare outputs byte by byte see it.
  const constant = inList && typeof node === "number" ? `"${node}"` : JSON.stringify(node);
  return node === null && options.omitEmpty ? () => undefined : () => constant;
}

function compileJsonString(text: string, options: FormatOptions): JsonWriter {
  const segments = parse(text, options);
  const only = segments.length === 1 ? segments[0]! : undefined;
  if (typeof only === "function") {
    return (info, logType) => {
      const value = only(info, logType);
      return value === null && options.omitEmpty ? undefined : jsonText(value);
    };
  }
  const format = compileFormat(text, options);
  return (info, logType) => jsonText(format(info, logType));
}

function toText(value: FormatValue, missing: string): string {
  if (typeof value === "string") return value;
  if (value === null) return missing;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function parse(format: string, options: FormatOptions): Segment[] {
  const context = { formatters: options.formatters ?? new Set<string>(), environment: options.environment ?? process.env };
  const segments: Segment[] = [];
  let literal = "";
  for (let at = 0; at < format.length; ) {
    const percent = format.indexOf("%", at);
    if (percent < 0) {
      literal += format.slice(at);
      break;
    }
    literal += format.slice(at, percent);
    if (format[percent + 1] === "%") {
      literal += "%";
      at = percent + 2;
      continue;
    }
    operatorPattern.lastIndex = percent;
    const match = operatorPattern.exec(format);
    if (!match) throw new ConfigError(`Incorrect configuration: ${format}. Couldn't find valid command at position ${percent}`);
    if (literal !== "") segments.push(literal);
    literal = "";
    const [whole, name, parameter, length] = match as unknown as [string, string, string | undefined, string | undefined];
    const operator = compileOperator(name, parameter ?? null, length !== undefined, context);
    segments.push(length === undefined ? operator : truncate(operator, Number(length)));
    at = percent + whole.length;
  }
  if (literal !== "") segments.push(literal);
  return segments.map((segment) => (typeof segment === "string" ? utf8AsLatin1(segment) : segment));
}

/** JSON must be UTF-8, and a header may hold any bytes: those that are no UTF-8 are written as escapes. */
function jsonText(value: FormatValue): string {
  const text = JSON.stringify(value);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: bytes above ASCII are what is looked for
  if (/^[\x00-\x7f]*$/.test(text) || isUtf8(Buffer.from(text, "latin1"))) return text;
  return text.replaceAll(/[\x80-\xff]/g, (byte) => `\\u00${byte.charCodeAt(0).toString(16)}`);
}

function truncate(operator: Operator, maxLength: number): Operator {
  return (info, logType) => {
    const value = operator(info, logType);
    if (value === null) return null;
    const text = toText(value, "");
    return text.length > maxLength ? text.slice(0, maxLength) : value;
  };
}
