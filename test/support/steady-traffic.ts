/** Clients that do not stop: each failed request and each session that is cut short is written down. */
import { Agent, request } from "node:http";
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";

export class SteadyTraffic {
  readonly failures: string[] = [];
  done = 0;
  #isOver = false;
  readonly #clients: Promise<void>[] = [];

  /** Requests one after the other: on one connection as long as the server keeps it, or each on its own. */
  http(host: string, port: number, path: string, { keepsAlive }: { readonly keepsAlive: boolean }): void {
    const agent = new Agent({ keepAlive: keepsAlive, maxSockets: 1 });
    const one = () =>
      new Promise<void>((resolve) => {
        const asked = request({ host, port, path, agent }, (response) => {
          if (response.statusCode !== 200) this.failures.push(`${host}:${port} answers ${response.statusCode}`);
          response.resume();
          response.once("end", () => {
            this.done++;
            resolve();
          });
          response.once("error", fail);
        });
        const fail = (error: Error) => {
          this.failures.push(`${host}:${port} ${keepsAlive ? "kept alive" : "fresh"}: ${error.message}`);
          setTimeout(resolve, 50);
        };
        asked.once("error", fail);
        asked.end();
      });
    this.#loop(one, () => agent.destroy());
  }

  /** Requests of HTTP/2, several at once on one connection, which is left for another when the server says so. */
  http2(host: string, port: number, path: string, atOnce: number): void {
    let session: ClientHttp2Session | undefined;
    const current = () => {
      if (session === undefined || session.closed || session.destroyed) {
        const made = connectHttp2(`http://${host}:${port}`);
        session = made;
        made.on("error", (error) => this.failures.push(`${host}:${port} HTTP/2 connection: ${error.message}`));
        // What is under way goes on; nothing new is asked there.
        made.once("goaway", () => {
          if (session === made) session = undefined;
          made.close();
        });
      }
      return session;
    };
    const one = () =>
      new Promise<void>((resolve) => {
        const asked = current().request({ ":path": path });
        asked.once("response", ({ ":status": status }) => {
          if (status !== 200) this.failures.push(`${host}:${port} HTTP/2 answers ${status}`);
          this.done++;
        });
        // Told to go between here and the socket, Node's client does not send what it has, and closes it as if the server had refused it.
        let isUnsent = false;
        asked.once("frameError", () => {
          isUnsent = true;
        });
        asked.once("error", (error) => {
          if (!isUnsent) this.failures.push(`${host}:${port} HTTP/2: ${error.message}`);
        });
        asked.once("close", () => setTimeout(resolve, asked.rstCode === 0 ? 0 : 50));
        asked.resume();
      });
    for (let count = 0; count < atOnce; count++) this.#loop(one, () => session?.close());
  }

