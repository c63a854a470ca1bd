/** A mirror that is slower than the client, as the connection to it sees that. */
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { fromJson } from "@bufbuild/protobuf";
import { afterAll, describe, expect, it } from "vitest";
import { ClusterSchema } from "../../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "../../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { CompileContext } from "../../compile-context.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { StatsStore } from "../../stats/store.ts";
import { SecretStore } from "../../tls/secret.ts";
import { Cluster } from "../../upstream/cluster.ts";
import { compileCluster } from "../../upstream/cluster-config.ts";
import { MirroredRequest } from "./mirrored-request.ts";

const stack = new AsyncDisposableStack();
afterAll(() => stack.disposeAsync());

async function start(onRequest: (request: IncomingMessage) => void, onError: () => void): Promise<Cluster> {
  const server = createServer((request, response) => {
    onRequest(request);
    request.on("end", () => response.end());
  });
  server.on("clientError", onError);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  const stats = new StatsStore();
  const context = { stats, secrets: new SecretStore() } as unknown as CompileContext;
  const cluster = new Cluster(compileCluster(fromJson(ClusterSchema, { name: "c", connect_timeout: "1s" }), context), stats, true);
  stack.defer(() => cluster.drain());
  const endpoint = { address: { socket_address: { address: "127.0.0.1", port_value: (server.address() as AddressInfo).port } } };
  cluster.setEndpoints(fromJson(ClusterLoadAssignmentSchema, { cluster_name: "c", endpoints: [{ lb_endpoints: [{ endpoint }] }] }));
  return cluster;
}

const stream = {
  info: { method: "POST", scheme: "http", path: "/", authority: "a.test", requestHeaders: [], protocol: "HTTP/1.1" },
  manager: { bufferLimitBytes: 64 * 1024 * 1024 },
  alpnOffers: null,
  isGrpc: false,
} as unknown as HttpStream;

const policy = { cluster: "c", clusterHeader: "", chance: 1, addsSuffix: true };

describe("MirroredRequest", () => {
  it("sends its end once, however often the connection has room again", async () => {
    let received = 0;
    let errors = 0;
    let isDone = false;
    const cluster = await start(
      (request) => {
        // More than sockets hold has to wait.
        request.pause();
        setTimeout(() => request.resume(), 300);
        request.on("data", (part: Buffer) => {
          received += part.length;
        });
        request.on("end", () => {
          isDone = true;
        });
      },
      () => errors++,
    );
    const mirrored = new MirroredRequest(stream, cluster, policy, 0, false);
    mirrored.start(stream);
    const chunk = Buffer.alloc(64 * 1024, "m");
    for (let i = 0; i < 200; i++) {
      mirrored.sendData(chunk, false);
      if (i % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    mirrored.sendEnd([]);
    await expect.poll(() => isDone, { timeout: 10_000 }).toBe(true);
    expect(received).toBe(200 * chunk.length);
    // What comes behind a request's end would be the beginning of another.
    await expect
      .poll(() => [cluster.resources.default.requests, cluster.resources.default.connections], { timeout: 10_000 })
      .toEqual([0, 1]);
    expect(errors).toBe(0);
  });
});
