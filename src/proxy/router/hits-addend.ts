/** How much a request counts against a limit: a number of the configuration's, or what a format makes of the request. */
import { ConfigError } from "../../api/config-error.ts";
import type { RateLimit_HitsAddend as HitsAddendMessage } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { compileOneOperator } from "../accesslog/format.ts";
import type { StreamInfo } from "../stream-info.ts";

const maxHits = 1_000_000_000;

/** Undefined: what the format makes of the request is no such number, and there is to be no descriptor. */
export type HitsAddend = (info: StreamInfo) => number | undefined;

/** Null where nothing is said. Throws ConfigError in Envoy's words. */
export function compileHitsAddend(message: HitsAddendMessage | undefined): HitsAddend | null {
  if (message === undefined) return null;
  const { number, format } = message;
  if ((number === undefined) === (format === "")) throw new ConfigError("hits_addend must contain either a format or a number");
  if (number !== undefined) {
    const hits = Number(number);
    return () => hits;
  }
  const operator = compileOneOperator(format);
  if (operator === undefined) throw new ConfigError("hits_addend format must contain exactly one substitution");
  return (info) => hitsOf(operator(info, "NotSet"));
}

function hitsOf(value: unknown): number | undefined {
  if (typeof value === "string") return value.trim() === "" ? undefined : hitsOf(Number(value));
  return typeof value === "number" && value >= 0 && value <= maxHits ? Math.floor(value) : undefined;
}
