/**
 * Istio's own agent, with a real Envoy, on a machine of our control plane: what a user has whose machines run Istio's package already. It joins by
 * the files that `istioctl x workload entry configure` wrote, in a network namespace whose traffic is captured.
 *
 *     control plane, details 10.77.0.1 ──── machine 10.77.0.11: pilot-agent, Envoy, ratings
 */
import { execFile, execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { istioAgent } from "../support/istio-agent.ts";
import { kubectls } from "../support/kubectl.ts";
import { type NetworkNamespace, namespacesProblem, startNamespaces } from "../support/network-namespace.ts";
import { eventually } from "../support/proxies.ts";
import { binary, TopsailProcess } from "../support/topsail.ts";

const hubAddress = "10.77.0.1";
const machineAddress = "10.77.0.11";
const detailsAddress = "240.240.7.7";
const built = namespacesProblem() ?? (envoyBinary ? istioAgent() : "no Envoy to be had");
const problem = typeof built === "string" ? built : kubectls.length === 0 ? "no kubectl to be had" : undefined;
if (problem) process.stderr.write(`Istio's own agent: skipped: ${problem}\n`);

const objects = `
apiVersion: v1
kind: ServiceAccount
metadata: { name: bookinfo-ratings }
---
apiVersion: v1
kind: Service
metadata: { name: ratings }
spec: { selector: { app: ratings }, ports: [{ name: http, port: 8000, targetPort: 9080 }] }
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: { name: ratings }
spec:
  metadata: { labels: { app: ratings } }
  template: { serviceAccount: bookinfo-ratings }
  probe: { periodSeconds: 1, httpGet: { path: /health, port: 9080 } }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: details }
spec:
  hosts: [details.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  addresses: [${detailsAddress}]
  ports: [{ name: http, number: 9080, protocol: HTTP }]
  endpoints: [{ address: ${hubAddress} }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: details }
spec: { host: details.default.svc.cluster.local, trafficPolicy: { tls: { mode: DISABLE } } }
`;

interface WorkloadEntry {
  readonly spec: { readonly address: string };
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

describe.skipIf(problem !== undefined)("Istio's own agent", { timeout: 60_000 }, () => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-istio-agent-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const kubeconfig = join(directory, "kubeconfig");
  let hub: NetworkNamespace;
  let machine: NetworkNamespace;
  let agent: TopsailProcess;

  const start = (where: NetworkNamespace, args: readonly string[], env: Record<string, string> = {}, cwd = directory, asProxy = false) => {
    const [command, all] = where.command(args, { asProxy });
    return stack.use(new TopsailProcess(all, { executable: command, cwd, env: { PATH: process.env.PATH ?? "", ...env } }));
  };
  const run = async (where: NetworkNamespace, args: readonly string[]) => {
    const [command, all] = where.command(args);
    return (await promisify(execFile)(command, all, { cwd: directory, env: { ...process.env, KUBECONFIG: kubeconfig } })).stdout;
  };
  const entries = async () => {
    const text = await run(hub, [kubectls[0]!, "get", "workloadentry", "-o", "json"]);
    return (JSON.parse(text) as { items: readonly WorkloadEntry[] }).items;
  };

  beforeAll(async () => {
    const { program, bootstrapTemplate } = built as Exclude<typeof built, string>;
    [hub, machine] = (await startNamespaces([hubAddress, machineAddress], { outbound: 15001, inbound: 15006 })) as [
      NetworkNamespace,
      NetworkNamespace,
    ];
    stack.use(hub);
    stack.use(machine);
    const flags = ["--dataDir", "state", "--secureGRPCAddr", `${hubAddress}:15012`, "--kubeAPIAddr", `${hubAddress}:16443`];
    start(hub, [binary, "istiod", ...flags, "--kubeconfig-out", kubeconfig, "--workloadEntryGracePeriod", "2s"]);
    await eventually(() => existsSync(kubeconfig) || undefined, "a kubeconfig");
    writeFileSync(join(directory, "objects.yaml"), objects);
    await run(hub, [kubectls[0]!, "apply", "-f", "objects.yaml"]);
    const where = ["--name", "ratings", "--namespace", "default", "--autoregister", "--ingressIP", hubAddress];
    await run(hub, [binary, "istioctl", "x", "workload", "entry", "configure", ...where, "--output", "files"]);
    start(hub, [binary, "sample", "bookinfo", "--service", "details", "--version", "v1", "--listen", `${hubAddress}:9080`]);
    start(machine, [binary, "sample", "bookinfo", "--service", "ratings", "--version", "v1", "--listen", "0.0.0.0:9080"]);
    const home = join(directory, "machine");
    const place = (from: string, to: string) => {
      mkdirSync(dirname(join(home, to)), { recursive: true });
      copyFileSync(from, join(home, to));
    };
    for (const part of ["etc/istio/proxy", "var/run/secrets/workload-spiffe-uds"]) mkdirSync(join(home, part), { recursive: true });
    place(join(directory, "files/root-cert.pem"), "etc/certs/root-cert.pem");
    place(join(directory, "files/istio-token"), "var/run/secrets/tokens/istio-token");
    place(join(directory, "files/mesh.yaml"), "etc/istio/config/mesh");
    place(bootstrapTemplate, "var/lib/istio/envoy/envoy_bootstrap_tmpl.json");
    execFileSync("chown", ["-R", "1337:1337", home]);
    const clusterEnv = Object.fromEntries(
      readFileSync(join(directory, "files/cluster.env"), "utf8")
        .trim()
        .split("\n")
        .map((line) => /^(\w+)='(.*)'$/.exec(line)!.slice(1) as [string, string]),
    );
    const control = `${hubAddress}:15012`;
    const proxyConfig = {
      serviceCluster: "rawvm",
      controlPlaneAuthPolicy: "MUTUAL_TLS",
      discoveryAddress: control,
      binaryPath: envoyBinary,
    };
    const certificates = { CA_ADDR: control, PROV_CERT: "./etc/certs", OUTPUT_CERTS: "./etc/certs" };
    const identity = { INSTANCE_IP: machineAddress, POD_NAME: "vm1", POD_NAMESPACE: "default" };
    const env = { ...clusterEnv, ...certificates, ...identity, PROXY_CONFIG: JSON.stringify(proxyConfig) };
    agent = start(machine, [program, "proxy"], env, home, true);
  }, 120_000);
  afterAll(() => stack.disposeAsync(), 60_000);

  it("gets its certificate, is registered, and tells how its application is", async () => {
    const entry = await eventually(
      async () =>
        (await entries()).find(({ status }) => status?.conditions?.some((one) => one.type === "Healthy" && one.status === "True")),
      () => `a healthy entry: ${agent.stdout}${agent.stderr}`,
      30_000,
    );
    expect(entry.spec.address).toBe(machineAddress);
  });

  it("answers for the names of the mesh", async () => {
    const script = `const r = new (require("node:dns").Resolver)(); r.setServers(["127.0.0.1:15053"]);
      r.resolve4("details.default.svc.cluster.local", (error, found) => console.log(error?.code ?? found.join()))`;
    expect((await run(machine, [process.execPath, "-e", script])).trim()).toBe(detailsAddress);
  });

  it("has its Envoy carry what the application calls, and calls of it", async () => {
    const called = await run(machine, [
      "curl",
      "-sS",
      "-i",
      "-H",
      "host: details.default.svc.cluster.local:9080",
      `http://${detailsAddress}:9080/details/123`,
    ]);
    expect(called).toContain("x-envoy-upstream-service-time");
    expect(called).toContain('"id":123');
    const served = await run(hub, ["curl", "-sS", "-i", `http://${machineAddress}:9080/ratings/1`]);
    expect(served).toContain("server: istio-envoy");
    expect(served).toContain('"ratings"');
    const rejected = await run(machine, ["curl", "-sS", "http://127.0.0.1:15000/stats?filter=update_rejected"]);
    expect(rejected.split("\n").filter((line) => line !== "" && !line.endsWith(": 0"))).toEqual([]);
  });

  it("is in istioctl's list, and no more when it has gone", async () => {
    expect(await run(hub, [binary, "istioctl", "proxy-status"])).toMatch(/^vm1\.default .* istiod-/m);
    agent.child.kill("SIGTERM");
    await eventually(async () => ((await entries()).length === 0 ? true : undefined), "its entry to go", 30_000);
  });
});
