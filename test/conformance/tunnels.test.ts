/** WebSockets and CONNECT, by HTTP/1.1 and HTTP/2 on either side: Envoy and our proxy on the same file, what client and upstream saw side by side. */
import { once } from "node:events";
import * as http2 from "node:http2";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { entries } from "../support/http2-upstream.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { httpBootstrap, proxies, staticCluster, type } from "../support/static-bootstrap.ts";

/** Says what it heard of the head, then sends back what it gets, until it gets "bye". */
class Http1Upstream {
  readonly heads: string[] = [];
  readonly ends: string[] = [];
  readonly server: Server = createServer((socket) => this.#onConnection(socket));
  readonly sockets = new Set<Socket>();

  #onConnection(socket: Socket): void {
    this.sockets.add(socket);
    let head = "";
    let isOpen = false;
    socket.on("error", () => {});
    socket.on("end", () => this.ends.push("end"));
    socket.on("data", (chunk: Buffer) => {
      if (isOpen) {
        if (chunk.toString() === "bye") socket.end("bye yourself");
        else socket.write(chunk);
        return;
      }
      head += chunk.toString("latin1");
      const at = head.indexOf("\r\n\r\n");
      if (at < 0) return;
      this.heads.push(
        head
          .slice(0, at)
          .replace(/x-request-id: .*/, "x-request-id: <uuid>")
          .replace(/127\.0\.0\.1:\d+/g, "<address>"),
      );
      if (head.includes("x-refuse: 403")) {
        socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
      } else if (head.includes("x-refuse: 200")) {
        socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      } else if (head.startsWith("CONNECT")) {
        isOpen = true;
        socket.write("HTTP/1.1 200 OK\r\nx-from: upstream\r\n\r\n");
      } else if (/^upgrade: websocket/im.test(head)) {
        isOpen = true;
        socket.write("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nx-from: upstream\r\n\r\n");
      } else socket.end("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain");
    });
  }
}

class H2Upstream {
  readonly heads: (readonly string[])[] = [];
  readonly server = http2.createServer({ settings: { enableConnectProtocol: true } });

  constructor() {
    this.server.on("sessionError", () => {});
    this.server.on("stream", (stream: http2.ServerHttp2Stream, headers) => {
      this.heads.push(entries(headers));
      stream.on("error", () => {});
      if (headers["x-refuse"] === "403") {
        stream.respond({ ":status": 403 });
        stream.end("no");
        return;
      }
      stream.respond({ ":status": 200, "x-from": "upstream" });
      stream.on("data", (chunk: Buffer) => {
        if (chunk.toString() === "bye") stream.end("bye yourself");
        else stream.write(chunk);
      });
    });
  }
}

function bootstrap(ports: Readonly<Record<string, number>>): object {
  const http1 = { explicit_http_config: { http_protocol_options: {} } };
  const connects = (authority: string, route: object) => ({
    match: { connect_matcher: {}, headers: [{ name: ":authority", string_match: { exact: authority } }] },
    route: { upgrade_configs: [{ upgrade_type: "CONNECT" }], ...route },
  });
  const manager = {
    http2_protocol_options: { allow_connect: true },
    upgrade_configs: [{ upgrade_type: "websocket" }, { upgrade_type: "CONNECT" }],
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          routes: [
            connects("tcp.test:1", { cluster: "tcp", upgrade_configs: [{ upgrade_type: "CONNECT", connect_config: {} }] }),
            connects("dead.test:1", { cluster: "dead", upgrade_configs: [{ upgrade_type: "CONNECT", connect_config: {} }] }),
            connects("h1.test:1", { cluster: "h1" }),
            connects("h2.test:1", { cluster: "h2" }),
            connects("off.test:1", { cluster: "h1", upgrade_configs: [{ upgrade_type: "CONNECT", enabled: false }] }),
            { match: { prefix: "/h1" }, route: { cluster: "h1" } },
            { match: { prefix: "/h2" }, route: { cluster: "h2" } },
            { match: { prefix: "/off" }, route: { cluster: "h1", upgrade_configs: [{ upgrade_type: "websocket", enabled: false }] } },
          ],
        },
      ],
    },
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  return httpBootstrap(
    [
      staticCluster("h1", [ports.h1!], http1),
      staticCluster("h2", [ports.h2!], { explicit_http_config: { http2_protocol_options: { allow_connect: true } } }),
      staticCluster("tcp", [ports.tcp!], http1),
      staticCluster("dead", [1], http1),
    ],
    manager,
  );
}

