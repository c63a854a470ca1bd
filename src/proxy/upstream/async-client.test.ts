import { once } from "node:events";
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { CompileContext } from "../compile-context.ts";
import { type RetryPolicy, retryOnBits } from "../router/retry-policy.ts";
import { StatsStore } from "../stats/store.ts";
import { SecretStore } from "../tls/secret.ts";
import { AsyncClient, type AsyncDone, type AsyncRequest } from "./async-client.ts";
import { Cluster } from "./cluster.ts";
import { compileCluster } from "./cluster-config.ts";

type Outcome = Parameters<AsyncDone>[0];

const stack = new AsyncDisposableStack();
const servers: http.Server[] = [];
afterAll(() => stack.disposeAsync());

afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function startServer(handler: http.RequestListener): Promise<number> {
  const server = http.createServer(handler);
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

function clusterOf(ports: readonly number[], fields: JsonObject = {}) {
  const stats = new StatsStore();
  const context = { stats, secrets: new SecretStore() } as unknown as CompileContext;
  const message = fromJson(ClusterSchema, { name: "c", connect_timeout: "1s", ...fields });
  const cluster = new Cluster(compileCluster(message, context), stats, true);
  const endpoint = (port: number) => ({ endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } } } });
  cluster.setEndpoints(fromJson(ClusterLoadAssignmentSchema, { cluster_name: "c", endpoints: [{ lb_endpoints: ports.map(endpoint) }] }));
  stack.defer(() => cluster.drain());
  const counter = (name: string) => stats.values[stats.counter(`cluster.c.${name}`)]!;
  return { client: new AsyncClient(new Map([["c", cluster]])), cluster, counter };
}

const request = (parts: Partial<AsyncRequest> = {}): AsyncRequest => ({
  method: "GET",
  path: "/x?y",
  authority: "keys.example:81",
  headers: ["x-a", "1"],
  body: null,
  timeoutMs: 2000,
  maxBodyBytes: 1000,
  retryPolicy: null,
  sendsForwardedFor: true,
  ...parts,
});

const retries = (maxRetries: number, parts: Partial<RetryPolicy> = {}): RetryPolicy => ({
  retryOn: retryOnBits["5xx"] | retryOnBits.reset,
  maxRetries,
  retriableStatusCodes: new Set(),
  perTryTimeoutMs: 0,
  perTryIdleTimeoutMs: 0,
  backOffBaseMs: 1,
  backOffMaxMs: 2,
  avoidsPreviousHosts: false,
  priorityUpdateFrequency: 0,
  hostSelectionAttempts: 1,
  retriableHeaders: [],
  retriableRequestHeaders: [],
  ...parts,
});

const send = (client: AsyncClient, parts?: Partial<AsyncRequest>, cluster = "c") =>
  new Promise<Outcome>((resolve) => client.send(cluster, request(parts), resolve));

