import { spawn } from "node:child_process";
import type { ExecHealthCheckConfig } from "../../api/kinds/workload-group.ts";
import type { Probe } from "./probe.ts";

/** Well when the command ends with 0. It runs as the agent's user. */
export class ExecProbe implements Probe {
  readonly #command: readonly string[];

  constructor({ command }: ExecHealthCheckConfig) {
    this.#command = command;
  }

  check(signal: AbortSignal): Promise<string | undefined> {
    const [command, ...args] = this.#command;
    if (!command) return Promise.resolve("the probe has no command");
    return new Promise((resolve) => {
      // A process group of its own: what a shell has started and waits for ends with it, or each round would leave another one behind.
      const child = spawn(command, args, { stdio: "ignore", detached: true });
      const end = () => killGroup(child.pid);
      signal.addEventListener("abort", end, { once: true });
      const over = (verdict: string | undefined) => {
        signal.removeEventListener("abort", end);
        resolve(signal.aborted ? `"${command}" did not end in time` : verdict);
      };
      child.once("error", (error) => over(error.message));
      child.once("close", (code, killedBy) => over(code === 0 ? undefined : `"${command}" ended with ${code ?? killedBy}`));
      if (signal.aborted) end();
    });
  }
}

function killGroup(leader: number | undefined): void {
  if (leader === undefined) return;
  try {
    process.kill(-leader, "SIGKILL");
  } catch {
    // All of it has ended.
  }
}