interface Side {
  readonly port: number;
  readonly http1: Http1Upstream;
  readonly http2: H2Upstream;
}

/** What came over a connection of HTTP/1.1 for a head and then lines, each sent when the last was answered. */
async function askHttp1({ port }: Side, head: string, lines: readonly string[]): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  let got = "";
  let hasEnded = false;
  socket.on("data", (chunk: Buffer) => {
    got += chunk.toString("latin1");
  });
  socket.on("close", () => {
    hasEnded = true;
  });
  socket.write(head);
  const until = (probe: () => boolean) => eventually(() => (probe() || hasEnded ? true : undefined), `an answer to ${head}, after ${got}`);
  await until(() => got.includes("\r\n\r\n"));
  for (const line of lines) {
    const before = got.length;
    socket.write(line);
    await until(() => got.length >= before + line.length);
  }
  if (lines.at(-1) === "bye") await until(() => false);
  socket.destroy();
  return got.replace(/^date: .*\r\n/im, "").replace(/^x-envoy-upstream-service-time: .*\r\n/im, "");
}

async function askHttp2({ port }: Side, headers: http2.OutgoingHttpHeaders, lines: readonly string[]): Promise<unknown> {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  await once(session, "remoteSettings");
  const stream = session.request(headers, { endStream: false });
  let head: string[] = [];
  let got = "";
  let hasEnded = false;
  stream.on("response", (all) => {
    head = entries(all);
  });
  stream.on("data", (chunk: Buffer) => {
    got += chunk.toString("latin1");
  });
  stream.on("error", () => {});
  stream.on("close", () => {
    hasEnded = true;
  });
  const until = (probe: () => boolean) => eventually(() => (probe() || hasEnded ? true : undefined), `an answer, after ${head} ${got}`);
  await until(() => head.length > 0);
  for (const line of lines) {
    const before = got.length;
    stream.write(line);
    await until(() => got.length >= before + line.length);
  }
  if (lines.at(-1) === "bye" || head[0] === ":status: 403") await until(() => false);
  session.destroy();
  return { head, got, reset: hasEnded ? stream.rstCode : "open" };
}

const upgradeHead = (path: string, more = "") =>
  `GET ${path} HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: abc\r\n${more}\r\n`;
const connectHead = (target: string, more = "") => `CONNECT ${target} HTTP/1.1\r\nhost: ${target}\r\n${more}\r\n`;
const extended = (path: string, more: object = {}) => ({
  ":method": "CONNECT",
  ":protocol": "websocket",
  ":scheme": "http",
  ":path": path,
  ":authority": "a.test",
  "sec-websocket-version": "13",
  ...more,
});

