/** tcp_proxy's tunneling_config over HTTP/2: each client's connection is a stream, asked for by CONNECT or POST. As with Envoy. */
import { mkdtempSync, rmSync } from "node:fs";
import * as http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { entries } from "../support/http2-upstream.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";
import { address, fileLog, proxies, staticCluster, type } from "../support/static-bootstrap.ts";
import { talkThrough } from "../support/tunnel-client.ts";

interface Tunnel {
  readonly headers: readonly string[];
  body: string;
  /** "end" of the client's side, or the code of a reset. */
  end: string;
}

type Answer = (stream: http2.ServerHttp2Stream) => void;
const echo = (stream: http2.ServerHttp2Stream) => {
  stream.on("data", (bytes: Buffer) => stream.write(`echo:${bytes.toString("latin1")}`));
  stream.on("end", () => stream.end());
};

/** By the host that a tunnel is asked for. */
const answers: Record<string, Answer> = {
  "ok.test:1": (stream) => {
    stream.respond({ ":status": 200, "x-more": "words" });
    echo(stream);
  },
  "speaks.test:1": (stream) => {
    stream.respond({ ":status": 200 });
    stream.write("greeting");
    stream.on("data", () => {}).on("end", () => stream.end());
  },
  "created.test:1": (stream) => {
    stream.respond({ ":status": 201 });
    echo(stream);
  },
  "no.test:1": (stream) => {
    stream.respond({ ":status": 403, "x-why": "no" });
    stream.end("no");
  },
  "over.test:1": (stream) => stream.respond({ ":status": 200 }, { endStream: true }),
  "refuses.test:1": (stream) => stream.close(http2.constants.NGHTTP2_REFUSED_STREAM),
  "cancels.test:1": (stream) => stream.close(http2.constants.NGHTTP2_CANCEL),
  "interim.test:1": (stream) => {
    stream.additionalHeaders({ ":status": 103, link: "</a>" });
    stream.respond({ ":status": 200 });
    echo(stream);
  },
  "ends.test:1": (stream) => {
    stream.respond({ ":status": 200 });
    stream.end("bye");
    stream.on("data", () => {});
  },
  "cut.test:1": (stream) => {
    stream.respond({ ":status": 200 });
    stream.write("some", () => setTimeout(() => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR), 50));
  },
  "dies.test:1": (stream) => {
    stream.respond({ ":status": 200 });
    stream.write("some", () => setTimeout(() => stream.session!.destroy(), 50));
  },
  "after.test:1": (stream) => {
    stream.respond({ ":status": 200 });
    stream.on("data", () => {}).on("end", () => stream.end("afterwards"));
  },
  "trailers.test:1": (stream) => {
    stream.respond({ ":status": 200 }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-end": "yes" }));
    stream.on("data", () => {});
    stream.end("bye");
  },
};

class TunnelServer implements AsyncDisposable {
  readonly tunnels: Tunnel[] = [];
  sessions = 0;
  readonly #sockets = new Set<Socket>();
  readonly #server = http2.createServer({ settings: { enableConnectProtocol: true } });

  async start(): Promise<number> {
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    this.#server.on("session", () => this.sessions++);
    this.#server.on("sessionError", () => {});
    this.#server.on("stream", (stream, headers) => {
      const tunnel = { headers: entries(headers), body: "", end: "" };
      this.tunnels.push(tunnel);
      stream.on("error", () => {});
      stream.on("data", (bytes: Buffer) => {
        tunnel.body += bytes.toString("latin1");
      });
      stream.on("end", () => {
        tunnel.end ||= "end";
      });
      stream.on("close", () => {
        if (stream.rstCode !== 0) tunnel.end = `reset ${stream.rstCode}`;
      });
      answers[headers[":authority"] ?? ""]?.(stream as http2.ServerHttp2Stream);
    });
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

