/** HTTP/2 from clients: Envoy and our proxy on the same file, asked the same, the answers and what the upstream saw side by side. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import * as http2 from "node:http2";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeCertificate } from "../support/certificate.ts";
import { envoyBinary } from "../support/envoy.ts";
import { h2specProgram } from "../support/h2spec.ts";
import { askHttp2, type Http2Ask } from "../support/http2-ask.ts";
import { digest } from "../support/http2-upstream.ts";
import { eventually, type RunningProxy, startOurProxy } from "../support/proxies.ts";
import { address, fileLog, proxies, type } from "../support/static-bootstrap.ts";

const certificate = makeCertificate("h2.test");

interface Seen {
  readonly line: string;
  readonly headers: readonly string[];
  readonly body: string;
  readonly trailers: readonly string[];
  readonly wasAborted: boolean;
}

/** `x-reply` says how to answer. */
class Upstream implements AsyncDisposable {
  readonly seen: Seen[] = [];
  readonly #server: Server;

  constructor() {
    this.#server = createServer({ keepAliveTimeout: 600_000 }, (request, response) => this.#handle(request, response));
  }

  async listen(): Promise<number> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return (this.#server.address() as AddressInfo).port;
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    let body = "";
    const remember = (wasAborted: boolean) => {
      const { method, url, rawHeaders, rawTrailers } = request;
      this.seen.push({
        line: `${method} ${url}`,
        headers: pairs(rawHeaders),
        body: digest(body),
        trailers: pairs(rawTrailers),
        wasAborted,
      });
    };
    request.setEncoding("latin1").on("data", (chunk: string) => {
      body += chunk;
    });
    const reply = String(request.headers["x-reply"] ?? "");
    response.on("close", () => {
      if (!response.writableFinished && reply !== "reset") remember(true);
    });
    request.on("end", () => {
      if (reply === "never") return;
      remember(false);
      switch (reply) {
        case "reset":
          response.write("some");
          setTimeout(() => request.socket.resetAndDestroy(), 20);
          return;
        case "trailers":
          response.writeHead(200, { trailer: "x-end" });
          response.write("body");
          response.addTrailers({ "x-end": "yes" });
          response.end();
          return;
        case "big":
          response.end(Buffer.alloc(1_500_000, "b"));
          return;
        case "echo":
          response.end(body, "latin1");
          return;
        case "204":
          response.writeHead(204).end();
          return;
        case "connection":
          response.writeHead(200, { connection: "close", "keep-alive": "timeout=1", "x-a": "b" }).end("x");
          return;
        default:
          response.end("hello");
      }
    });
    request.on("error", () => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

function pairs(raw: readonly string[]): string[] {
  const list: string[] = [];
  for (let i = 0; i < raw.length; i += 2) list.push(`${raw[i]!.toLowerCase()}: ${steady(raw[i]!.toLowerCase(), raw[i + 1]!)}`);
  return list.sort();
}

function steady(name: string, value: string): string {
  if (name === "date") return "<date>";
  if (name === "x-request-id") return "<uuid>";
  if (name === "x-envoy-upstream-service-time") return "<ms>";
  return value.replace(/127\.0\.0\.1:\d+/, "<address>");
}

const logFormat =
  "%REQ(X-CASE)% %PROTOCOL% %REQ(:METHOD)% %REQ(:AUTHORITY)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT%\n";

const drainsSoon = { drain_timeout: "0.1s", common_http_protocol_options: { max_requests_per_connection: 1 } };

function bootstrap(upstream: number, codec: string, logFile = "/dev/null", more: object = {}): object {
  const manager = {
    "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "h2",
    codec_type: codec,
    stream_idle_timeout: "5s",
    access_log: [fileLog(logFile, logFormat)],
    http_protocol_options: { enable_trailers: true },
    http2_protocol_options: { max_concurrent_streams: 5 },
    max_request_headers_kb: 10,
    upgrade_configs: [{ upgrade_type: "websocket" }],
    ...more,
    route_config: {
      validate_clusters: false,
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          routes: [
            { match: { path: "/direct" }, direct_response: { status: 200, body: { inline_string: "direct" } } },
            { match: { path: "/none" }, route: { cluster: "none" } },
            { match: { path: "/slow" }, route: { cluster: "up", timeout: "0.3s" } },
            { match: { prefix: "/" }, route: { cluster: "up" } },
          ],
        },
      ],
    },
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  const filters = [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }];
  const tls = {
    name: "envoy.transport_sockets.tls",
    typed_config: {
      "@type": type("transport_sockets.tls.v3.DownstreamTlsContext"),
      common_tls_context: {
        alpn_protocols: ["h2", "http/1.1"],
        tls_certificates: [
          { certificate_chain: { inline_string: certificate.certificate }, private_key: { inline_string: certificate.key } },
        ],
      },
    },
  };
  const load_assignment = {
    cluster_name: "up",
    endpoints: [{ lb_endpoints: [{ endpoint: { address: address(upstream) } }] }],
  };
  return {
    node: { id: "h2", cluster: "h2" },
    admin: { address: address(0) },
    static_resources: {
      clusters: [
        {
          name: "up",
          type: "STATIC",
          load_assignment,
          typed_extension_protocol_options: {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
              "@type": type("upstreams.http.v3.HttpProtocolOptions"),
              explicit_http_config: { http_protocol_options: { enable_trailers: true } },
            },
          },
        },
      ],
      listeners: [
        { name: "plain", address: address(0), filter_chains: [{ filters }] },
        { name: "tls", address: address(0), filter_chains: [{ filters, transport_socket: tls }] },
      ],
    },
  };
}

