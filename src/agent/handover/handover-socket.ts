/**
 * Where a running agent is asked to hand over to a new process: a Unix socket in the service's runtime directory, which is for its user alone.
 * Who connects gets one answer, a line of JSON, when it has been done or has failed.
 */
import { once } from "node:events";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { SocketFile } from "../../platform/socket-file.ts";

export interface HandoverAnswer {
  /** Of the process that serves now; undefined: it is the same as before. */
  readonly pid?: number;
  /** Why not. */
  readonly problem?: string;
}

export function handoverPath(runtimeDirectory: string): string {
  return join(runtimeDirectory, "handover");
}

export class HandoverSocket implements AsyncDisposable {
  readonly #server: Server;
  readonly #file: SocketFile;

  private constructor(server: Server, file: SocketFile) {
    this.#server = server;
    this.#file = file;
  }

  static async listen(path: string, handOver: () => Promise<HandoverAnswer>): Promise<HandoverSocket> {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.resume();
      void handOver().then((answer) => socket.end(JSON.stringify(answer)));
    });
    const file = await SocketFile.make(path, async (bound) => {
      server.listen(bound);
      await once(server, "listening");
    });
    return new HandoverSocket(server, file);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    await this.#file[Symbol.asyncDispose]();
  }
}

/** undefined: nobody is there who could be asked. */
export async function askForHandover(path: string): Promise<HandoverAnswer | undefined> {
  const socket = connect(path);
  try {
    await once(socket, "connect");
  } catch (error) {
    if (["ENOENT", "ECONNREFUSED"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
  const answer = await text(socket);
  if (answer === "") return { problem: "the running process has ended" };
  return JSON.parse(answer) as HandoverAnswer;
}
