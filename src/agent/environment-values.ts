/** Values of environment variables, checked; whatever is wrong is an error that names the variable. */
import { basename } from "node:path";
import { parseDurationMs } from "../api/schema/duration.ts";
import type { KeyKind } from "./certificates/certificate-request.ts";

export type Variables = Readonly<Record<string, string | undefined>>;

export class EnvironmentError extends Error {
  override readonly name = "EnvironmentError";
}

/** Lower case, as HTTP/2 wants it. */
export function headerName(variable: string, prefix: string): string {
  const name = variable.slice(prefix.length).toLowerCase();
  if (!/^[a-z0-9_.-]+$/.test(name) || name.startsWith("grpc-"))
    throw new EnvironmentError(`${variable}: "${name}" can't be a header's name`);
  return name;
}

export function parseFileName(name: string, text: string | undefined, fallback: string): string {
  if (!text) return fallback;
  if (basename(text) !== text || text === "." || text === "..")
    throw new EnvironmentError(`${name}: "${text}" is a path and not a file's name`);
  return text;
}

/** P-256, which costs a handshake a tenth of what RSA does, unless RSA is asked for by its size. */
export function parseKeyKind(env: Variables): KeyKind {
  const { ECC_SIGNATURE_ALGORITHM: algorithm, ECC_CURVE: curve = "P256", WORKLOAD_RSA_KEY_SIZE: bits } = env;
  if (algorithm && algorithm !== "ECDSA") throw new EnvironmentError(`ECC_SIGNATURE_ALGORITHM: "${algorithm}" is not ECDSA`);
  if (bits && !algorithm) {
    if (!["2048", "3072", "4096"].includes(bits))
      throw new EnvironmentError(`WORKLOAD_RSA_KEY_SIZE: "${bits}" is none of 2048, 3072 and 4096`);
    return { type: "rsa", bits: Number(bits) };
  }
  if (curve !== "P256" && curve !== "P384") throw new EnvironmentError(`ECC_CURVE: "${curve}" is neither P256 nor P384`);
  return { type: "ec", curve: curve === "P256" ? "P-256" : "P-384" };
}

export function parseRatio(name: string, text: string | undefined, fallback: number): number {
  if (!text) return fallback;
  const ratio = Number(text);
  if (!(ratio >= 0 && ratio <= 1)) throw new EnvironmentError(`${name}: "${text}" is no share between 0 and 1`);
  return ratio;
}

/** Go's form: `24h`, `1h30m`, `90s`. Seconds. */
export function parseDuration(name: string, text: string | undefined, fallbackSeconds: number): number {
  if (!text) return fallbackSeconds;
  const units = { h: 3600, m: 60, s: 1 } as const;
  const parts = [...text.matchAll(/(?<count>\d+(?:\.\d+)?)(?<unit>[hms])/g)];
  const seconds = parts.reduce((sum, { groups }) => sum + Number(groups!.count) * units[groups!.unit as keyof typeof units], 0);
  if (parts.map(([part]) => part).join("") !== text || seconds < 1)
    throw new EnvironmentError(`${name}: "${text}" is no duration like 24h or 90s`);
  return seconds;
}

/** From a millisecond on, up to a minute unless told otherwise. */
export function parseMilliseconds(name: string, text: string | undefined, fallback: number, maxMs = 60_000): number {
  if (!text) return fallback;
  const ms = parseDurationMs(text);
  if (ms === undefined || ms < 1 || ms > maxMs)
    throw new EnvironmentError(`${name}: "${text}" is no duration from 1ms to ${maxMs / 60_000}m`);
  return ms;
}

export function parseThreads(name: string, text: string | undefined): number {
  if (!text) return 0;
  if (!/^\d{1,4}$/.test(text)) throw new EnvironmentError(`${name}: "${text}" is no number of threads`);
  return Number(text);
}

export function parsePort(name: string, text: string | undefined, fallback: number): number {
  if (!text) return fallback;
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new EnvironmentError(`${name}: "${text}" is no port`);
  return port;
}

/** As Go's programs take them. */
export function parseBoolean(name: string, text: string | undefined, fallback: boolean): boolean {
  if (!text) return fallback;
  if (["true", "True", "TRUE", "t", "T", "1"].includes(text)) return true;
  if (["false", "False", "FALSE", "f", "F", "0"].includes(text)) return false;
  throw new EnvironmentError(`${name}: "${text}" is neither true nor false`);
}

export function parseObject(name: string, text: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new EnvironmentError(`${name}: is no JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw new EnvironmentError(`${name}: is no JSON object`);
  return parsed as Record<string, unknown>;
}
