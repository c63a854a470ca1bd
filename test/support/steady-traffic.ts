/** Clients that do not stop: each failed request and each session that is cut short is written down. */
import { Agent, request } from "node:http";
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
    this.#received = "";
    this.#socket.write(line);
    const ended = this.ended.then((how) => Promise.reject(new Error(how)));
    ended.catch(() => undefined);
    const deadline = Date.now() + 10_000;
    while (!this.#received.includes(line)) {
      if (Date.now() > deadline) {
        this.#onFailure("no echo");
        return;
      }
      await Promise.race([new Promise((resolve) => setTimeout(resolve, 5)), ended]);
    }
  }

  end(): void {
    this.#isEnding = true;
    this.#socket.end();
  }
}
