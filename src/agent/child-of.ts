/**
 * `topsail child-of PID PROGRAM ARGUMENTS`: becomes PROGRAM, which ends when PID, the process that called this, does. Not for people: an
 * agent starts its Envoy by it, since nobody but the child can ask the kernel for that.
 */
import { isSea } from "node:sea";
import { log } from "../lib/log.ts";
import { ownCommand } from "../lib/own-command.ts";
import { endWithParent } from "../platform/end-with-parent.ts";

export const childOf = "child-of";

export async function main([pid = "", program = "", ...args]: string[]): Promise<number> {
  try {
    if (!endWithParent(Number(pid))) return 1;
  } catch (error) {
    log.scope("agent").warn("a proxy of an agent that is killed will live on", { error });
  }
  process.execve!(program, [program, ...args]);
  return 1;
}

/** What to start in place of `program`, as `spawn` takes it. */
export function asChildOf(pid: number, program: string, args: readonly string[]): { command: string; args: string[]; argv0?: string } {
  const words = [String(pid), program, ...args];
  if (isSea()) return { command: process.execPath, args: words, argv0: childOf };
  const [command = "", ...rest] = ownCommand();
  return { command, args: [...rest, childOf, ...words] };
}
