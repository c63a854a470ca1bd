/**
 * The running agent, as its successor sees it. They talk over a socket that the successor was born with, a line of JSON each:
 *
 *     predecessor                                             successor
 *         ──────── starts, {"servesIdentity": …} ────────────────>
 *         <─────── {"ready": PID}: it serves, on the same ports ──
 *         ──────── {"yours": true}: systemd knows its PID ───────>    speaks to systemd from now on
 *         <─────── {"handedOn": true}: it has a successor itself ──   may end before its predecessor does
 *
 * Each end of it that closes tells the other that its process has ended.
 */
import { Socket } from "node:net";
import { createInterface, type Interface } from "node:readline";

/** Number of the descriptor that the socket is. */
export const handoverVariable = "TOPSAIL_HANDOVER_FD";

/** What a successor can't find out. */
export interface Inheritance {
  /** The socket of the workload's certificate is the predecessor's: not of another, which would be asked. */
  readonly servesIdentity: boolean;
}

export interface WordOfSuccessor {
  /** PID. */
  readonly ready?: number;
  readonly handedOn?: true;
}

export class Predecessor implements Disposable {
  readonly inheritance: Inheritance;
  /** Resolves when the service is this process's; rejects when the predecessor has ended before. */
  readonly yours: Promise<void>;
  readonly #socket: Socket;

  private constructor(socket: Socket, lines: Interface, inheritance: Inheritance) {
    this.inheritance = inheritance;
    this.#socket = socket;
    this.yours = new Promise((resolve, reject) => {
      lines.once("line", () => resolve());
      lines.once("close", () => reject(new Error("the process that was to hand over has ended")));
    });
    this.yours.catch(() => {}); // may not be waited for yet
  }

  /** undefined: nobody hands over to this process. */
  static async connect(env: Readonly<Record<string, string | undefined>>): Promise<Predecessor | undefined> {
    const fd = env[handoverVariable];
    if (fd === undefined) return undefined;
    const socket = new Socket({ fd: Number(fd), readable: true, writable: true });
    const lines = linesOf(socket);
    const first = await new Promise<string>((resolve, reject) => {
      lines.once("line", resolve);
      lines.once("close", () => reject(new Error("the process that was to hand over has ended")));
    });
    return new Predecessor(socket, lines, JSON.parse(first) as Inheritance);
  }

  sayReady(): void {
    this.#say({ ready: process.pid });
  }

  /** The end of this process is not the service's. */
  sayHandedOn(): void {
    this.#say({ handedOn: true });
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  #say(word: WordOfSuccessor): void {
    this.#socket.write(`${JSON.stringify(word)}\n`);
  }
}

/** An error is the end of it, which is told as such. */
export function linesOf(socket: Socket): Interface {
  socket.on("error", () => {});
  return createInterface({ input: socket }).on("error", () => {});
}
