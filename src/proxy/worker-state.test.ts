/** A whole worker in the test's own thread: real sockets in front of it and behind it. */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import * as http from "node:http";
import * as http2 from "node:http2";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tls from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { staticWorker } from "./testing/static-update.ts";
import type { WorkerApplied, WorkerUpdate } from "./update.ts";
import { WorkerState } from "./worker-state.ts";

type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void;

async function startUpstream(handler: Handler): Promise<{ port: number; connections: () => number } & AsyncDisposable> {
  let connections = 0;
  const server = http.createServer(handler);
  server.on("connection", () => connections++);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as net.AddressInfo).port,
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

class TestWorker implements AsyncDisposable {
  readonly #state: WorkerState;
  readonly #answers = new Map<number, (applied: WorkerApplied) => void>();
  #sequence = 0;
  ports = new Map<string, number>();

  private constructor(yaml: string) {
    this.#state = new WorkerState(staticWorker(yaml).data, (message) => {
      if (message.type !== "applied") return;
      for (const { name, port } of message.bound) this.ports.set(name, port);
      this.#answers.get(message.sequence)?.(message);
    });
  }

  static async start(yaml: string): Promise<TestWorker> {
    const worker = new TestWorker(yaml);
    const applied = await worker.update(staticWorker(yaml).update);
    expect(applied.errors).toEqual([]);
    return worker;
  }

  update(parts: Omit<WorkerUpdate, "type" | "sequence">): Promise<WorkerApplied> {
    const sequence = ++this.#sequence;
    const { promise, resolve } = Promise.withResolvers<WorkerApplied>();
    this.#answers.set(sequence, resolve);
    this.#state.update({ ...parts, type: "update", sequence });
    return promise;
  }

  drain(stopListening: boolean): Promise<WorkerApplied> {
    const sequence = ++this.#sequence;
    const { promise, resolve } = Promise.withResolvers<WorkerApplied>();
    this.#answers.set(sequence, resolve);
    this.#state.drain({ type: "drain", sequence, stopListening, strategy: "immediate", drainTimeMs: 10_000 });
    return promise;
  }

  counter(name: string): number {
    return this.#state.stats.values[this.#state.stats.counter(name)]!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#state[Symbol.asyncDispose]();
  }
}

const type = "type.googleapis.com/envoy";
const endpoint = (port: number) => `{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: ${port} } } } }`;
const cluster = (name: string, port: number, extra = "") =>
  `  - { name: ${name}, type: STATIC, ${extra} load_assignment: { cluster_name: ${name}, endpoints: [ { lb_endpoints: [ ${endpoint(port)} ] } ] } }\n`;
const manager = (routes: string, extra = "") =>
  `{ name: h, typed_config: { "@type": ${type}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: t, ${extra} route_config: { name: r, virtual_hosts: [ { name: v, domains: ["*"], routes: [ ${routes} ] } ] }, http_filters: [ { name: r, typed_config: { "@type": ${type}.extensions.filters.http.router.v3.Router } } ] } }`;
const listener = (filter: string, extra = "", chain = "") =>
  `  - name: l\n    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }\n${extra}    filter_chains: [ { filters: [ ${filter} ] ${chain} } ]\n`;
const bootstrap = (listeners: string, clusters: string) =>
  `static_resources:\n  listeners:\n${listeners}${clusters === "" ? "" : `  clusters:\n${clusters}`}`;
const toUp = '{ match: { prefix: "/" }, route: { cluster: up } }';

/** Sends bytes and gives what came until the other side closed, or until `enough` says so. */
async function exchange(port: number, bytes: string, enough?: (received: string) => boolean): Promise<string> {
  const socket = net.connect({ port, host: "127.0.0.1" });
  socket.setEncoding("latin1");
  socket.write(bytes, "latin1");
  let received = "";
  for await (const chunk of socket) {
    received += chunk as string;
    if (enough?.(received)) break;
  }
  socket.destroy();
  return received;
}

const get = (path: string, headers = "") => `GET ${path} HTTP/1.1\r\nHost: h\r\n${headers}\r\n`;
const closing = "Connection: close\r\n";

