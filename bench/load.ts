/** Load by h2load: over HTTP/1.1 one request at a time on each connection, over HTTP/2 eight on each of fewer. */
import { spawn, spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export const connections = 32;
const streams = 8;

export interface LoadOptions {
  readonly url: string;
  readonly seconds: number;
  readonly http2?: boolean | undefined;
  /** `name: value` each. */
  readonly headers: readonly string[];
  /** Of all connections together; absent: as many as go through. */
  readonly requestsPerSecond?: number;
  /** Sent with each request. */
  readonly bodyFile?: string | undefined;
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

export function load({ url, seconds, http2, headers, bodyFile, requestsPerSecond, cpu, logFile }: LoadOptions): LoadResult {
  if (logFile) rmSync(logFile, { force: true });
  const clients = http2 ? connections / streams : connections;
  const rate = requestsPerSecond === undefined ? [] : ["--rps", String(Math.max(1, requestsPerSecond / clients))];
  const started = performance.now();
  const { stdout, stderr, status } = spawnSync(
    "taskset",
    [
      "-c",
      String(cpu),
      "h2load",
      ...(http2 ? ["-m", String(streams)] : ["--h1"]),
      "-c",
      String(clients),
      "-t",
      "1",
      "-D",
      String(seconds),
      ...rate,
      ...(logFile ? ["--log-file", logFile] : []),
      ...(bodyFile ? ["-d", bodyFile] : []),
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

export interface PathsOptions {
  /** Without path. */
  readonly url: string;
  /** Divided among the clients; each client asks for its own in turn. */
  readonly paths: readonly string[];
  readonly clients: number;
  readonly seconds: number;
  readonly cpu: number;
  readonly directory: string;
}

/** Resolves to how many requests succeeded. Connections of one h2load would all ask for the same at the same time: each client is a process. */
export async function loadOfPaths({ url, paths, clients, seconds, cpu, directory }: PathsOptions): Promise<number> {
  const each = Math.floor(paths.length / clients);
  const counts = await Promise.all(
    Array.from({ length: clients }, async (_, client) => {
      const file = join(directory, `paths-${client}`);
      const own = paths.slice(client * each, (client + 1) * each);
      writeFileSync(file, own.map((path) => `${url}${path}\n`).join(""));
      const asked = ["-c", String(cpu), "h2load", "--h1", "-c", "1", "-t", "1", "-D", String(seconds), "-i", file];
      const child = spawn("taskset", asked, { stdio: ["ignore", "pipe", "pipe"] });
      let output = "";
      for (const stream of [child.stdout, child.stderr]) {
        stream.on("data", (chunk: Buffer) => {
          output += chunk.toString();
        });
      }
      await new Promise((resolve, reject) => child.once("close", resolve).once("error", reject));
      const statuses = /status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx/.exec(output);
      if (!statuses || statuses.slice(2).some((count) => count !== "0")) throw new Error(`h2load: ${output}`);
      return Number(statuses[1]);
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0);
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
