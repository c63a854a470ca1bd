/**
 * Endpoints that fail under load, by Envoy and by our proxy on the same file: connections are reset, endpoints go away and come back, get slow, or stop
 * answering. A request may fail only where an endpoint had it in hand and let go of it; all others find another endpoint.
 */
import { once } from "node:events";
import { Agent, createServer, get, type IncomingMessage, type ServerResponse } from "node:http";
import * as http2 from "node:http2";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { httpBootstrap, proxies, staticCluster, type } from "../support/static-bootstrap.ts";

type Mood = "well" | "slow" | "silent";

/** Speaks HTTP/1.1 or HTTP/2, and knows which requests it has let go of. */
class Endpoint implements AsyncDisposable {
  mood: Mood = "well";
  /** Requests that it had when it cut their connection. */
  readonly cut = new Set<string>();
  /** Requests that it never answers. */
  readonly ignored = new Set<string>();
  readonly seen = new Set<string>();
  resets = 0;
  readonly #inHand = new Map<Socket, Set<string>>();
  readonly #tcp = createTcpServer((socket) => this.#taken(socket));
  readonly #http1 = createServer({ keepAliveTimeout: 600_000 }, (request, response) => this.#onHttp1(request, response));
  readonly #http2 = http2.createServer();
  readonly #speaksHttp2: boolean;
  #port = 0;

  constructor(speaksHttp2: boolean) {
    this.#speaksHttp2 = speaksHttp2;
    this.#http2.on("sessionError", () => {});
    this.#http2.on("stream", (stream, headers) => {
      stream.on("error", () => {});
      const socket = sockets.get(stream.session!)!;
      void this.#serve(String(headers[":path"]), socket, () => {
        (stream as http2.ServerHttp2Stream).respond({ ":status": 200 });
        stream.end("well");
      });
    });
    const sockets = new WeakMap<object, Socket>();
    this.#http2.on("session", (session) => sockets.set(session, this.#newest!));
  }

  #newest: Socket | null = null;

  get port(): number {
    return this.#port;
  }

  async listen(): Promise<void> {
    this.#tcp.listen(this.#port, "127.0.0.1");
    await once(this.#tcp, "listening");
    this.#port = (this.#tcp.address() as AddressInfo).port;
  }

  #taken(socket: Socket): void {
    this.#inHand.set(socket, new Set());
    socket.on("error", () => {}).on("close", () => this.#inHand.delete(socket));
    this.#newest = socket;
    (this.#speaksHttp2 ? this.#http2 : this.#http1).emit("connection", socket);
  }

  #onHttp1(request: IncomingMessage, response: ServerResponse): void {
    void this.#serve(request.url!, request.socket, () => response.end("well"));
  }

  async #serve(id: string, socket: Socket, answer: () => void): Promise<void> {
    this.seen.add(id);
    this.#inHand.get(socket)?.add(id);
    if (this.mood === "silent") {
      this.ignored.add(id);
      return;
    }
    await delay(this.mood === "slow" ? 150 : 5);
    if (!socket.destroyed) answer();
    // A reset takes along what the other side has not read yet.
    await delay(40);
    this.#inHand.get(socket)?.delete(id);
  }

  reset(): void {
    for (const [socket, ids] of this.#inHand) {
      for (const id of ids) this.cut.add(id);
      this.resets++;
      socket.resetAndDestroy();
    }
  }

  async goAway(): Promise<void> {
    const closed = once(this.#tcp, "close");
    this.#tcp.close();
    this.reset();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#inHand.keys()) socket.destroy();
    if (this.#tcp.listening) this.#tcp.close();
  }
}

function bootstrap(endpoints: readonly Endpoint[], speaksHttp2: boolean): object {
  const protocol = speaksHttp2 ? { http2_protocol_options: {} } : { http_protocol_options: {} };
  const manager = {
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          routes: [
            {
              match: { prefix: "/" },
              route: {
                cluster: "up",
                timeout: "2.5s",
                // What Istio says where nobody says anything.
                retry_policy: {
                  retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
                  num_retries: 5,
                  retriable_status_codes: [503],
                  retry_back_off: { base_interval: "0.01s" },
                  host_selection_retry_max_attempts: 5,
                  retry_host_predicate: [
                    {
                      name: "p",
                      typed_config: { "@type": type("retry.host.previous_hosts.v3.PreviousHostsPredicate") },
                    },
                  ],
                },
              },
            },
          ],
        },
      ],
    },
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  return httpBootstrap(
    [
      staticCluster(
        "up",
        endpoints.map(({ port }) => port),
        { explicit_http_config: protocol },
        { circuit_breakers: { thresholds: [{ max_retries: 1000 }] } },
      ),
    ],
    manager,
  );
}

