/** A peer that does not read holds up only itself: what is under way waits at its source, not in the proxy's memory. */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import * as http2 from "node:http2";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePortRow } from "../support/ports.ts";
import { address, type } from "../support/static-bootstrap.ts";
import { TopsailProcess } from "../support/topsail.ts";

const totalBytes = 1024 ** 3;
const chunk = Buffer.alloc(256 * 1024, "x");
/** Socket buffers, windows and one read on each side, generously. */
const boundMiB = 40;
const window = 1024 * 1024;

function fill(response: Writable): void {
  let sent = 0;
  const send = () => {
    while (sent < totalBytes) {
      sent += chunk.length;
      if (!response.write(chunk)) return void response.once("drain", send);
    }
    response.end();
  };
  send();
}

/** Sends a gigabyte to who asks for one, and stops to read an upload behind its first bytes. */
class Upstream implements AsyncDisposable {
  uploaded = 0;
  readonly #server;

  constructor(speaksHttp2: boolean) {
    if (speaksHttp2) {
      const server = http2.createServer();
      server.on("stream", (stream, headers) => {
        stream.on("error", () => {});
        if (headers[":method"] === "POST") return this.#takeSome(stream);
        // Node gives a stream up when its response is handed over and its request was not read, sent or not.
        stream.resume();
        (stream as http2.ServerHttp2Stream).respond({ ":status": 200, "content-length": totalBytes });
        fill(stream);
      });
      this.#server = server;
    } else {
      this.#server = createServer((incoming, response) => {
        if (incoming.method === "POST") return this.#takeSome(incoming);
        response.writeHead(200, { "content-length": totalBytes });
        fill(response);
      });
    }
  }

  #takeSome(body: Readable): void {
    body.once("data", (first: Buffer) => {
      this.uploaded += first.length;
      body.pause();
    });
  }

  async listen(): Promise<number> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if ("closeAllConnections" in this.#server) this.#server.closeAllConnections();
    this.#server.close();
  }
}

function bootstrap(port: number, upstream: number, speaksHttp2: boolean): object {
  const http2_protocol_options = { initial_stream_window_size: window, initial_connection_window_size: window };
  const manager = {
    "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "test",
    http2_protocol_options,
    route_config: {
      virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "up", timeout: "0s" } }] }],
    },
    http_filters: [{ name: "router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  const options = {
    "@type": type("upstreams.http.v3.HttpProtocolOptions"),
    explicit_http_config: { http2_protocol_options },
  };
  return {
    admin: { address: address(port + 1) },
    static_resources: {
      listeners: [
        {
          address: address(port),
          filter_chains: [{ filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }] }],
        },
      ],
      clusters: [
        {
          name: "up",
          type: "STATIC",
          load_assignment: { cluster_name: "up", endpoints: [{ lb_endpoints: [{ endpoint: { address: address(upstream) } }] }] },
          ...(speaksHttp2 && {
            typed_extension_protocol_options: { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options },
          }),
        },
      ],
    },
  };
}

describe.each([
  { name: "HTTP/1.1", speaksHttp2: false },
  { name: "HTTP/2", speaksHttp2: true },
])("back-pressure over $name", ({ speaksHttp2 }) => {
  const stack = new AsyncDisposableStack();
  let upstream: Upstream;
  let proxy: TopsailProcess;
  let port: number;

  beforeAll(async () => {
    const directory = mkdtempSync(join(tmpdir(), "back-pressure-"));
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    upstream = stack.use(new Upstream(speaksHttp2));
    port = await freePortRow(2);
    const file = join(directory, "proxy.json");
    writeFileSync(file, JSON.stringify(bootstrap(port, await upstream.listen(), speaksHttp2)));
    proxy = stack.use(new TopsailProcess(["envoy", "-c", file, "--concurrency", "1", "-l", "error"]));
    for (;;) {
      const status = await fetch(`http://127.0.0.1:${port + 1}/ready`).then(
        (answer) => answer.status,
        () => 0,
      );
      if (status === 200) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });
  afterAll(() => stack.disposeAsync());

  const anonymousMiB = () => Number(/RssAnon:\s+(\d+) kB/.exec(readFileSync(`/proc/${proxy.pid}/status`, "utf8"))![1]) / 1024;

  function openHttp2(): http2.ClientHttp2Session {
    const session = http2.connect(`http://127.0.0.1:${port}`);
    session.on("error", () => {});
    stack.defer(() => session.destroy());
    return session;
  }

  /** A response whose head has come. */
  function large(): Promise<Readable> {
    return new Promise((resolve, reject) => {
      if (speaksHttp2) {
        const stream = openHttp2().request({ ":path": "/large" });
        stream.on("error", reject).on("response", () => resolve(stream));
      } else {
        request({ host: "127.0.0.1", port, path: "/large", agent: false }, resolve).on("error", reject).end();
      }
    });
  }

  function upload(): Writable {
    if (speaksHttp2) return openHttp2().request({ ":path": "/up", ":method": "POST", "content-length": totalBytes });
    const client = connect(port, "127.0.0.1");
    stack.defer(() => void client.destroy());
    client.write(`POST /up HTTP/1.1\r\nhost: x\r\ncontent-length: ${totalBytes}\r\n\r\n`);
    return client;
  }

  it("keeps a response of 1 GB out of memory while its reader waits, and brings all of it in the end", { timeout: 60_000 }, async () => {
    const before = anonymousMiB();
    const response = await large();
    response.pause();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(anonymousMiB() - before).toBeLessThan(boundMiB);
    let received = 0;
    response.on("data", (data: Buffer) => {
      received += data.length;
    });
    response.resume();
    await once(response, "end");
    expect(received).toBe(totalBytes);
    expect(anonymousMiB() - before).toBeLessThan(boundMiB);
  });

  it("keeps an upload out of memory while the upstream does not read", { timeout: 60_000 }, async () => {
    const before = anonymousMiB();
    const client = upload();
    client.on("error", () => {});
    let written = 0;
    const started = Date.now();
    while (Date.now() - started < 2000) {
      if (client.writableNeedDrain) await new Promise((resolve) => setTimeout(resolve, 10));
      else {
        client.write(chunk);
        written += chunk.length;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    expect(upstream.uploaded).toBeGreaterThan(0);
    expect(written).toBeLessThan(100 * 1024 * 1024);
    expect(anonymousMiB() - before).toBeLessThan(boundMiB);
    client.destroy();
  });
});
