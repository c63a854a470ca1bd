/**
 * An operator revokes certificates of workloads: a list beside the plugged-in authority reaches every machine, and our proxy and Envoy refuse
 * whom it names, as clients and as servers, within seconds and without a restart.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { Agent } from "../../src/agent/agent.ts";
import { readEnvironment } from "../../src/agent/environment.ts";
import { agentPaths } from "../../src/agent/paths.ts";
import { effectiveProxyConfig } from "../../src/agent/proxy-config.ts";
import { Istiod } from "../../src/istiod/istiod.ts";
import { envoyBinary } from "../support/envoy.ts";
import { type Identity, makeMeshCa } from "../support/mesh-ca.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";
import { startUpstream } from "../support/upstream.ts";

const loopback = { host: "127.0.0.1", port: 0 };
const sides = [
  { name: "our proxy", address: "127.0.8.1", binaryPath: undefined },
  { name: "Envoy", address: "127.0.8.2", binaryPath: envoyBinary },
] as const;
type Side = (typeof sides)[number];

/** The root itself is kept elsewhere: its own list is not to be had. */
const root = makeMeshCa("root");
const ca = root.intermediate("signing");
const good = ca.issue("spiffe://cluster.local/ns/edge/sa/client");
const bad = ca.issue("spiffe://cluster.local/ns/edge/sa/client");
const server = ca.issue("spiffe://cluster.local/ns/edge/sa/server");

