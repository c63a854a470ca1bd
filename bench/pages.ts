/**
 * What pages of the admin interface cost that tell of very many clusters, and whom they keep waiting: /ready is asked all the while.
 *
 * CPU is that of the whole process. The peak is resident memory while the page is written, above what it was before.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { Agent, get } from "node:http";
import { ports } from "./cases.ts";
import { usageOf } from "./process-usage.ts";

const pages = [
  "/stats/prometheus",
  "/stats",
  "/stats?format=json",
  "/stats?usedonly",
  "/clusters",
  "/clusters?format=json",
  "/config_dump",
];

interface PageCost {
  readonly ms: number;
  readonly cpuMs: number;
  readonly bytes: number;
  readonly longestWaitMs: number;
  readonly peakMiB: number;
}

export interface PagesOptions {
  readonly commands: ReadonlyMap<string, readonly string[]>;
  readonly rounds: number;
}

/** Prints the first time of each page, and the median of those that follow. */
export async function measurePages({ commands, rounds }: PagesOptions, print: (line: string) => void): Promise<void> {
  print("\nproxy    page                     first: ms   CPU ms      later: ms   CPU ms   longest wait ms   peak MiB      MiB");
  for (const [proxy, [command = "", ...args]] of commands) {
    const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] });
    try {
      await isReady(child);
      for (const page of pages) {
        const first = await cost(child.pid!, page);
        const later: PageCost[] = [];
        for (let round = 0; round < rounds; round++) later.push(await cost(child.pid!, page));
        const middle = (field: keyof PageCost) => later.map((each) => each[field]).sort((a, b) => a - b)[Math.floor(rounds / 2)] ?? 0;
        const column = (value: number, width: number) => value.toFixed(0).padStart(width);
        print(
          proxy.padEnd(9) +
            page.padEnd(23) +
            column(first.ms, 11) +
            column(first.cpuMs, 9) +
            column(middle("ms"), 15) +
            column(middle("cpuMs"), 9) +
            column(middle("longestWaitMs"), 18) +
            column(middle("peakMiB"), 11) +
            (first.bytes / 2 ** 20).toFixed(1).padStart(9),
        );
      }
    } finally {
      const exited = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await exited;
    }
  }
}

async function isReady(child: ChildProcess): Promise<void> {
  while (child.exitCode === null) {
    const isLive = await ask("/ready").then(
      () => true,
      () => false,
    );
    if (isLive) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("the proxy ended");
}

async function cost(pid: number, page: string): Promise<PageCost> {
  let isDone = false;
  let longestWaitMs = 0;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const waits = (async () => {
    while (!isDone) {
      const asked = performance.now();
      await ask("/ready", agent);
      longestWaitMs = Math.max(longestWaitMs, performance.now() - asked);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  await new Promise((resolve) => setTimeout(resolve, 500));
  longestWaitMs = 0;
  writeFileSync(`/proc/${pid}/clear_refs`, "5"); // the peak counts from here on
  const rssBefore = memoryMiB(pid, "VmRSS");
  const before = usageOf(pid).cpuSeconds;
  const started = performance.now();
  const bytes = await ask(page);
  const ms = performance.now() - started;
  const cpuMs = (usageOf(pid).cpuSeconds - before) * 1000;
  isDone = true;
  await waits;
  agent.destroy();
  return { ms, cpuMs, bytes, longestWaitMs, peakMiB: memoryMiB(pid, "VmHWM") - rssBefore };
}

/** Resolves to the length of the body. */
function ask(path: string, agent?: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port: ports.admin, path, ...(agent && { agent }) }, (response) => {
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
      });
      response.once("end", () => resolve(bytes)).once("error", reject);
    }).once("error", reject);
  });
}

function memoryMiB(pid: number, name: "VmRSS" | "VmHWM"): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}
