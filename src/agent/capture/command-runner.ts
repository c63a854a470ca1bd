/** Runs a tool of the machine and hands back what it said; its failure is an error that says how it was called. */
import { spawn } from "node:child_process";

export interface RunOptions {
  /** What the tool reads. */
  readonly input?: string;
}

/** Resolves with standard output. The error's `code` is `ENOENT` when there is no such tool. */
export type CommandRunner = (command: string, args: readonly string[], options?: RunOptions) => Promise<string>;

export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly code: string | number;

  constructor(message: string, code: string | number) {
    super(message);
    this.code = code;
  }
}

export const runCommand: CommandRunner = (command, args, { input = "" } = {}) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
    let output = "";
    let complaint = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      complaint += text;
    });
    child.once("error", (error: NodeJS.ErrnoException) => reject(new CommandError(`${command}: ${error.message}`, error.code ?? 1)));
    child.once("close", (code, signal) => {
      if (code === 0) resolve(output);
      else reject(new CommandError(`${[command, ...args].join(" ")}: ${complaint.trim() || `ended with ${code ?? signal}`}`, code ?? 1));
    });
    // A tool that ends without reading has said why.
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
  });

export async function succeeds(run: CommandRunner, command: string, args: readonly string[]): Promise<boolean> {
  try {
    await run(command, args);
    return true;
  } catch (error) {
    if (error instanceof CommandError) return false;
    throw error;
  }
}
