/**
 * Security on a small mesh, with nothing but the executable: control plane, ingress gateway, and the services web-frontend, customers
 * and httpbin, each with an agent and a sidecar of its own. It runs on loopback and without root: a workload's address is one of
 * 127.0.0.0/8, where its sidecar listens as its Sidecar says; the application behind it listens on 127.0.0.1.
 *
 * The steps build on each other, as somebody types them.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { envoyBinary } from "../support/envoy.ts";
import { makeTokens } from "../support/jwt.ts";
import { createToken, type Kubeconfig, readKubeconfig } from "../support/kube-api.ts";
import { freePortRow } from "../support/ports.ts";
import { runTopsail, TopsailProcess } from "../support/topsail.ts";

const workloads = ["web-frontend", "customers", "httpbin"] as const;
type Workload = (typeof workloads)[number];
type Json = Record<string, unknown>;

/** Seconds that a certificate lives here, so that it is renewed while the steps run. */
const certificateSeconds = 6;
const domain = "default.svc.cluster.local";

const variants = [
  { name: "the built-in proxy", network: 6, binaryPath: undefined },
  ...(envoyBinary ? [{ name: "Envoy", network: 7, binaryPath: envoyBinary }] : []),
];

interface Answer {
  readonly status: number;
  readonly body: string;
}

function get(address: string, port: number, host: string, path = "/", headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: address, port, path, headers: { host, ...headers }, agent: false, timeout: 10_000 }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    sent.on("timeout", () => sent.destroy(new Error("no answer")));
    sent.on("error", reject).end();
  });
}

