/** An Envoy binary as the agent's proxy: a child process that never outlives it, not even when the agent is killed. */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:fs";
import { access, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { HostPort } from "../lib/host-port.ts";
import { log } from "../lib/log.ts";
import { type AdminEndpoint, HttpAdminEndpoint } from "./admin-endpoint.ts";
import { asChildOf } from "./child-of.ts";
import type { RunningProxy, StartProxyOptions } from "./running-proxy.ts";

const scope = log.scope("envoy");

export class EnvoyProcess implements RunningProxy {
  readonly exited: Promise<number>;
  readonly admin: AdminEndpoint;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, admin: AdminEndpoint) {
    this.#child = child;
    this.admin = admin;
    this.exited = new Promise((resolve) => {
      child.once("exit", (code, signal) => {
        scope.info("proxy ended", { code, signal });
        resolve(code ?? 1);
      });
    });
  }

  static async start(binaryPath: string, adminAddress: HostPort, options: StartProxyOptions): Promise<EnvoyProcess> {
    const file = join(options.directory, "envoy-rev.json");
    const [bootstrap, override] = options.bootstrap;
    await writeFile(file, JSON.stringify(bootstrap!.json), { mode: 0o600 });
    const args = [
      ...["-c", file],
      ...["--drain-time-s", String(Math.round(options.drainTimeMs / 1000))],
      ...["--drain-strategy", "immediate"],
      ...["--local-address-ip-version", "v4"],
      ...["--file-flush-interval-msec", String(options.fileFlushIntervalMs)],
      ...(options.fileFlushMinSizeKb > 0 ? ["--file-flush-min-size-kb", String(options.fileFlushMinSizeKb)] : []),
      "--disable-hot-restart",
      "--allow-unknown-static-fields",
      ...["-l", options.logLevel],
      ...(options.componentLogLevel === "" ? [] : ["--component-log-level", options.componentLogLevel]),
      // Only Envoy merges as Envoy does.
      ...(override ? ["--config-yaml", JSON.stringify(override.json)] : []),
      ...(options.concurrency > 0 ? ["--concurrency", String(options.concurrency)] : []),
    ];
    const cannot = (cause: Error) => new Error(`cannot run the proxy ${binaryPath}: ${cause.message}`, { cause });
    await access(binaryPath, constants.X_OK).catch((cause: Error) => Promise.reject(cannot(cause)));
    const tied = asChildOf(process.pid, binaryPath, args);
    const child = spawn(tied.command, tied.args, { stdio: ["ignore", "inherit", "inherit"], ...(tied.argv0 && { argv0: tied.argv0 }) });
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", (cause) => reject(cannot(cause)));
    });
    scope.info("proxy started", { binaryPath, pid: child.pid });
    return new EnvoyProcess(child, new HttpAdminEndpoint(adminAddress));
  }

  /** An Envoy watches its workers itself, and ends when one hangs; its main thread is asked through the admin port, as any other. */
  async checkAlive(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill("SIGKILL");
    await this.exited;
  }
}