describe("AsyncClient", () => {
  it("sends a request through the cluster and collects the answer", async () => {
    const seen: http.IncomingMessage[] = [];
    const port = await startServer((incoming, response) => {
      seen.push(incoming);
      response.setHeader("x-b", "2");
      response.write("hel");
      setImmediate(() => response.end("lo"));
    });
    const { client, counter } = clusterOf([port]);
    const outcome = await send(client);
    if (typeof outcome === "string") throw new Error(outcome);
    expect(outcome).toMatchObject({ status: 200, body: Buffer.from("hello") });
    expect(outcome.headers.join()).toContain("x-b,2");
    expect(seen[0]).toMatchObject({ method: "GET", url: "/x?y" });
    expect(seen[0]!.headers).toMatchObject({
      host: "keys.example:81",
      "x-a": "1",
      "x-envoy-internal": "true",
      "x-envoy-expected-rq-timeout-ms": "2000",
    });
    expect(counter("upstream_rq_200")).toBe(1);
    expect(counter("internal.upstream_rq_2xx")).toBe(1);
    await send(client);
    // The connection was used again.
    expect(counter("upstream_cx_total")).toBe(1);
    expect(counter("upstream_rq_active")).toBe(0);
  });

  it("sends a body with its length", async () => {
    let body = "";
    const port = await startServer((incoming, response) => {
      incoming.on("data", (chunk) => {
        body += `${incoming.headers["content-length"]}:${chunk}`;
      });
      incoming.on("end", () => response.writeHead(204).end());
    });
    const outcome = await send(clusterOf([port]).client, { method: "POST", body: Buffer.from("hello") });
    expect(outcome).toMatchObject({ status: 204, body: Buffer.alloc(0) });
    expect(body).toBe("5:hello");
  });

  it("never calls back from within send", async () => {
    let isWithin = true;
    const outcome = new Promise<[Outcome, boolean]>((resolve) => {
      clusterOf([]).client.send("nobody", request(), (result) => resolve([result, isWithin]));
    });
    isWithin = false;
    expect(await outcome).toEqual(["noCluster", false]);
  });

  it("says what is missing", async () => {
    expect(await send(clusterOf([]).client, {}, "nobody")).toBe("noCluster");
    expect(await send(clusterOf([]).client)).toBe("noHost");
    expect(await send(clusterOf([1]).client)).toBe("connectionFailure");
    expect(await send(clusterOf([1], { http2_protocol_options: {} }).client)).toBe("connectionFailure");
    const { client } = clusterOf([1], { circuit_breakers: { thresholds: [{ max_pending_requests: 0 }] } });
    expect(await send(client)).toBe("overflow");
  });

  it("gives up in time, and its connection with it", async () => {
    let isClosed: Promise<unknown> | undefined;
    const port = await startServer((incoming) => {
      isClosed = once(incoming.socket, "close");
    });
    const { client, counter } = clusterOf([port]);
    expect(await send(client, { timeoutMs: 50 })).toBe("timeout");
    await isClosed;
    expect(counter("upstream_rq_timeout")).toBe(1);
    expect(counter("upstream_rq_504")).toBe(1);
    expect(counter("upstream_rq_active")).toBe(0);
  });

  it("gives up in the middle of a body that does not end", async () => {
    const port = await startServer((_incoming, response) => {
      response.write("{");
    });
    expect(await send(clusterOf([port]).client, { timeoutMs: 50 })).toBe("timeout");
  });

  it("does not take more than it wants", async () => {
    const port = await startServer((_incoming, response) => {
      response.end("x".repeat(1001));
    });
    const { client, counter } = clusterOf([port]);
    expect(await send(client)).toBe("bodyTooLarge");
    expect(await send(client, { maxBodyBytes: 1001 })).toMatchObject({ status: 200 });
    expect(counter("upstream_rq_active")).toBe(0);
  });

  it("reports an answer that was cut", async () => {
    const port = await startServer((_incoming, response) => {
      response.writeHead(200, { "content-length": "100" });
      response.write("half");
      setImmediate(() => response.destroy());
    });
    expect(await send(clusterOf([port]).client)).toBe("protocolError");
  });

  it("tries again, as often as it may", async () => {
    const statuses = [503, 500, 200, 503, 503, 503];
    const port = await startServer((_incoming, response) => {
      response.writeHead(statuses.shift()!).end("body");
    });
    const { client, counter } = clusterOf([port]);
    expect(await send(client, { retryPolicy: retries(2) })).toMatchObject({ status: 200 });
    expect(await send(client, { retryPolicy: retries(2) })).toMatchObject({ status: 503 });
    expect(statuses).toEqual([]);
    expect(counter("upstream_rq_retry")).toBe(4);
    expect(counter("upstream_rq_retry_success")).toBe(1);
    expect(counter("upstream_rq_retry_limit_exceeded")).toBe(1);
    expect(counter("upstream_rq_503")).toBe(1);
  });

  it("tries again where an attempt takes too long", async () => {
    let attempts = 0;
    const port = await startServer((_incoming, response) => {
      if (++attempts > 1) response.end("late");
    });
    const { client, counter } = clusterOf([port]);
    expect(await send(client, { retryPolicy: retries(1, { perTryTimeoutMs: 50 }) })).toMatchObject({ status: 200 });
    expect(counter("upstream_rq_per_try_timeout")).toBe(1);
  });

  it("is silent once it was cancelled, and leaves nothing behind", async () => {
    const { promise: arrived, resolve } = Promise.withResolvers<http.IncomingMessage>();
    const port = await startServer((incoming) => resolve(incoming));
    const { client, cluster, counter } = clusterOf([port]);
    const outcomes: Outcome[] = [];
    client.send("c", request(), (outcome) => outcomes.push(outcome)).cancel();
    const call = client.send("c", request(), (outcome) => outcomes.push(outcome));
    const closed = once((await arrived).socket, "close");
    call.cancel();
    await closed;
    expect(outcomes).toEqual([]);
    expect(counter("upstream_rq_active")).toBe(0);
    expect(counter("upstream_rq_pending_active")).toBe(0);
    expect(cluster.resources.default.canRetry()).toBe(true);
  });
});
