/** The built executable as a child process. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { join } from "node:path";

/** TOPSAIL_BINARY: another copy of it, for instance on another file system. */
export const binary = process.env.TOPSAIL_BINARY ?? join(import.meta.dirname, "..", "..", "dist", "topsail");

export interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Record<string, string>;
  readonly input?: string;
  readonly executable?: string;
}

/** Runs to the end. */
export function runTopsail(args: readonly string[], options: RunOptions = {}): Finished {
  const { status, stdout, stderr, error } = spawnSync(options.executable ?? binary, args, {
    encoding: "utf8",
    timeout: 60_000,
    cwd: options.cwd,
    env: options.env ?? process.env,
    input: options.input,
  });
  if (error) throw error;
  return { status, stdout, stderr };
}

export class TopsailProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  stdout = "";
  stderr = "";
  readonly exited: Promise<number | null>;

  constructor(args: readonly string[], options: RunOptions = {}) {
    this.child = spawn(options.executable ?? binary, args, {
      stdio: ["ignore", "pipe", "pipe"],
      cwd: options.cwd,
      env: options.env ?? process.env,
    });
    this.child.stdout?.on("data", (chunk: Buffer) => {
      this.stdout += chunk;
    });
    this.child.stderr?.on("data", (chunk: Buffer) => {
      this.stderr += chunk;
    });
    this.exited = new Promise((resolve) => this.child.once("exit", (code) => resolve(code)));
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** Resolves when the output holds the text; rejects when the process ends before. */
  async printed(text: string, timeoutMs = 20_000): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!this.stdout.includes(text) && !this.stderr.includes(text)) {
      if (this.child.exitCode !== null) throw new Error(`topsail ended with ${this.child.exitCode}:\n${this.stdout}${this.stderr}`);
      if (Date.now() > deadline) throw new Error(`topsail did not print "${text}" in time:\n${this.stdout}${this.stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill("SIGKILL");
    await this.exited;
  }
}
