/**
 * Where secrets come from when they are not the control plane's: the workload's certificate from SPIRE's socket, from files, or from another
 * authority; a gateway's from files on its machine or from a server beside it (`sds://`). Our agent, with our proxy and with a real Envoy
 * under it.
 */
import type { KeyObject } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { StreamRefused } from "../../src/ads/server.ts";
import { Agent } from "../../src/agent/agent.ts";
import { readEnvironment } from "../../src/agent/environment.ts";
import { agentPaths } from "../../src/agent/paths.ts";
import { effectiveProxyConfig } from "../../src/agent/proxy-config.ts";
import { Istiod } from "../../src/istiod/istiod.ts";
import { makeRequest } from "../../src/istiod/testing/certificate-client.ts";
import { makeCertificate } from "../support/certificate.ts";
import { envoyBinary } from "../support/envoy.ts";
import { startExternalCa } from "../support/external-ca.ts";
import { type Identity, makeMeshCa } from "../support/mesh-ca.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";
import { startSdsServer, type TestSdsServer } from "../support/sds-server.ts";

const loopback = { host: "127.0.0.1", port: 0 };
const variants = [{ name: "our proxy", binaryPath: undefined }, ...(envoyBinary ? [{ name: "Envoy", binaryPath: envoyBinary }] : [])];
const account = "spiffe://cluster.local/ns/edge/sa/gateway";