describe.skipIf(!envoyBinary)("A tunnel over HTTP/2", () => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-tunnel-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const sides: { readonly proxy: RunningProxy; readonly server: TunnelServer }[] = [];

  const tunnels: Record<string, object> = {
    ...Object.fromEntries(
      Object.keys(answers).flatMap((host) => [
        [host, { hostname: host }],
        [`post ${host}`, { hostname: host, use_post: true }],
      ]),
    ),
    path: { hostname: "ok.test:1", use_post: true, post_path: "/tunnel?a=1" },
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
    ...Object.fromEntries(
      ["ok.test:1", "no.test:1", "trailers.test:1"].map((host) => [
        `told ${host}`,
        { hostname: host, propagate_response_headers: true, propagate_response_trailers: true },
      ]),
    ),
  };

  function bootstrap(side: string, port: number): unknown {
    const operators =
      "%FILTER_CHAIN_NAME%|%RESPONSE_FLAGS%|%UPSTREAM_CLUSTER%|%UPSTREAM_HOST%|%BYTES_RECEIVED%|%BYTES_SENT%|%UPSTREAM_TRANSPORT_FAILURE_REASON%|" +
      "%FILTER_STATE(envoy.tcp_proxy.propagate_response_headers)%|%FILTER_STATE(envoy.tcp_proxy.propagate_response_trailers)%\n";
    const log = fileLog(join(directory, side), operators);
    const proxy = (tunneling_config: object) => ({
      name: "tcp",
      typed_config: {
        "@type": type("filters.network.tcp_proxy.v3.TcpProxy"),
        stat_prefix: "tcp",
        cluster: "proxy",
        access_log: [log],
        tunneling_config,
      },
    });
    return {
      admin: { address: address(0) },
      static_resources: {
        listeners: Object.entries(tunnels).map(([name, tunneling_config]) => ({
          name,
          address: address(0),
          filter_chains: [{ name, filters: [proxy(tunneling_config)] }],
        })),
        clusters: [staticCluster("proxy", [port])],
      },
    };
  }

  beforeAll(async () => {
    for (const side of proxies) {
      const server = stack.use(new TunnelServer());
      sides.push({ server, proxy: stack.use(await side.start(bootstrap(side.name, await server.start()))) });
    }
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  /** Of each side, which must be the same. */
  async function both<T>(run: (side: (typeof sides)[number]) => Promise<T>): Promise<T> {
    const [theirs, ours] = [await run(sides[0]!), await run(sides[1]!)];
    expect(ours).toEqual(theirs);
    return theirs;
  }

  /** What client, tunnel server and log see of a connection on which something is said and `wanted` comes back; "": its end is waited for. */
  const connectTo = (name: string, said: string, wanted: string, leave: "end" | "reset" = "end") =>
    both(async ({ proxy, server }) => {
      const index = server.tunnels.length;
      const { line, ...talk } = await talkThrough(proxy, join(directory, proxy.name), "|", { name, said, wanted, leave });
      await eventually(
        () => server.tunnels.slice(index).every((tunnel) => tunnel.end !== "") || undefined,
        () => `${proxy.name} ends at the tunnel's end: ${JSON.stringify(server.tunnels.slice(index))}`,
      );
      return {
        seen: server.tunnels.slice(index),
        ...talk,
        line: line.replace(/127\.0\.0\.1:\d+/, "<host>").replace(/\w+, \d+ \w+ \d+ [\d:]+ GMT/, "<date>"),
      };
    });

  it.each([
    ["ok.test:1", "hello", "echo:hello"],
    ["post ok.test:1", "hello", "echo:hello"],
    ["speaks.test:1", "", "greeting"],
    ["post speaks.test:1", "", "greeting"],
    ["interim.test:1", "hello", "echo:hello"],
    ["path", "hello", "echo:hello"],
    ["headers", "hello", "echo:hello"],
    ["told ok.test:1", "hello", "echo:hello"],
  ])("to %s carries bytes both ways", async (name, said, wanted) => {
    const { answer, seen } = await connectTo(name, said, wanted);
    expect(answer).toBe(wanted);
    expect(seen).toHaveLength(1);
  });

  it.each(["no.test:1", "post no.test:1", "created.test:1", "over.test:1", "refuses.test:1", "cancels.test:1", "told no.test:1"])(
    "to %s is refused",
    async (name) => {
      const { answer } = await connectTo(name, "hello", "");
      expect(answer).toBe("");
    },
  );

  it.each(["ends.test:1", "post ends.test:1", "cut.test:1", "dies.test:1", "trailers.test:1", "told trailers.test:1"])(
    "that %s ends",
    async (name) => {
      await connectTo(name, "hello", "");
    },
  );

  it("is reset when its client is", async () => {
    await connectTo("ok.test:1", "hello", "echo:hello", "reset");
  });

  it("stays open for the answer when the client has said all", () =>
    both(async ({ proxy, server }) => {
      const index = server.tunnels.length;
      using connection = await RawConnection.open(await proxy.listenerPort("after.test:1"));
      connection.socket.end("hello");
      await connection.closes();
      expect(connection.received.toString()).toBe("afterwards");
      return server.tunnels.slice(index);
    }));

  it("stays open for the client when the endpoint has said all", () =>
    both(async ({ proxy, server }) => {
      const index = server.tunnels.length;
      using connection = await RawConnection.open(await proxy.listenerPort("ends.test:1"));
      await connection.closes();
      const much = Buffer.alloc(300_000, "m");
      connection.socket.end(much);
      const body = await eventually(
        () => (server.tunnels[index]?.end === "end" ? server.tunnels[index].body : undefined),
        "the end of the tunnel",
      );
      expect(body).toBe(much.toString());
      return connection.received.toString();
    }));

  it("carries more than its windows hold, both ways", () =>
    both(async ({ proxy }) => {
      using connection = await RawConnection.open(await proxy.listenerPort("ok.test:1"));
      const much = Buffer.alloc(3_000_000, "0123456789");
      connection.socket.write(much);
      const said = () => connection.received.toString("latin1").replaceAll("echo:", "");
      await connection.until((received) => received.length >= much.length && said().length === much.length, 20_000);
      return said() === much.toString();
    }));

  it("shares a connection with others, and leaves it open", () =>
    both(async ({ proxy, server }) => {
      const port = await proxy.listenerPort("ok.test:1");
      const active = async () =>
        /upstream_rq_active: (\d+)/.exec(await proxy.admin("/stats?filter=^cluster.proxy.upstream_rq_active"))?.[1];
      await eventually(async () => (await active()) === "0" || undefined, "no tunnels");
      const sessions = server.sessions;
      const connections = await Promise.all([1, 2, 3, 4, 5].map(() => RawConnection.open(port)));
      for (const [index, connection] of connections.entries()) connection.write(`number ${index}`);
      for (const connection of connections) await connection.until((received) => received.toString().startsWith("echo:number"));
      const together = await active();
      for (const connection of connections) connection.socket.end();
      for (const connection of connections) await connection.closes();
      await eventually(async () => (await active()) === "0" || undefined, "no tunnels");
      return { together, opened: server.sessions - sessions, answers: connections.map(({ received }) => received.toString()) };
    }));
});
