/**
 * Workload certificates from a real SPIRE, where it is installed; secret-sources.test.ts has a server that speaks as SPIRE does.
 *
 *     GOBIN=... go install github.com/spiffe/spire/cmd/spire-server@v1.13.3 github.com/spiffe/spire/cmd/spire-agent@v1.13.3
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { Agent } from "../../src/agent/agent.ts";
import { readEnvironment } from "../../src/agent/environment.ts";
import { agentPaths } from "../../src/agent/paths.ts";
import { effectiveProxyConfig } from "../../src/agent/proxy-config.ts";
import { loadSelfSigned } from "../../src/istiod/ca/self-signed.ts";
import { Istiod } from "../../src/istiod/istiod.ts";
import { makeRequest } from "../../src/istiod/testing/certificate-client.ts";
import { envoyBinary } from "../support/envoy.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";

const missing = ["spire-server", "spire-agent"].find((program) => spawnSync(program, ["--version"]).status !== 0);
if (missing !== undefined) process.stderr.write(`skipped: a real SPIRE: no ${missing}\n`);

const loopback = { host: "127.0.0.1", port: 0 };
const variants = [{ name: "our proxy", binaryPath: undefined }, ...(envoyBinary ? [{ name: "Envoy", binaryPath: envoyBinary }] : [])];

describe.skipIf(missing !== undefined).each([
  { roots: "the mesh's root above it", hasMeshRoot: true },
  { roots: "a root of its own, in caCertificates", hasMeshRoot: false },
])("SPIRE with $roots", ({ hasMeshRoot }) => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-spire-"));
  const at = (...parts: string[]) => join(directory, ...parts);
  const paths = agentPaths(at("machine"));
  let istiod: Istiod;
  let port: number;

  beforeAll(async () => {
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    port = await freePortRow(16);
    for (const name of ["mesh", "ca", "server", "agent"]) mkdirSync(at(name));
    mkdirSync(paths.workloadSockets, { recursive: true });
    mkdirSync(join(paths.root, ".."), { recursive: true });
    await loadSelfSigned(at("ca"), "cluster.local");
    const bundle = await startSpire(port + 1);
    writeFileSync(at("mesh", "gateway.yaml"), configuration());
    writeFileSync(at("mesh.yaml"), hasMeshRoot ? "" : stringify({ caCertificates: [{ pem: bundle }] }));
    istiod = stack.use(
      await Istiod.start({
        configDir: at("mesh"),
        meshConfig: at("mesh.yaml"),
        authorityDir: at("ca"),
        grpc: loopback,
        secureGrpc: loopback,
        monitoring: loopback,
        domain: "cluster.local",
        debounceQuietMs: 20,
      }),
    );
    writeFileSync(paths.root, istiod.secure!.authority.trustBundle);
  }, 90_000);
  afterAll(() => stack.disposeAsync(), 60_000);

  /** Its bundle, in PEM. */
  async function startSpire(serverPort: number): Promise<string> {
    const socket = at("server.sock");
    const authority = `UpstreamAuthority "disk" {
      plugin_data { cert_file_path = "${at("ca", "ca-cert.pem")}" key_file_path = "${at("ca", "ca-key.pem")}" }
    }`;
    writeFileSync(
      at("server.conf"),
      `server {
        bind_address = "127.0.0.1" bind_port = "${serverPort}" socket_path = "${socket}" data_dir = "${at("server")}"
        trust_domain = "cluster.local" default_x509_svid_ttl = "60s" ca_key_type = "ec-p256" log_level = "WARN"
      }
      plugins {
        DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "${at("server", "db")}" } }
        NodeAttestor "join_token" { plugin_data {} }
        KeyManager "memory" { plugin_data {} }
        ${hasMeshRoot ? authority : ""}
      }`,
    );
    start("spire-server", ["run", "-config", at("server.conf")]);
    const ask = (...args: string[]) =>
      execFileSync("spire-server", [...args, "-socketPath", socket], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    const bundle = await eventually(() => attempt(() => ask("bundle", "show")), "SPIRE's server");
    const host = "spiffe://cluster.local/host";
    const token = /Token: (\S+)/.exec(ask("token", "generate", "-spiffeID", host))![1]!;
    const workload = "spiffe://cluster.local/ns/edge/sa/gateway";
    ask("entry", "create", "-parentID", host, "-spiffeID", workload, "-selector", `unix:uid:${process.getuid!()}`);
    writeFileSync(at("bundle.pem"), bundle);
    writeFileSync(
      at("agent.conf"),
      `agent {
        data_dir = "${at("agent")}" socket_path = "${join(paths.workloadSockets, "socket")}" log_level = "WARN"
        server_address = "127.0.0.1" server_port = "${serverPort}" trust_domain = "cluster.local"
        trust_bundle_path = "${at("bundle.pem")}" join_token = "${token}"
      }
      plugins {
        NodeAttestor "join_token" { plugin_data {} }
        KeyManager "memory" { plugin_data {} }
        WorkloadAttestor "unix" { plugin_data {} }
      }`,
    );
    start("spire-agent", ["run", "-config", at("agent.conf")]);
    const health = ["healthcheck", "-socketPath", join(paths.workloadSockets, "socket")];
    await eventually(() => spawnSync("spire-agent", health).status === 0 || undefined, "SPIRE's agent");
    return bundle;
  }

  function start(program: string, args: readonly string[]): void {
    const child: ChildProcess = spawn(program, args, { stdio: ["ignore", "ignore", "inherit"] });
    const exited = new Promise((resolve) => child.once("exit", resolve));
    stack.defer(async () => {
      child.kill("SIGTERM");
      await exited;
    });
  }

  function configuration(): string {
    const object = (kind: string, spec: unknown) =>
      stringify({ apiVersion: "networking.istio.io/v1", kind, metadata: { name: "edge", namespace: "edge" }, spec });
    const server = {
      port: { number: port, name: "https", protocol: "HTTPS" },
      bind: "127.0.0.1",
      hosts: ["*"],
      tls: { mode: "ISTIO_MUTUAL" },
    };
    return [
      object("Gateway", { selector: { app: "gateway" }, servers: [server] }),
      object("VirtualService", { hosts: ["*"], gateways: ["edge"], http: [{ directResponse: { status: 200 } }] }),
    ].join("---\n");
  }

  /** What the gateway shows of itself, and whether it takes a certificate of the mesh's own authority. */
  async function call(): Promise<{ name: string; serial: string; isServed: boolean }> {
    const uri = "spiffe://cluster.local/ns/edge/sa/client";
    const { csr, key } = await makeRequest(uri);
    const { chain } = await istiod.secure!.authority.signRequest(csr, [{ type: "url", value: uri }], 3600);
    using connection = await RawConnection.open(port, {
      key: key.export({ type: "pkcs8", format: "pem" }) as string,
      cert: chain.join(""),
    });
    connection.write("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    const isServed = await connection.until((bytes) => bytes.includes("200 OK"), 5000);
    const { subjectaltname: name = "", serialNumber: serial } = connection.peerCertificate;
    return { name, serial, isServed };
  }

  it.each(variants)(
    "gives $name its certificate, and the next one",
    async ({ binaryPath }) => {
      const first = await freePortRow(16);
      await using agent = await Agent.start({
        type: "router",
        environment: readEnvironment({
          POD_NAME: "one",
          POD_NAMESPACE: "edge",
          SERVICE_ACCOUNT: "gateway",
          INSTANCE_IP: "127.0.0.1",
          TOPSAIL_BIND_ADDRESS: "127.0.0.1",
          ENVOY_STATUS_PORT: String(first + 2),
          ENVOY_PROMETHEUS_PORT: String(first + 3),
          ISTIO_METAJSON_LABELS: '{"app":"gateway"}',
        }),
        proxyConfig: effectiveProxyConfig(
          undefined,
          JSON.stringify({
            discoveryAddress: `127.0.0.1:${istiod.secure!.port}`,
            proxyAdminPort: first,
            statusPort: first + 1,
            configPath: at("machine", "proxy"),
            ...(binaryPath === undefined ? {} : { binaryPath }),
          }),
        ),
        root: at("machine"),
        addresses: ["127.0.0.1"],
        usesBinary: binaryPath !== undefined,
        concurrency: 1,
        logLevel: "warning",
        statusHost: "127.0.0.1",
      });
      await agent.ready(AbortSignal.timeout(40_000));
      expect(istiod.discovery.connected[0]!.peer.identities).toEqual([
        { trustDomain: "cluster.local", namespace: "edge", serviceAccount: "gateway" },
      ]);
      const { name, serial, isServed } = await call();
      expect(name).toBe("URI:spiffe://cluster.local/ns/edge/sa/gateway");
      // SPIRE alone says whom its workloads trust.
      expect(isServed).toBe(hasMeshRoot);
      await eventually(async () => (await call()).serial !== serial || undefined, "the next certificate", 60_000);
    },
    120_000,
  );
});

function attempt(run: () => string): string | undefined {
  try {
    return run();
  } catch {
    return undefined;
  }
}
