/** Load by h2load over HTTP/1.1, one request at a time on each connection. */
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";

export const connections = 32;

export interface LoadOptions {
  readonly url: string;
  readonly seconds: number;
  /** `name: value` each. */
  readonly headers: readonly string[];
  /** Of all connections together; absent: as many as go through. */
  readonly requestsPerSecond?: number;
  readonly cpu: number;
  /** Log of single requests, for percentiles. */
  readonly logFile?: string;
}

export interface LoadResult {
  readonly requests: number;
  readonly failed: number;
  readonly seconds: number;
  /** Milliseconds, with a log file only. */
  readonly p50Ms?: number;
  readonly p99Ms?: number;
}

export function load({ url, seconds, headers, requestsPerSecond, cpu, logFile }: LoadOptions): LoadResult {
  if (logFile) rmSync(logFile, { force: true });
  const rate = requestsPerSecond === undefined ? [] : ["--rps", String(Math.max(1, requestsPerSecond / connections))];
  const started = performance.now();
  const { stdout, stderr, status } = spawnSync(
    "taskset",
    [
      "-c",
      String(cpu),
      "h2load",
      "--h1",
      "-c",
      String(connections),
      "-t",
      "1",
      "-D",
      String(seconds),
      ...rate,
      ...(logFile ? ["--log-file", logFile] : []),
      ...headers.flatMap((header) => ["-H", header]),
      url,
    ],
    { encoding: "utf8" },
  );
  const elapsed = (performance.now() - started) / 1000;
  const counts = /requests: \d+ total, \d+ started, (?<done>\d+) done, (?<succeeded>\d+) succeeded, (?<failed>\d+) failed/.exec(
    stdout,
  )?.groups;
  if (status !== 0 || !counts) throw new Error(`h2load failed (${status}): ${stderr}${stdout}`);
  const result = { requests: Number(counts.succeeded), failed: Number(counts.failed), seconds: elapsed };
  return logFile ? { ...result, ...percentiles(logFile) } : result;
}

/** The log has a line a request: start time, status, microseconds. */
function percentiles(file: string): { p50Ms: number; p99Ms: number } {
  const times = readFileSync(file, "utf8")
    .split("\n")
    .map((line) => Number(line.split("\t")[2]))
    .filter((time) => time > 0)
    .sort((a, b) => a - b);
  const at = (share: number) => (times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0) / 1000;
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}