function statusOf(port: number, path: string, agent: Agent): Promise<number> {
  return new Promise((resolve) => {
    get({ port, host: "127.0.0.1", path, agent }, (response) => {
      response.resume().on("end", () => resolve(response.statusCode!));
    }).on("error", () => resolve(0));
  });
}

/** What clients got, by request. */
async function drill(
  side: (typeof proxies)[number],
  speaksHttp2: boolean,
): Promise<{ statuses: Map<string, number>; endpoints: Endpoint[] }> {
  await using stack = new AsyncDisposableStack();
  const endpoints = Array.from({ length: 3 }, () => stack.use(new Endpoint(speaksHttp2)));
  for (const endpoint of endpoints) await endpoint.listen();
  const proxy = stack.use(await side.start(bootstrap(endpoints, speaksHttp2)));
  const port = await proxy.listenerPort("in");
  const agent = new Agent({ keepAlive: true });
  stack.defer(() => agent.destroy());
  const statuses = new Map<string, number>();
  let isOver = false;
  const client = async (number: number) => {
    for (let i = 0; !isOver; i++) {
      const id = `/${number}-${i}`;
      statuses.set(id, await statusOf(port, id, agent));
    }
  };
  const clients = Array.from({ length: 12 }, (_, number) => client(number));
  const [first, second, third] = endpoints as [Endpoint, Endpoint, Endpoint];
  await delay(200);
  for (let i = 0; i < 5; i++) {
    first.reset();
    await delay(50);
  }
  await second.goAway();
  await delay(300);
  await second.listen();
  third.mood = "slow";
  await delay(400);
  third.mood = "silent";
  await delay(250);
  third.mood = "well";
  await delay(2800);
  isOver = true;
  await Promise.all(clients);
  return { statuses, endpoints };
}

describe.skipIf(!envoyBinary).each([
  { name: "HTTP/1.1", speaksHttp2: false },
  { name: "HTTP/2", speaksHttp2: true },
])("Endpoints of $name that fail under load", ({ speaksHttp2 }) => {
  it.each(proxies.map((side) => [side.name, side] as const))(
    "cost %s only what they had in hand",
    async (_, side) => {
      const { statuses, endpoints } = await drill(side, speaksHttp2);
      const cut = new Set(endpoints.flatMap((endpoint) => [...endpoint.cut]));
      const ignored = new Set(endpoints.flatMap((endpoint) => [...endpoint.ignored]));
      const seen = new Set(endpoints.flatMap((endpoint) => [...endpoint.seen]));
      const failed = [...statuses].filter(([, status]) => status !== 200);
      const unexplained = failed.filter(([id]) => !cut.has(id) && !ignored.has(id));
      // On their way over a connection that was being cut: nobody can know whether such a request was served. At most as many as were under way.
      const onTheWay = unexplained.filter(([id, status]) => status === 503 && !seen.has(id));
      expect(unexplained.filter((one) => !onTheWay.includes(one))).toEqual([]);
      expect(onTheWay.length).toBeLessThanOrEqual(endpoints.reduce((sum, { resets }) => sum + resets, 0) * (speaksHttp2 ? 12 : 1));
      expect(statuses.size - failed.length).toBeGreaterThan(200);
      expect(failed.filter(([id]) => ignored.has(id)).every(([, status]) => status === 504)).toBe(true);
      expect(ignored.size).toBeGreaterThan(0);
      expect(cut.size).toBeGreaterThan(0);
    },
    30_000,
  );
});
