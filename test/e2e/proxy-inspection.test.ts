/** What the lab types: istioctl looks into proxies by the control plane alone, over the streams that their agents opened. All are real processes. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run } from "../../src/istioctl/main.ts";
import { tokenIssuer } from "../../src/istiod/ca/service-account-tokens.ts";
import { envoyBinary } from "../support/envoy.ts";
import { callApi, createToken, type Kubeconfig, readKubeconfig } from "../support/kube-api.ts";
import { freePortRow } from "../support/ports.ts";
import { runTopsail, TopsailProcess } from "../support/topsail.ts";

const group = (name: string, labels: string) => `
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: ${name}, namespace: default}
spec:
  metadata: {labels: {${labels}}}
  template: {serviceAccount: bookinfo-${name}}
`;
const deployment = (version: string) => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-${version}, namespace: default}
spec:
  selector: {matchLabels: {app: reviews, version: ${version}}}
  template: {metadata: {labels: {app: reviews, version: ${version}}}, spec: {containers: [{name: reviews}]}}
`;
const account = (name: string) => `
apiVersion: v1
kind: ServiceAccount
metadata: {name: ${name}, namespace: default}
`;
const mesh = `
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: default}
spec: {selector: {app: ratings}, ports: [{name: http, port: 9080}]}
---${account("bookinfo-ratings")}---${account("bookinfo-reviews")}---${group("ratings", "app: ratings")}---${deployment("v2")}---${deployment("v3")}---${deployment("v9")}`;

let directory: string;
let config: Kubeconfig;
let firstPort: number;
let parts: AsyncDisposableStack;

interface Machine {
  readonly pod: string;
  readonly account: string;
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly firstPort: number;
  readonly env?: Record<string, string>;
  readonly binaryPath?: string | undefined;
}

async function startMachine({ pod, account, address, labels, firstPort: port, env = {}, binaryPath }: Machine): Promise<TopsailProcess> {
  const cwd = join(directory, pod);
  mkdirSync(join(cwd, "var/run/secrets/tokens"), { recursive: true });
  mkdirSync(join(cwd, "var/run/secrets/istio"), { recursive: true });
  writeFileSync(join(cwd, "var/run/secrets/tokens/istio-token"), await createToken(config, "default", account));
  writeFileSync(join(cwd, "var/run/secrets/istio/root-cert.pem"), config.root);
  return parts.use(
    new TopsailProcess(["pilot-agent", "proxy", "sidecar"], {
      cwd,
      env: {
        PATH: process.env.PATH ?? "",
        POD_NAME: pod,
        POD_NAMESPACE: "default",
        SERVICE_ACCOUNT: account,
        INSTANCE_IP: address,
        TOPSAIL_BIND_ADDRESS: address,
        ENVOY_STATUS_PORT: String(port + 2),
        ENVOY_PROMETHEUS_PORT: String(port + 3),
        ISTIO_METAJSON_LABELS: JSON.stringify(labels),
        ...env,
        PROXY_CONFIG: JSON.stringify({
          discoveryAddress: `127.0.0.1:${firstPort}`,
          proxyAdminPort: port,
          statusPort: port + 1,
          configPath: join(cwd, "proxy"),
          concurrency: 1,
          ...(binaryPath ? { binaryPath } : {}),
        }),
      },
    }),
  );
}

async function istioctl(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err]: [string[], string[]] = [[], []];
  const streams = { out: (text: string) => void out.push(text), err: (text: string) => void err.push(text) };
  const code = await run(["--kubeconfig", join(directory, "kubeconfig"), ...args], { ...streams, readStdin: async () => new Uint8Array() });
  return { code, out: out.join(""), err: err.join("") };
}

const linesOf = (text: string) => text.trimEnd().split("\n");
const reviews = [{ version: "v2", name: "the built-in proxy" }, ...(envoyBinary ? [{ version: "v3", name: "an Envoy" }] : [])];

beforeAll(async () => {
  parts = new AsyncDisposableStack();
  directory = mkdtempSync(join(tmpdir(), "inspect-test-"));
  firstPort = await freePortRow(16);
  mkdirSync(join(directory, "mesh"));
  writeFileSync(join(directory, "mesh", "mesh.yaml"), mesh);
  const istiod = parts.use(
    new TopsailProcess([
      ...["istiod", "--configDir", join(directory, "mesh"), "--dataDir", join(directory, "data")],
      ...["--grpcAddr", "127.0.0.1:0", "--secureGRPCAddr", `127.0.0.1:${firstPort}`, "--monitoringAddr", `127.0.0.1:${firstPort + 1}`],
      ...["--kubeAPIAddr", "127.0.0.1:0", "--kubeconfig-out", join(directory, "kubeconfig")],
    ]),
  );
  await istiod.printed("serving");
  config = readKubeconfig(join(directory, "kubeconfig"));
  await startMachine({
    pod: "ratings-vm",
    account: "bookinfo-ratings",
    address: "127.0.0.21",
    labels: { app: "ratings" },
    firstPort: firstPort + 2,
    env: { ISTIO_META_AUTO_REGISTER_GROUP: "ratings" },
  });
  for (const [index, { version }] of reviews.entries()) {
    await startMachine({
      pod: `reviews-${version}-vm`,
      account: "bookinfo-reviews",
      address: `127.0.0.2${index + 2}`,
      labels: { app: "reviews", version },
      firstPort: firstPort + 6 + 4 * index,
      binaryPath: version === "v3" ? envoyBinary : undefined,
    });
  }
}, 90_000);

afterAll(async () => {
  await parts?.disposeAsync();
  rmSync(directory, { recursive: true, force: true });
});

describe("kubectl get pods", () => {
  it("shows a pod for every agent, ready when its proxy has its configuration", async () => {
    const ready = async () => {
      const { body } = await callApi(config, "GET", "/api/v1/namespaces/default/pods");
      return (body.items as { status: { conditions: { type: string; status: string }[] } }[]).filter(({ status }) =>
        status.conditions.some(({ type, status }) => type === "Ready" && status === "True"),
      ).length;
    };
    await expect.poll(ready, { timeout: 60_000 }).toBe(1 + reviews.length);
  }, 90_000);
});

describe.each(reviews)("istioctl proxy-config of $name", ({ version }) => {
  const deploy = `deploy/reviews-${version}.default`;

  it("shows the machine that registered itself as an endpoint", async () => {
    await expect
      .poll(async () => (await istioctl("proxy-config", "endpoints", deploy)).out, { timeout: 20_000 })
      .toContain("|ratings.default.svc.cluster.local");
    const { code, out } = await istioctl("proxy-config", "endpoints", deploy);
    expect(code).toBe(0);
    expect(linesOf(out)[0]).toMatch(/^ENDPOINT +STATUS +OUTLIER CHECK +CLUSTER$/);
    const ratings = linesOf(out).filter((line) => line.includes("ratings"));
    expect(ratings.map((line) => line.split(/ {2,}/))).toEqual([
      ["127.0.0.21:9080", "HEALTHY", "OK", "outbound|9080||ratings.default.svc.cluster.local"],
    ]);
    const cluster = "outbound|9080||ratings.default.svc.cluster.local";
    expect(linesOf((await istioctl("pc", "ep", deploy, "--cluster", cluster)).out)).toHaveLength(2);
    const json = JSON.parse((await istioctl("pc", "ep", deploy, "--cluster", cluster, "-o", "json")).out);
    expect(json).toMatchObject([
      { name: cluster, hostStatuses: [{ address: { socketAddress: { address: "127.0.0.21", portValue: 9080 } } }] },
    ]);
  });

  it("shows clusters, listeners, routes, bootstrap and secrets", async () => {
    const clusters = await istioctl("pc", "cluster", deploy, "--fqdn", "ratings.default.svc.cluster.local");
    expect(linesOf(clusters.out).map((line) => line.trimEnd().split(/ {2,}/))).toEqual([
      ["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"],
      ["ratings.default.svc.cluster.local", "9080", "-", "outbound", "EDS"],
    ]);
    const listeners = await istioctl("pc", "listener", deploy, "--port", "9080");
    expect(listeners.out).toMatch(/^ADDRESSES PORT MATCH +DESTINATION\n0\.0\.0\.0 +9080 .*Route: 9080$/m);
    const routes = await istioctl("pc", "route", deploy, "--name", "9080");
    expect(routes.out).toMatch(/^9080 +ratings\.default\.svc\.cluster\.local:9080 +ratings\S*, \S+ \+ 1 more\.\.\. +\/\*/m);
    expect(JSON.parse((await istioctl("pc", "route", deploy, "--name", "9080", "-o", "json")).out)).toMatchObject([{ name: "9080" }]);
    expect((await istioctl("pc", "bootstrap", deploy, "-o", "short")).out).toMatch(/^Istio Version: +\d/m);
    expect((await istioctl("pc", "secret", deploy)).out).toMatch(/^default +Cert Chain +ACTIVE +true/m);
  });

  it("sets log levels", async () => {
    expect((await istioctl("pc", "log", deploy, "--level", "http:debug")).out).toMatch(
      /^reviews-v\d-vm\.default:\n.*\n(.*\n)* {2}http: debug$/m,
    );
    expect((await istioctl("pc", "log", deploy, "--level", "nobody:debug")).err).toBe("Error: unrecognized logger name: nobody\n");
    expect((await istioctl("pc", "log", deploy, "-r")).out).toMatch(/^ {2}http: warning$/m);
  });
});

