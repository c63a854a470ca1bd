/** A peer that does not read holds up only itself: what is under way waits at its source, not in the proxy's memory. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePortRow } from "../support/ports.ts";
import { TopsailProcess } from "../support/topsail.ts";

const totalBytes = 1024 ** 3;
const chunk = Buffer.alloc(256 * 1024, "x");
/** Socket buffers and one read on each side, generously. */
const boundMiB = 40;

let directory: string;
let upstream: Server;
let uploaded = 0;
let proxy: TopsailProcess;
let port: number;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "back-pressure-"));
  upstream = createServer((incoming, response) => {
    if (incoming.method === "POST") {
      // Takes the first bytes and then stops to read.
      incoming.once("data", (first: Buffer) => {
        uploaded += first.length;
        incoming.pause();
      });
      return;
    }
    response.writeHead(200, { "content-length": totalBytes });
    let sent = 0;
    const send = () => {
      while (sent < totalBytes) {
        sent += chunk.length;
        if (!response.write(chunk)) return void response.once("drain", send);
      }
      response.end();
    };
    send();
  });
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  port = await freePortRow(2);
  const file = join(directory, "proxy.json");
  const address = (value: number) => ({ socket_address: { address: "127.0.0.1", port_value: value } });
  writeFileSync(
    file,
    JSON.stringify({
      admin: { address: address(port + 1) },
      static_resources: {
        listeners: [
          {
            address: address(port),
            filter_chains: [
              {
                filters: [
                  {
                    name: "envoy.filters.network.http_connection_manager",
                    typed_config: {
                      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                      stat_prefix: "test",
                      route_config: {
                        virtual_hosts: [
                          { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "up", timeout: "0s" } }] },
                        ],
                      },
                      http_filters: [
                        { name: "router", typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } },
                      ],
                    },
                  },
                ],
              },
            ],
          },
        ],
        clusters: [
          {
            name: "up",
            type: "STATIC",
            load_assignment: {
              cluster_name: "up",
              endpoints: [{ lb_endpoints: [{ endpoint: { address: address((upstream.address() as AddressInfo).port) } }] }],
            },
          },
        ],
      },
    }),
  );
  proxy = new TopsailProcess(["envoy", "-c", file, "--concurrency", "1", "-l", "error"]);
  for (;;) {
    const status = await fetch(`http://127.0.0.1:${port + 1}/ready`).then(
      (answer) => answer.status,
      () => 0,
    );
    if (status === 200) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

afterAll(async () => {
  await proxy?.[Symbol.asyncDispose]();
  upstream?.closeAllConnections();
  upstream?.close();
  rmSync(directory, { recursive: true, force: true });
});

const anonymousMiB = () => Number(/RssAnon:\s+(\d+) kB/.exec(readFileSync(`/proc/${proxy.pid}/status`, "utf8"))![1]) / 1024;

describe("back-pressure", () => {
  it("keeps a response of 1 GB out of memory while its reader waits, and brings all of it in the end", { timeout: 60_000 }, async () => {
    const before = anonymousMiB();
    const length = await new Promise<number>((resolve, reject) => {
      request({ host: "127.0.0.1", port, path: "/large", agent: false }, (response) => {
        response.pause();
        setTimeout(() => {
          try {
            expect(anonymousMiB() - before).toBeLessThan(boundMiB);
          } catch (error) {
            reject(error);
          }
          let received = 0;
          response.on("data", (data: Buffer) => {
            received += data.length;
          });
          response.on("end", () => resolve(received));
          response.on("error", reject);
          response.resume();
        }, 1500);
      })
        .on("error", reject)
        .end();
    });
    expect(length).toBe(totalBytes);
    expect(anonymousMiB() - before).toBeLessThan(boundMiB);
  });

  it("keeps an upload out of memory while the upstream does not read", { timeout: 60_000 }, async () => {
    const before = anonymousMiB();
    const client = connect(port, "127.0.0.1");
    client.on("error", () => {});
    client.write(`POST /up HTTP/1.1\r\nhost: x\r\ncontent-length: ${totalBytes}\r\n\r\n`);
    let written = 0;
    const started = Date.now();
    while (Date.now() - started < 2000) {
      if (client.writableNeedDrain) await new Promise((resolve) => setTimeout(resolve, 10));
      else {
        client.write(chunk);
        written += chunk.length;
      }
    }
    expect(uploaded).toBeGreaterThan(0);
    expect(written).toBeLessThan(100 * 1024 * 1024);
    expect(anonymousMiB() - before).toBeLessThan(boundMiB);
    client.destroy();
  });
});
