/** A new process of the command that this one was started by, to hand over to: see predecessor.ts. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import { ownCommand } from "../../lib/own-command.ts";
import { handoverVariable, type Inheritance, linesOf, type WordOfSuccessor } from "./predecessor.ts";

/** How this process was started. What it adds to its environment is not for the next one, which reads the machine's settings anew. */
export interface StartedAs {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The words after its own name or script. */
  readonly argv: readonly string[];
}

const descriptor = 3;

export class Successor {
  /** Resolves when it has ended, and the service with it: never when it has handed on. */
  readonly ended: Promise<void>;
  readonly #socket: Socket;
  readonly #ready: Promise<number>;
  #pid: number | undefined;

  private constructor(socket: Socket, inheritance: Inheritance) {
    this.#socket = socket;
    const lines = linesOf(socket);
    socket.write(`${JSON.stringify(inheritance)}\n`);
    let hasHandedOn = false;
    this.ended = new Promise((resolve) =>
      socket.once("close", () => {
        if (!hasHandedOn) resolve();
      }),
    );
    this.#ready = new Promise((resolve) =>
      lines.on("line", (line) => {
        const { ready, handedOn } = JSON.parse(line) as WordOfSuccessor;
        if (ready !== undefined) resolve(ready);
        if (handedOn) hasHandedOn = true;
      }),
    );
  }

  /** Of the program that is on disk now. Rejects when there is no way to start it. */
  static async start({ env: given, argv }: StartedAs, inheritance: Inheritance): Promise<Successor> {
    // "This process alone is watched" is not meant for it.
    const { WATCHDOG_PID: _, ...env } = given;
    // The first is the program, if that is not the name by which this process was called.
    const words = argv[0] === "pilot-agent" ? argv.slice(1) : argv;
    // A child of systemd's, not of this process: systemd looks after no others.
    const starter = spawn("setsid", ["--fork", ...ownCommand(), "pilot-agent", ...words], {
      env: { ...env, [handoverVariable]: String(descriptor) },
      stdio: ["ignore", "inherit", "inherit", "pipe"],
    });
    await once(starter, "spawn");
    return new Successor(starter.stdio[descriptor] as Socket, inheritance);
  }

  /** Resolves to its PID when it serves; rejects when it has ended, or the time is over. */
  async ready(withinMs: number): Promise<number> {
    const timeout = AbortSignal.timeout(withinMs);
    this.#pid = await Promise.race([
      this.#ready,
      this.ended.then(() => Promise.reject(new Error("the new process has ended before it served"))),
      once(timeout, "abort").then(() => Promise.reject(new Error(`the new process does not serve after ${withinMs / 1000} s`))),
    ]);
    return this.#pid;
  }

  /** It does not need this process any more, nor this process it. */
  sayYours(): void {
    this.#socket.write(`${JSON.stringify({ yours: true })}\n`);
    this.#socket.unref();
  }

  /** A successor whose predecessor is not there before it is its turn ends. */
  abandon(): void {
    this.#socket.destroy();
  }
}