describe.each(variants)("A mesh with security, run by $name", ({ network, binaryPath }) => {
  const stack = new AsyncDisposableStack();
  const addressOf = (workload: Workload) => `127.0.${network}.${workloads.indexOf(workload) + 1}`;
  const agents = new Map<string, TopsailProcess>();
  let directory: string;
  let ports: {
    xds: number;
    monitoring: number;
    gateway: number;
    sidecar: number;
    outbound: number;
    status: number;
    stats: number;
    apps: number;
    admin: number;
  };

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "security-lab-"));
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    const first = await freePortRow(16);
    ports = {
      ...{ xds: first, monitoring: first + 1, gateway: first + 2, sidecar: first + 3, outbound: first + 4, status: first + 5 },
      ...{ stats: first + 6, apps: first + 8, admin: first + 12 },
    };
    mkdirSync(join(directory, "mesh"));
    for (const [name, objects] of Object.entries(configuration())) apply(name, ...objects);
    const kubeconfig = join(directory, "kubeconfig");
    const istiod = stack.use(
      new TopsailProcess(
        [
          ...["istiod", "--configDir", "mesh", "--dataDir", "state", "--grpcAddr", "127.0.0.1:0"],
          ...["--secureGRPCAddr", `127.0.0.1:${ports.xds}`, "--monitoringAddr", `127.0.0.1:${ports.monitoring}`],
          ...["--kubeAPIAddr", "127.0.0.1:0", "--kubeconfig-out", kubeconfig],
        ],
        { cwd: directory },
      ),
    );
    await istiod.printed("serving");
    const config = readKubeconfig(kubeconfig);
    for (const [index, workload] of workloads.entries()) {
      const address = addressOf(workload);
      const application = new TopsailProcess([
        ...["sample", workload, "--listen", `127.0.0.1:${ports.apps + index}`],
        ...["--via", `http://${address}:${ports.outbound}`, "--domain", domain],
      ]);
      stack.use(application);
      const labels = { app: workload };
      await startAgent(config, "sidecar", { name: workload, namespace: "default", address, labels });
    }
    const gateway = { name: "ingress", namespace: "istio-system", address: "127.0.0.1", labels: { istio: "ingressgateway" } };
    await startAgent(config, "router", gateway);
  }, 90_000);
  afterAll(async () => {
    // Told to end, an agent takes its Envoy along; killed, it can't.
    for (const { child } of agents.values()) child.kill("SIGTERM");
    await Promise.all([...agents.values()].map(({ exited }) => Promise.race([exited, delay(10_000)])));
    await stack.disposeAsync();
  }, 30_000);

  function apply(name: string, ...objects: Json[]): void {
    writeFileSync(join(directory, "mesh", `${name}.yaml`), objects.map((object) => stringify(object)).join("---\n"));
  }

  const remove = (name: string) => rmSync(join(directory, "mesh", `${name}.yaml`));

  async function startAgent(
    config: Kubeconfig,
    type: "sidecar" | "router",
    node: { name: string; namespace: string; address: string; labels: Json },
  ): Promise<void> {
    const home = join(directory, node.name);
    const files = join(home, "var/run/secrets");
    for (const part of ["tokens", "istio"]) mkdirSync(join(files, part), { recursive: true });
    writeFileSync(join(files, "tokens/istio-token"), await createToken(config, node.namespace, node.name));
    writeFileSync(join(files, "istio/root-cert.pem"), config.root);
    const agent = new TopsailProcess(["pilot-agent", "proxy", type], {
      cwd: home,
      env: {
        PATH: process.env.PATH ?? "",
        POD_NAME: node.name,
        POD_NAMESPACE: node.namespace,
        SERVICE_ACCOUNT: node.name,
        INSTANCE_IP: node.address,
        TOPSAIL_BIND_ADDRESS: node.address,
        SECRET_TTL: `${certificateSeconds}s`,
        ENVOY_STATUS_PORT: String(ports.status),
        ENVOY_PROMETHEUS_PORT: String(ports.stats),
        ISTIO_META_INTERCEPTION_MODE: type === "sidecar" ? "NONE" : "REDIRECT",
        ISTIO_METAJSON_LABELS: JSON.stringify(node.labels),
        PROXY_CONFIG: JSON.stringify({
          discoveryAddress: `127.0.0.1:${ports.xds}`,
          proxyAdminPort: ports.admin,
          statusPort: ports.status + 2,
          configPath: join(home, "proxy"),
          concurrency: 1,
          terminationDrainDuration: "0s",
          ...(binaryPath ? { binaryPath } : {}),
        }),
      },
    });
    stack.use(agent);
    agents.set(node.name, agent);
  }

  const istio = (group: string, kind: string, name: string, spec: Json, namespace = "default"): Json => ({
    apiVersion: `${group}.istio.io/v1`,
    kind,
    metadata: { name, namespace },
    spec,
  });

  function configuration(): Record<string, Json[]> {
    const of = (workload: Workload, index: number): Json[] => [
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: workload, namespace: "default" } },
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: workload, namespace: "default" },
        spec: { selector: { app: workload }, ports: [{ name: "http", port: 80, targetPort: ports.sidecar }] },
      },
      istio("networking", "WorkloadEntry", workload, {
        address: addressOf(workload),
        labels: { app: workload },
        ports: { http: ports.sidecar },
        serviceAccount: workload,
      }),
      istio("networking", "Sidecar", workload, {
        workloadSelector: { labels: { app: workload } },
        ingress: [
          {
            port: { number: ports.sidecar, protocol: "HTTP", name: "http" },
            bind: addressOf(workload),
            captureMode: "NONE",
            defaultEndpoint: `127.0.0.1:${ports.apps + index}`,
          },
        ],
        egress: [
          {
            port: { number: ports.outbound, protocol: "HTTP_PROXY", name: "outbound" },
            bind: addressOf(workload),
            captureMode: "NONE",
            hosts: ["./*"],
          },
        ],
      }),
      istio("networking", "VirtualService", workload, {
        hosts: [`${workload}.example.com`],
        gateways: ["istio-system/ingress"],
        http: [{ route: [{ destination: { host: workload, port: { number: 80 } } }] }],
      }),
      // Every request meets a new handshake, and with it the newest certificates.
      istio("networking", "DestinationRule", workload, {
        host: workload,
        trafficPolicy: { connectionPool: { http: { maxRequestsPerConnection: 1 } } },
      }),
    ];
    return {
      services: workloads.flatMap(of),
      ingress: [
        { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "ingress", namespace: "istio-system" } },
        istio(
          "networking",
          "Gateway",
          "ingress",
          {
            selector: { istio: "ingressgateway" },
            servers: [{ port: { number: ports.gateway, name: "http", protocol: "HTTP" }, hosts: ["*"] }],
          },
          "istio-system",
        ),
      ],
    };
  }

  const viaGateway = (workload: Workload, path = "/", headers: Record<string, string> = {}) =>
    get("127.0.0.1", ports.gateway, `${workload}.example.com`, path, headers);
  /** As a client that is not of the mesh: straight to the workload's address. */
  const outside = (workload: Workload) =>
    get(addressOf(workload), ports.sidecar, `${workload}.${domain}`).then(
      ({ status }) => status,
      (error: NodeJS.ErrnoException) => error.code,
    );
  const settled = (workload: Workload, path = "/", headers: Record<string, string> = {}) =>
    expect.poll(async () => (await viaGateway(workload, path, headers)).status, { timeout: 15_000 });

  it("comes up", async () => {
    const statusOf = (workload: Workload) =>
      viaGateway(workload).then(
        ({ status }) => status,
        () => 0,
      );
    const status = async () => Math.max(...(await Promise.all(workloads.map(statusOf))).map((one) => (one === 200 ? 200 : 503)));
    const logs = () => [...agents].map(([name, { stderr }]) => `--- ${name}\n${stderr.slice(-2000)}`).join("\n");
    await expect
      .poll(status, { timeout: 30_000 })
      .toBe(200)
      .catch((error: Error) => expect.fail(`${error.message}\n${logs()}`));
  }, 40_000);

  it("encrypts between workloads by itself, and tells the application who called", async () => {
    const { body } = await viaGateway("httpbin", "/headers");
    const { headers } = JSON.parse(body) as { headers: Record<string, string> };
    const certificate = headers["X-Forwarded-Client-Cert"];
    expect(certificate).toContain("By=spiffe://cluster.local/ns/default/sa/httpbin");
    expect(certificate).toContain("URI=spiffe://cluster.local/ns/istio-system/sa/ingress");
    expect((await viaGateway("web-frontend")).body).toContain("Ada Lindqvist");
  });

  it("shows the certificates of a proxy", () => {
    const { status, stdout } = runTopsail([
      "istioctl",
      "proxy-config",
      "secret",
      "--proxy-admin-port",
      `${addressOf("web-frontend")}:${ports.admin}`,
    ]);
    expect(status).toBe(0);
    const rows = stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.split(/ {2,}/).slice(0, 4));
    expect(rows[0]).toEqual(["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT"]);
    expect(rows.slice(1).sort()).toEqual([
      ["ROOTCA", "CA", "ACTIVE", "true"],
      ["default", "Cert Chain", "ACTIVE", "true"],
    ]);
  });

  it("takes plaintext from outside while it is permissive, and refuses it when strict", async () => {
    expect(await outside("customers")).toBe(200);
    apply("strict", istio("security", "PeerAuthentication", "default", { mtls: { mode: "STRICT" } }));
    await expect.poll(() => outside("customers"), { timeout: 15_000 }).toBe("ECONNRESET");
    expect((await viaGateway("web-frontend")).body).toContain("Ada Lindqvist");
    apply(
      "strict-but-one",
      istio("security", "PeerAuthentication", "customers", {
        selector: { matchLabels: { app: "customers" } },
        mtls: { mode: "PERMISSIVE" },
      }),
    );
    await expect.poll(() => outside("customers"), { timeout: 15_000 }).toBe(200);
    expect(await outside("httpbin")).toBe("ECONNRESET");
    remove("strict-but-one");
    await expect.poll(() => outside("customers"), { timeout: 15_000 }).toBe("ECONNRESET");
  }, 60_000);

  it("lets nobody do anything, then the gateway to web-frontend, then web-frontend to customers", async () => {
    apply("nothing", istio("security", "AuthorizationPolicy", "allow-nothing", {}));
    await settled("web-frontend").toBe(403);
    expect((await viaGateway("web-frontend")).body).toBe("RBAC: access denied");

    const allow = (workload: Workload, principal: string, methods: string[]) =>
      istio("security", "AuthorizationPolicy", `allow-${workload}`, {
        selector: { matchLabels: { app: workload } },
        action: "ALLOW",
        rules: [{ from: [{ source: { principals: [`cluster.local/ns/${principal}`] } }], to: [{ operation: { methods } }] }],
      });
    apply("allow-frontend", allow("web-frontend", "istio-system/sa/ingress", ["GET"]));
    await settled("web-frontend").toBe(502);
    expect((await viaGateway("web-frontend")).body).toContain("The customers service answered with 403.");

    apply("allow-customers", allow("customers", "default/sa/web-frontend", ["GET"]));
    await settled("web-frontend").toBe(200);
    expect((await viaGateway("customers")).status).toBe(403);
    for (const name of ["nothing", "allow-frontend", "allow-customers"]) remove(name);
    await settled("customers").toBe(200);
  }, 60_000);

  it("asks for a token at the door, and looks into it", async () => {
    const made = makeTokens({
      keys: { known: { type: "P-256" }, foreign: { type: "P-256" } },
      jwks: { main: ["known"] },
      tokens: {
        editor: { key: "known", claims: { iss: "login.example.com", sub: "ada", exp: 4102444800, groups: ["editors"] } },
        reader: { key: "known", claims: { iss: "login.example.com", sub: "ben", exp: 4102444800, groups: ["readers"] } },
        forged: {
          key: "foreign",
          header: { kid: "known" },
          claims: { iss: "login.example.com", sub: "eve", exp: 4102444800, groups: ["editors"] },
        },
      },
    });
    const selector = { matchLabels: { istio: "ingressgateway" } };
    apply(
      "tokens",
      istio(
        "security",
        "RequestAuthentication",
        "door",
        { selector, jwtRules: [{ issuer: "login.example.com", jwks: made["jwks:main"] }] },
        "istio-system",
      ),
      istio(
        "security",
        "AuthorizationPolicy",
        "door",
        {
          selector,
          action: "ALLOW",
          rules: [
            { to: [{ operation: { hosts: ["web-frontend.example.com", "customers.example.com"] } }] },
            {
              from: [{ source: { requestPrincipals: ["login.example.com/*"] } }],
              to: [{ operation: { hosts: ["httpbin.example.com"], paths: ["/anything*"] } }],
              when: [{ key: "request.auth.claims[groups]", values: ["editors"] }],
            },
          ],
        },
        "istio-system",
      ),
    );
    const bearer = (name: string) => ({ authorization: `Bearer ${made[`jwt:${name}`]}` });
    await settled("httpbin", "/anything").toBe(403);
    expect(await viaGateway("httpbin", "/anything", bearer("forged"))).toMatchObject({ status: 401 });
    expect(await viaGateway("httpbin", "/anything", { authorization: "Bearer nonsense" })).toMatchObject({ status: 401 });
    expect(await viaGateway("httpbin", "/anything", bearer("reader"))).toMatchObject({ status: 403 });
    expect(await viaGateway("httpbin", "/headers", bearer("editor"))).toMatchObject({ status: 403 });
    expect(await viaGateway("httpbin", "/anything", bearer("editor"))).toMatchObject({ status: 200 });
    expect(await viaGateway("web-frontend")).toMatchObject({ status: 200 });
    remove("tokens");
    await settled("httpbin", "/headers").toBe(200);
  }, 60_000);

  it("renews certificates under load without losing a request", async () => {
    const serial = () => {
      const { stdout } = runTopsail(["istioctl", "pc", "secret", "--proxy-admin-port", `${addressOf("httpbin")}:${ports.admin}`]);
      return /^default +.* true +(?<serial>[0-9a-f]{20,})/m.exec(stdout)?.groups?.serial;
    };
    const serials = new Set([serial()]);
    const until = Date.now() + certificateSeconds * 2000;
    const failures: string[] = [];
    let requests = 0;
    const client = async () => {
      while (Date.now() < until) {
        const answer = await viaGateway("httpbin", "/get").catch((error: Error) => ({ status: 0, body: error.message }));
        requests++;
        if (answer.status !== 200) failures.push(`${answer.status} ${answer.body}`.slice(0, 200));
      }
    };
    const watch = async () => {
      while (Date.now() < until) {
        await delay(1000);
        serials.add(serial());
      }
    };
    await Promise.all([client(), client(), client(), client(), watch()]);
    expect(failures.slice(0, 5)).toEqual([]);
    expect(requests).toBeGreaterThan(100);
    expect(serials.size).toBeGreaterThanOrEqual(3);
    expect(serials.has(undefined)).toBe(false);
  }, 60_000);
});
