/**
 * DNS over TCP, on one address: each message behind its length. A client may ask several things at once and gets answers as they are
 * there (RFC 7766). One that asks nothing, takes too long over a question, or does not read its answers is let go.
 */
import { createServer, type Server, type Socket } from "node:net";
import { listenOn, type PortSharing } from "../../platform/port-sharing.ts";
import type { Answerer } from "./answerer.ts";

const maxConnections = 256;
/** Of a query; beyond it is garbage. */
const maxQueryBytes = 4096;
/** Without a whole question. */
const idleMs = 10_000;
/** Questions of one client that wait for a nameserver. */
const maxPending = 64;
const maxUnreadBytes = 1 << 20;

export class TcpListener implements AsyncDisposable {
  readonly #server: Server;
  readonly #clients = new Set<Socket>();

  private constructor(server: Server, answerer: Answerer) {
    this.#server = server;
    server.maxConnections = maxConnections;
    server.on("connection", (socket) => {
      this.#clients.add(socket);
      socket.on("close", () => this.#clients.delete(socket));
      new TcpClient(socket, answerer).start();
    });
  }

  /** Rejects with the system's error. */
  static async start(host: string, port: number, sharing: PortSharing, answerer: Answerer): Promise<TcpListener> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    const made = new TcpListener(server, answerer);
    await listenOn(server, { host, port }, sharing);
    return made;
  }

  /** Takes nobody else; resolves when those that are here have gone. */
  async retire(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#clients) socket.destroy();
    await this.retire();
  }
}

class TcpClient {
  readonly #socket: Socket;
  readonly #answerer: Answerer;
  #received: Buffer = Buffer.alloc(0);
  #pending = 0;
  #hasEnded = false;
  #idle: NodeJS.Timeout | undefined;

  constructor(socket: Socket, answerer: Answerer) {
    this.#socket = socket;
    this.#answerer = answerer;
  }

  start(): void {
    const socket = this.#socket;
    this.#idle = setTimeout(() => {
      if (this.#pending === 0) socket.destroy();
      else this.#idle?.refresh();
    }, idleMs);
    socket.on("data", (chunk: Buffer) => {
      this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
      this.#takeAll();
    });
    socket.on("end", () => {
      this.#hasEnded = true;
      if (this.#pending === 0) socket.end();
    });
    socket.on("error", () => {});
    socket.on("close", () => clearTimeout(this.#idle));
  }

  #takeAll(): void {
    while (this.#received.length >= 2 && this.#pending < maxPending && !this.#socket.destroyed) {
      const length = this.#received.readUInt16BE(0);
      if (length > maxQueryBytes) return void this.#socket.destroy();
      if (this.#received.length < 2 + length) break;
      const packet = this.#received.subarray(2, 2 + length);
      this.#received = this.#received.subarray(2 + length);
      this.#idle?.refresh();
      this.#take(packet);
    }
    if (this.#pending >= maxPending) this.#socket.pause();
  }

  #take(packet: Buffer): void {
    const { remoteAddress = "", remotePort = 0 } = this.#socket;
    const answer = this.#answerer.answer(packet, "tcp", remoteAddress, remotePort);
    // Garbage, of which a stream can't be cleaned.
    if (answer === "ignore") return void this.#socket.destroy();
    if (answer !== "forward") return void this.#send(answer);
    this.#pending++;
    this.#answerer.forward(packet, "tcp", (response) => {
      this.#pending--;
      this.#send(response);
      this.#socket.resume();
      this.#takeAll();
    });
  }

  #send(response: Buffer): void {
    const socket = this.#socket;
    if (socket.destroyed) return;
    if (socket.writableLength > maxUnreadBytes) return void socket.destroy();
    const length = Buffer.allocUnsafe(2);
    length.writeUInt16BE(response.length, 0);
    socket.cork();
    socket.write(length);
    socket.write(response);
    socket.uncork();
    if (this.#hasEnded && this.#pending === 0) socket.end();
  }
}
