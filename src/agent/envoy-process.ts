/** An Envoy binary as the agent's proxy: a child process that never outlives it. */
import { type ChildProcess, spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { log } from "../lib/log.ts";
import type { RunningProxy, StartProxyOptions } from "./running-proxy.ts";

const scope = log.scope("envoy");

export class EnvoyProcess implements RunningProxy {
  readonly exited: Promise<number>;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.exited = new Promise((resolve) => {
      child.once("exit", (code, signal) => {
        scope.info("proxy ended", { code, signal });
        resolve(code ?? 1);
      });
    });
  }

  static async start(binaryPath: string, options: StartProxyOptions): Promise<EnvoyProcess> {
    const file = join(options.directory, "envoy-rev.json");
    await writeFile(file, JSON.stringify(options.bootstrap), { mode: 0o600 });
    const args = [
      ...["-c", file],
      ...["--drain-time-s", String(Math.round(options.drainTimeMs / 1000))],
      ...["--drain-strategy", "immediate"],
      ...["--local-address-ip-version", "v4"],
      ...["--file-flush-interval-msec", "1000"],
      "--disable-hot-restart",
      "--allow-unknown-static-fields",
      ...["-l", options.logLevel],
      ...(options.concurrency > 0 ? ["--concurrency", String(options.concurrency)] : []),
    ];
    const child = spawn(binaryPath, args, { stdio: ["ignore", "inherit", "inherit"] });
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", (cause) => reject(new Error(`cannot run the proxy ${binaryPath}: ${cause.message}`, { cause })));
    });
    scope.info("proxy started", { binaryPath, pid: child.pid });
    return new EnvoyProcess(child);
  }

  /** An Envoy watches its workers itself, and ends when one hangs; its main thread is asked through the admin port, as any other. */
  async checkAlive(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill("SIGKILL");
    await this.exited;
  }
}
