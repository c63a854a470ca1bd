/** What envoy.filters.http.grpc_stats counts, and shows to the access log, of calls that end well, badly and not as gRPC does. As with Envoy. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import * as http2 from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, type ClientReadableStream, credentials, Metadata } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { bytes, EchoServer, service } from "../support/grpc-echo.ts";
import { askHttp2 } from "../support/http2-ask.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import {
  address,
  fileLog,
  managerFilter,
  proxies,
  routerFilter,
  staticBootstrap,
  staticCluster,
  type,
} from "../support/static-bootstrap.ts";

const configurations: Readonly<Record<string, object>> = {
  "as-istio": { emit_filter_state: true, stats_for_all_methods: false },
  all: { stats_for_all_methods: true, enable_upstream_stats: true },
  undotted: { stats_for_all_methods: true, replace_dots_in_grpc_service_name: true, emit_filter_state: true },
  listed: { individual_method_stats_allowlist: { services: [{ name: "test.Echo", method_names: ["Unary", "Bidi"] }] } },
  unsaid: {},
};

const metadataOf = (values: Readonly<Record<string, string>>) => {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(values)) metadata.set(name, value);
  return metadata;
};
const ended = (call: { on(event: "status" | "error" | "data", listener: (value: never) => void): unknown }) =>
  new Promise<void>((resolve) => {
    call.on("data", () => {});
    call.on("error", () => {});
    call.on("status", () => resolve());
  });
const unary = (client: Client, message: Buffer, values: Readonly<Record<string, string>> = {}) =>
  ended(client.makeUnaryRequest(service.Unary.path, bytes, bytes, message, metadataOf(values), () => {}) as never);

const calls: Readonly<Record<string, (client: Client) => Promise<unknown>>> = {
  "one message for one": (client) => unary(client, Buffer.from("hello")),
  "an empty message": (client) => unary(client, Buffer.alloc(0)),
  "a message of many chunks": (client) => unary(client, Buffer.alloc(300_000)),
  "a failure without anything before": (client) => unary(client, Buffer.from("x"), { "x-do": "fail 5.0" }),
  "a failure behind headers": (client) => unary(client, Buffer.from("x"), { "x-do": "fail 9" }),
  "many messages for one": (client) => {
    const call = client.makeClientStreamRequest(service.ClientStream.path, bytes, bytes, new Metadata(), () => {});
    for (let i = 0; i < 50; i++) call.write(Buffer.alloc(i));
    call.end();
    return ended(call as never);
  },
  "one message for many": (client) =>
    ended(client.makeServerStreamRequest(service.ServerStream.path, bytes, bytes, Buffer.from("30")) as never),
  "a call that is given up": (client) => {
    const call: ClientReadableStream<Buffer> = client.makeServerStreamRequest(
      service.ServerStream.path,
      bytes,
      bytes,
      Buffer.from("1"),
      metadataOf({ "x-do": "forever" }),
    );
    call.once("data", () => call.cancel());
    return ended(call as never);
  },
  "no endpoint": (client) => unary(client, Buffer.from("x"), { "x-no-cluster": "1" }),
};

/** Content type, path and body of what no library of gRPC would send. */
const oddities: readonly (readonly [contentType: string, path: string, body?: Buffer])[] = [
  ["application/grpc", "/test.Echo/Nothing", Buffer.from([0, 0, 0, 0, 0])],
  ["application/grpc", "/test.Echo", Buffer.from([0, 0, 0, 0, 0])],
  ["application/grpc", "/a/b/c", Buffer.from([0, 0, 0, 0, 0])],
  ["application/grpc", "/test.Echo/Unary?q=/x", Buffer.from([0, 0, 0, 0, 0])],
  ["application/grpc", "/test.Echo/Unary", Buffer.from([0, 0, 0, 0, 1, 120, 0, 0])],
  ["application/grpc+proto", "/test.Echo/Unary", Buffer.from([1, 0, 0, 0, 0])],
  ["application/grpc", "/test.Echo/Unary"],
  ["application/json", "/test.Echo/Unary", Buffer.from("{}")],
];