describe("what is not there", () => {
  it.each([
    ["a pod", ["nobody.default"], 'Error: failed to execute command on nobody.default sidecar: pods "nobody" not found\n'],
    ["a deployment", ["deploy/nobody"], 'Error: failed retrieving: deployments.apps "nobody" not found in the "default" namespace\n'],
    ["a deployment of nothing", ["deploy/reviews-v9.default"], 'Error: no pods match "deploy/reviews-v9"\n'],
    ["a type", ["gizmo/x"], 'Error: "gizmo/x" does not refer to a pod: types are pod, deployment and service\n'],
    [
      "a port",
      ["ratings-vm.default", "--proxy-admin-port", "22"],
      'Error: failed to execute command on ratings-vm.default sidecar: the proxy of pod "ratings-vm" in namespace "default" can\'t be asked: port 22 is not one that an agent relays\n',
    ],
  ])("is said clearly of %s", async (_, args, message) => {
    expect(await istioctl("proxy-config", "clusters", ...args)).toEqual({ code: 1, out: "", err: message });
  });

  it("is said of a pod that is a record and no agent", async () => {
    const pod = { metadata: { name: "stored" }, spec: { containers: [{ name: "app", image: "app" }] } };
    expect(await callApi(config, "POST", "/api/v1/namespaces/default/pods", pod)).toMatchObject({ code: 201 });
    expect((await istioctl("pc", "clusters", "stored.default")).err).toBe(
      'Error: failed to execute command on stored.default sidecar: the proxy of pod "stored" in namespace "default" can\'t be asked: no agent of that name is connected to this control plane\n',
    );
  });
});