describe.skipIf(!envoyBinary)("revoked certificates", () => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-revocation-"));
  const at = (...parts: string[]) => join(directory, ...parts);
  let istiod: Istiod;
  let ports: { inbound: number; outbound: number };

  beforeAll(async () => {
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    const first = await freePortRow(2);
    ports = { inbound: first, outbound: first + 1 };
    for (const name of ["mesh", "ca"]) mkdirSync(at(name));
    writeFileSync(at("ca", "ca-cert.pem"), ca.signing.certificate);
    writeFileSync(at("ca", "ca-key.pem"), ca.signing.key);
    writeFileSync(at("ca", "root-cert.pem"), ca.root);
    writeFileSync(at("ca", "cert-chain.pem"), ca.signing.certificate);
    const upstream = stack.use(await startUpstream("up", { cert: server.certificate, key: server.key, ca: ca.root, requestCert: true }));
    writeFileSync(at("mesh", "mesh.yaml"), configuration(upstream.port));
    istiod = stack.use(
      await Istiod.start({
        configDir: at("mesh"),
        authorityDir: at("ca"),
        grpc: loopback,
        secureGrpc: loopback,
        monitoring: loopback,
        domain: "cluster.local",
        debounceQuietMs: 20,
      }),
    );
    const agents = await Promise.all(sides.map(startAgent));
    await Promise.all(agents.map((agent) => agent.ready(AbortSignal.timeout(30_000))));
  }, 90_000);
  afterAll(() => stack.disposeAsync(), 30_000);

  function configuration(upstreamPort: number): string {
    const object = (kind: string, spec: unknown) =>
      stringify({ apiVersion: "networking.istio.io/v1", kind, metadata: { name: "edge", namespace: "edge" }, spec });
    const host = "upstream.test";
    return [
      object("Gateway", {
        selector: { app: "gateway" },
        servers: [
          { port: { number: ports.inbound, name: "https", protocol: "HTTPS" }, hosts: ["in.test"], tls: { mode: "ISTIO_MUTUAL" } },
          { port: { number: ports.outbound, name: "http", protocol: "HTTP" }, hosts: ["out.test"] },
        ],
      }),
      object("ServiceEntry", {
        hosts: [host],
        ports: [{ number: 80, name: "http", protocol: "HTTP" }],
        resolution: "STATIC",
        endpoints: [{ address: "127.0.0.1", ports: { http: upstreamPort } }],
      }),
      object("DestinationRule", {
        host,
        // What is open stays open; a list counts when connections begin.
        trafficPolicy: {
          connectionPool: { http: { maxRequestsPerConnection: 1 } },
          tls: { mode: "ISTIO_MUTUAL", subjectAltNames: ["spiffe://cluster.local/ns/edge/sa/server"] },
        },
      }),
      object("VirtualService", {
        hosts: ["in.test", "out.test"],
        gateways: ["edge"],
        http: [
          { match: [{ port: ports.inbound }], directResponse: { status: 200 } },
          { retries: { attempts: 0 }, route: [{ destination: { host } }] },
        ],
      }),
    ].join("---\n");
  }

  async function startAgent({ name, address, binaryPath }: Side): Promise<Agent> {
    const machine = name.replace(" ", "-").toLowerCase();
    const first = await freePortRow(4);
    const paths = agentPaths(at(machine));
    const { token } = await istiod.secure!.tokens.issue({ namespace: "edge", serviceAccount: "default" }, ["istio-ca"], 600);
    for (const [path, content] of [
      [paths.root, istiod.secure!.authority.trustBundle],
      [paths.token, token],
    ] as const) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, content);
    }
    const proxyConfig = {
      discoveryAddress: `127.0.0.1:${istiod.secure!.port}`,
      proxyAdminPort: first,
      statusPort: first + 1,
      configPath: at(machine, "proxy"),
      ...(binaryPath === undefined ? {} : { binaryPath }),
    };
    const environment = readEnvironment({
      POD_NAME: machine,
      POD_NAMESPACE: "edge",
      INSTANCE_IP: address,
      TOPSAIL_BIND_ADDRESS: address,
      ENVOY_STATUS_PORT: String(first + 2),
      ENVOY_PROMETHEUS_PORT: String(first + 3),
      ISTIO_METAJSON_LABELS: '{"app":"gateway"}',
    });
    const agent = await Agent.start({
      type: "router",
      environment,
      proxyConfig: effectiveProxyConfig(undefined, JSON.stringify(proxyConfig)),
      root: at(machine),
      addresses: [address],
      usesBinary: binaryPath !== undefined,
      concurrency: 1,
      logLevel: "warning",
      statusHost: address,
    });
    return stack.use(agent);
  }

  async function ask({ address }: Side, port: number, host: string, identity?: Identity): Promise<string> {
    const tls = identity && { key: identity.key, cert: identity.certificate, servername: host };
    const connection = await RawConnection.open(port, tls, address).catch(() => undefined);
    if (!connection) return "refused";
    using opened = connection;
    opened.write(`GET / HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
    await opened.until((received) => received.includes("\r\n\r\n"), 3000);
    return /^HTTP\/1.1 (\d+)/.exec(opened.received.toString())?.[1] ?? "refused";
  }
  const asClient = (side: Side, identity: Identity) => ask(side, ports.inbound, "in.test", identity);
  const toServer = (side: Side) => ask(side, ports.outbound, "out.test");
  const revoke = (...identities: Identity[]) => writeFileSync(at("ca", "ca-crl.pem"), ca.revoke(...identities));

  it.each(sides.map((side) => [side.name, side] as const))("are good in %s until there is a list", async (_, side) => {
    expect(await asClient(side, good)).toBe("200");
    expect(await asClient(side, bad)).toBe("200");
    expect(await toServer(side)).toBe("200");
  });

  it("are refused as clients, and only they", async () => {
    revoke(bad);
    for (const side of sides) {
      await eventually(async () => (await asClient(side, bad)) === "refused" || undefined, `refusal by ${side.name}`);
      expect(await asClient(side, good), side.name).toBe("200");
      expect(await toServer(side), side.name).toBe("200");
    }
  });

  it("are refused as servers", async () => {
    revoke(bad, server);
    for (const side of sides) {
      await eventually(async () => (await toServer(side)) === "503" || undefined, `refusal by ${side.name}`);
      expect(await asClient(side, good), side.name).toBe("200");
    }
  });

  it("stay refused when the list is damaged, or is one of another authority", async () => {
    for (const text of ["damaged", root.revoke(good)]) {
      writeFileSync(at("ca", "ca-crl.pem"), text);
      await new Promise((resolve) => setTimeout(resolve, 1000));
      for (const side of sides) {
        expect(await asClient(side, bad), side.name).toBe("refused");
        expect(await asClient(side, good), side.name).toBe("200");
      }
    }
  });

  it("are good again when the operator takes the list away", async () => {
    rmSync(at("ca", "ca-crl.pem"));
    for (const side of sides) {
      await eventually(async () => (await asClient(side, bad)) === "200" || undefined, `trust of ${side.name}`);
      await eventually(async () => (await toServer(side)) === "200" || undefined, `trust of ${side.name}`);
    }
  });
});
