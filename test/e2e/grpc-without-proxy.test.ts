/**
 * gRPC's own xDS client on a machine of the mesh: it finds its services by the file that the agent writes and by the agent's socket, beside
 * a proxy or without any.
 */
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type handleUnaryCall, Server, ServerCredentials } from "@grpc/grpc-js";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { decodeObject } from "../../src/api/documents/decode-object.ts";
import type { WritableConfigStore } from "../../src/config/store.ts";
import { Istiod } from "../../src/istiod/istiod.ts";
import { provideToken, startAgent } from "../support/agent-process.ts";
import { askHttp } from "../support/http-ask.ts";
import { freePortRow } from "../support/ports.ts";
import type { TopsailProcess } from "../support/topsail.ts";

const run = promisify(execFile);
const loopback = { host: "127.0.0.1", port: 0 };
const account = { namespace: "vm", serviceAccount: "web" };
const path = "/test.Greeter/Greet";
const identity = (bytes: Buffer) => bytes;

/** As an application would: its bootstrap by the environment, its service by the name. Calls until it is told to stop, and prints answers. */
const application = `
import { Client, credentials } from "@grpc/grpc-js";
import { register } from "@grpc/grpc-js-xds";
register();
const client = new Client("xds:///greeter.test:7070", credentials.createInsecure());
const same = (bytes) => bytes;
client.makeUnaryRequest("${path}", same, same, Buffer.from("Ada"), { deadline: Date.now() + 20_000 }, (error, reply) => {
  console.log(error ? error.message : String(reply));
  client.close();
  process.exit();
});
`;

