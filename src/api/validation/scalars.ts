import { isIP } from "node:net";
import { RE2JS } from "re2js";
import type { FieldReport } from "../schema/field-report.ts";

/** Istio's bound on regular expressions: Envoy bounds the compiled program, which is never smaller than the text. */
const maxRegexLength = 1024;

export function checkPort(port: number, report: FieldReport): void {
  if (port < 1 || port > 65535) report.error(`port ${port} is out of range: must be between 1 and 65535`);
}

/** At least a millisecond, and whole milliseconds. Absent is fine. */
export function checkDuration(durationMs: number | undefined, report: FieldReport): void {
  if (durationMs === undefined) return;
  if (durationMs < 1) report.error("must be at least 1ms");
  else if (!Number.isInteger(durationMs)) report.error("must be whole milliseconds");
}

export function checkNotNegative(value: number | undefined, report: FieldReport): void {
  if (value !== undefined && value < 0) report.error("must not be negative");
}

/** A whole percentage. */
export function checkPercent(value: number | undefined, report: FieldReport): void {
  if (value !== undefined && !(value >= 0 && value <= 100)) report.error(`${value} is not a percentage: must be between 0 and 100`);
}

/** Envoy counts fractions down to one in a million. */
export function checkFractionalPercent(percent: { readonly value: number } | undefined, report: FieldReport): void {
  if (!percent) return;
  const { value } = percent;
  if (!(value >= 0 && value <= 100) || (value > 0 && value < 0.0001)) {
    report.at("value").error(`${value} is not a percentage: must be 0 or between 0.0001 and 100`);
  }
}

/** `10.0.0.1`, `::1`. */
export function isIpAddress(text: string): boolean {
  return isIP(text) !== 0;
}

/** An address, or a block such as `10.0.0.0/8`. */
function isIpOrCidr(text: string): boolean {
  const slash = text.indexOf("/");
  if (slash < 0) return isIpAddress(text);
  const version = isIP(text.slice(0, slash));
  const bits = text.slice(slash + 1);
  return version !== 0 && /^(0|[1-9]\d{0,2})$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128);
}

export function checkIpOrCidr(text: string, report: FieldReport): void {
  if (!isIpOrCidr(text)) report.error(`${JSON.stringify(text)} is neither an IP address nor a CIDR block`);
}

export function checkRegex(regex: string, report: FieldReport): void {
  if (regex.length > maxRegexLength) {
    report.error(`the regular expression is longer than ${maxRegexLength} characters`);
    return;
  }
  try {
    RE2JS.compile(regex);
  } catch (error) {
    report.error(`is not a regular expression in RE2's syntax: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** A Unix socket's path without its `unix://`; an abstract one starts with `@`. */
export function checkUnixPath(path: string, report: FieldReport): void {
  if (path.startsWith("@")) return;
  if (!path.startsWith("/") || path.endsWith("/")) report.error(`${JSON.stringify(path)} is not the absolute path of a socket`);
}

export const unixPrefix = "unix://";
