/** Operators that show what filters left on a stream: dynamic metadata and filter state. */
import { ConfigError } from "../../api/config-error.ts";
import { valueAt } from "../router/metadata-matcher.ts";
import { filterStateOf, type GrpcMessages, type HeaderList, headerStateOf } from "../stream-info.ts";
import type { FormatValue, Operator } from "./operators.ts";
import { utf8AsLatin1 } from "./sinks.ts";

const grpcStatsKey = "envoy.filters.http.grpc_stats";

/** `namespace:key:key`. */
export function compileDynamicMetadata(parameter: string): Operator {
  const [namespace = "", ...path] = parameter.split(":");
  return (info) => {
    const value = valueAt(info.dynamicMetadata?.get(namespace), path);
    return sorted(value ?? null);
  };
}

/** Envoy writes the fields of an object by name. Text becomes its UTF-8 bytes: lines are latin1, as headers are. */
function sorted(value: unknown): FormatValue {
  if (typeof value === "string") return utf8AsLatin1(value);
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value as FormatValue;
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(fields.map(([key, field]) => [utf8AsLatin1(key), sorted(field)]));
}

/** Objects are strings or headers here. `PLAIN` shows a string as it is, `TYPED`, the default, all as JSON: in text logs strings have quotes. */
export function compileFilterState(parameter: string): Operator {
  const [key = "", form = "TYPED", ...more] = parameter.split(":");
  if (key === grpcStatsKey && more.length === 0) {
    if (form === "PLAIN")
      return ({ grpcMessages }) => (grpcMessages ? `${grpcMessages.requests.total},${grpcMessages.responses.total}` : null);
    if (form === "TYPED") return ({ grpcMessages }) => (grpcMessages ? countsOf(grpcMessages) : null);
  }
  if (form === "PLAIN" && more.length === 0) return (info) => filterStateOf(info, key) ?? null;
  if (form === "TYPED" && more.length === 0) {
    return (info) => {
      const value = filterStateOf(info, key);
      if (value !== undefined) return { toJSON: () => value };
      const headers = headerStateOf(info, key);
      return headers === undefined ? null : { headers: pairsOf(headers) };
    };
  }
  if (form === "FIELD") throw new ConfigError(`FILTER_STATE(${parameter}) is not supported by this proxy`);
  throw new ConfigError("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.");
}

/** As JSON writes 64 bits, and without those that are 0. */
function countsOf({ requests, responses }: GrpcMessages): Record<string, string> {
  return {
    ...(requests.total > 0 ? { requestMessageCount: String(requests.total) } : {}),
    ...(responses.total > 0 ? { responseMessageCount: String(responses.total) } : {}),
  };
}

function pairsOf(headers: HeaderList): { key: string; value: string }[] {
  return Array.from({ length: headers.length / 2 }, (_, index) => ({ key: headers[2 * index]!, value: headers[2 * index + 1]! }));
}