describe("gRPC's own xDS client beside an agent", { timeout: 60_000 }, () => {
  let istiod: Istiod;
  let greeter: Server;
  let directory: string;
  let agent: TopsailProcess | undefined;
  let ports: { admin: number; status: number; ready: number; stats: number };

  beforeAll(async () => {
    istiod = await Istiod.start({ grpc: loopback, secureGrpc: loopback, monitoring: loopback, domain: "cluster.local" });
    greeter = new Server();
    const greet: handleUnaryCall<Buffer, Buffer> = ({ request }, done) => done(null, Buffer.from(`hello ${request}`));
    const types = { requestSerialize: identity, requestDeserialize: identity, responseSerialize: identity, responseDeserialize: identity };
    greeter.addService({ Greet: { path, requestStream: false, responseStream: false, ...types } }, { Greet: greet });
    const port = await new Promise<number>((resolve, reject) =>
      greeter.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound))),
    );
    for (const raw of [
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: account.serviceAccount, namespace: account.namespace } },
      {
        apiVersion: "networking.istio.io/v1",
        kind: "WorkloadGroup",
        metadata: { name: "web", namespace: account.namespace },
        spec: { template: { serviceAccount: account.serviceAccount } },
      },
      {
        apiVersion: "networking.istio.io/v1",
        kind: "ServiceEntry",
        metadata: { name: "greeter", namespace: account.namespace },
        spec: {
          hosts: ["greeter.test"],
          ports: [{ number: 7070, name: "grpc", protocol: "GRPC" }],
          resolution: "STATIC",
          endpoints: [{ address: "127.0.0.1", ports: { grpc: port } }],
        },
      },
    ]) {
      const { object, errors } = decodeObject(raw);
      if (!object) throw errors[0];
      await (istiod.discovery.store as WritableConfigStore).put(object);
    }
    const first = await freePortRow(4);
    ports = { admin: first, status: first + 1, ready: first + 2, stats: first + 3 };
  });
  afterAll(async () => {
    greeter?.forceShutdown();
    await istiod?.[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    await agent?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  const start = async (env: Readonly<Record<string, string>>) => {
    directory = mkdtempSync(join(tmpdir(), "grpc-without-proxy-"));
    await provideToken({ istiod, directory, account });
    agent = startAgent({ istiod, directory, account, ports, type: "sidecar", env: { ISTIO_META_INTERCEPTION_MODE: "NONE", ...env } });
    const ready = () => askHttp("127.0.0.1", ports.status, { line: "GET /healthz/ready" }).then(({ status }) => status);
    await expect.poll(() => ready().catch(() => 0), { timeout: 25_000 }).toBe(200);
  };
  const call = async (bootstrap: string) => {
    const env = { PATH: process.env.PATH ?? "", GRPC_XDS_BOOTSTRAP: bootstrap };
    const { stdout } = await run(process.execPath, ["--input-type=module", "-e", application], {
      cwd: join(import.meta.dirname, "../.."),
      env,
    });
    return stdout.trim();
  };
  const isOpen = (port: number) =>
    askHttp("127.0.0.1", port, { line: "GET /" }).then(
      () => true,
      () => false,
    );

  it("is served by DISABLE_ENVOY's agent, which has no proxy, registers by its stream and keeps the certificate for it", async () => {
    const certificates = "certs";
    await start({ DISABLE_ENVOY: "true", OUTPUT_CERTS: certificates, ISTIO_META_AUTO_REGISTER_GROUP: "web" });
    for (const port of [ports.admin, ports.ready, ports.stats]) expect(await isOpen(port)).toBe(false);
    const metrics = await askHttp("127.0.0.1", ports.status, { line: "GET /metrics" });
    expect(metrics.body).toContain("istio_agent_build");
    expect(metrics.body).not.toContain("envoy_");
    const file = join(directory, "proxy/grpc-bootstrap.json");
    const inside = (name: string) => join(directory, certificates, name);
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({
      xds_servers: [
        { server_uri: `unix://${join(directory, "proxy/XDS")}`, channel_creds: [{ type: "insecure" }], server_features: ["xds_v3"] },
      ],
      node: { id: "sidecar~127.0.0.1~web.vm~vm.svc.cluster.local", metadata: { GENERATOR: "grpc", NAMESPACE: "vm" } },
      certificate_providers: {
        default: {
          plugin_name: "file_watcher",
          config: {
            certificate_file: inside("cert-chain.pem"),
            private_key_file: inside("key.pem"),
            ca_certificate_file: inside("root-cert.pem"),
          },
        },
      },
      server_listener_resource_name_template: "xds.istio.io/grpc/lds/inbound/%s",
    });
    for (const name of ["cert-chain.pem", "key.pem", "root-cert.pem"]) await expect.poll(() => existsSync(inside(name))).toBe(true);
    const entry = { kind: "WorkloadEntry", namespace: account.namespace, name: "web-127.0.0.1" } as const;
    expect(istiod.discovery.store.get(entry)).toBeUndefined();
    expect(await call(file)).toBe("hello Ada");
    expect(istiod.discovery.store.get(entry)?.spec).toMatchObject({ address: "127.0.0.1" });
    agent!.child.kill("SIGTERM");
    expect(await agent!.exited).toBe(0);
  });

  it("does not cost the proxy beside it its stream, and finds the file where GRPC_XDS_BOOTSTRAP says", async () => {
    await start({ GRPC_XDS_BOOTSTRAP: "own/grpc.json" });
    const file = join(directory, "own/grpc.json");
    expect(existsSync(join(directory, "proxy/grpc-bootstrap.json"))).toBe(false);
    expect(statSync(file).mode & 0o777).toBe(0o644);
    expect(JSON.parse(readFileSync(file, "utf8")).certificate_providers).toBeUndefined();
    const [proxys] = istiod.discovery.connected;
    const seen: (string | undefined)[] = [];
    using _ = istiod.discovery.observeConnected((entry, isConnected) => {
      if (isConnected) seen.push(entry.proxy.metadata.GENERATOR as string | undefined);
    });
    expect(await call(file)).toBe("hello Ada");
    expect(seen).toContain("grpc");
    await expect.poll(() => istiod.discovery.connected.map(({ id }) => id)).toEqual([proxys!.id]);
    expect(agent!.stderr).not.toContain("stream to the control plane ended");
  });

  it("is told nothing where GRPC_XDS_BOOTSTRAP is empty", async () => {
    await start({ GRPC_XDS_BOOTSTRAP: "" });
    expect(existsSync(join(directory, "proxy/grpc-bootstrap.json"))).toBe(false);
  });
});
