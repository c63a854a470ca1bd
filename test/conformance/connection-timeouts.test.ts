/** Connections that end by a clock or a count of the proxy's: clients', endpoints', of HTTP/1.1, HTTP/2, TCP and within TLS handshakes. As with Envoy. */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import * as http2 from "node:http2";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeCertificate } from "../support/certificate.ts";
import { envoyBinary } from "../support/envoy.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { parseResponses, RawConnection } from "../support/raw-client.ts";
import {
  address,
  fileLog,
  http2Only,
  managerFilter,
  proxies,
  routerFilter,
  staticBootstrap,
  staticCluster,
  type,
} from "../support/static-bootstrap.ts";

/** Much longer than a busy machine needs for a request and its answer. */
const short = "1s";
/** No clock of a case runs longer, with what a busy machine adds; what has not ended by then stays. */
const longMs = 5000;

interface Case {
  /** Of the connection manager; undefined: the listener has a TCP proxy. */
  readonly manager?: object;
  readonly tcp?: object;
  readonly chain?: object;
  readonly listener?: object;
  readonly cluster?: object;
  /** HttpProtocolOptions of the cluster. */
  readonly http?: object;
  /** What the cluster's endpoint is. */
  readonly endpoint?: "http1" | "http2" | "mute" | "nobody";
  readonly act: (port: number) => Promise<unknown>;
}

/** Head and body of a response, without what is of the moment. */
const shown = (connection: RawConnection) =>
  connection.received
    .toString("latin1")
    .replace(/^(date|x-envoy-upstream-service-time): .*\r\n/gim, "")
    .replaceAll("\r\n", "\n");

/** What it gets for `writes`, one of which may be a FIN, and whether the proxy closes. */
async function raw(port: number, ...writes: readonly string[]): Promise<unknown> {
  using connection = await RawConnection.open(port);
  let answered = 0;
  for (const bytes of writes) {
    if (connection.isClosed) break;
    if (bytes === "FIN") connection.socket.end();
    else connection.write(bytes);
    if (!bytes.endsWith("\r\n\r\n")) continue;
    answered++;
    await connection.until((received) => parseResponses(received, Array(answered).fill("GET")).isComplete);
  }
  await connection.closes(longMs);
  return { received: shown(connection), isClosed: connection.isClosed };
}

/** Writes, and is gone a moment later, behind the answer where there is one to come. */
async function left(port: number, bytes: string): Promise<unknown> {
  using connection = await RawConnection.open(port);
  connection.write(bytes);
  if (bytes.includes("\r\n\r\n")) await connection.until((received) => received.includes("hello"));
  await pause(200);
  return shown(connection);
}

const get = (path = "/") => `GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`;

/** One request after the other by one HTTP/2 connection; what the proxy says of the connection itself. */
async function byHttp2(port: number, ...paths: readonly string[]): Promise<unknown> {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  const said: string[] = [];
  session.on("error", (error) => said.push(String(error.message)));
  session.on("goaway", (code, last) => said.push(`goaway ${code} ${last}`));
  const closed = new Promise<void>((resolve) => session.on("close", () => resolve()));
  const answers: unknown[] = [];
  await once(session, "connect");
  for (const path of paths) {
    if (session.closed || session.destroyed) {
      answers.push("no connection");
      continue;
    }
    const stream = session.request({ ":path": path });
    const heard = { status: 0, body: "", code: 0 };
    stream.on("response", (headers) => {
      heard.status = headers[":status"]!;
    });
    stream.setEncoding("latin1").on("data", (text: string) => {
      heard.body += text;
    });
    stream.on("error", () => {});
    await new Promise((resolve) => stream.on("close", resolve));
    answers.push({ ...heard, code: stream.rstCode });
  }
  const isClosed = await Promise.race([closed.then(() => true), pause(longMs, false)]);
  session.destroy();
  return { answers, said, isClosed };
}

