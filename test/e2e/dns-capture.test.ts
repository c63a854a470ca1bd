/**
 * What applications on a machine get to hear whose look-ups are captured: the C library's resolver asks the machine's nameserver, rules lead
 * the question to the agent, and a connection to the answer goes through the sidecar. Plain resolv.conf first, then a real systemd-resolved.
 *
 *     machine 10.79.0.11: getent, node ──:53──> rules ──> agent ──:53──> nameserver 10.79.0.1, or 127.0.0.53 ──> 10.79.0.1
 *                         node ──VIP:80──> rules ──> sidecar ──> 10.79.0.1:8080
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type NetworkNamespace, namespacesProblem, startNamespaces } from "../support/network-namespace.ts";
import { unpackSystemdResolved } from "../support/systemd-resolved.ts";
import { binary } from "../support/topsail.ts";

const problem = namespacesProblem();
if (problem !== undefined) process.stderr.write(`skipped: DNS with redirected traffic: ${problem}\n`);

const hubAddress = "10.79.0.1";
const machineAddress = "10.79.0.11";
const application = join(import.meta.dirname, "..", "support", "namespace-application.ts");
const node = process.execPath;

const mesh = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: web, namespace: default}
subsets: [{addresses: [{ip: ${hubAddress}}], ports: [{name: http, port: 8080}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: echo, namespace: default}
spec:
  hosts: [echo.partner.example]
  ports: [{number: 9000, name: tcp, protocol: TCP, targetPort: 7001}]
  resolution: STATIC
  endpoints: [{address: ${hubAddress}}]
`;

describe.skipIf(problem !== undefined)("names of the mesh, for applications whose DNS is captured", () => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-dns-capture-"));
  let machine: NetworkNamespace;

  const run = (args: readonly string[], options: { asProxy?: boolean } = {}): string => {
    const [command, all] = machine.command(args, { ...options, ownFiles: true });
    try {
      return execFileSync(command, all, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    } catch (error) {
      return `failed ${(error as { status?: number }).status}`;
    }
  };
  const start = (
    where: NetworkNamespace,
    args: readonly string[],
    options: { asProxy?: boolean; ownFiles?: boolean; env?: Record<string, string> } = {},
  ) => {
    const [command, all] = where.command(args, options);
    const child = spawn(command, all, {
      cwd: directory,
      stdio: ["pipe", "pipe", "pipe"],
      env: { PATH: process.env.PATH ?? "", ...options.env },
    });
    stack.defer(async () => {
      const exited = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      if (child.exitCode === null && child.signalCode === null) await exited;
    });
    return child;
  };
  const printed = (child: ChildProcess, text: string) =>
    new Promise<void>((resolve, reject) => {
      let output = "";
      const collect = (chunk: Buffer) => {
        output += chunk;
        if (output.includes(text)) resolve();
      };
      child.stdout!.on("data", collect);
      child.stderr!.on("data", collect);
      child.once("exit", () => reject(new Error(`ended before it printed "${text}":\n${output}`)));
    });

  /** As the machine's own, and captured anew: rules name the nameservers. */
  const useResolvConf = (path: string) => {
    run(["mount", "--bind", path, "/etc/resolv.conf"]);
    const ids = ["--proxy-uid", "1337", "--proxy-gid", "1337"];
    run([binary, "pilot-agent", "istio-iptables", ...ids, "--istio-inbound-ports", "*", "--istio-service-cidr", "*", "--redirect-dns"]);
  };
  const addressOf = (name: string) => run(["getent", "ahostsv4", name]).split(/\s+/)[0];
  const get = (url: string) => run([node, application, "get", url]);

  beforeAll(async () => {
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    mkdirSync(join(directory, "mesh"));
    writeFileSync(join(directory, "mesh", "mesh.yaml"), mesh);
    writeFileSync(join(directory, "resolv.conf"), `nameserver ${hubAddress}\nsearch corp.example\noptions timeout:1\n`);
    const [hub, only] = await startNamespaces([hubAddress, machineAddress], { outbound: 15001, inbound: 15006 });
    stack.use(hub!);
    machine = stack.use(only!);
    await printed(start(hub!, [node, application, "serve", hubAddress, "http:8080", "echo:7001", "dns:53"]), "ready");
    await printed(
      start(hub!, [
        ...[binary, "istiod", "--configDir", "mesh", "--secureGRPCAddr", "", "--grpcAddr", `${hubAddress}:15010`],
        ...["--monitoringAddr", "127.0.0.1:15014"],
      ]),
      "serving",
    );
    useResolvConf(join(directory, "resolv.conf"));
    const agent = start(machine, [binary, "pilot-agent", "proxy", "sidecar"], {
      asProxy: true,
      ownFiles: true,
      env: {
        POD_NAME: "vm",
        POD_NAMESPACE: "default",
        INSTANCE_IP: machineAddress,
        ISTIO_META_DNS_CAPTURE: "true",
        PROXY_CONFIG: JSON.stringify({
          discoveryAddress: `${hubAddress}:15010`,
          controlPlaneAuthPolicy: "NONE",
          configPath: join(directory, "proxy"),
          concurrency: 1,
        }),
      },
    });
    await printed(agent, "dns\tserving");
  }, 120_000);
  afterAll(() => stack.disposeAsync(), 30_000);

  it("is ready when it has names", async () => {
    await expect.poll(() => get("http://127.0.0.1:15020/healthz/ready"), { timeout: 25_000, interval: 500 }).toBe("200 ");
  });

  it.each(["web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "echo.partner.example"])("resolves %s", (name) => {
    expect(addressOf(name)).toMatch(/^240\.240\.\d+\.\d+$/);
  });

  it("resolves other names by the nameserver, also where their own search domain is tried first", () => {
    expect(addressOf("outside.example")).toBe("192.0.2.7");
    expect(addressOf("nobody.example")).toBe("failed");
  });

  it("leads to the services by those addresses, HTTP and TCP", () => {
    expect(get("http://web/x")).toMatch(/^200 .*"path":"\/x"/);
    expect(get("http://web.default.svc.cluster.local/y")).toMatch(/^200 .*"path":"\/y"/);
    expect(run([node, application, "send", "echo.partner.example", "9000", "hello"])).toBe("echo:hello");
  });

  it("does the same on a machine of systemd-resolved, which the agent goes over to by itself", async () => {
    const resolved = unpackSystemdResolved(mkdtempSync(join(directory, "resolved-")), hubAddress);
    if (!resolved) return;
    expect(run(["sh", "-c", `${resolved.prepare} && echo done`])).toBe("done\n");
    start(machine, [resolved.program], { ownFiles: true });
    await expect.poll(() => run(["cat", resolved.resolvConf]), { timeout: 10_000 }).toContain("nameserver 127.0.0.53");
    useResolvConf(resolved.resolvConf);
    await expect.poll(() => addressOf("outside.example"), { timeout: 15_000 }).toBe("192.0.2.7");
    expect(addressOf("web")).toMatch(/^240\.240\.\d+\.\d+$/);
    expect(addressOf("nobody.example")).toBe("failed");
    expect(get("http://web.default/z")).toMatch(/^200 .*"path":"\/z"/);
    // None went round in a circle, or into the void.
    expect(get("http://127.0.0.1:15020/metrics")).toMatch(/^istio_agent_dns_upstream_failures_total 0$/m);
  });
});
