/** Streams that take too long, by every clock that a proxy keeps for them: with half a request or all of it, before the response and within it. As with Envoy. */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, request } from "node:http";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { askHttp2 } from "../support/http2-ask.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { address, fileLog, managerFilter, proxies, routerFilter, staticBootstrap, staticCluster } from "../support/static-bootstrap.ts";

/** Much longer than a busy machine needs to have every request at its endpoint and the first half of its answer back. */
const patience = "1.5s";
/** Long after every clock of the proxies: what none of them ends. */
const patienceOfClientMs = 6000;

/** Says nothing at all, or begins a response and says no more. */
const upstream = createServer({ keepAliveTimeout: 600_000 }, (asked, response) => {
  asked.resume();
  if (asked.url!.includes("stalls")) response.writeHead(200, { "content-type": "application/grpc" }).write("some");
});

const http1 = { explicit_http_config: { http_protocol_options: {} } };
const routes: Readonly<Record<string, object>> = {
  "max_stream_duration of the route": { max_stream_duration: { max_stream_duration: patience } },
  "grpc-timeout as the duration": { max_stream_duration: { grpc_timeout_header_max: "0s" } },
  "grpc-timeout as the route's timeout": { timeout: "9s", max_grpc_timeout: "0s" },
  "the route's timeout": { timeout: patience },
  "the route's idle_timeout": { idle_timeout: patience },
  "the cluster's max_stream_duration": { cluster: "short" },
  "the cluster's max_stream_duration, tried again": { cluster: "short", retry_policy: { retry_on: "reset", num_retries: 1 } },
};
/** Fields of the connection manager of a listener of its own. */
const managers: Readonly<Record<string, object>> = {
  "max_stream_duration of the manager": { common_http_protocol_options: { max_stream_duration: patience } },
  stream_idle_timeout: { stream_idle_timeout: patience },
  request_timeout: { request_timeout: patience },
};
/** They begin when the request has come whole, or end when it has. */
const needsAll = new Set(["grpc-timeout as the route's timeout", "the route's timeout"]);
const needsHalf = new Set(["request_timeout"]);
const ofGrpcOnly = new Set(["grpc-timeout as the duration", "grpc-timeout as the route's timeout"]);

interface Case {
  readonly clock: string;
  readonly protocol: "HTTP/1.1" | "HTTP/2";
  readonly isGrpc: boolean;
  readonly isUnfinished: boolean;
  readonly isBegun: boolean;
}

const cases = [...Object.keys(routes), ...Object.keys(managers)].flatMap((clock) =>
  (["HTTP/1.1", "HTTP/2"] as const).flatMap((protocol) =>
    [false, true].flatMap((isGrpc) =>
      [false, true].flatMap((isUnfinished) => [false, true].map((isBegun): Case => ({ clock, protocol, isGrpc, isUnfinished, isBegun }))),
    ),
  ),
);
const asked = cases.filter(
  ({ clock, isGrpc, isUnfinished }) =>
    !(needsAll.has(clock) && isUnfinished) && !(needsHalf.has(clock) && !isUnfinished) && !(ofGrpcOnly.has(clock) && !isGrpc),
);

const pathOf = ({ clock, protocol, isGrpc, isUnfinished, isBegun }: Case) =>
  `/${encodeURIComponent(clock)}/${[protocol.replace("/", ""), isGrpc ? "grpc" : "plain", isUnfinished ? "half" : "all", isBegun ? "stalls" : "silent"].join("-")}`;