const managerOf = (options: object) => ({ common_http_protocol_options: options });
const http1Only = { explicit_http_config: { http_protocol_options: {} } };
const ofHttp1 = (options: object) => ({ http: { ...http1Only, common_http_protocol_options: options } });
const ofHttp2 = (options: object) => ({ http: { ...http2Only, common_http_protocol_options: options }, endpoint: "http2" as const });
const inspector = {
  listener_filters: [{ name: "tls", typed_config: { "@type": type("filters.listener.tls_inspector.v3.TlsInspector") } }],
};
const certificate = makeCertificate("a.test");
const tls = {
  transport_socket: {
    name: "tls",
    typed_config: {
      "@type": type("transport_sockets.tls.v3.DownstreamTlsContext"),
      common_tls_context: {
        tls_certificates: [
          { certificate_chain: { inline_string: certificate.certificate }, private_key: { inline_string: certificate.key } },
        ],
      },
    },
  },
};
const upstreamTls = {
  transport_socket: {
    name: "tls",
    typed_config: { "@type": type("transport_sockets.tls.v3.UpstreamTlsContext"), common_tls_context: {} },
  },
};

const cases: Readonly<Record<string, Case>> = {
  "a client that leaves in its head": { manager: {}, act: (port) => left(port, "GET / HTTP/1.1\r\nhost") },
  "a client that leaves in its second head": { manager: {}, act: (port) => left(port, `${get()}GET`) },
  "stream_idle_timeout in the head": { manager: { stream_idle_timeout: short }, act: (port) => raw(port, "GET / HTTP/1.1\r\n") },
  "request_timeout in the head": { manager: { request_timeout: short }, act: (port) => raw(port, "GET / HTTP/1.1\r\n") },
  "max_stream_duration in the head": { manager: managerOf({ max_stream_duration: short }), act: (port) => raw(port, "GET / HTTP/1.1\r\n") },
  "idle before the first request": { manager: managerOf({ idle_timeout: short }), act: (port) => raw(port) },
  "idle after a request": { manager: managerOf({ idle_timeout: short }), act: (port) => raw(port, get()) },
  "idle in a request": { manager: managerOf({ idle_timeout: short }), act: (port) => raw(port, "GET / HTTP/1.1\r\n") },
  "idle while it is answered": { manager: managerOf({ idle_timeout: short }), act: (port) => raw(port, get("/slow")) },
  "HTTP/2, idle before the first request": { manager: managerOf({ idle_timeout: short }), act: (port) => byHttp2(port) },
  "HTTP/2, idle after a request": { manager: managerOf({ idle_timeout: short }), act: (port) => byHttp2(port, "/") },
  "HTTP/2, idle while it is answered": { manager: managerOf({ idle_timeout: short }), act: (port) => byHttp2(port, "/slow") },
  "too old before the first request": { manager: managerOf({ max_connection_duration: short }), act: (port) => raw(port) },
  "too old after a request": { manager: managerOf({ max_connection_duration: short }), act: (port) => raw(port, get()) },
  "too old in a request": { manager: managerOf({ max_connection_duration: short }), act: (port) => raw(port, "GET / HTTP/1.1\r\n") },
  "too old while it is answered": { manager: managerOf({ max_connection_duration: short }), act: (port) => raw(port, get("/slow")) },
  "too old and used on": {
    manager: { ...managerOf({ max_connection_duration: short }), drain_timeout: "9s" },
    act: (port) => raw(port, get("/slow"), get(), get()),
  },
  "HTTP/2, too old after a request": { manager: managerOf({ max_connection_duration: short }), act: (port) => byHttp2(port, "/") },
  "HTTP/2, too old before the first request": { manager: managerOf({ max_connection_duration: short }), act: (port) => byHttp2(port) },
  "HTTP/2, too old while it is answered": {
    manager: managerOf({ max_connection_duration: short }),
    act: (port) => byHttp2(port, "/slow", "/"),
  },
  "enough requests": { manager: managerOf({ max_requests_per_connection: 2 }), act: (port) => raw(port, get(), get(), get()) },
  "HTTP/2, enough requests": { manager: managerOf({ max_requests_per_connection: 2 }), act: (port) => byHttp2(port, "/", "/", "/") },
  "request_headers_timeout before the first byte": { manager: { request_headers_timeout: short }, act: (port) => raw(port) },
  "request_headers_timeout in the head": { manager: { request_headers_timeout: short }, act: (port) => raw(port, "GET / HTTP/1.1\r\n") },
  "request_headers_timeout in the second head": {
    manager: { request_headers_timeout: short },
    act: (port) => raw(port, get(), "GET / HTTP/1.1\r\n"),
  },
  "silence in place of a TLS handshake": {
    manager: {},
    chain: { ...tls, transport_socket_connect_timeout: short },
    act: (port) => raw(port),
  },
  "half a TLS handshake": {
    manager: {},
    chain: { ...tls, transport_socket_connect_timeout: short },
    act: (port) => raw(port, "\x16\x03\x01\x02\x00\x01"),
  },
  "a listener filter without its bytes": {
    manager: {},
    listener: { ...inspector, listener_filters_timeout: short },
    act: (port) => raw(port),
  },
  "a listener filter that is passed by": {
    manager: managerOf({ idle_timeout: short }),
    listener: { ...inspector, listener_filters_timeout: short, continue_on_listener_filters_timeout: true },
    act: (port) => raw(port),
  },
  "TCP, idle": { tcp: { idle_timeout: short }, act: (port) => raw(port, get()) },
  "TCP, idle before the first byte": { tcp: { idle_timeout: short }, act: (port) => raw(port) },
  "TCP, the endpoint ends": { tcp: {}, act: (port) => raw(port, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n") },
  "TCP, the client ends": { tcp: {}, act: (port) => raw(port, get(), "FIN") },
  "TCP, the client leaves": { tcp: {}, act: (port) => left(port, get()) },
  "TCP, nobody is there": { tcp: {}, endpoint: "nobody", act: (port) => raw(port, "hi") },
  "TCP, nobody is there in three attempts": { tcp: { max_connect_attempts: 3 }, endpoint: "nobody", act: (port) => raw(port, "hi") },
  "nobody is there": { manager: {}, endpoint: "nobody", act: (port) => raw(port, get()) },
  "TCP, too old": { tcp: { max_downstream_connection_duration: short }, act: (port) => raw(port, get()) },
  "an endpoint's connection is idle": { manager: {}, ...ofHttp1({ idle_timeout: short }), act: (port) => raw(port, get()) },
  "an endpoint's connection is too old": {
    manager: {},
    ...ofHttp1({ max_connection_duration: short }),
    act: (port) => raw(port, get(), get("/slow"), get()),
  },
  "an endpoint's connection has carried enough": {
    manager: {},
    ...ofHttp1({ max_requests_per_connection: 2 }),
    act: (port) => raw(port, get(), get(), get()),
  },
  "HTTP/2, an endpoint's connection is idle": {
    manager: {},
    ...ofHttp2({ idle_timeout: short }),
    act: (port) => raw(port, get()),
  },
  "HTTP/2, an endpoint's connection is too old": {
    manager: {},
    ...ofHttp2({ max_connection_duration: short }),
    act: (port) => raw(port, get(), get("/slow"), get()),
  },
  "HTTP/2, an endpoint's connection has carried enough": {
    manager: {},
    ...ofHttp2({ max_requests_per_connection: 2 }),
    act: (port) => raw(port, get(), get(), get()),
  },
  "an endpoint that shakes no hands": {
    manager: {},
    cluster: { ...upstreamTls, connect_timeout: short },
    endpoint: "mute",
    act: (port) => raw(port, get()),
  },
  "TCP, an endpoint that shakes no hands": {
    tcp: {},
    cluster: { ...upstreamTls, connect_timeout: short },
    endpoint: "mute",
    act: (port) => raw(port, "hi"),
  },
};

/** Answers at once, or `/slow` when the clocks of the connection have run down. */
const answer = (path: string, end: (body: string) => void) => {
  if (path === "/slow") setTimeout(() => end("hello"), 1800);
  else end("hello");
};

describe.skipIf(!envoyBinary)("A connection that ends by a clock or a count", () => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-connections-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const running: RunningProxy[] = [];
  /** All of them at once, most of the time they wait. Envoy's and ours. */
  const outcomes = new Map<string, Promise<unknown[]>>();

  async function listening(server: Server | http2.Http2Server | ReturnType<typeof createTcpServer>): Promise<number> {
    const sockets = new Set<Socket>();
    server.on("connection", (socket: Socket) => {
      socket.on("error", () => {});
      sockets.add(socket);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    stack.defer(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return (server.address() as AddressInfo).port;
  }

  beforeAll(async () => {
    const http1 = await listening(
      createServer({ keepAliveTimeout: 600_000 }, ({ url }, response) => answer(url!, (body) => response.end(body))),
    );
    const http2Server = http2.createServer();
    http2Server.on("stream", (stream: http2.ServerHttp2Stream, { ":path": path }) => {
      stream.on("error", () => {});
      answer(path!, (body) => {
        if (stream.destroyed) return;
        stream.respond({ ":status": 200 });
        stream.end(body);
      });
    });

    const ports = {
      // Reserved, and never a server's.
      nobody: 1,
      http1,
      http2: await listening(http2Server),
      mute: await listening(createTcpServer(() => {})),
    };
    const clusters = Object.entries(cases).map(([name, { cluster, http = http1Only, endpoint = "http1" }]) =>
      staticCluster(name, [ports[endpoint]], http, cluster),
    );
    for (const { name: side, start } of proxies) {
      const listeners = Object.entries(cases).map(([name, { manager, tcp, chain = {}, listener = {} }]) => ({
        name,
        address: address(0),
        ...listener,
        filter_chains: [
          { ...chain, filters: [manager ? httpFilter(name, manager, log(name, side)) : tcpFilter(name, tcp!, log(name, side))] },
        ],
      }));
      running.push(stack.use(await start(staticBootstrap(clusters, listeners))));
    }
    for (const [name, { act }] of Object.entries(cases)) {
      const outcome = Promise.all(running.map(async (proxy) => act(await proxy.listenerPort(name))));
      // Whoever asks for it hears of it.
      outcome.catch(() => {});
      outcomes.set(name, outcome);
    }
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  const log = (name: string, side: string) =>
    fileLog(
      join(directory, side),
      `${name}: %PROTOCOL% %REQ(:METHOD)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_SENT%\n`,
    );
  const httpFilter = (name: string, manager: object, accessLog: object) =>
    managerFilter({
      stat_prefix: name,
      drain_timeout: "0.3s",
      access_log: [accessLog],
      ...manager,
      route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: name } }] }] },
      http_filters: [routerFilter],
    });
  const tcpFilter = (name: string, tcp: object, accessLog: object) => ({
    name: "envoy.filters.network.tcp_proxy",
    typed_config: {
      "@type": type("filters.network.tcp_proxy.v3.TcpProxy"),
      stat_prefix: name,
      cluster: name,
      access_log: [accessLog],
      ...tcp,
    },
  });

  it.each(Object.keys(cases))(
    "%s",
    async (name) => {
      const [envoy, ours] = await outcomes.get(name)!;
      expect(ours).toEqual(envoy);
    },
    30_000,
  );

  it("is logged as Envoy logs it", async () => {
    const lines = (side: string) => readFileSync(join(directory, side), "utf8").split("\n").sort();
    await eventually(() => lines("topsail").length === lines("envoy").length || undefined, "as many lines").catch(() => {});
    expect(lines("topsail")).toEqual(lines("envoy"));
  });

  it("is counted as Envoy counts it", async () => {
    /**
     * The admin interface's; who was the first to close a connection of HTTP/2 that both sides are done with; who has shaken no hands is none
     * of the connection manager's here, and one of the listener's alone.
     */
    const uncounted = /^http\.admin\.|^http\.HTTP\/2, .*downstream_cx_destroy_(local|remote):|TLS handshake\.downstream_cx_/;
    const counted =
      /^(http|tcp|cluster)\..*\.(?:(down|up)stream_cx_(total|active|idle_timeout|max_\w+|destroy\w*|drain_close|connect_(attempts_exceeded|fail|timeout)|http[12]\w+)|idle_timeout|max_downstream_connection_duration|downstream_rq_\w*timeout):/;
    const [envoy, ours] = await Promise.all(
      running.map(async (proxy) => {
        const lines = (await proxy.admin("/stats")).split("\n");
        return lines.filter((line) => counted.test(line) && !uncounted.test(line)).sort();
      }),
    );
    expect(ours).toEqual(envoy);
  });
});