describe.skipIf(!envoyBinary)("Statistics of gRPC", () => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-grpc-stats-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const running: RunningProxy[] = [];

  beforeAll(async () => {
    for (const { name: side, start } of proxies) {
      const server = stack.use(new EchoServer());
      const port = await server.listen();
      const clusters = Object.keys(configurations).flatMap((name) => [staticCluster(name, [port]), staticCluster(`nobody-${name}`, [])]);
      const listeners = Object.entries(configurations).map(([name, config]) => ({
        name,
        address: address(0),
        filter_chains: [{ filters: [managerFilter(manager(name, config, side))] }],
      }));
      running.push(stack.use(await start(staticBootstrap(clusters, listeners))));
    }
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  function manager(name: string, config: object, side: string): object {
    const format = `${name} %REQ(:PATH)% %REQ(content-type)% %RESPONSE_CODE% %FILTER_STATE(envoy.filters.http.grpc_stats)% %FILTER_STATE(envoy.filters.http.grpc_stats:PLAIN)%\n`;
    return {
      stat_prefix: "in",
      access_log: [fileLog(join(directory, side), format)],
      route_config: {
        virtual_hosts: [
          {
            name: "all",
            domains: ["*"],
            routes: [
              { match: { prefix: "/", headers: [{ name: "x-no-cluster", present_match: true }] }, route: { cluster: `nobody-${name}` } },
              { match: { prefix: "/" }, route: { cluster: name } },
            ],
          },
        ],
      },
      http_filters: [
        { name: "envoy.filters.http.grpc_stats", typed_config: { "@type": type("filters.http.grpc_stats.v3.FilterConfig"), ...config } },
        routerFilter,
      ],
    };
  }

  async function ask(proxy: RunningProxy): Promise<void> {
    for (const name of Object.keys(configurations)) {
      const port = await proxy.listenerPort(name);
      const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
      for (const call of Object.values(calls)) await call(client);
      client.close();
      const session = http2.connect(`http://127.0.0.1:${port}`);
      for (const [contentType, path, body] of oddities) {
        await askHttp2(session, { headers: { ":method": "POST", ":path": path, "content-type": contentType, te: "trailers" }, body });
      }
      session.close();
    }
  }

  const lines = (side: string) => readFileSync(join(directory, side), { encoding: "utf8", flag: "a+" }).split("\n").sort();

  it("are counted as Envoy counts them", async () => {
    await Promise.all(running.map(ask));
    const expected = Object.keys(configurations).length * (Object.keys(calls).length + oddities.length);
    for (const { name } of running) await eventually(() => lines(name).length > expected || undefined, `${expected} lines in the log`);
    const [envoy, ours] = await Promise.all(
      running.map(async (proxy) =>
        (await proxy.admin("/stats?filter=%5C.grpc%5C."))
          .split("\n")
          .map((line) => line.replace(/(upstream_rq_time): .*/, "$1"))
          .sort(),
      ),
    );
    expect(ours).toEqual(envoy);
    expect(ours!.find((line) => line.startsWith("cluster.as-istio.grpc.success: "))).not.toMatch(/ 0$/);
    expect(ours!.filter((line) => line.startsWith("cluster.listed.grpc.test.Echo.")).length).toBeGreaterThan(3);
  }, 60_000);

  it("are shown to the access log as by Envoy", () => {
    expect(lines("topsail")).toEqual(lines("envoy"));
  });

  it("have room for so many methods that outsiders name, in our proxy", async () => {
    const ours = running[1]!;
    const session = http2.connect(`http://127.0.0.1:${await ours.listenerPort("undotted")}`);
    const headers = { ":method": "POST", "content-type": "application/grpc", te: "trailers" };
    const methods = async () => {
      const lines = (await ours.admin("/stats?filter=cluster.undotted.grpc.many")).split("\n");
      return lines.filter((line) => line.includes(".total: ")).map((line) => Number(line.split(": ")[1]));
    };
    const ask = (from: number, to: number) =>
      Promise.all(
        Array.from({ length: to - from }, (_, index) => askHttp2(session, { headers: { ...headers, ":path": `/many/m${from + index}` } })),
      );
    for (let from = 0; from < 1100; from += 100) await ask(from, from + 100);
    const counted = await eventually(async () => {
      const found = await methods();
      return found.length > 1000 ? found : undefined;
    }, "counters of methods");
    expect(counted.length).toBeLessThanOrEqual(1024);
    // Who was there before is told apart still.
    await ask(0, 100);
    await eventually(
      async () => ((await methods()).filter((total) => total === 2).length === 100 ? true : undefined),
      "the first to be counted twice",
    );
    session.close();
  });
});