const cases: Readonly<Record<string, (side: Side) => Promise<unknown>>> = {
  "a WebSocket, HTTP/1.1 to HTTP/1.1": (side) => askHttp1(side, upgradeHead("/h1"), ["one", "two"]),
  "a WebSocket, HTTP/1.1 to HTTP/2": (side) => askHttp1(side, upgradeHead("/h2"), ["one", "two"]),
  "a WebSocket, HTTP/2 to HTTP/1.1": (side) => askHttp2(side, extended("/h1"), ["one", "two"]),
  "a WebSocket, HTTP/2 to HTTP/2": (side) => askHttp2(side, extended("/h2"), ["one", "two"]),
  "a WebSocket that the upstream ends, HTTP/1.1 to HTTP/1.1": (side) => askHttp1(side, upgradeHead("/h1"), ["one", "bye"]),
  "a WebSocket that the upstream ends, HTTP/2 to HTTP/2": (side) => askHttp2(side, extended("/h2"), ["one", "bye"]),
  "a WebSocket that is refused, HTTP/1.1 to HTTP/2": (side) => askHttp1(side, upgradeHead("/h2", "x-refuse: 403\r\n"), []),
  "a WebSocket that is refused, HTTP/2 to HTTP/1.1": (side) => askHttp2(side, extended("/h1", { "x-refuse": "403" }), []),
  "a WebSocket that is taken for a request": (side) => askHttp1(side, upgradeHead("/h1", "x-refuse: 200\r\n"), []),
  "a WebSocket where none may be": (side) => askHttp1(side, upgradeHead("/off"), []),
  "a WebSocket where none may be, HTTP/2": (side) => askHttp2(side, extended("/off"), []),
  "another protocol": (side) => askHttp1(side, upgradeHead("/h1").replace("websocket", "other"), []),
  "h2c by an upgrade": (side) =>
    askHttp1(
      side,
      "GET /h1 HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n",
      [],
    ),
  "CONNECT that ends here": (side) => askHttp1(side, connectHead("tcp.test:1"), ["one", "two"]),
  "CONNECT that ends here, HTTP/2": (side) => askHttp2(side, { ":method": "CONNECT", ":authority": "tcp.test:1" }, ["one", "two"]),
  "CONNECT that ends here and is ended": (side) => askHttp1(side, connectHead("tcp.test:1"), ["one", "bye"]),
  "CONNECT that ends here and is ended, HTTP/2": (side) =>
    askHttp2(side, { ":method": "CONNECT", ":authority": "tcp.test:1" }, ["one", "bye"]),
  "CONNECT to nobody": (side) => askHttp1(side, connectHead("dead.test:1"), []),
  "CONNECT that is passed on, HTTP/1.1 to HTTP/1.1": (side) => askHttp1(side, connectHead("h1.test:1"), ["one", "two"]),
  "CONNECT that is passed on, HTTP/1.1 to HTTP/2": (side) => askHttp1(side, connectHead("h2.test:1"), ["one", "two"]),
  "CONNECT that is passed on, HTTP/2 to HTTP/1.1": (side) =>
    askHttp2(side, { ":method": "CONNECT", ":authority": "h1.test:1" }, ["one", "two"]),
  "CONNECT that is passed on, HTTP/2 to HTTP/2": (side) =>
    askHttp2(side, { ":method": "CONNECT", ":authority": "h2.test:1" }, ["one", "two"]),
  "CONNECT that the upstream refuses": (side) => askHttp1(side, connectHead("h1.test:1", "x-refuse: 403\r\n"), []),
  "CONNECT that nothing matches": (side) => askHttp1(side, connectHead("none.test:1"), []),
  "CONNECT that is off": (side) => askHttp1(side, connectHead("off.test:1"), []),
};

describe.skipIf(!envoyBinary)("Tunnels, beside Envoy", () => {
  const stack = new AsyncDisposableStack();
  const sides = new Map<string, Side>();

  beforeAll(async () => {
    await Promise.all(
      proxies.map(async ({ name, start }) => {
        const http1 = new Http1Upstream();
        const h2 = new H2Upstream();
        const sockets = new Set<Socket>();
        const tcp = createServer((socket) => {
          sockets.add(socket);
          socket.on("error", () => {});
          socket.on("data", (chunk: Buffer) => {
            if (chunk.toString() === "bye") socket.end("bye yourself");
            else socket.write(chunk);
          });
        });
        const port = async (server: Server | http2.Http2Server) => {
          server.listen(0, "127.0.0.1");
          await once(server, "listening");
          stack.defer(() => void server.close());
          return (server.address() as AddressInfo).port;
        };
        stack.defer(() => {
          for (const socket of [...sockets, ...http1.sockets]) socket.destroy();
        });
        const ports = { h1: await port(http1.server), h2: await port(h2.server), tcp: await port(tcp) };
        const proxy: RunningProxy = stack.use(await start(bootstrap(ports)));
        sides.set(name, { port: await proxy.listenerPort("in"), http1, http2: h2 });
      }),
    );
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  it.each(Object.keys(cases))("%s", async (name) => {
    const [theirs, ours] = await Promise.all(
      proxies.map(async ({ name: side }) => {
        const one = sides.get(side)!;
        const [before1, before2] = [one.http1.heads.length, one.http2.heads.length];
        const answer = await cases[name]!(one);
        return { answer, http1: one.http1.heads.slice(before1), http2: one.http2.heads.slice(before2) };
      }),
    );
    expect(ours).toEqual(theirs);
  });
});
