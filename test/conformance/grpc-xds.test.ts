/** gRPC's own xDS client as a client of our control plane: it finds a server by name and calls it. */
import { Client, credentials, Server, ServerCredentials, status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startControlPlane, type TestControlPlane } from "../support/control-plane.ts";

const path = "/test.Greeter/Greet";

async function startGreeter(name: string): Promise<{ server: Server; port: number }> {
  const server = new Server();
  const identity = (bytes: Buffer) => bytes;
  server.addService(
    {
      Greet: {
        path,
        requestStream: false,
        responseStream: false,
        requestSerialize: identity,
        requestDeserialize: identity,
        responseSerialize: identity,
        responseDeserialize: identity,
      },
    },
    {
      Greet: (call: { request: Buffer }, done: (error: null, reply: Buffer) => void) =>
        done(null, Buffer.from(`${name} greets ${call.request}`)),
    },
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  return { server, port };
}

const mesh = (ports: number[], more = "") => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: greeter, namespace: default}
spec:
  hosts: [greeter.test]
  ports: [{number: 7070, name: grpc, protocol: GRPC}]
  resolution: STATIC
  endpoints:
${ports.map((port, index) => `  - {address: 127.0.0.1, ports: {grpc: ${port}}, labels: {version: v${index + 1}}}`).join("\n")}
${more}`;

let controlPlane: TestControlPlane;
let greeters: { server: Server; port: number }[];
let client: Client;

const leaving = `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: leaving, namespace: default}
spec: {hosts: [leaving.test], ports: [{number: 7071, name: grpc, protocol: GRPC}], resolution: STATIC, endpoints: [{address: 127.0.0.1, ports: {grpc: PORT}}]}
`;

beforeAll(async () => {
  greeters = [await startGreeter("one"), await startGreeter("two")];
  controlPlane = await startControlPlane(mesh([greeters[0]!.port]));
  process.env.GRPC_XDS_BOOTSTRAP_CONFIG = JSON.stringify({
    xds_servers: [{ server_uri: controlPlane.address, channel_creds: [{ type: "insecure" }], server_features: ["xds_v3"] }],
    node: {
      locality: {},
      id: "sidecar~127.0.0.1~client.default~default.svc.cluster.local",
      metadata: { GENERATOR: "grpc", NAMESPACE: "default" },
    },
  });
  // It reads its bootstrap from the environment when it is loaded.
  (await import("@grpc/grpc-js-xds")).register();
  client = new Client("xds:///greeter.test:7070", credentials.createInsecure());
});

afterAll(async () => {
  client?.close();
  await controlPlane?.[Symbol.asyncDispose]();
  for (const { server } of greeters ?? []) server.forceShutdown();
});

function greet(whom: string, by = client): Promise<string> {
  const identity = (bytes: Buffer) => bytes;
  return new Promise((resolve, reject) =>
    by.makeUnaryRequest(path, identity, identity, Buffer.from(whom), { deadline: Date.now() + 10_000 }, (error, reply) =>
      error ? reject(error) : resolve(String(reply)),
    ),
  );
}

describe("@grpc/grpc-js-xds as a client", () => {
  it("finds an EDS cluster through the control plane and calls a server in it", async () => {
    expect(await greet("Ada")).toBe("one greets Ada");
  });

  it("follows the endpoints", async () => {
    await controlPlane.write("mesh.yaml", mesh([greeters[1]!.port]));
    await expect.poll(() => greet("Ada"), { timeout: 10_000 }).toBe("two greets Ada");
  });

  /**
   * Of a name that never was, no error comes, and not for want of an answer: ours leaves the name out at once (src/ads/server.test.ts). The
   * client waits 15 s before it believes that (gRFC A27; its trace says "LDS resource does not exist" then), and hands grpc-js an empty
   * list of addresses, which pick_first refuses: the call stays "waiting for name resolution" until its deadline. A listener that was
   * there and is left out is gone at once. One that comes back as it was is overlooked, since the client still has it in its cache.
   */
  it("fails calls when the service is gone, without waiting for their deadline", async () => {
    const port = greeters[1]!.port;
    await controlPlane.write("mesh.yaml", mesh([port], leaving.replace("PORT", String(port))));
    const other = new Client("xds:///leaving.test:7071", credentials.createInsecure());
    try {
      await expect.poll(() => greet("Ada", other), { timeout: 10_000 }).toBe("two greets Ada");
      await controlPlane.write("mesh.yaml", mesh([port]));
      await expect
        .poll(() => greet("Ada", other).catch((error: { code: number }) => error.code), { timeout: 10_000 })
        .toBe(status.UNAVAILABLE);
      expect(await greet("Ada")).toBe("two greets Ada");
    } finally {
      other.close();
    }
  });
});