const ask = (session: http2.ClientHttp2Session, one: Http2Ask) => askHttp2(session, one, shown);

function shown(headers: http2.IncomingHttpHeaders): string[] {
  return Object.entries(headers)
    .map(([name, value]) => `${name}: ${steady(name, String(value))}`)
    .sort();
}

const text = (value: string) => Buffer.from(value);
const cases: Readonly<Record<string, Http2Ask>> = {
  "a plain request": { headers: { ":path": "/a?b=c", "x-one": "1" } },
  "an answer of the proxy's own": { headers: { ":path": "/direct" } },
  "an answer of the proxy's own to HEAD": { headers: { ":path": "/direct", ":method": "HEAD" } },
  HEAD: { headers: { ":path": "/", ":method": "HEAD" } },
  "a status without a body": { headers: { ":path": "/", "x-reply": "204" } },
  "no cluster": { headers: { ":path": "/none" } },
  "a body": { headers: { ":path": "/", ":method": "POST", "x-reply": "echo" }, body: text("abc") },
  "a body with its length": { headers: { ":path": "/", ":method": "POST", "x-reply": "echo", "content-length": "3" }, body: text("abc") },
  "an empty body": { headers: { ":path": "/", ":method": "POST" }, body: text("") },
  "a large body, both ways": { headers: { ":path": "/", ":method": "POST", "x-reply": "echo" }, body: Buffer.alloc(900_000, "p") },
  "a large response": { headers: { ":path": "/", "x-reply": "big" } },
  "trailers of the response": { headers: { ":path": "/", "x-reply": "trailers" } },
  "trailers of the request": { headers: { ":path": "/", ":method": "POST" }, body: text("b"), trailers: { "x-last": "1" } },
  "a cookie in crumbs": { headers: { ":path": "/", cookie: ["a=b", "c=d"] } },
  "headers of the connection in a response": { headers: { ":path": "/", "x-reply": "connection" } },
  "te: trailers": { headers: { ":path": "/", te: "trailers" } },
  "an authority and a host": { headers: { ":path": "/", ":authority": "one.test", host: "two.test" } },
  "a long path": { headers: { ":path": `/${"p".repeat(3000)}` } },
  "headers that are too large": { headers: { ":path": "/", "x-large": "h".repeat(20_000) } },
  "a response that takes too long": { headers: { ":path": "/slow", "x-reply": "never" } },
  "an upstream that cuts its response off": { headers: { ":path": "/", "x-reply": "reset" } },
  "a client that gives its request up": { headers: { ":path": "/", "x-reply": "never" }, cancels: "soon" },
  "a client that gives up a response": { headers: { ":path": "/", "x-reply": "big" }, cancels: "onResponse" },
  "expect: 100-continue": { headers: { ":path": "/", ":method": "POST", expect: "100-continue", "x-reply": "echo" }, body: text("abc") },
  CONNECT: { headers: { ":method": "CONNECT", ":authority": "a.test:80" } },
  "an escaped path": { headers: { ":path": "/a%2Fb/../c" } },
  "a path that is none": { headers: { ":path": "x" } },
  "a gRPC request without an upstream": {
    headers: { ":path": "/none", ":method": "POST", "content-type": "application/grpc", te: "trailers" },
    body: text(""),
  },
};

