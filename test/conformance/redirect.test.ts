/**
 * Sidecars as on machines of their own: traffic captured by iptables in network namespaces, redirected or (inbound, TPROXY) handed over as
 * it is; Envoy and our proxy as caller and called, mutual TLS between them. The applications know nothing of it. All machines have addresses
 * of both families.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { startControlPlane, type TestControlPlane } from "../support/control-plane.ts";
import { envoyBinary, envoyPath } from "../support/envoy.ts";
import { makeMeshCa } from "../support/mesh-ca.ts";
import { meshBootstrap } from "../support/mesh-proxy.ts";
import { ipv6Of, type NetworkNamespace, namespacesProblem, startNamespaces } from "../support/network-namespace.ts";
import { eventually } from "../support/proxies.ts";
import { startSdsServer } from "../support/sds-server.ts";

const problem = envoyBinary ? namespacesProblem() : "no Envoy";
if (problem !== undefined) process.stderr.write(`skipped: redirected traffic: ${problem}\n`);

const root = join(import.meta.dirname, "..", "..");
const node = process.execPath;
const application = join(import.meta.dirname, "..", "support", "namespace-application.ts");
const proxyCommands = { envoy: [envoyPath, "--disable-hot-restart"], topsail: [node, join(root, "src", "main.ts"), "envoy"] };
type ProxyName = keyof typeof proxyCommands;

const machines = (["client", "server"] as const).flatMap((role, row) =>
  (["envoy", "topsail"] as const).map((proxy, column) => ({
    role,
    proxy,
    name: `${role}-${proxy}`,
    address: `10.77.0.${11 + 10 * row + column}`,
  })),
);
type Machine = (typeof machines)[number];
const machine = (role: Machine["role"], proxy: ProxyName) => machines.find((one) => one.role === role && one.proxy === proxy)!;
const hubAddress = "10.77.0.1";
/** By IPv6 there are services of their own, whose endpoints are the servers' addresses of that family. */
const families = ["IPv4", "IPv6"] as const;
type Family = (typeof families)[number];
const serviceAddress = { IPv4: { envoy: "10.96.0.1", topsail: "10.96.0.2" }, IPv6: { envoy: "fd96::1", topsail: "fd96::2" } };
const serviceName = (proxy: ProxyName, family: Family) => `server-${proxy}${family === "IPv4" ? "" : "-ipv6"}`;
const addressOf = (address: string, family: Family) => (family === "IPv4" ? address : ipv6Of(address));
const inUrl = (address: string) => (address.includes(":") ? `[${address}]` : address);

const ports = [
  { name: "http", port: 80, targetPort: 8080, serves: "http", mode: "STRICT" },
  { name: "any", port: 81, targetPort: 8081, serves: "http", mode: "STRICT" },
  { name: "tcp", port: 9000, targetPort: 9000, serves: "echo", mode: "STRICT" },
  { name: "tcp-first", port: 9001, targetPort: 9001, serves: "greeting", mode: "STRICT" },
  { name: "tcp-either", port: 9002, targetPort: 9002, serves: "echo", mode: "PERMISSIVE" },
  { name: "tcp-plain", port: 9003, targetPort: 9003, serves: "greeting", mode: "DISABLE" },
  { name: "tcp-peer", port: 9004, targetPort: 9004, serves: "peer", mode: "PERMISSIVE" },
] as const;
/** Of no service. */
const undeclaredPort = 9100;

