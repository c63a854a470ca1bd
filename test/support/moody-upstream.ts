/** An endpoint that answers as its mood is: requests by `mood`, health checks (of /health) by `checkMood`. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

/** `reset`: it takes requests and closes the connection; `silent`: it takes them and never answers. */
export type Mood = "reset" | "silent" | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string };

export const good: Mood = { status: 200 };
export const ill = (status: number, headers: Record<string, string> = {}): Mood => ({ status, headers });

export class MoodyUpstream implements AsyncDisposable {
  readonly name: string;
  mood: Mood = good;
  checkMood: Mood = good;
  /** Heads of the health checks that have come. */
  readonly checks: IncomingMessage[] = [];
  requests = 0;
  #server: Server;
  #port = 0;
  readonly #sockets = new Set<Socket>();

  private constructor(name: string) {
    this.name = name;
    this.#server = this.#makeServer();
  }

  static async start(name: string): Promise<MoodyUpstream> {
    const upstream = new MoodyUpstream(name);
    await upstream.comeBack();
    return upstream;
  }

  get port(): number {
    return this.#port;
  }

  /** Connections so far are closed, new ones refused. */
  async goAway(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  /** On the port that it had. */
  async comeBack(): Promise<void> {
    this.#server = this.#makeServer();
    this.#server.listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server.listening) await this.goAway();
  }

  #makeServer(): Server {
    const server = createServer({ keepAliveTimeout: 600_000 }, (request, response) => this.#answer(request, response));
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    return server;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const isCheck = request.url!.startsWith("/health");
    if (isCheck) this.checks.push(request);
    else this.requests++;
    const mood = isCheck ? this.checkMood : this.mood;
    request.resume();
    if (mood === "reset") request.socket.destroy();
    else if (mood !== "silent") {
      response.writeHead(mood.status, { "x-upstream": this.name, ...mood.headers });
      response.end(mood.body ?? this.name);
    }
  }
}