describe.skipIf(!envoyBinary)("HTTP/2 from clients, beside Envoy", () => {
  const stack = new AsyncDisposableStack();
  const upstreams = new Map<string, Upstream>();
  const running = new Map<string, RunningProxy>();
  const directory = mkdtempSync(join(tmpdir(), "topsail-h2-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));

  beforeAll(async () => {
    await Promise.all(
      proxies.map(async ({ name, start }) => {
        const upstream = stack.use(new Upstream());
        upstreams.set(name, upstream);
        running.set(name, stack.use(await start(bootstrap(await upstream.listen(), "AUTO", join(directory, name)))));
      }),
    );
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  async function session(side: string, listener: "plain" | "tls" = "plain"): Promise<http2.ClientHttp2Session> {
    const port = await running.get(side)!.listenerPort(listener);
    const scheme = listener === "tls" ? "https" : "http";
    const made = http2.connect(`${scheme}://127.0.0.1:${port}`, { rejectUnauthorized: false });
    made.on("error", () => {});
    return made;
  }

  /** What came of it for the client, and what the upstream saw. */
  async function outcome(side: string, one: Http2Ask, listener: "plain" | "tls" = "plain"): Promise<unknown> {
    const upstream = upstreams.get(side)!;
    const before = upstream.seen.length;
    const made = await session(side, listener);
    const answer = await ask(made, { ...one, headers: { ":authority": "h2.test", ...one.headers } });
    if (one.cancels || one.headers["x-reply"] === "never")
      await eventually(() => (upstream.seen.length > before ? true : undefined), "the upstream to hear of it");
    made.destroy();
    const seen = upstream.seen.slice(before);
    // A connection that is at its end: ours says why, Envoy cuts it.
    if (answer.end !== "0" && answer.head.length === 0) return { end: "cut", seen };
    // How much had come by then is chance.
    return one.cancels ? { ...answer, body: "", seen } : { ...answer, seen };
  }

  it.each(Object.keys(cases))("%s", async (name) => {
    const [theirs, ours] = await Promise.all(proxies.map(({ name: side }) => outcome(side, cases[name]!)));
    expect(ours).toEqual(theirs);
  });

  it("writes the same access log", async () => {
    for (const name of Object.keys(cases)) {
      const one = cases[name]!;
      const headers = { ...one.headers, "x-case": name.replaceAll(" ", "-") };
      await Promise.all(proxies.map(({ name: side }) => outcome(side, { ...one, headers })));
    }
    await Promise.all(proxies.map(({ name: side }) => outcome(side, { headers: { ":path": "/", "x-case": "the-last" } })));
    const lines = (side: string) => {
      const all = readFileSync(join(directory, side), "latin1").split("\n");
      // What of a request is cut off, and when, is chance; one that is no request has no line with us.
      return all.filter((line) => !/^(-|a-client-that|a-path-that-is-none)/.test(line)).sort();
    };
    for (const { name: side } of proxies) {
      await eventually(
        () => (lines(side).some((line) => line.startsWith("the-last")) ? true : undefined),
        `the last line of ${side}'s log`,
      );
    }
    expect(lines("topsail").length).toBeGreaterThan(20);
    expect(lines("topsail")).toEqual(lines("envoy"));
  });

  it("is agreed on by ALPN", async () => {
    const [theirs, ours] = await Promise.all(proxies.map(({ name: side }) => outcome(side, { headers: { ":path": "/a" } }, "tls")));
    expect(ours).toEqual(theirs);
  });

  it("has many streams at once, and refuses those beyond the limit", async () => {
    for (const { name } of proxies) {
      const made = await session(name);
      const asks = Array.from({ length: 5 }, (_, index) =>
        ask(made, { headers: { ":path": "/", ":method": "POST", "x-reply": "echo" }, body: Buffer.alloc(200_000, String(index)) }),
      );
      const answers = await Promise.all(asks);
      expect(answers.map(({ body }) => body)).toEqual(["0", "1", "2", "3", "4"].map((digit) => `200000 bytes of ${digit}`));
      made.destroy();
    }
  });

  it("goes on with others when a client does not read one response", async () => {
    for (const { name } of proxies) {
      const made = await session(name);
      const unread = made.request({ ":path": "/", "x-reply": "big" });
      unread.on("error", () => {});
      await once(unread, "response");
      const { body } = await ask(made, { headers: { ":path": "/", "x-reply": "echo", ":method": "POST" }, body: text("x") });
      expect(body).toBe("x");
      unread.setEncoding("latin1");
      let length = 0;
      unread.on("data", (part: string) => {
        length += part.length;
      });
      await once(unread, "end");
      expect(length).toBe(1_500_000);
      made.destroy();
    }
  });

  it("says by GOAWAY that a client should go when its listener is drained, and ends what is under way", async () => {
    for (const { start, name } of proxies) {
      await using upstream = new Upstream();
      await using proxy = await start(bootstrap(await upstream.listen(), "HTTP2"));
      const made = http2.connect(`http://127.0.0.1:${await proxy.listenerPort("plain")}`);
      made.on("error", () => {});
      const gone = once(made, "goaway") as Promise<[number]>;
      await ask(made, { headers: { ":path": "/direct" } });
      await proxy.admin("/drain_listeners?graceful", "POST");
      const { body, end } = await ask(made, { headers: { ":path": "/", "x-reply": "big" } });
      expect({ name, body, end, code: (await gone)[0] }).toEqual({ name, body: "1500000 bytes of b", end: "0", code: 0 });
      made.destroy();
    }
  });
});

describe.skipIf(!envoyBinary)("Names with underscores on HTTP/2, beside Envoy", () => {
  it.each(["ALLOW", "DROP_HEADER", "REJECT_REQUEST"])("%s", async (action) => {
    const more = { common_http_protocol_options: { headers_with_underscores_action: action } };
    const outcomes = await Promise.all(
      proxies.map(async ({ start }) => {
        await using upstream = new Upstream();
        await using proxy = await start(bootstrap(await upstream.listen(), "AUTO", "/dev/null", more));
        const session = http2.connect(`http://127.0.0.1:${await proxy.listenerPort("plain")}`);
        session.on("error", () => {});
        const headers = { ":path": "/", ":authority": "h2.test" };
        const answers = [
          await ask(session, { headers: { ...headers, my_name: "1", "x-other": "2" } }),
          await ask(session, { headers: { ...headers, "x-other": "3" } }),
        ];
        session.destroy();
        const counted = (await proxy.admin("/stats?filter=http2.*underscores")).split("\n").filter(Boolean).sort();
        return { answers, seen: upstream.seen, counted };
      }),
    );
    expect(outcomes[1]).toEqual(outcomes[0]);
  });
});

/** Frames by hand, for what no client sends. */
class RawClient implements Disposable {
  readonly #socket: Socket;
  #received = Buffer.alloc(0);
  isClosed = false;

  constructor(port: number) {
    this.#socket = connect(port, "127.0.0.1");
    this.#socket.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
    });
    this.#socket.on("error", () => {});
    this.#socket.on("close", () => {
      this.isClosed = true;
    });
    this.#socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    this.frame(4, 0, 0);
  }

  frame(kind: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): void {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = kind;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    this.#socket.write(Buffer.concat([head, payload]));
  }

  /** GET /direct by static and literal fields. */
  get(stream: number, endStream = true): void {
    const path = Buffer.from("\x04\x07/direct", "latin1");
    this.frame(1, endStream ? 5 : 4, stream, Buffer.concat([Buffer.from([0x82, 0x86]), path, Buffer.from("\x01\x07h2.test", "latin1")]));
  }

  stopReading(): void {
    this.#socket.pause();
  }

  frames(): { readonly kind: number; readonly stream: number; readonly payload: Buffer }[] {
    const list = [];
    for (let at = 0; at + 9 <= this.#received.length; ) {
      const length = this.#received.readUIntBE(at, 3);
      const payload = this.#received.subarray(at + 9, at + 9 + length);
      list.push({ kind: this.#received[at + 3]!, stream: this.#received.readUInt32BE(at + 5), payload });
      at += 9 + length;
    }
    return list;
  }

  async closes(): Promise<void> {
    await eventually(() => this.isClosed || undefined, "the connection to be closed");
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

describe.skipIf(!envoyBinary)("PINGs of HTTP/2, beside Envoy", () => {
  const keepalive = { http2_protocol_options: { connection_keepalive: { interval: "0.1s", timeout: "2s" } } };

  it.each(proxies.map((side) => [side.name, side] as const))(
    "end a connection that %s gets no answers on, and no other",
    async (_, { start }) => {
      await using upstream = new Upstream();
      await using proxy = await start(bootstrap(await upstream.listen(), "HTTP2", "/dev/null", keepalive));
      const port = await proxy.listenerPort("plain");
      using silent = new RawClient(port);
      using talking = new RawClient(port);
      const pings = (client: RawClient) => client.frames().filter(({ kind }) => kind === 6);
      let answered = 0;
      await eventually(() => {
        for (const { payload } of pings(talking).slice(answered)) {
          talking.frame(6, 1, 0, payload);
          answered++;
        }
        return (silent.isClosed && answered >= 8) || undefined;
      }, "the silent one to be closed");
      expect(talking.isClosed).toBe(false);
      expect(pings(silent).length).toBe(1);
      expect(await proxy.admin("/stats?filter=http2.keepalive")).toBe("http2.keepalive_timeout: 1\n");
    },
  );
});

/** summerwind/h2spec: RFC 7540 and 7541, case by case. It is a program in Go, built when it is wanted. */
describe("HTTP/2, by h2spec in strict mode", () => {
  const h2spec = h2specProgram();
  if (h2spec.problem) process.stderr.write(`h2spec: skipped: ${h2spec.problem}\n`);

  it.skipIf(h2spec.problem !== undefined)("passes in full", { timeout: 120_000 }, async () => {
    await using upstream = new Upstream();
    await using proxy = await startOurProxy(bootstrap(await upstream.listen(), "HTTP2"));
    const args = ["--strict", "-h", "127.0.0.1", "-p", String(await proxy.listenerPort("plain")), "-o", "5"];
    const { stdout } = await promisify(execFile)(h2spec.program!, args).catch((error: { stdout: string }) => error);
    expect(stdout.slice(Math.max(0, stdout.indexOf("Failures:")))).toMatch(/146 tests, 146 passed, 0 skipped, 0 failed/);
  });
});

describe("HTTP/2 that no client should send", () => {
  const stack = new AsyncDisposableStack();
  let proxy: RunningProxy;
  let port: number;
  beforeAll(async () => {
    const upstream = stack.use(new Upstream());
    proxy = stack.use(await startOurProxy(bootstrap(await upstream.listen(), "HTTP2")));
    port = await proxy.listenerPort("plain");
  });
  afterAll(() => stack.disposeAsync());

  const endsWith = async (client: RawClient, code: number) => {
    await client.closes();
    const last = client.frames().findLast(({ kind }) => kind === 7);
    expect(last?.payload.readUInt32BE(4)).toBe(code);
  };

  it("greets as Envoy does", async () => {
    using client = new RawClient(port);
    await eventually(() => client.frames().length >= 3 || undefined, "settings");
    const [settings, window] = client.frames();
    expect(settings!.payload.toString("hex")).toBe("000100001000" + "000800000000" + "000300000005" + "000401000000");
    expect(window!.payload.readUInt32BE(0)).toBe(24 * 1024 * 1024 - 65_535);
  });

  it("refuses what a client begins before it hears the end of a drain, and ends what counts", async () => {
    await using upstream = new Upstream();
    await using drained = await startOurProxy(bootstrap(await upstream.listen(), "HTTP2", "/dev/null", drainsSoon));
    using client = new RawClient(await drained.listenerPort("plain"));
    const answersOf = (stream: number, kind: number) => client.frames().filter((one) => one.stream === stream && one.kind === kind);
    client.get(1, false);
    client.get(3);
    const post = Buffer.from("\x04\x01/\x01\x07h2.test\x00\x07x-reply\x04echo", "latin1");
    client.frame(1, 4, 5, Buffer.concat([Buffer.from([0x83, 0x86]), post]));
    const lastWords = () => answersOf(0, 7).map(({ payload }) => payload.readUInt32BE(0));
    await eventually(() => lastWords().length === 2 || undefined, "both GOAWAYs");
    expect(lastWords()).toEqual([0x7fff_ffff, 5]);
    client.frame(1, 4, 7, Buffer.concat([Buffer.from([0x83, 0x86]), post]));
    client.frame(0, 1, 7, Buffer.from("late"));
    client.frame(0, 1, 5, Buffer.from("counts"));
    await client.closes();
    expect(answersOf(7, 3).map(({ payload }) => payload.readUInt32BE(0))).toEqual([7]);
    expect(
      answersOf(5, 0)
        .map(({ payload }) => payload.toString())
        .join(""),
    ).toBe("counts");
  });

  it("cuts off a header block without an end", async () => {
    using client = new RawClient(port);
    client.frame(1, 0, 1, Buffer.from([0x82]));
    for (let part = 0; part < 100 && !client.isClosed; part++) client.frame(9, 0, 1);
    await endsWith(client, 11);
  });

  it("cuts off empty frames without an end", async () => {
    using client = new RawClient(port);
    client.get(1, false);
    for (let part = 0; part < 10 && !client.isClosed; part++) client.frame(0, 0, 1);
    await endsWith(client, 11);
  });

  it("cuts off a client that gives up one request after the other", async () => {
    using client = new RawClient(port);
    for (let stream = 1; stream < 3000 && !client.isClosed; stream += 2) {
      const path = Buffer.from("\x04\x01/", "latin1");
      const never = Buffer.from("\x01\x07h2.test\x00\x07x-reply\x05never", "latin1");
      client.frame(1, 5, stream, Buffer.concat([Buffer.from([0x82, 0x86]), path, never]));
      client.frame(3, 0, stream, Buffer.from([0, 0, 0, 8]));
    }
    await endsWith(client, 11);
    expect(await proxy.admin("/stats?filter=premature_resets")).toContain("http.h2.downstream_rq_too_many_premature_resets: 1");
  });

  it("cuts off a client that asks without reading answers", async () => {
    using client = new RawClient(port);
    client.stopReading();
    for (let ping = 0; ping < 400_000 && !client.isClosed; ping += 4_000) {
      for (let one = 0; one < 4_000; one++) client.frame(6, 0, 0, Buffer.alloc(8));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await eventually(
      async () => ((await proxy.admin("/stats?filter=h2.downstream_cx_active")).includes(": 0") ? true : undefined),
      "the end",
    );
  });

  it("forgets nothing of a hundred connections that were cut in the middle of everything", async () => {
    const clients = Array.from({ length: 100 }, () => new RawClient(port));
    for (const [index, client] of clients.entries()) {
      client.get(1, index % 2 === 0);
      if (index % 3 === 0) client.frame(0, 0, 1, Buffer.alloc(1000));
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (const client of clients) client[Symbol.dispose]();
    for (const gauge of ["downstream_cx_active", "downstream_cx_http2_active", "downstream_rq_active"]) {
      await eventually(async () => ((await proxy.admin(`/stats?filter=^http.h2.${gauge}$`)).includes(": 0") ? true : undefined), gauge);
    }
  });
});