describe.skipIf(problem !== undefined).each(["REDIRECT", "TPROXY"] as const)("sidecars to which traffic comes by %s", (mode) => {
  const stack = new AsyncDisposableStack();
  const namespaces = new Map<string, NetworkNamespace>();
  const directory = mkdtempSync(join(tmpdir(), "topsail-redirect-"));
  let hub: NetworkNamespace;
  let controlPlane: TestControlPlane;

  beforeAll(async () => {
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    const proxyPorts = { outbound: 15001, inbound: 15006 };
    const [first, ...others] = await startNamespaces([hubAddress, ...machines.map(({ address }) => address)], proxyPorts, mode, true);
    hub = stack.use(first!);
    for (const [index, namespace] of others.entries()) namespaces.set(machines[index]!.name, stack.use(namespace));
    controlPlane = stack.use(await startControlPlane(configuration()));
    expect(await (await fetch(`${controlPlane.debugUrl}/debug/problems`)).json()).toEqual([]);
    const xdsPath = await shareControlPlane();
    const ca = makeMeshCa();
    const served = [...ports.map(({ serves, targetPort }) => `${serves}:${targetPort}`), `echo:${undeclaredPort}`];
    for (const family of families) {
      await startProgram(hub, [node, application, "serve", addressOf(hubAddress, family), "http:7000", "echo:7001"], "ready");
    }
    for (const one of machines) {
      const namespace = namespaces.get(one.name)!;
      for (const family of one.role === "server" ? families : []) {
        await startProgram(namespace, [node, application, "serve", addressOf(one.address, family), ...served], "ready");
      }
      const sds = stack.use(await startSdsServer(ca.issue(`spiffe://cluster.local/ns/shop/sa/${one.role}`), ca.root));
      const file = join(directory, `${one.name}.json`);
      writeFileSync(file, JSON.stringify(bootstrap(one, xdsPath, sds.path)));
      await startProgram(namespace, [...proxyCommands[one.proxy], "-c", file, "--concurrency", "1", "-l", "warning"], undefined, true);
    }
    // Everybody has listeners when a request gets through.
    for (const client of ["envoy", "topsail"] as const) {
      for (const server of ["envoy", "topsail"] as const) {
        for (const family of families) {
          const what = `${client} to ${server} by ${family}`;
          await eventually(async () => (await get(client, server, 80, family)).startsWith("200") || undefined, what, 30_000);
        }
      }
    }
  }, 120_000);
  afterAll(() => stack.disposeAsync(), 30_000);

  function configuration(): string {
    const object = (apiVersion: string, kind: string, name: string, spec: unknown) =>
      stringify({ apiVersion, kind, metadata: { name, namespace: "shop" }, spec });
    return [
      ...machines.flatMap(({ name, role, proxy, address }) =>
        families.map((family) => {
          const app = role === "server" ? serviceName(proxy, family) : name;
          const workload = { address: addressOf(address, family), serviceAccount: role, labels: { app, role } };
          return object("networking.istio.io/v1", "WorkloadEntry", `${name}-${family.toLowerCase()}`, workload);
        }),
      ),
      ...families.flatMap((family) =>
        (["envoy", "topsail"] as const).map((proxy) =>
          object("v1", "Service", serviceName(proxy, family), {
            clusterIP: serviceAddress[family][proxy],
            selector: { app: serviceName(proxy, family) },
            ports: ports.map(({ name, port, targetPort }) => ({ name, port, targetPort })),
          }),
        ),
      ),
      object("security.istio.io/v1", "PeerAuthentication", "shop", {
        selector: { matchLabels: { role: "server" } },
        mtls: { mode: "STRICT" },
        portLevelMtls: Object.fromEntries(ports.map((port) => [port.targetPort, { mode: port.mode }])),
      }),
    ].join("---\n");
  }

  /** A Unix socket knows no namespaces. */
  async function shareControlPlane(): Promise<string> {
    const path = join(directory, "xds");
    const server = createServer((socket) => {
      const upstream = connect(controlPlane.istiod.grpcPort, "127.0.0.1");
      socket.pipe(upstream).pipe(socket);
      socket.on("error", () => upstream.destroy());
      upstream.on("error", () => socket.destroy());
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    stack.defer(() => void server.close());
    return path;
  }

  function bootstrap({ name, role, address }: Machine, xdsPath: string, sdsPath: string): unknown {
    return meshBootstrap({
      type: "sidecar",
      name,
      address,
      labels: { app: name, role },
      namespace: "shop",
      xds: { pipe: { path: xdsPath } },
      isDelta: true,
      sdsPath,
      metadata: {
        SERVICE_ACCOUNT: role,
        INTERCEPTION_MODE: mode,
        INSTANCE_IPS: `${address},${ipv6Of(address)}`,
        DUAL_STACK: "true",
      },
    });
  }

  async function startProgram(
    namespace: NetworkNamespace,
    args: readonly string[],
    announces: string | undefined,
    asProxy = false,
  ): Promise<void> {
    const [command, all] = namespace.command(args, { asProxy });
    const child: ChildProcess = spawn(command, all, { stdio: ["pipe", "pipe", "pipe"] });
    let output = "";
    const collect = (chunk: Buffer) => {
      output += chunk;
    };
    child.stdout!.on("data", collect);
    child.stderr!.on("data", collect);
    const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    stack.defer(async () => {
      child.kill("SIGKILL");
      await exited;
    });
    if (announces !== undefined) {
      await eventually(
        () => output.includes(announces) || undefined,
        () => `${args.join(" ")}: ${output}`,
      );
    }
  }

  async function inside(namespace: NetworkNamespace, ...args: string[]): Promise<string> {
    const [command, all] = namespace.command([node, application, ...args]);
    return new Promise((resolve, reject) =>
      execFile(command, all, { timeout: 15_000 }, (error, stdout) => (error ? reject(error) : resolve(stdout))),
    );
  }

  const clientOf = (proxy: ProxyName) => namespaces.get(`client-${proxy}`)!;
  const get = (client: ProxyName, server: ProxyName, port: number, family: Family) =>
    inside(clientOf(client), "get", `http://${inUrl(serviceAddress[family][server])}:${port}/path`);
  const send = (client: ProxyName, server: ProxyName, port: number, text: string, family: Family) =>
    inside(clientOf(client), "send", serviceAddress[family][server], String(port), text);

  const pairs = (["envoy", "topsail"] as const).flatMap((client) =>
    (["envoy", "topsail"] as const).flatMap((server) => families.map((family) => [client, server, family] as const)),
  );

  describe.each(pairs)("%s calls %s by %s", (client, server, family) => {
    it("HTTP by mutual TLS", async () => {
      const answer = await get(client, server, 80, family);
      expect(answer).toMatch(/^200 /);
      const { path, headers } = JSON.parse(answer.slice(4)) as { path: string; headers: Record<string, string> };
      expect(path).toBe("/path");
      expect(headers["x-forwarded-client-cert"]).toContain("URI=spiffe://cluster.local/ns/shop/sa/client");
    });

    it("HTTP on a port of unknown protocol", async () => {
      expect(await get(client, server, 81, family)).toMatch(/^200 /);
    });

    it.each([
      [9000, "hello", "echo:hello"],
      [9001, "", "greeting"],
      [9002, "hello", "echo:hello"],
      [9003, "", "greeting"],
    ])("TCP on port %i, whoever speaks first", async (port, text, expected) => {
      expect(await send(client, server, port, text, family)).toBe(expected);
    });

    it(`and the application sees ${mode === "TPROXY" ? "its caller's address" : "the proxy's"}`, async () => {
      const proxys = family === "IPv4" ? "127.0.0.6" : "::6";
      const peer = mode === "TPROXY" ? addressOf(machine("client", client).address, family) : proxys;
      expect(JSON.parse((await get(client, server, 80, family)).slice(4))).toMatchObject({ peer });
      expect(await send(client, server, 9004, "", family)).toBe(`peer ${peer}`);
    });
  });

  const proxiesByFamily = families.flatMap((family) => (["envoy", "topsail"] as const).map((proxy) => [proxy, family] as const));

  describe.each(proxiesByFamily)("%s as server, called from outside the mesh by %s", (server, family) => {
    const address = addressOf(machine("server", server).address, family);

    it("takes no plaintext where mutual TLS is required, declared port or not", async () => {
      expect(await inside(hub, "get", `http://${inUrl(address)}:8080/`)).toMatch(/^failed /);
      expect(await inside(hub, "send", address, "9000", "hello")).toBe("");
      expect(await inside(hub, "send", address, String(undeclaredPort), "hello")).toBe("");
    });

    it("takes plaintext where it may", async () => {
      expect(await inside(hub, "send", address, "9002", "hello")).toBe("echo:hello");
      expect(await inside(hub, "send", address, "9003", "")).toBe("greeting");
    });

    it("is not reached by its own port", async () => {
      expect(await inside(hub, "send", address, "15006", "hello")).toBe("");
    });
  });

  it.each(proxiesByFamily)("%s as client lets through what it does not know, by %s", async (client, family) => {
    const address = addressOf(hubAddress, family);
    expect(await inside(clientOf(client), "get", `http://${inUrl(address)}:7000/out`)).toMatch(/^200 /);
    expect(await inside(clientOf(client), "send", address, "7001", "hello")).toBe("echo:hello");
  });

  it("has nothing refused by a proxy", async () => {
    const metrics = await (await fetch(`${controlPlane.debugUrl}/metrics`)).text();
    expect(metrics.match(/^pilot_total_xds_rejects\{.*$/gm) ?? []).toEqual([]);
  });
});