describe("a worker", () => {
  it("proxies requests with and without body over connections that it keeps", async () => {
    await using upstream = await startUpstream((request, response) => {
      let body = "";
      request.setEncoding("utf8");
      request.on("data", (chunk) => {
        body += chunk;
      });
      request.on("end", () => response.end(`${request.method} ${request.url} ${request.headers["x-forwarded-proto"]} ${body}`));
    });
    await using worker = await TestWorker.start(bootstrap(listener(manager(toUp)), cluster("up", upstream.port)));
    const port = worker.ports.get("l")!;
    const post = "POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    const received = await exchange(port, get("/a?b") + post + get("/c", closing));
    expect(received.match(/HTTP\/1\.1 200 OK\r\n/g)).toHaveLength(3);
    expect(received).toContain("GET /a?b http ");
    expect(received).toContain("POST /p http hello");
    expect(received).toMatch(/GET \/c http $/);
    expect(upstream.connections()).toBe(1);
    expect(worker.counter("cluster.up.upstream_rq_200")).toBe(3);
    expect(worker.counter("http.t.downstream_rq_2xx")).toBe(3);
  });

  it("never holds more of a response than its sockets do when the client does not read", async () => {
    let sent = 0;
    const piece = Buffer.alloc(256 * 1024, "x");
    await using upstream = await startUpstream((_request, response) => {
      const more = () => {
        while (sent < 256 * 1024 * 1024) {
          sent += piece.length;
          if (!response.write(piece)) {
            response.once("drain", more);
            return;
          }
        }
        response.end();
      };
      more();
    });
    await using worker = await TestWorker.start(bootstrap(listener(manager(toUp)), cluster("up", upstream.port)));
    const socket = net.connect({ port: worker.ports.get("l")!, host: "127.0.0.1" });
    socket.write(get("/"));
    await once(socket, "readable");
    socket.pause();
    // It is full when nothing has moved for a while.
    for (let before = -1; before !== sent; ) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(sent).toBeLessThan(64 * 1024 * 1024);
    socket.destroy();
  });

  it("answers in Envoy's words where there is nobody to ask", async () => {
    const routes = [
      '{ match: { prefix: "/refused" }, route: { cluster: refused } }',
      '{ match: { prefix: "/empty" }, route: { cluster: empty } }',
      '{ match: { prefix: "/nowhere" }, route: { cluster: nowhere } }',
      '{ match: { prefix: "/direct" }, direct_response: { status: 418, body: { inline_string: teapot } } }',
    ].join(", ");
    const clusters = `${cluster("refused", 1)}  - { name: empty, type: STATIC, load_assignment: { cluster_name: empty } }\n`;
    await using worker = await TestWorker.start(bootstrap(listener(manager(routes)), clusters));
    const port = worker.ports.get("l")!;
    expect(await exchange(port, get("/refused", closing))).toMatch(
      /^HTTP\/1\.1 503 .*\r\n\r\nupstream connect error or disconnect\/reset before headers\. reset reason: remote connection failure$/s,
    );
    expect(await exchange(port, get("/empty", closing))).toMatch(/^HTTP\/1\.1 503 .*\r\n\r\nno healthy upstream$/s);
    expect(await exchange(port, get("/nowhere", closing))).toMatch(/^HTTP\/1\.1 503 .*content-length: 0\r\n\r\n$/s);
    expect(await exchange(port, get("/direct", closing))).toMatch(/^HTTP\/1\.1 418 Unknown\r\n.*\r\n\r\nteapot$/s);
    expect(await exchange(port, get("/other", closing))).toMatch(/^HTTP\/1\.1 404 Not Found\r\n/);
  });

  it("queues one request and refuses further ones at the circuit breaker", async () => {
    const held: http.ServerResponse[] = [];
    await using upstream = await startUpstream((_request, response) => {
      held.push(response);
      if (held.length === 1) return;
      response.end("second");
    });
    const breaker = "circuit_breakers: { thresholds: [ { max_connections: 1, max_pending_requests: 1 } ] },";
    await using worker = await TestWorker.start(bootstrap(listener(manager(toUp)), cluster("up", upstream.port, breaker)));
    const port = worker.ports.get("l")!;
    const first = exchange(port, get("/1", closing));
    await expect.poll(() => held.length).toBe(1);
    const second = exchange(port, get("/2", closing));
    await expect.poll(() => worker.counter("cluster.up.upstream_rq_pending_total")).toBe(2);
    expect(await exchange(port, get("/3", closing))).toMatch(/^HTTP\/1\.1 503 .*x-envoy-overloaded: true\r\n.*reset reason: overflow$/s);
    held[0]!.end("first");
    expect(await first).toMatch(/first$/);
    expect(await second).toMatch(/second$/);
  });

  it("tries again until an answer is good enough", async () => {
    let calls = 0;
    await using upstream = await startUpstream((request, response) => {
      request.resume();
      request.on("end", () => {
        calls++;
        response.statusCode = calls < 3 ? 503 : 200;
        response.end(`call ${calls} attempt ${request.headers["content-length"]}`);
      });
    });
    const route = '{ match: { prefix: "/" }, route: { cluster: up, retry_policy: { retry_on: "5xx", num_retries: 3 } } }';
    await using worker = await TestWorker.start(bootstrap(listener(manager(route)), cluster("up", upstream.port)));
    const post = `POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n${closing}\r\ndata`;
    expect(await exchange(worker.ports.get("l")!, post)).toMatch(/call 3 attempt 4$/);
    expect(worker.counter("cluster.up.upstream_rq_retry")).toBe(2);
    expect(worker.counter("cluster.up.upstream_rq_retry_success")).toBe(1);
  });

  it("gives up after the route's timeout and closes the upstream connection", async () => {
    const closed = Promise.withResolvers<void>();
    await using upstream = await startUpstream((request) => request.socket.once("close", () => closed.resolve()));
    const route = '{ match: { prefix: "/" }, route: { cluster: up, timeout: 0.1s } }';
    await using worker = await TestWorker.start(bootstrap(listener(manager(route)), cluster("up", upstream.port)));
    expect(await exchange(worker.ports.get("l")!, get("/", closing))).toMatch(/^HTTP\/1\.1 504 .*\r\n\r\nupstream request timeout$/s);
    await closed.promise;
  });

  it("stops work for a client that went away", async () => {
    const closed = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    await using upstream = await startUpstream((request) => {
      request.socket.once("close", () => closed.resolve());
      begun.resolve();
    });
    await using worker = await TestWorker.start(bootstrap(listener(manager(toUp)), cluster("up", upstream.port)));
    const socket = net.connect({ port: worker.ports.get("l")!, host: "127.0.0.1" });
    socket.write(get("/"));
    await begun.promise;
    socket.destroy();
    await closed.promise;
    expect(worker.counter("http.t.downstream_cx_destroy_remote_active_rq")).toBe(1);
  });

  it("answers bytes behind a response with a closed connection, never with the next request's answer", async () => {
    const server = net.createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", () =>
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
      );
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    await using worker = await TestWorker.start(
      bootstrap(listener(manager(toUp)), cluster("up", (server.address() as net.AddressInfo).port)),
    );
    const received = await exchange(worker.ports.get("l")!, get("/1") + get("/2", closing));
    expect(received).not.toContain("evil");
    expect(received.match(/ok/g)).toHaveLength(2);
    server.close();
  });

  it("takes a new version of a listener on the same socket, and lets old connections finish", async () => {
    await using upstream = await startUpstream((_request, response) => response.end("old"));
    const first = bootstrap(listener(manager(toUp)), cluster("up", upstream.port));
    await using worker = await TestWorker.start(first);
    const port = worker.ports.get("l")!;
    const kept = net.connect({ port, host: "127.0.0.1" });
    kept.setEncoding("latin1");
    kept.write(get("/"));
    expect((await once(kept, "data"))[0]).toMatch(/old$/);
    const second = bootstrap(
      listener(manager('{ match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: new } } }')),
      cluster("up", upstream.port),
    );
    const applied = await worker.update({ listeners: staticWorker(second).update.listeners! });
    expect(applied.bound.map((bound) => bound.port)).toEqual([port]);
    expect(await exchange(port, get("/", closing))).toMatch(/new$/);
    kept.write(get("/"));
    expect((await once(kept, "data"))[0]).toMatch(/connection: close\r\n.*old$/s);
    kept.destroy();
  });

  it("leaves connections of an unchanged listener alone when it is sent again", async () => {
    await using upstream = await startUpstream((_request, response) => response.end("ok"));
    const yaml = bootstrap(listener(manager(toUp)), cluster("up", upstream.port));
    await using worker = await TestWorker.start(yaml);
    const socket = net.connect({ port: worker.ports.get("l")!, host: "127.0.0.1" });
    socket.setEncoding("latin1");
    await worker.update({ listeners: staticWorker(yaml).update.listeners! });
    socket.write(get("/"));
    expect((await once(socket, "data"))[0]).not.toContain("connection: close");
    socket.destroy();
  });

  it("names what it can't apply and keeps the rest", async () => {
    await using worker = await TestWorker.start(bootstrap(listener(manager(toUp)), cluster("up", 1)));
    const taken = net.createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const onPort = (name: string, port: number) =>
      staticWorker(
        bootstrap(listener(manager(toUp)).replace("port_value: 0", `port_value: ${port}`).replace("name: l", `name: ${name}`), ""),
      ).update.listeners![0]!;
    const free = net.createServer().listen(0, "127.0.0.1");
    await once(free, "listening");
    const freePort = (free.address() as net.AddressInfo).port;
    free.close();
    await once(free, "close");
    const applied = await worker.update({
      clusters: [{ name: "bad", bytes: new Uint8Array([255]), isUsedAtOnce: true }],
      listeners: [onPort("taken", (taken.address() as net.AddressInfo).port), onPort("first", freePort), onPort("second", freePort)],
    });
    expect(applied.errors.map((error) => `${error.resource} ${error.name}`)).toEqual(["cluster bad", "listener taken", "listener second"]);
    expect(applied.errors[1]!.message).toMatch(/^cannot bind '127\.0\.0\.1:\d+': Address already in use$/);
    expect(applied.errors[2]!.message).toBe(
      `error adding listener: 'second' has duplicate address '127.0.0.1:${freePort}' as existing listener`,
    );
    expect(applied.bound.map((bound) => bound.name)).toEqual(["l", "first"]);
    taken.close();
  });

  it("closes its sockets at a drain and tells connections to go", async () => {
    await using upstream = await startUpstream((_request, response) => response.end("ok"));
    await using worker = await TestWorker.start(bootstrap(listener(manager(toUp)), cluster("up", upstream.port)));
    const port = worker.ports.get("l")!;
    const socket = net.connect({ port, host: "127.0.0.1" });
    socket.setEncoding("latin1");
    socket.write(get("/"));
    expect((await once(socket, "data"))[0]).not.toContain("connection: close");
    await worker.drain(true);
    socket.write(get("/"));
    expect((await once(socket, "data"))[0]).toContain("connection: close");
    socket.destroy();
    await expect(exchange(port, get("/"))).rejects.toThrow("ECONNREFUSED");
  });

  it("answers a client of HTTP/2 who has just connected before it tells him to go", async () => {
    await using upstream = await startUpstream((_, response) => response.end("served"));
    await using worker = await TestWorker.start(bootstrap(listener(manager(toUp)), cluster("up", upstream.port)));
    const client = http2.connect(`http://127.0.0.1:${worker.ports.get("l")}`);
    await once(client, "remoteSettings");
    const told = once(client, "goaway");
    await worker.drain(true);
    // What he is told comes before the answer to this.
    await new Promise((resolve) => client.ping(resolve));
    const call = client.request({});
    expect((await once(call.setEncoding("latin1"), "data"))[0]).toBe("served");
    expect((await told)[0]).toBe(http2.constants.NGHTTP2_NO_ERROR);
    await once(client, "close");
  });

  it("tells a client of HTTP/2 to go though no response is due, and lets what it has under way end", async () => {
    await using upstream = await startUpstream((request, response) => request.pipe(response));
    await using worker = await TestWorker.start(bootstrap(listener(manager(toUp)), cluster("up", upstream.port)));
    const client = http2.connect(`http://127.0.0.1:${worker.ports.get("l")}`);
    const told = once(client, "goaway");
    const call = client.request({ ":method": "POST" });
    call.setEncoding("latin1").write("one");
    expect((await once(call, "data"))[0]).toBe("one");
    await worker.drain(true);
    expect((await told)[0]).toBe(http2.constants.NGHTTP2_NO_ERROR);
    call.end("two");
    expect((await once(call, "data"))[0]).toBe("two");
    await once(call, "end");
    expect(call.rstCode).toBe(0);
    await once(client, "close");
  });

  it("passes TCP on in both directions, half-closes included", async () => {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => {
      socket.write("hello ");
      socket.on("data", (chunk) => socket.write(chunk));
      socket.on("end", () => socket.end(" bye"));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const filter = `{ name: t, typed_config: { "@type": ${type}.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: up } }`;
    await using worker = await TestWorker.start(bootstrap(listener(filter), cluster("up", (server.address() as net.AddressInfo).port)));
    const socket = net.connect({ port: worker.ports.get("l")!, host: "127.0.0.1", allowHalfOpen: true });
    socket.setEncoding("latin1");
    expect((await once(socket, "data"))[0]).toBe("hello ");
    socket.end("echo");
    let rest = "";
    for await (const chunk of socket) rest += chunk as string;
    expect(rest).toBe("echo bye");
    server.close();
  });
});