describe.skipIf(!envoyBinary)("A stream that takes too long", () => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-timeouts-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const running: RunningProxy[] = [];

  beforeAll(async () => {
    upstream.listen(0, "127.0.0.1");
    await once(upstream, "listening");
    stack.defer(() => {
      upstream.closeAllConnections();
      upstream.close();
    });
    const { port } = upstream.address() as AddressInfo;
    const many = {
      circuit_breakers: {
        thresholds: [{ max_connections: 10_000, max_pending_requests: 10_000, max_requests: 10_000, max_retries: 10_000 }],
      },
    };
    const clusters = [
      staticCluster("up", [port], http1, many),
      staticCluster("short", [port], { ...http1, common_http_protocol_options: { max_stream_duration: patience } }, many),
    ];
    for (const side of proxies) {
      const format =
        "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %GRPC_STATUS% %UPSTREAM_REQUEST_ATTEMPT_COUNT%\n";
      const log = fileLog(join(directory, side.name), format);
      const listener = (name: string, more: object) => ({
        name,
        address: address(0),
        filter_chains: [
          {
            filters: [
              managerFilter({
                stat_prefix: "in",
                ...more,
                access_log: [log],
                route_config: {
                  virtual_hosts: [
                    {
                      name: "all",
                      domains: ["*"],
                      routes: [
                        ...Object.entries(routes).map(([clock, route]) => ({
                          match: { prefix: `/${encodeURIComponent(clock)}/` },
                          route: { cluster: "up", timeout: "0s", ...route },
                        })),
                        { match: { prefix: "/" }, route: { cluster: "up", timeout: "0s" } },
                      ],
                    },
                  ],
                },
                http_filters: [routerFilter],
              }),
            ],
          },
        ],
      });
      const listeners = [listener("in", {}), ...Object.entries(managers).map(([name, more]) => listener(name, more))];
      running.push(stack.use(await side.start(staticBootstrap(clusters, listeners))));
    }
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  const unsteady = /^(date|server|x-envoy-upstream-service-time):/;

  async function ask(proxy: RunningProxy, one: Case): Promise<unknown> {
    const port = await proxy.listenerPort(one.clock in managers ? one.clock : "in");
    const path = pathOf(one);
    const headers = {
      ...(one.isGrpc ? { "content-type": "application/grpc", te: "trailers" } : {}),
      ...(ofGrpcOnly.has(one.clock) ? { "grpc-timeout": "1500m" } : {}),
    };
    let answer: unknown;
    if (one.protocol === "HTTP/2") {
      const session = http2.connect(`http://127.0.0.1:${port}`);
      session.on("error", () => {});
      const leaving = setTimeout(() => session.destroy(), patienceOfClientMs);
      const wanted = { ...headers, ":method": "POST", ":path": path };
      answer = await askHttp2(session, { headers: wanted, body: Buffer.from("half"), isUnfinished: one.isUnfinished }, (got) =>
        Object.entries(got)
          .map(([name, value]) => `${name}: ${value}`)
          .filter((line) => !unsteady.test(line))
          .sort(),
      );
      clearTimeout(leaving);
      session.destroy();
    } else answer = await askHttp1(port, path, headers, one.isUnfinished);
    const line = await eventually(
      () =>
        readFileSync(join(directory, proxy.name), { encoding: "utf8", flag: "a+" })
          .split("\n")
          .find((candidate) => candidate.startsWith(`${path} `)),
      "a log line",
    );
    return { answer, line };
  }

  function askHttp1(port: number, path: string, headers: Record<string, string>, isUnfinished: boolean): Promise<unknown> {
    return new Promise((resolve) => {
      const sent = request({
        port,
        host: "127.0.0.1",
        path,
        method: "POST",
        headers: { ...headers, "transfer-encoding": "chunked" },
        agent: false,
      });
      sent.setTimeout(patienceOfClientMs, () => sent.destroy(new Error("the client leaves")));
      sent.on("error", (error) => resolve(error.message));
      sent.on("response", (response) => {
        let body = "";
        let isCut = false;
        const head: string[] = [];
        for (let i = 0; i < response.rawHeaders.length; i += 2) head.push(`${response.rawHeaders[i]}: ${response.rawHeaders[i + 1]}`);
        response
          .setEncoding("latin1")
          .on("data", (text: string) => {
            body += text;
          })
          .on("error", () => {
            isCut = true;
          })
          .on("close", () => {
            resolve({ status: response.statusCode, head: head.filter((line) => !unsteady.test(line)).sort(), body, isCut });
            sent.destroy();
          });
      });
      if (isUnfinished) sent.write("half");
      else sent.end("half");
    });
  }

  it("ends as with Envoy: status, gRPC status, words, log and reset", async () => {
    const [envoy, ours] = await Promise.all(
      running.map(async (proxy) => Object.fromEntries(await Promise.all(asked.map(async (one) => [pathOf(one), await ask(proxy, one)])))),
    );
    expect(ours).toEqual(envoy);
  }, 30_000);

  /** How soon a client closes behind its answer; what no HTTP/1.1 and no plain connection can bring. */
  const uncounted = /delayed_close_timeout|rx_reset_no_error|0rtt/;

  it("is counted as Envoy counts it", async () => {
    const [envoy, ours] = await Promise.all(
      running.map(async (proxy) =>
        (await proxy.admin("/stats?filter=timeout|duration_reached|rx_reset|tx_reset|_rq_[0-9]|_rq_completed|retry"))
          .split("\n")
          .filter((line) => /^(cluster\.(up|short)|http\.in)\./.test(line) && !uncounted.test(line))
          .sort(),
      ),
    );
    expect(ours).toEqual(envoy);
  });
});