/** A server that says of its clients: who they showed themselves to be, and which server name they asked for. */
async function startMutualServer(
  port: number,
  { certificate: cert, key }: Identity,
  ca: string,
): Promise<AsyncDisposable & { seen(): string[] }> {
  const seen = new Set<string>();
  const server = createServer({ cert, key, ca, requestCert: true, rejectUnauthorized: true }, ({ socket }, response) => {
    const { servername } = socket as TLSSocket & { servername: string };
    seen.add(`${(socket as TLSSocket).getPeerCertificate().subjectaltname} ${servername}`);
    response.end("here");
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    seen: () => [...seen],
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describe.each(variants)("an agent with $name", ({ binaryPath }) => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-secrets-"));
  const at = (...parts: string[]) => join(directory, ...parts);
  let istiod: Istiod;
  let client: Identity;
  let ports: { mutual: number; files: number; external: number; server: number };

  /** Of the mesh's authority, as SPIRE has one that the same root has signed. */
  async function issue(uri: string): Promise<Identity> {
    const { csr, key } = await makeRequest(uri);
    const { chain } = await istiod.secure!.authority.signRequest(csr, [{ type: "url", value: uri }], 3600);
    return { certificate: chain.join(""), key: pem(key) };
  }
  const pem = (key: KeyObject) => key.export({ type: "pkcs8", format: "pem" }) as string;

  beforeAll(async () => {
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    const first = await freePortRow(16);
    ports = { mutual: first, files: first + 1, external: first + 2, server: first + 3 };
    mkdirSync(at("mesh"));
    writeFileSync(at("mesh", "gateway.yaml"), configuration());
    istiod = stack.use(
      await Istiod.start({
        configDir: at("mesh"),
        dataDir: at("data"),
        grpc: loopback,
        secureGrpc: loopback,
        monitoring: loopback,
        domain: "cluster.local",
        debounceQuietMs: 20,
        meshConfig: at("mesh.yaml"),
      }),
    );
    client = await issue("spiffe://cluster.local/ns/edge/sa/client");
  }, 60_000);
  afterAll(() => stack.disposeAsync(), 30_000);

  function configuration(): string {
    const server = (port: number, tls: Record<string, unknown>) => ({
      port: { number: port, name: `https-${port}`, protocol: "HTTPS" },
      bind: "127.0.0.1",
      hosts: ["*"],
      tls,
    });
    const object = (kind: string, spec: unknown) =>
      stringify({ apiVersion: "networking.istio.io/v1", kind, metadata: { name: "edge", namespace: "edge" }, spec });
    return [
      object("Gateway", {
        selector: { app: "gateway" },
        servers: [
          server(ports.mutual, { mode: "ISTIO_MUTUAL" }),
          server(ports.files, { mode: "SIMPLE", serverCertificate: at("served.pem"), privateKey: at("served-key.pem") }),
          server(ports.external, { mode: "SIMPLE", credentialName: "sds://outside" }),
        ],
      }),
      object("ServiceEntry", {
        hosts: ["server.test"],
        location: "MESH_INTERNAL",
        resolution: "STATIC",
        ports: [{ number: 80, name: "http", protocol: "HTTP" }],
        endpoints: [{ address: "127.0.0.1", serviceAccount: "server", ports: { http: ports.server } }],
      }),
      object("VirtualService", {
        hosts: ["*"],
        gateways: ["edge"],
        http: [
          { match: [{ uri: { prefix: "/server" } }], route: [{ destination: { host: "server.test", port: { number: 80 } } }] },
          { directResponse: { status: 200 } },
        ],
      }),
    ].join("---\n");
  }

  /** On a machine of its own: a directory. */
  async function startAgent(machine: string, env: Record<string, string> = {}): Promise<Agent> {
    const first = await freePortRow(16);
    const paths = agentPaths(at(machine));
    mkdirSync(join(paths.root, ".."), { recursive: true });
    writeFileSync(paths.root, istiod.secure!.authority.trustBundle);
    const proxyConfig = JSON.stringify({
      discoveryAddress: `127.0.0.1:${istiod.secure!.port}`,
      proxyAdminPort: first + 10,
      statusPort: first + 11,
      configPath: at(machine, "proxy"),
      ...(binaryPath === undefined ? {} : { binaryPath }),
    });
    return Agent.start({
      type: "router",
      environment: readEnvironment({
        POD_NAME: machine,
        POD_NAMESPACE: "edge",
        SERVICE_ACCOUNT: "gateway",
        INSTANCE_IP: "127.0.0.1",
        TOPSAIL_BIND_ADDRESS: "127.0.0.1",
        ENVOY_STATUS_PORT: String(first + 12),
        ENVOY_PROMETHEUS_PORT: String(first + 13),
        ISTIO_METAJSON_LABELS: '{"app":"gateway"}',
        ...env,
      }),
      proxyConfig: effectiveProxyConfig(undefined, proxyConfig),
      root: at(machine),
      addresses: ["127.0.0.1"],
      usesBinary: binaryPath !== undefined,
      concurrency: 1,
      logLevel: "warning",
      statusHost: "127.0.0.1",
    });
  }

  /** What the gateway shows on a port. */
  async function shown(port: number): Promise<string> {
    using connection = await RawConnection.open(port, { key: client.key, cert: client.certificate, servername: "a.test" });
    const { subjectaltname, fingerprint256 } = connection.peerCertificate;
    return `${subjectaltname} ${fingerprint256}`;
  }
  const eventuallyShows = (port: number, what: string) =>
    eventually(async () => {
      const seen = await shown(port).catch(() => "");
      return seen.includes(what) && seen !== "" ? seen : undefined;
    }, `${what} on ${port}`);

  function writeServed(name: string): void {
    const { certificate, key } = makeCertificate(name);
    writeFileSync(at("served-key.pem"), key, { mode: 0o600 });
    writeFileSync(at("served.pem"), certificate);
  }

  describe("beside another's SDS sockets", () => {
    let spire: TestSdsServer;
    let outside: TestSdsServer;
    let agent: Agent;

    beforeAll(async () => {
      writeServed("first.test");
      const paths = agentPaths(at("one"));
      spire = await startSdsServer(await issue(account), istiod.secure!.authority.trustBundle, {
        path: join(paths.workloadSockets, "socket"),
        trustDomain: "cluster.local",
      });
      const identity = makeCertificate("outside.test");
      outside = await startSdsServer(identity, identity.certificate, { path: paths.credentialSds, name: "sds://outside" });
      agent = await startAgent("one");
      await agent.ready(AbortSignal.timeout(30_000));
    }, 60_000);
    afterAll(async () => {
      await agent?.[Symbol.asyncDispose]();
      await spire?.[Symbol.asyncDispose]();
      await outside?.[Symbol.asyncDispose]();
    });

    it("has no token and no certificate of its own, and is known to the control plane by SPIRE's", () => {
      expect(istiod.discovery.connected.map(({ proxy, peer }) => [proxy.serviceAccount, peer.identities?.[0]?.serviceAccount])).toEqual([
        ["gateway", "gateway"],
      ]);
    });

    it("shows SPIRE's certificate, and the next one from the moment it is there", async () => {
      const before = await eventuallyShows(ports.mutual, `URI:${account}`);
      spire.replace(await issue(account), istiod.secure!.authority.trustBundle);
      await eventually(async () => (await shown(ports.mutual)) !== before || undefined, "the next certificate");
    });

    it("takes clients of SPIRE's trust domain alone, who also have the right root", async () => {
      const answers = async (identity: Identity) => {
        const connection = await RawConnection.open(ports.mutual, { key: identity.key, cert: identity.certificate }).catch(() => undefined);
        if (!connection) return false;
        using opened = connection;
        opened.write("GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n");
        return await opened.until((received) => received.includes("200 OK"), 3000);
      };
      expect(await answers(client)).toBe(true);
      expect(await answers(await issue("spiffe://elsewhere.test/ns/edge/sa/client"))).toBe(false);
      expect(await answers(await issue("https://cluster.local/ns/edge/sa/client"))).toBe(false);
      expect(await answers(makeMeshCa("other").issue("spiffe://cluster.local/ns/edge/sa/client"))).toBe(false);
    });

    it("serves files of its machine, and follows them", async () => {
      await eventuallyShows(ports.files, "DNS:first.test");
      writeServed("second.test");
      await eventuallyShows(ports.files, "DNS:second.test");
    });

    it("asks the server beside it for sds:// names", async () => {
      await eventuallyShows(ports.external, "DNS:outside.test");
      const next = makeCertificate("renewed.test");
      outside.replace(next, next.certificate);
      await eventuallyShows(ports.external, "DNS:renewed.test");
    });
  });

  it("takes the workload's certificate from files that others keep, and follows them", async () => {
    writeServed("third.test");
    const { workloadFiles } = agentPaths(at("two"));
    mkdirSync(workloadFiles, { recursive: true });
    const write = async () => {
      const { certificate, key } = await issue(account);
      writeFileSync(join(workloadFiles, "key.pem"), key, { mode: 0o600 });
      writeFileSync(join(workloadFiles, "root-cert.pem"), istiod.secure!.authority.trustBundle);
      writeFileSync(join(workloadFiles, "cert-chain.pem"), certificate);
    };
    await write();
    await using agent = await startAgent("two");
    await agent.ready(AbortSignal.timeout(30_000));
    const before = await eventuallyShows(ports.mutual, `URI:${account}`);
    await write();
    await eventually(async () => (await shown(ports.mutual)) !== before || undefined, "the next certificate");
    // Files are had from the same socket where nobody else has it.
    await eventuallyShows(ports.files, "DNS:third.test");
  }, 60_000);

  it("uses files that its node names in place of its certificate, as server and as client, and follows them", async () => {
    writeServed("fifth.test");
    const { workloadFiles } = agentPaths(at("five"));
    mkdirSync(workloadFiles, { recursive: true });
    const own = await issue(account);
    writeFileSync(join(workloadFiles, "key.pem"), own.key, { mode: 0o600 });
    writeFileSync(join(workloadFiles, "root-cert.pem"), istiod.secure!.authority.trustBundle);
    writeFileSync(join(workloadFiles, "cert-chain.pem"), own.certificate);

    const authority = makeMeshCa("of the machine");
    const write = (role: "server" | "client") => {
      const { certificate, key } = authority.issue(`spiffe://cluster.local/ns/edge/sa/${role}-file`);
      writeFileSync(at(`${role}-key.pem`), key, { mode: 0o600 });
      writeFileSync(at(`${role}-cert.pem`), certificate);
    };
    write("server");
    write("client");
    writeFileSync(at("file-root.pem"), authority.root);
    const server = authority.issue("spiffe://cluster.local/ns/edge/sa/server");
    await using upstream = await startMutualServer(ports.server, server, authority.root);
    const names = (role: "server" | "client") => ({
      [`ISTIO_META_TLS_${role.toUpperCase()}_CERT_CHAIN`]: at(`${role}-cert.pem`),
      [`ISTIO_META_TLS_${role.toUpperCase()}_KEY`]: at(`${role}-key.pem`),
      [`ISTIO_META_TLS_${role.toUpperCase()}_ROOT_CERT`]: at("file-root.pem"),
    });
    await using agent = await startAgent("five", { ...names("server"), ...names("client") });
    await agent.ready(AbortSignal.timeout(30_000));

    const before = await eventuallyShows(ports.mutual, "URI:spiffe://cluster.local/ns/edge/sa/server-file");
    const known = authority.issue("spiffe://cluster.local/ns/edge/sa/known");
    const ask = async ({ key, certificate }: Identity) => {
      using connection = await RawConnection.open(ports.mutual, { key, cert: certificate });
      connection.write("GET /server HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n");
      await connection.until((received) => received.includes("\r\n\r\n"), 5000);
      return connection.received.toString("latin1");
    };
    // The mesh's own authority is not asked for any longer.
    expect(await ask(client).catch(() => "refused")).not.toContain("HTTP/1.1");
    expect(await ask(known)).toContain("HTTP/1.1 200 OK");
    expect(upstream.seen()).toEqual(["URI:spiffe://cluster.local/ns/edge/sa/client-file outbound_.80_._.server.test"]);

    write("server");
    await eventually(async () => (await shown(ports.mutual)) !== before || undefined, "the next certificate");
  }, 60_000);

  it("has its certificate signed by another authority, and trusts both that and the control plane's", async () => {
    writeServed("fourth.test");
    await using ca = await startExternalCa(istiod.secure!.tokens);
    const paths = agentPaths(at("four"));
    mkdirSync(join(paths.token, ".."), { recursive: true });
    writeFileSync(at("four-ca.pem"), ca.serverCa);
    writeFileSync(at("mesh.yaml"), stringify({ caCertificates: [{ pem: ca.root }] }));
    const { token } = await istiod.secure!.tokens.issue({ namespace: "edge", serviceAccount: "default" }, ["istio-ca"], 600);
    writeFileSync(paths.token, token);
    await using agent = await startAgent("four", {
      CA_ADDR: `127.0.0.1:${ca.port}`,
      CA_ROOT_CA: at("four-ca.pem"),
      "CA_HEADER_X-MESH": "blue",
      ISTIO_META_CERT_SIGNER: "signers.test/a",
      SERVICE_ACCOUNT: "default",
    });
    await agent.ready(AbortSignal.timeout(30_000));
    const issuer = async () => {
      using connection = await RawConnection.open(ports.mutual, { key: client.key, cert: client.certificate });
      const { issuer, subjectaltname } = connection.peerCertificate;
      return [issuer.O, subjectaltname];
    };
    // The client's certificate is of the control plane's authority, the gateway's of the other.
    expect(await issuer()).toEqual(["external", "URI:spiffe://cluster.local/ns/edge/sa/default"]);
    expect(ca.headers).toContainEqual(expect.objectContaining({ "x-mesh": "blue" }));
    // The control plane knows the agent by that certificate, when the token is gone.
    rmSync(paths.token);
    const [first] = istiod.discovery.connected.map(({ id }) => id);
    for (const { connection } of istiod.discovery.connected) connection.close(new StreamRefused(status.UNAVAILABLE, "once more"));
    await eventually(() => {
      const [next] = istiod.discovery.connected;
      return (next && next.id !== first && next.peer.identities?.[0]?.serviceAccount === "default") || undefined;
    }, "the agent without a token");
  }, 60_000);

  it("does not start without the socket that it is told to use", async () => {
    await expect(startAgent("three", { WORKLOAD_IDENTITY_SOCKET_FILE: "spire.sock" })).rejects.toThrow(
      /WORKLOAD_IDENTITY_SOCKET_FILE: nobody serves secrets on the socket .*spire\.sock/,
    );
  });
});
