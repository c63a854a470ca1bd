/**
 * Three networks that see nothing of each other but their routers. On each router is an east-west gateway, made by the steps of
 * docs/virtual-machines.md, network b's with a real Envoy; two machines are behind one masquerading router, and another network has a
 * machine of the same address. All sidecars and gateways are what the units of systemd run, in directories of their own.
 *
 *     network home: control plane 172.30.0.1, gateway 10.78.0.1 ──┬── gateway 10.78.0.2 ── ratings 192.168.7.11, 192.168.7.12 :network a
 *                   web 172.30.0.11                               └── gateway 10.78.0.3 ── ratings 192.168.7.11               :network b
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { kubectls } from "../support/kubectl.ts";
import { type NetworkNamespace, namespacesProblem } from "../support/network-namespace.ts";
import { startPrivateNetworks } from "../support/private-networks.ts";
import { eventually } from "../support/proxies.ts";
import { binary } from "../support/topsail.ts";

const execute = promisify(execFile);
const [kubectlBinary] = kubectls;
const problem = namespacesProblem() ?? (kubectlBinary ? undefined : "no kubectl");
if (problem !== undefined) process.stderr.write(`skipped: private networks: ${problem}\n`);

const samples = join(import.meta.dirname, "..", "..", "samples", "multicluster");
const application = join(import.meta.dirname, "..", "support", "namespace-application.ts");
const controlPlaneAddress = "172.30.0.1";
const plan = [
  { name: "home", outside: "10.78.0.1", inside: controlPlaneAddress, machines: ["172.30.0.11"] },
  { name: "a", outside: "10.78.0.2", inside: "192.168.7.1", machines: ["192.168.7.11", "192.168.7.12"] },
  { name: "b", outside: "10.78.0.3", inside: "192.168.7.1", machines: ["192.168.7.11"] },
] as const;
const services = { web: "240.241.7.1", ratings: "240.241.7.2" };

const group = (name: string, network = "") => `
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: ${name}, namespace: default}
spec:
  metadata: {labels: {app: ${name}}}
  template: {serviceAccount: ${name}${network}}
---`;
const mesh = `${Object.entries(services)
  .map(
    ([name, address]) => `
apiVersion: v1
kind: ServiceAccount
metadata: {name: ${name}, namespace: default}
---
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: default}
spec: {clusterIP: ${address}, selector: {app: ${name}}, ports: [{name: http, port: 80, targetPort: 8080}]}
---`,
  )
  .join("")}
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
# A gateway balances connections, and each request is to have one of its own.
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings, namespace: default}
spec: {host: ratings, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}}
---${group("web", ", network: home")}${group("ratings")}
`;

interface Caller {
  readonly name: string;
  readonly where: NetworkNamespace;
  readonly home: string;
  readonly agent: ChildProcess;
}

describe.skipIf(problem !== undefined)("networks that see nothing of each other but their gateways", { timeout: 60_000 }, () => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-networks-"));
  const kubeconfig = join(directory, "kubeconfig");
  const outputs = new Map<ChildProcess, string>();
  const machines = new Map<string, Caller>();
  const machine = (name: string) => machines.get(name)!;
  let router: Record<(typeof plan)[number]["name"], NetworkNamespace>;

  const run = async (where: NetworkNamespace, args: readonly string[], asProxy = false): Promise<string> => {
    const [command, all] = where.command(args, { asProxy, ownFiles: true });
    const env = { PATH: process.env.PATH ?? "", HOME: directory, KUBECONFIG: kubeconfig };
    return (await execute(command, all, { encoding: "utf8", env })).stdout;
  };
  /** Where the control plane is. */
  const atHome = (...args: string[]) => run(router.home, args);
  const kubectl = (...args: string[]) => atHome(kubectlBinary!, ...args);
  const start = (where: NetworkNamespace, args: readonly string[], env: Record<string, string> = {}, cwd = directory): ChildProcess => {
    const [command, all] = where.command(["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", cwd, ...args], {
      asProxy: true,
      ownFiles: true,
    });
    const child = spawn(command, all, { stdio: ["pipe", "pipe", "pipe"], env: { PATH: process.env.PATH ?? "", ...env } });
    outputs.set(child, "");
    const collect = (chunk: Buffer) => outputs.set(child, outputs.get(child)! + chunk);
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    stack.defer(() => end(child, "SIGKILL"));
    return child;
  };
  const end = async (child: ChildProcess, signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await exited;
  };
  const printed = (child: ChildProcess, text: string) => {
    const said = () => outputs.get(child)!;
    return eventually(
      () => {
        if (child.exitCode !== null) throw new Error(`ended before it printed "${text}":\n${said()}`);
        return said().includes(text) || undefined;
      },
      () => `"${text}" in\n${said()}`,
      30_000,
    );
  };
  const get = (where: NetworkNamespace, url: string, asProxy = false) => run(where, [process.execPath, application, "get", url], asProxy);
  const ask = async (from: Caller, service: keyof typeof services) => {
    const answer = await get(from.where, `http://${services[service]}/`);
    if (!answer.startsWith("200 ")) throw new Error(answer);
    return JSON.parse(answer.slice(4)) as { name: string; headers: Record<string, string> };
  };
  const entries = async () => {
    const columns = "custom-columns=NAME:.metadata.name,ADDRESS:.spec.address,NETWORK:.spec.network";
    const table = await kubectl("get", "workloadentries", "-n", "default", "--no-headers", "-o", columns);
    return table
      .trim()
      .split("\n")
      .map((line) => line.split(/\s+/).join(" "));
  };

  /** The files of a machine of the group, where its agent looks for them below `home`. */
  const provision = async (name: string, groupName: string, namespace: string, where: NetworkNamespace, controlPlane?: string) => {
    const home = join(directory, name);
    const files = join(directory, `${name}-files`);
    const reach = controlPlane ? ["--ingressIP", controlPlane] : [];
    const which = ["--name", groupName, "--namespace", namespace, "--autoregister", "--capture-dns=false"];
    await atHome(binary, "istioctl", "x", "workload", "entry", "configure", ...which, ...reach, "--output", files);
    const place = (file: string, at: string) => {
      mkdirSync(dirname(join(home, at)), { recursive: true });
      renameSync(join(files, file), join(home, at));
    };
    place("root-cert.pem", "etc/certs/root-cert.pem");
    place("istio-token", "var/run/secrets/tokens/istio-token");
    place("cluster.env", "var/lib/istio/envoy/cluster.env");
    place("mesh.yaml", "etc/istio/config/mesh");
    await run(where, ["mount", "--bind", join(files, "hosts"), "/etc/hosts"]);
    return home;
  };
  const startGateway = async (network: (typeof plan)[number], name: string, more: string[], binaryPath?: string) => {
    const args = ["--network", network.name, "--address", network.outside, "--name", name, ...more];
    const { stdout } = await execute(join(samples, "gen-eastwest-gateway.sh"), args, { encoding: "utf8" });
    const file = join(directory, `${name}.yaml`);
    writeFileSync(file, stdout);
    await kubectl("apply", "-f", file);
    // The gateway at home is on the control plane's machine; the others reach it as their machines do.
    const where = router[network.name];
    const home = await provision(name, name, "istio-system", where, network.name === "home" ? controlPlaneAddress : undefined);
    if (binaryPath) appendFileSync(join(home, "var/lib/istio/envoy/cluster.env"), `PROXY_CONFIG='{binaryPath: "${binaryPath}"}'\n`);
    const agent = start(where, [binary, "pilot-agent", "machine", "run", "--gateway", "eastwest"], {}, home);
    if (binaryPath) await printed(agent, `proxy=${binaryPath}`);
    const readiness = `http://${network.name === "home" ? network.outside : "127.0.0.1"}:15221/healthz/ready`;
    const isReady = async () => (await get(where, readiness, true)).startsWith("200") || undefined;
    await eventually(isReady, () => `gateway of network ${network.name}:\n${outputs.get(agent)}`, 30_000);
  };
  interface MachineOptions {
    readonly group: string;
    readonly hostName: string;
    /** Where its group names none. */
    readonly network?: string;
    readonly controlPlane?: string;
  }
  const startMachine = async (name: string, where: NetworkNamespace, options: MachineOptions) => {
    const home = await provision(name, options.group, "default", where, options.controlPlane);
    const settings = { POD_NAME: options.hostName, ...(options.network && { ISTIO_META_NETWORK: options.network }) };
    const lines = Object.entries(settings).map(([variable, value]) => `${variable}=${value}\n`);
    appendFileSync(join(home, "var/lib/istio/envoy/cluster.env"), lines.join(""));
    await printed(start(where, [process.execPath, application, "serve", "0.0.0.0", "http:8080"], { NAME: name }), "ready");
    machines.set(name, { name, where, home, agent: startAgent(where, home) });
  };
  const startAgent = (where: NetworkNamespace, home: string) => start(where, [binary, "pilot-agent", "machine", "run"], {}, home);
  const isReady = ({ where }: Caller) => get(where, "http://127.0.0.1:15021/healthz/ready");

  beforeAll(async () => {
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    const networks = await startPrivateNetworks(plan, { outbound: 15001, inbound: 15006 }, stack);
    const [home, a, b] = networks;
    router = { home: home!.router, a: a!.router, b: b!.router };
    writeFileSync(join(directory, "mesh-config.yaml"), "defaultConfig: {concurrency: 1, terminationDrainDuration: 1s}\n");
    await printed(
      start(home!.router, [
        ...[binary, "istiod", "--dataDir", "state", "--meshConfig", "mesh-config.yaml", "--workloadEntryGracePeriod", "1s"],
        ...["--secureGRPCAddr", `${controlPlaneAddress}:15012`, "--kubeAPIAddr", "127.0.0.1:6443", "--kubeconfig-out", kubeconfig],
      ]),
      "serving",
    );
    writeFileSync(join(directory, "mesh.yaml"), mesh);
    await kubectl("apply", "-f", join(directory, "mesh.yaml"));
    for (const name of ["expose-istiod.yaml", "expose-services.yaml"])
      await kubectl("apply", "-n", "istio-system", "-f", join(samples, name));
    await startGateway(plan[0], "istio-eastwestgateway", ["--bind", plan[0].outside]);
    await startGateway(plan[1], "istio-eastwestgateway-a", []);
    await startGateway(plan[2], "istio-eastwestgateway-b", [], envoyBinary);
    await startMachine("web", home!.machines[0]!, { group: "web", hostName: "web", controlPlane: controlPlaneAddress });
    await startMachine("a1", a!.machines[0]!, { group: "ratings", hostName: "vm1", network: "a" });
    await startMachine("a2", a!.machines[1]!, { group: "ratings", hostName: "vm2", network: "a" });
    // Of the same host name and address as another.
    await startMachine("b1", b!.machines[0]!, { group: "ratings", hostName: "vm1", network: "b" });
  }, 180_000);
  afterAll(() => stack.disposeAsync(), 60_000);

  it("have no way to the control plane's own port", async () => {
    const answer = await get(machine("a1").where, `http://${controlPlaneAddress}:15012/`, true);
    expect(answer).toMatch(/^failed (ENETUNREACH|EHOSTUNREACH)/);
  });

  it.each(["web", "a1", "a2", "b1"])("have %s served, by configuration and a certificate that came through the gateway", async (name) => {
    await expect.poll(() => isReady(machine(name)), { timeout: 30_000, interval: 200 }).toMatch(/^200/);
    const chain = new X509Certificate(readFileSync(join(machine(name).home, "etc/certs/cert-chain.pem")));
    expect(chain.subjectAltName).toBe(`URI:spiffe://cluster.local/ns/default/sa/${name === "web" ? "web" : "ratings"}`);
  });

  it("give each machine an entry of its own, also behind one router, and with one address and host name in two networks", async () => {
    expect(await entries()).toEqual([
      "ratings-192.168.7.11-a 192.168.7.11 a",
      "ratings-192.168.7.11-b 192.168.7.11 b",
      "ratings-192.168.7.12-a 192.168.7.12 a",
      "web-172.30.0.11-home 172.30.0.11 home",
    ]);
  });

  it("are crossed by port 15443, by mutual TLS from workload to workload", async () => {
    for (const name of ["a1", "b1"]) {
      const { name: served, headers } = await ask(machine(name), "web");
      expect(served).toBe("web");
      expect(headers["x-forwarded-client-cert"]).toMatch(
        /By=spiffe:\/\/cluster\.local\/ns\/default\/sa\/web;.*URI=spiffe:\/\/cluster\.local\/ns\/default\/sa\/ratings$/,
      );
      const clusters = await get(machine(name).where, "http://127.0.0.1:15000/clusters");
      expect(addressesIn(clusters, "web")).toEqual(["10.78.0.1:15443"]);
    }
  });

  it("lead nobody in who is not of the mesh", async () => {
    expect(await get(machine("a1").where, "http://10.78.0.1:15443/", true)).toMatch(/^failed (ECONNRESET|EPIPE)/);
  });

  it("have three machines called as three, of which two have one address", async () => {
    const clusters = await get(machine("web").where, "http://127.0.0.1:15000/clusters");
    expect(addressesIn(clusters, "ratings")).toEqual(["10.78.0.2:15443", "10.78.0.3:15443"]);
    const called = new Set<string>();
    for (let calls = 0; calls < 60 && called.size < 3; calls++) called.add((await ask(machine("web"), "ratings")).name);
    expect([...called].sort()).toEqual(["a1", "a2", "b1"]);
  });

  it("see their own machines directly", async () => {
    const seenBy = async (name: string) => addressesIn(await get(machine(name).where, "http://127.0.0.1:15000/clusters"), "ratings");
    expect(await seenBy("a2")).toEqual(["10.78.0.3:15443", "192.168.7.11:8080", "192.168.7.12:8080"]);
    expect(await seenBy("b1")).toEqual(["10.78.0.2:15443", "192.168.7.11:8080"]);
  });

  it("let an administrator in by the gateway's port 15017, and nobody else", async () => {
    const outside = ["--server", `https://${plan[0].outside}:15017`, "--tls-server-name", "istiod.istio-system.svc"];
    const list = ["get", "workloadgroups", "-o", "name", "-n", "default"];
    const found = await run(machine("a1").where, [kubectlBinary!, ...outside, ...list], true);
    expect(found).toContain("workloadgroup.networking.istio.io/ratings\n");
    const config = JSON.parse(await kubectl("config", "view", "--raw", "-o", "json")) as { users: unknown[] };
    const stranger = join(directory, "stranger");
    writeFileSync(
      stranger,
      JSON.stringify({ ...config, users: config.users.map((user) => ({ ...(user as object), user: { token: "none" } })) }),
    );
    const refused = run(machine("a1").where, [kubectlBinary!, "--kubeconfig", stranger, ...outside, ...list], true);
    await expect(refused).rejects.toThrow(/Unauthorized|must be logged in|Forbidden/);
  });

  it("lose the entry of a machine whose agent ends, and of no other", async () => {
    const { where, home, agent } = machine("a1");
    await end(agent, "SIGTERM");
    const [namesake, neighbour, web] = [
      "ratings-192.168.7.11-b 192.168.7.11 b",
      "ratings-192.168.7.12-a 192.168.7.12 a",
      "web-172.30.0.11-home 172.30.0.11 home",
    ];
    await expect.poll(entries, { timeout: 20_000, interval: 200 }).toEqual([namesake, neighbour, web]);
    await end(machine("a2").agent, "SIGKILL");
    await expect.poll(entries, { timeout: 20_000, interval: 200 }).toEqual([namesake, web]);
    await expect.poll(async () => (await ask(machine("web"), "ratings")).name, { timeout: 20_000 }).toBe("b1");
    // By its certificate: the token's life may be over by then.
    rmSync(join(home, "var/run/secrets/tokens/istio-token"));
    machines.set("a1", { ...machine("a1"), agent: startAgent(where, home) });
    await expect.poll(entries, { timeout: 20_000, interval: 200 }).toEqual(["ratings-192.168.7.11-a 192.168.7.11 a", namesake, web]);
  });
});

/** Of Envoy's `/clusters`, sorted. */
function addressesIn(clusters: string, service: string): string[] {
  const line = new RegExp(`^outbound\\|80\\|\\|${service}\\.default\\.svc\\.cluster\\.local::(\\d[^:]*:\\d+)::`, "gm");
  return [...new Set([...clusters.matchAll(line)].map((match) => match[1]!))].sort();
}
