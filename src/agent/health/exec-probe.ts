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
      const child = spawn(command, args, { stdio: "ignore", signal, killSignal: "SIGKILL" });
      child.once("error", (error) => resolve(signal.aborted ? `"${command}" did not end in time` : error.message));
      child.once("close", (code, killedBy) => resolve(code === 0 ? undefined : `"${command}" ended with ${code ?? killedBy}`));
    });
  }
}
