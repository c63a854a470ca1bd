/** Two waits that a user feels: until the control plane serves, and until an edited file has its effect. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const portsFrom = 18_900;

/** Prints the medians of `rounds`. */
export async function measureTimes(topsail: string, print: (line: string) => void, rounds = 7): Promise<void> {
  print("\nwaits, median");
  const starts: number[] = [];
  for (let round = 0; round < rounds; round++) starts.push(await startTime(topsail));
  print(`istiod, start to ready                    ${middle(starts).toFixed(0).padStart(6)} ms`);

  const directory = mkdtempSync(join(tmpdir(), "topsail-times-"));
  const child = spawn(topsail, ["quickstart", "--ports-from", String(portsFrom), "--dir", join(directory, "config")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await new Promise<void>((resolve, reject) => {
      child.stdout.on("data", (chunk: Buffer) => String(chunk).includes("Ctrl-C") && resolve());
      child.once("exit", () => reject(new Error("the quickstart ended")));
    });
    const file = join(directory, "config", "httpbin.yaml");
    const text = readFileSync(file, "utf8");
    const changes: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const header = `round-${round}`;
      const started = performance.now();
      writeFileSync(file, text.replace(/ {4}- route:/, `    - headers: {response: {set: {x-round: ${header}}}}\n      route:`));
      while ((await headerOf(portsFrom, "x-round")) !== header) {
        if (performance.now() - started > 10_000) throw new Error("the change had no effect");
      }
      changes.push(performance.now() - started);
    }
    print(`file changed, to the first request under it ${middle(changes).toFixed(0).padStart(4)} ms`);
  } finally {
    child.kill("SIGINT");
    await new Promise((resolve) => (child.exitCode === null ? child.once("exit", resolve) : resolve(undefined)));
    rmSync(directory, { recursive: true, force: true });
  }
}

async function startTime(topsail: string): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "topsail-times-"));
  const port = portsFrom + 50;
  const started = performance.now();
  const child = spawn(
    topsail,
    [
      "istiod",
      "--configDir",
      directory,
      "--dataDir",
      join(directory, "data"),
      "--grpcAddr",
      `127.0.0.1:${port}`,
      "--monitoringAddr",
      `127.0.0.1:${port + 1}`,
    ],
    { stdio: "ignore" },
  );
  try {
    while ((await statusOf(port + 1, "/ready")) !== 200) {
      if (performance.now() - started > 10_000) throw new Error("istiod does not become ready");
    }
    return performance.now() - started;
  } finally {
    child.kill("SIGTERM");
    await new Promise((resolve) => child.once("exit", resolve));
    rmSync(directory, { recursive: true, force: true });
  }
}

function statusOf(port: number, path: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const call = get({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
    });
    call.on("error", () => setTimeout(resolve, 2, undefined));
  });
}

function headerOf(port: number, name: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const call = get({ host: "127.0.0.1", port, path: "/uuid", headers: { host: "httpbin.localhost" }, agent: false }, (response) => {
      response.resume();
      const value = response.headers[name];
      response.on("end", () => setTimeout(resolve, 2, typeof value === "string" ? value : undefined));
    });
    call.on("error", () => setTimeout(resolve, 2, undefined));
  });
}

function middle(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
