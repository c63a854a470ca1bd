import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startGrpcUpstream, type TestGrpcUpstream } from "../../../test/support/grpc-upstream.ts";
import { ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { Http2ProtocolOptionsSchema } from "../../api/gen/envoy/config/core/v3/protocol_pb.js";
import { ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { RateLimitRequestSchema, RateLimitResponseSchema } from "../../api/gen/envoy/service/ratelimit/v3/rls_pb.js";
import type { CompileContext } from "../compile-context.ts";
import { StatsStore } from "../stats/store.ts";
import { SecretStore } from "../tls/secret.ts";
import { Cluster } from "./cluster.ts";
import { compileCluster } from "./cluster-config.ts";
import { GrpcClient, type GrpcOutcome, type GrpcRequest } from "./grpc-client.ts";

let upstream: TestGrpcUpstream;
beforeAll(async () => {
  upstream = await startGrpcUpstream();
});
afterAll(() => upstream[Symbol.asyncDispose]());

function clusterAt(port: number, fields: MessageInitShape<typeof ClusterSchema> = {}) {
  const stats = new StatsStore();
  const message = create(ClusterSchema, { name: "service", http2ProtocolOptions: create(Http2ProtocolOptionsSchema), ...fields });
  const cluster = new Cluster(
    compileCluster(message, { stats, secrets: new SecretStore(), warn() {} } as unknown as CompileContext),
    stats,
    true,
  );
  const address = {
    address: {
      case: "socketAddress" as const,
      value: { address: "127.0.0.1", portSpecifier: { case: "portValue" as const, value: port } },
    },
  };
  cluster.setEndpoints(
    create(ClusterLoadAssignmentSchema, {
      endpoints: [{ lbEndpoints: [{ hostIdentifier: { case: "endpoint", value: { address } } }] }],
    }),
  );
  return {
    cluster,
    client: new GrpcClient(new Map([["service", cluster]])),
    count: (name: keyof typeof cluster.stats.at) => stats.values[cluster.stats.at[name]],
  };
}

function request(reply: object | null, timeoutMs = 5000): GrpcRequest {
  const entries = reply === null ? [] : [{ entries: [{ key: "reply", value: JSON.stringify(reply) }] }];
  const message = toBinary(RateLimitRequestSchema, create(RateLimitRequestSchema, { domain: "d", descriptors: entries }));
  const path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
  return { path, message, authority: "service", metadata: [], timeoutMs };
}

const send = (client: GrpcClient, what: GrpcRequest) => new Promise<GrpcOutcome>((done) => client.call("service", what, done));

describe("GrpcClient", () => {
  it("sends calls at the same time over one connection, which later calls use too", async () => {
    const { client, cluster, count } = clusterAt(upstream.port);
    const before = upstream.connections();
    const outcomes = await Promise.all([send(client, request(null)), send(client, request({ delayMs: 20 })), send(client, request(null))]);
    await send(client, request(null));
    expect(upstream.connections() - before).toBe(1);
    for (const outcome of outcomes) {
      expect("message" in outcome && fromBinary(RateLimitResponseSchema, outcome.message).overallCode).toBe(1);
    }
    expect([count("upstream_rq_total"), count("upstream_rq_active"), count("upstream_rq_pending_active")]).toEqual([4, 0, 0]);
    cluster.drain();
  });

  it("says what status the service answers, and what an answer without one means", async () => {
    const { client, cluster } = clusterAt(upstream.port);
    expect(await send(client, request({ grpcStatus: 7 }))).toMatchObject({ status: 7 });
    expect(await send(client, request({ httpStatus: 403 }))).toMatchObject({ status: 7 });
    expect(await send(client, request({ reset: true }))).toMatchObject({ status: 14 });
    cluster.drain();
  });

  it("gives up after its time, and goes on with the connection", async () => {
    const { client, cluster, count } = clusterAt(upstream.port);
    expect(await send(client, request({ delayMs: 500 }, 50))).toMatchObject({ status: 4 });
    expect(await send(client, request(null))).toHaveProperty("message");
    expect([count("upstream_rq_timeout"), count("upstream_cx_total"), count("upstream_rq_active")]).toEqual([1, 1, 0]);
    cluster.drain();
  });

  it("refuses more calls than the cluster's limit", async () => {
    const { client, cluster, count } = clusterAt(upstream.port, { circuitBreakers: { thresholds: [{ maxRequests: 1 }] } });
    await send(client, request(null));
    const slow = send(client, request({ delayMs: 50 }));
    expect(await send(client, request(null))).toMatchObject({ status: 14 });
    expect(await slow).toHaveProperty("message");
    expect(await send(client, request(null))).toHaveProperty("message");
    expect(count("upstream_rq_pending_overflow")).toBe(1);
    cluster.drain();
  });

  it("is unavailable without a cluster, without an endpoint that answers, and over HTTP/1.1", async () => {
    expect(await send(new GrpcClient(new Map()), request(null))).toMatchObject({ status: 14 });
    expect(await send(clusterAt(1).client, request(null))).toMatchObject({ status: 14 });
    const { client } = clusterAt(upstream.port, { http2ProtocolOptions: undefined } as never);
    expect(await send(client, request(null))).toMatchObject({ status: 14 });
  });

  it("connects anew after the endpoint was drained", async () => {
    const { client, cluster, count } = clusterAt(upstream.port);
    await send(client, request(null));
    cluster.drain();
    expect(await send(client, request(null))).toHaveProperty("message");
    expect(count("upstream_cx_total")).toBe(2);
    cluster.drain();
  });

  it("calls nobody back that has cancelled, and gives their places back", async () => {
    const { client, cluster, count } = clusterAt(upstream.port);
    let called = false;
    client.call("service", request({ delayMs: 20 }), () => (called = true)).cancel();
    await send(client, request(null));
    const open = client.call("service", request({ delayMs: 200 }), () => (called = true));
    await send(client, request(null));
    open.cancel();
    await send(client, request({ delayMs: 20 }));
    expect([called, count("upstream_rq_active"), count("upstream_rq_total")]).toEqual([false, 0, 4]);
    cluster.drain();
  });
});