describe("a worker with TLS", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "worker-tls-"));
    for (const name of ["one", "two"]) {
      const files = ["-keyout", join(folder, `${name}.key`), "-out", join(folder, `${name}.crt`)];
      const what = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
      execFileSync("openssl", ["req", ...what, ...files, "-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}.test`], {
        stdio: "ignore",
      });
    }
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const secret = (name: string, from: string) => {
    const read = (suffix: string) => JSON.stringify(readFileSync(join(folder, `${from}.${suffix}`), "utf8"));
    return `  secrets:\n  - { name: ${name}, tls_certificate: { certificate_chain: { inline_string: ${read("crt")} }, private_key: { inline_string: ${read("key")} } } }\n`;
  };
  const context = `, transport_socket: { name: t, typed_config: { "@type": ${type}.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: { alpn_protocols: [h2, http/1.1], tls_certificate_sds_secret_configs: [ { name: s, sds_config: { ads: {} } } ] } } }`;
  const direct = '{ match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: ok } } }';

  async function subject(port: number): Promise<{ subject: string; alpn: string | false | null; body: string }> {
    const socket = tls.connect({
      port,
      host: "127.0.0.1",
      servername: "one.test",
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
    });
    socket.setEncoding("latin1");
    await once(socket, "secureConnect");
    const certificate = socket.getPeerCertificate();
    socket.write(get("/", closing));
    let body = "";
    for await (const chunk of socket) body += chunk as string;
    return { subject: String(certificate.subject?.CN), alpn: socket.alpnProtocol, body };
  }

  it("waits for a secret, and shows a new one to new connections at once", async () => {
    await using worker = await TestWorker.start(bootstrap(listener(manager(direct), "", context), cluster("up", 1)));
    const port = worker.ports.get("l")!;
    await expect(subject(port)).rejects.toThrow();
    const load = (from: string) => staticWorker(`static_resources:\n${secret("s", from)}`).update.secrets!;
    await worker.update({ secrets: load("one") });
    const first = await subject(port);
    expect(first).toMatchObject({ subject: "one", alpn: "http/1.1" });
    expect(first.body).toMatch(/\r\n\r\nok$/);
    await worker.update({ secrets: load("two") });
    expect((await subject(port)).subject).toBe("two");
  });

  it("verifies the endpoint's certificate and says why it is not taken", async () => {
    const server = tls.createServer(
      { key: readFileSync(join(folder, "one.key")), cert: readFileSync(join(folder, "one.crt")) },
      (socket) => {
        socket.on("error", () => {});
        socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
      },
    );
    server.on("tlsClientError", () => {});
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const port = (server.address() as net.AddressInfo).port;
    const upstream = (ca: string, san: string) =>
      `transport_socket: { name: t, typed_config: { "@type": ${type}.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: { validation_context: { trusted_ca: { filename: ${join(folder, `${ca}.crt`)} }, match_typed_subject_alt_names: [ { san_type: DNS, matcher: { exact: ${san} } } ] } } } },`;
    const routes = ["good", "otherca", "othername"]
      .map((name) => `{ match: { prefix: "/${name}" }, route: { cluster: ${name} } }`)
      .join(", ");
    const clusters =
      cluster("good", port, upstream("one", "one.test")) +
      cluster("otherca", port, upstream("two", "one.test")) +
      cluster("othername", port, upstream("one", "x"));
    await using worker = await TestWorker.start(bootstrap(listener(manager(routes)), clusters));
    const ask = (path: string) => exchange(worker.ports.get("l")!, get(path, closing));
    expect(await ask("/good")).toMatch(/^HTTP\/1\.1 200 .*ok$/s);
    expect(await ask("/otherca")).toMatch(/^HTTP\/1\.1 503 .*remote connection failure$/s);
    expect(await ask("/othername")).toMatch(/^HTTP\/1\.1 503 .*remote connection failure$/s);
    expect(worker.counter("cluster.othername.upstream_cx_connect_fail")).toBe(1);
    server.close();
  });
});