  /** Connections, each for one line and its echo. */
  tcp(host: string, port: number): void {
    this.#loop(async () => {
      const session = this.session(host, port);
      await session.echo("one").catch(() => undefined);
      session.end();
    });
  }

  /** One connection, for as long as it is wanted. */
  session(host: string, port: number): TcpSession {
    return new TcpSession(connect(port, host), (what) => this.failures.push(`${host}:${port} session: ${what}`));
  }

  /** A session of WebSocket: an upgraded connection, on which a line comes back as it was sent. */
  async webSocket(host: string, port: number, path: string): Promise<TcpSession> {
    const session = this.session(host, port);
    const key = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];
    const answer = await session.ask(`GET ${path} HTTP/1.1\r\nHost: web\r\n${key.join("\r\n")}\r\n\r\n`, "\r\n\r\n");
    if (!answer.startsWith("HTTP/1.1 101 ")) this.failures.push(`${host}:${port} WebSocket: ${answer.split("\r\n")[0]}`);
    return session;
  }

  /** A stream of gRPC in both directions, on a connection of its own. */
  grpcStream(host: string, port: number, path: string): GrpcStream {
    return new GrpcStream(connectHttp2(`http://${host}:${port}`), path, (what) => this.failures.push(`${host}:${port} gRPC: ${what}`));
  }

  /** Such streams one after the other, each for a while. */
  grpc(host: string, port: number, path: string): void {
    this.#loop(async () => {
      const stream = this.grpcStream(host, port, path);
      for (let message = 0; message < 5; message++) {
        await stream.echo(`message ${message}`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      const how = await stream.end();
      if (how !== "0") this.failures.push(`${host}:${port} gRPC stream ends with ${how}`);
      this.done++;
    });
  }

  /** Resolves when so many more have been answered. */
  async more(count: number): Promise<void> {
    const wanted = this.done + count;
    const deadline = Date.now() + 20_000;
    while (this.done < wanted && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
    if (this.done < wanted) this.failures.push(`only ${this.done - wanted + count} of ${count} answers came`);
  }

  /** Resolves when what was under way has ended. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#clients);
  }

  #loop(one: () => Promise<void>, end: () => void = () => {}): void {
    const loop = async () => {
      while (!this.#isOver) await one();
      end();
    };
    this.#clients.push(loop());
  }
}

export class TcpSession {
  /** Resolves when the peer has ended it: "end" in order, else the error. */
  readonly ended: Promise<string>;
  readonly #socket: Socket;
  readonly #onFailure: (what: string) => void;
  #received = "";
  #isEnding = false;

  constructor(socket: Socket, onFailure: (what: string) => void) {
    this.#socket = socket;
    this.#onFailure = onFailure;
    this.ended = new Promise((resolve) => {
      socket.once("end", () => resolve("end"));
      socket.once("error", (error) => {
        if (!this.#isEnding) onFailure(error.message);
        resolve(error.message);
      });
    });
    socket.setEncoding("latin1").on("data", (text: string) => {
      this.#received += text;
    });
  }

  /** Sends a line, and resolves when it has come back. */
  async echo(line: string): Promise<void> {
    await this.ask(line, line);
  }

  /** Sends something, and resolves with what has come by the time that `answer` is in it. */
  async ask(what: string, answer: string): Promise<string> {
    this.#received = "";
    this.#socket.write(what);
    const ended = this.ended.then((how) => Promise.reject(new Error(how)));
    ended.catch(() => undefined);
    const deadline = Date.now() + 10_000;
    while (!this.#received.includes(answer)) {
      if (Date.now() > deadline) {
        this.#onFailure("no echo");
        break;
      }
      await Promise.race([new Promise((resolve) => setTimeout(resolve, 5)), ended]);
    }
    return this.#received;
  }

  end(): void {
    this.#isEnding = true;
    this.#socket.end();
  }
}

/** `path` echoes every message, and ends with status 0 when the client ends. */
export class GrpcStream {
  /** How the connection came to its end: "end" in order, else the error. */
  readonly ended: Promise<string>;
  /** Resolves when the peer wants no new streams on the connection. */
  readonly goodbye: Promise<void>;
  readonly #session: ClientHttp2Session;
  readonly #call: ClientHttp2Stream;
  readonly #status: Promise<string>;
  #received = "";

  constructor(session: ClientHttp2Session, path: string, onFailure: (what: string) => void) {
    this.#session = session;
    this.ended = new Promise((resolve) => {
      session.once("error", (error) => {
        onFailure(error.message);
        resolve(error.message);
      });
      session.once("close", () => resolve("end"));
    });
    this.goodbye = new Promise((resolve) => session.once("goaway", () => resolve()));
    this.#call = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" });
    this.#status = new Promise((resolve) => {
      this.#call.once("trailers", (trailers) => resolve(String(trailers["grpc-status"])));
      this.#call.once("error", (error) => resolve(error.message));
      this.#call.once("close", () => resolve(`reset ${this.#call.rstCode}`));
    });
    this.#call.setEncoding("latin1").on("data", (text: string) => {
      this.#received += text;
    });
  }

  /** Status of gRPC, or what went wrong, once it is over. */
  get status(): Promise<string> {
    return this.#status;
  }

  async echo(message: string): Promise<void> {
    this.#received = "";
    const frame = Buffer.alloc(5 + message.length);
    frame.writeUInt32BE(message.length, 1);
    frame.write(message, 5);
    this.#call.write(frame);
    let isOver = false;
    void this.#status.then(() => {
      isOver = true;
    });
    const deadline = Date.now() + 10_000;
    while (!this.#received.includes(message)) {
      if (isOver || Date.now() > deadline) throw new Error(isOver ? `the stream is over: ${await this.#status}` : "no echo");
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Resolves with its status. */
  async end(): Promise<string> {
    this.#call.end();
    const status = await this.#status;
    this.#session.close();
    return status;
  }
}
