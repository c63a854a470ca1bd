/** Upstreams on loopback that answer with their own name, for who is chosen. */
import { once } from "node:events";
import { Agent, createServer, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface NamedUpstreams extends AsyncDisposable {
  /** By name: `e0`, `e1` ... */
  readonly ports: Readonly<Record<string, number>>;
  /** Requests for /hold that wait for their answer, by upstream. */
  readonly held: Readonly<Record<string, ServerResponse[]>>;
  release(): void;
}

/** Each answers `name` at once; requests for /hold only at `release`; those for /fail with 503. */
export async function startNamedUpstreams(count: number): Promise<NamedUpstreams> {
  const ports: Record<string, number> = {};
  const held: Record<string, ServerResponse[]> = {};
  const servers: Server[] = [];
  for (let index = 0; index < count; index++) {
    const name = `e${index}`;
    const waiting: ServerResponse[] = [];
    held[name] = waiting;
    const server = createServer({ keepAliveTimeout: 600_000 }, (incoming, response) => {
      response.setHeader("x-upstream", name);
      if (incoming.url?.endsWith("/hold")) waiting.push(response);
      else response.writeHead(incoming.url?.endsWith("/fail") ? 503 : 200).end(name);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    ports[name] = (server.address() as AddressInfo).port;
    servers.push(server);
  }
  const release = () => {
    for (const [name, waiting] of Object.entries(held)) for (const response of waiting.splice(0)) response.end(name);
  };
  return {
    ports,
    held,
    release,
    async [Symbol.asyncDispose]() {
      release();
      for (const server of servers) {
        server.closeAllConnections();
        server.close();
      }
    },
  };
}

export interface NamedAsk {
  readonly path: string;
  /** Values of a name in one array are lines of their own. */
  readonly headers?: Readonly<Record<string, string | string[]>>;
  /** Address of loopback that the connection comes from. */
  readonly from?: string;
}

export interface NamedAnswer {
  readonly status: number;
  /** Who answered, "" for the proxy itself. */
  readonly upstream: string;
  readonly cookies: readonly string[];
  readonly body: string;
  /** Of the connection, as the client sees it. */
  readonly localAddress: string;
}

/** Asks over a few connections that stay open. */
export class NamedClient implements Disposable {
  readonly #port: number;
  readonly #host: string;
  readonly #agents = new Map<string, Agent>();

  constructor(port: number, host = "127.0.0.1") {
    this.#port = port;
    this.#host = host;
  }

  ask({ path, headers = {}, from = "127.0.0.1" }: NamedAsk): Promise<NamedAnswer> {
    const agent = this.#agents.get(from) ?? new Agent({ keepAlive: true, maxSockets: 100 });
    this.#agents.set(from, agent);
    return new Promise((resolve, reject) => {
      const sent = request({ host: this.#host, port: this.#port, path, headers, agent, localAddress: from }, (response) => {
        let body = "";
        response.setEncoding("latin1").on("data", (part: string) => {
          body += part;
        });
        const { localAddress, localPort } = response.socket;
        response.on("end", () =>
          resolve({
            status: response.statusCode!,
            upstream: String(response.headers["x-upstream"] ?? ""),
            cookies: response.headers["set-cookie"] ?? [],
            body,
            localAddress: `${localAddress}:${localPort}`,
          }),
        );
        response.on("error", reject);
      });
      sent.on("error", reject);
      sent.end();
    });
  }

  /** One after the other in a few rows: who answered. */
  async askAll(asks: readonly NamedAsk[]): Promise<string[]> {
    const answers: string[] = new Array(asks.length);
    let next = 0;
    const row = async () => {
      for (let at = next++; at < asks.length; at = next++) {
        const { status, upstream } = await this.ask(asks[at]!);
        answers[at] = status === 200 ? upstream : `${upstream}${status}`;
      }
    };
    await Promise.all(Array.from({ length: 8 }, row));
    return answers;
  }

  [Symbol.dispose](): void {
    for (const agent of this.#agents.values()) agent.destroy();
  }
}
