/** tcp_proxy's tunneling_config over HTTP/1.1: what the tunnel's other end is asked, and what becomes of the connection. As with Envoy. */
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { eventually, type RunningProxy, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";
import { address, fileLog, type } from "../support/static-bootstrap.ts";
import { talkThrough } from "../support/tunnel-client.ts";

/** By the host that a tunnel is asked for: what is answered, before bytes are sent back as `echo:`. */
const answers: Record<string, string> = {
  "ok.test:1": "HTTP/1.1 200 OK\r\n\r\n",
  "words.test:1": "HTTP/1.1 200 OK\r\nx-more: words\r\nserver: proxy\r\n\r\nhello:",
  "length.test:1": "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
  "old.test:1": "HTTP/1.0 200 OK\r\n\r\n",
  "created.test:1": "HTTP/1.1 201 Created\r\n\r\n",
  "no.test:1": "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
  "later.test:1": "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
  "broken.test:1": "nonsense\r\n\r\n",
  "closes.test:1": "",
  "speaks.test:1": "HTTP/1.1 200 OK\r\n\r\ngreeting",
  "post.test:1": "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
  "post-no.test:1": "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
};

class TunnelServer implements AsyncDisposable {
  readonly heads: string[] = [];
  readonly bodies: string[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket));

  async start(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => {});
    let early = "";
    let index = -1;
    const take = (text: string) => {
      this.bodies[index] += text;
      if (!this.heads[index]!.startsWith("POST")) {
        if (text !== "") socket.write(`echo:${text}`);
        return;
      }
      const [, said = "", next = ""] = text.split("\r\n");
      if (text !== "" && !text.startsWith("0\r\n")) socket.write(chunk(`echo:${said}`));
      // Envoy has closed by then.
      if (text.startsWith("0\r\n") || next === "0") socket.end("0\r\n\r\n");
    };
    socket.on("data", (bytes: Buffer) => {
      if (index >= 0) {
        take(bytes.toString("latin1"));
        return;
      }
      early += bytes.toString("latin1");
      const end = early.indexOf("\r\n\r\n");
      if (end < 0) return;
      index = this.heads.push(early.slice(0, end)) - 1;
      this.bodies[index] = "";
      const host = /\r\nhost: (.*)/i.exec(early)?.[1] ?? "";
      const answer = answers[host] ?? "HTTP/1.1 500 Whoever\r\n\r\n";
      if (answer === "") socket.end();
      else socket.write(answer);
      if (early.length > end + 4) take(early.slice(end + 4));
    });
    socket.on("end", () => {
      if (index >= 0) this.bodies[index] += "<end>";
      socket.end();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;

describe.skipIf(!envoyBinary)("A tunnel", () => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-tunnel-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const sides: { readonly proxy: RunningProxy; readonly server: TunnelServer }[] = [];

  const tunnels: Record<string, object> = {
    ...Object.fromEntries(
      Object.keys(answers).map((host) => [host, { hostname: host, ...(host.startsWith("post") && { use_post: true }) }]),
    ),
    path: { hostname: "post.test:1", use_post: true, post_path: "/tunnel?a=1" },
    headers: {
      hostname: "ok.test:1",
      headers_to_add: [
        { header: { key: "X-From", value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" } },
        { header: { key: "proxy-authorization", value: "Basic eA==" } },
        { header: { key: "x-twice", value: "a" } },
        { header: { key: "x-twice", value: "b" } },
        { header: { key: "x-empty", value: "%REQUESTED_SERVER_NAME%" } },
      ],
    },
    formatted: { hostname: "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%:1" },
  };

  function bootstrap(side: string, port: number): unknown {
    const log = fileLog(
      join(directory, side),
      "%FILTER_CHAIN_NAME% %RESPONSE_FLAGS% %UPSTREAM_CLUSTER% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_TRANSPORT_FAILURE_REASON%\n",
    );
    return {
      admin: { address: address(0) },
      static_resources: {
        listeners: Object.entries(tunnels).map(([name, tunneling_config]) => ({
          name,
          address: address(0),
          filter_chains: [
            {
              name,
              filters: [
                {
                  name: "tcp",
                  typed_config: {
                    "@type": type("filters.network.tcp_proxy.v3.TcpProxy"),
                    stat_prefix: "tcp",
                    cluster: "proxy",
                    access_log: [log],
                    tunneling_config,
                  },
                },
              ],
            },
          ],
        })),
        clusters: [
          {
            name: "proxy",
            load_assignment: { cluster_name: "proxy", endpoints: [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }] },
          },
        ],
      },
    };
  }

  beforeAll(async () => {
    const start = async (name: string, launch: (bootstrap: unknown) => Promise<RunningProxy>) => {
      const server = stack.use(new TunnelServer());
      return { server, proxy: stack.use(await launch(bootstrap(name, await server.start()))) };
    };
    sides.push(...(await Promise.all([start("envoy", startRealEnvoy), start("topsail", startOurProxy)])));
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  /** Of each side, which must be the same. */
  async function both<T>(run: (side: (typeof sides)[number]) => Promise<T>): Promise<T> {
    const [theirs, ours] = [await run(sides[0]!), await run(sides[1]!)];
    expect(ours).toEqual(theirs);
    return theirs;
  }

  /** One connection: what the tunnel's end was asked, what came back, the log. */
  const connectTo = (name: string, said: string, wanted: string) =>
    both(async ({ proxy, server }) => {
      const index = server.heads.length;
      const talk = await talkThrough(proxy, join(directory, proxy.name), " ", { name, said, wanted });
      await eventually(
        () => server.bodies.slice(index).every((body) => body.endsWith("<end>")) || undefined,
        () => `${proxy.name} ends at the tunnel's end: ${JSON.stringify(server.bodies.slice(index))}`,
      );
      const asked = server.heads.slice(index).map((head) => head.replaceAll(/x-request-id: .*/g, "x-request-id: <id>"));
      return { asked, bodies: server.bodies.slice(index), ...talk };
    });

  it.each([
    ["ok.test:1", "hello", "echo:hello"],
    ["words.test:1", "hello", "hello:echo:hello"],
    ["length.test:1", "hello", "echo:hello"],
    ["old.test:1", "hello", "echo:hello"],
    ["later.test:1", "hello", "echo:hello"],
    ["created.test:1", "hello", "echo:hello"],
    ["headers", "hello", "echo:hello"],
    ["speaks.test:1", "", "greeting"],
    ["post.test:1", "hello", "echo:hello"],
    ["path", "hello", "echo:hello"],
  ])("to %s carries bytes both ways", async (name, said, wanted) => {
    const { answer, asked } = await connectTo(name, said, wanted);
    expect(answer).toBe(wanted);
    expect(asked).toHaveLength(1);
  });

  it.each(["no.test:1", "broken.test:1", "closes.test:1", "formatted", "post-no.test:1"])("to %s is refused", async (name) => {
    const { answer } = await connectTo(name, "hello", "");
    expect(answer).toBe("");
  });

  it("to ok.test:1 carries much both ways", async () => {
    await both(async ({ proxy }) => {
      using connection = await RawConnection.open(await proxy.listenerPort("ok.test:1"));
      const much = Buffer.alloc(3_000_000, "0123456789");
      connection.socket.write(much);
      const said = () => connection.received.toString("latin1").replaceAll("echo:", "");
      await connection.until((received) => received.length >= much.length && said().length === much.length, 20_000);
      return said() === much.toString();
    });
  });
});