describe("the API", () => {
  const path = "/api/v1/namespaces/default/pods/ratings-vm:15000/proxy";

  it("shows agents as pods that can't be written", async () => {
    const { body } = await callApi(config, "GET", "/api/v1/namespaces/default/pods/ratings-vm");
    expect(body).toMatchObject({
      metadata: { labels: { app: "ratings" } },
      spec: { serviceAccountName: "bookinfo-ratings", containers: [{ name: "istio-proxy" }] },
      status: { phase: "Running", podIP: "127.0.0.21" },
    });
    expect(await callApi(config, "DELETE", "/api/v1/namespaces/default/pods/ratings-vm")).toMatchObject({ code: 403 });
  });

  it("passes nothing on that changes the proxy", async () => {
    expect(await callApi(config, "POST", `${path}/quitquitquit`)).toMatchObject({ code: 503 });
    expect(await callApi(config, "POST", `${path}/logging/../quitquitquit`)).toMatchObject({ code: 503 });
    expect(await callApi(config, "DELETE", `${path}/logging`)).toMatchObject({ code: 405 });
  });

  it("refuses a workload, whatever it is of the mesh", async () => {
    const token = await createToken(config, "default", "bookinfo-ratings", tokenIssuer);
    const answer = await callApi(config, "GET", `${path}/config_dump`, undefined, null, { authorization: `Bearer ${token}` });
    expect(answer).toMatchObject({ code: 403, body: { reason: "Forbidden" } });
    expect(answer.body.message).toContain('cannot get resource "pods/proxy"');
    const syncz = "/api/v1/namespaces/istio-system/services/istiod:15014/proxy/debug/syncz";
    expect(await callApi(config, "GET", syncz, undefined, null, { authorization: `Bearer ${token}` })).toMatchObject({ code: 403 });
    expect(await callApi(config, "GET", syncz, undefined, null)).toMatchObject({ code: 403 });
    expect(await callApi(config, "GET", syncz)).toMatchObject({ code: 200 });
  });
});

describe("istioctl", () => {
  it("proxy-status shows what every proxy is subscribed to, and whether it has it", async () => {
    const { out } = await istioctl("proxy-status");
    const rows = linesOf(out).map((line) => line.split(/ {2,}/));
    expect(rows[0]).toEqual(["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"]);
    expect(rows.slice(1).map(([name]) => name)).toEqual([
      "ratings-vm.default",
      ...reviews.map(({ version }) => `reviews-${version}-vm.default`),
    ]);
    for (const row of rows.slice(1)) {
      expect(row[2]).toMatch(/^istiod-/);
      expect(row[4]).toMatch(/^\d \(CDS,LDS,EDS,RDS/);
    }
    expect((await istioctl("ps", "-v", "1")).out).toMatch(/^ratings-vm\.default +Kubernetes .*SYNCED \(\d+(s|m\d*s?)\)/m);
    expect(linesOf((await istioctl("ps", "-n", "other")).out)).toHaveLength(1);
    const status = JSON.parse((await istioctl("ps", "-o", "json")).out);
    expect(status.resources[0]).toMatchObject({ node: { id: "ratings-vm.default" }, genericXdsConfigs: expect.any(Array) });
  });

  it("version counts the proxies of the mesh", () => {
    const istioctlProcess = (...args: string[]) => runTopsail(["istioctl", "--kubeconfig", join(directory, "kubeconfig"), ...args]).stdout;
    const out = istioctlProcess("version");
    const [client, plane, data] = linesOf(out);
    const version = client!.replace("client version: ", "");
    expect(plane).toBe(`control plane version: ${version}`);
    expect(data).toBe(`data plane version: ${version} (${1 + reviews.length} proxies)`);
    const json = JSON.parse(istioctlProcess("version", "-o", "json"));
    expect(json).toMatchObject({ meshVersion: [{ Component: "pilot", Revision: "default", Info: { version } }] });
    expect(json.dataPlaneVersion[0]).toEqual({ ID: expect.any(String), IstioVersion: version, Type: "sidecar" });
  });
});
