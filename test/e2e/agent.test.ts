/** pilot-agent in gateway mode as a process: with the built-in proxy, and with a real Envoy by binaryPath. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { askHttp } from "../support/http-ask.ts";
import { createToken, readKubeconfig } from "../support/kube-api.ts";
import { freePortRow } from "../support/ports.ts";
import { TopsailProcess } from "../support/topsail.ts";

interface Ports {
  readonly http: number;
  readonly xds: number;
  readonly monitoring: number;
  readonly admin: number;
  readonly status: number;
  readonly ready: number;
  readonly stats: number;
}

const variants = [
  { name: "built-in proxy", binaryPath: undefined },
  ...(envoyBinary ? [{ name: "Envoy by binaryPath", binaryPath: envoyBinary }] : []),
];

async function answerOf(port: number, path: string, host = "web.test"): Promise<{ status: number; server: string; body: string }> {
  const { status, headers, body } = await askHttp("127.0.0.1", port, { line: `GET ${path}`, host });
  return { status, server: String(headers.server), body };
}

const meshOf = (port: number, upstream: number, body: string) => `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: ${port}, name: http, protocol: HTTP}, bind: 127.0.0.1, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: default}
spec:
  hosts: [web.internal]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: ${upstream}}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: default}
spec:
  hosts: [web.test]
  gateways: [gw]
  http:
  - match: [{uri: {exact: /version}}]
    directResponse: {status: 200, body: {string: "${body}"}}
  - route: [{destination: {host: web.internal}}]
`;

/** What an operator brings to a new machine: a token, and the root by which the control plane is known. */
async function provision(directory: string, namespace: string, serviceAccount: string): Promise<void> {
  const config = readKubeconfig(join(directory, "kubeconfig"));
  const files = join(directory, "var/run/secrets");
  mkdirSync(join(files, "tokens"), { recursive: true });
  mkdirSync(join(files, "istio"), { recursive: true });
  writeFileSync(join(files, "tokens/istio-token"), await createToken(config, namespace, serviceAccount));
  writeFileSync(join(files, "istio/root-cert.pem"), config.root);
}

describe.each(variants)("pilot-agent with $name", ({ binaryPath }) => {
  let directory: string;
  let ports: Ports;
  let upstream: Server;
  let istiod: TopsailProcess;
  let agent: TopsailProcess;

  const startIstiod = async () => {
    const started = new TopsailProcess([
      ...["istiod", "--configDir", join(directory, "mesh"), "--dataDir", join(directory, "data")],
      ...["--grpcAddr", "127.0.0.1:0", "--secureGRPCAddr", `127.0.0.1:${ports.xds}`, "--monitoringAddr", `127.0.0.1:${ports.monitoring}`],
      ...["--kubeAPIAddr", "127.0.0.1:0", "--kubeconfig-out", join(directory, "kubeconfig")],
    ]);
    await started.printed("serving");
    return started;
  };
  const startAgent = () =>
    new TopsailProcess(["pilot-agent", "proxy", "router"], {
      cwd: directory,
      env: {
        PATH: process.env.PATH ?? "",
        POD_NAME: "ingress",
        POD_NAMESPACE: "default",
        INSTANCE_IP: "127.0.0.1",
        // As on every machine: without its certificate nobody would let it in after a restart.
        OUTPUT_CERTS: "certs",
        PROV_CERT: "certs",
        TOPSAIL_BIND_ADDRESS: "127.0.0.1",
        ENVOY_STATUS_PORT: String(ports.ready),
        ENVOY_PROMETHEUS_PORT: String(ports.stats),
        ISTIO_METAJSON_LABELS: '{"istio":"ingressgateway"}',
        PROXY_CONFIG: JSON.stringify({
          discoveryAddress: `127.0.0.1:${ports.xds}`,
          proxyAdminPort: ports.admin,
          statusPort: ports.status,
          configPath: join(directory, "proxy"),
          concurrency: 1,
          terminationDrainDuration: "2s",
          ...(binaryPath ? { binaryPath } : {}),
        }),
      },
    });
  const readiness = () =>
    answerOf(ports.ready, "/healthz/ready").then(
      ({ status }) => status,
      () => 0,
    );
  const write = (body: string) =>
    writeFileSync(join(directory, "mesh", "mesh.yaml"), meshOf(ports.http, (upstream.address() as AddressInfo).port, body));

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "agent-test-"));
    const first = await freePortRow(7);
    ports = { http: first, xds: first + 1, monitoring: first + 2, admin: first + 3, status: first + 4, ready: first + 5, stats: first + 6 };
    upstream = createServer({ keepAliveTimeout: 600_000 }, (request, response) =>
      setTimeout(() => response.end(`upstream saw ${request.url}`), request.url === "/slow" ? 1500 : 0),
    );
    await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));

    mkdirSync(join(directory, "mesh"));
    write("one");
    istiod = await startIstiod();
    await provision(directory, "default", "default");
    agent = startAgent();
  });

  afterAll(async () => {
    await agent?.[Symbol.asyncDispose]();
    await istiod?.[Symbol.asyncDispose]();
    upstream?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it("becomes ready", async () => {
    await expect.poll(readiness, { timeout: 20_000 }).toBe(200);
  });

  it("serves what the control plane gave it, by the gateway's name", async () => {
    expect(await answerOf(ports.http, "/x")).toEqual({ status: 200, server: "istio-envoy", body: "upstream saw /x" });
    expect((await answerOf(ports.http, "/x", "other.test")).status).toBe(404);
  });

  it("gives its metrics and the proxy's in one scrape", async () => {
    const { status, body } = await answerOf(ports.status, "/stats/prometheus");
    expect(status).toBe(200);
    expect(body).toMatch(/^istio_agent_scrapes_total \d/m);
    expect(body).toMatch(/^envoy_cluster_manager_cds_update_success\{\} 1/m);
    expect(body).toMatch(/^envoy_cluster_upstream_cx_active\{cluster_name="xds-grpc"\} \d/m);
  });

  it("refuses what only this machine may ask for by POST", async () => {
    expect((await answerOf(ports.status, "/quitquitquit")).status).toBe(405);
    expect((await answerOf(ports.status, "/nonsense")).status).toBe(404);
  });

  it("goes on without the control plane, and follows the next one", async () => {
    istiod.child.kill("SIGKILL");
    await istiod.exited;
    expect((await answerOf(ports.http, "/x")).status).toBe(200);
    expect((await answerOf(ports.ready, "/healthz/ready")).status).toBe(200);
    write("two");
    istiod = await startIstiod();
    await expect.poll(async () => (await answerOf(ports.http, "/version")).body, { timeout: 20_000 }).toBe("two");
  });

  it("lets a request under way end when it is told to stop", async () => {
    const slow = answerOf(ports.http, "/slow");
    await new Promise((resolve) => setTimeout(resolve, 200));
    agent.child.kill("SIGTERM");
    expect(await slow).toMatchObject({ status: 200, body: "upstream saw /slow" });
    expect(await agent.exited).toBe(0);
    await expect(answerOf(ports.http, "/x")).rejects.toThrow("ECONNREFUSED");
  });

  it("is gone as a whole when it is killed", async () => {
    agent = startAgent();
    await expect.poll(readiness, { timeout: 20_000 }).toBe(200);
    const children = readFileSync(`/proc/${agent.pid}/task/${agent.pid}/children`, "utf8").trim();
    expect(/^\d+$/.test(children)).toBe(binaryPath !== undefined);
    agent.child.kill("SIGKILL");
    await agent.exited;
    if (binaryPath) await expect.poll(() => existsSync(`/proc/${children}`), { timeout: 5000 }).toBe(false);
    await expect(answerOf(ports.http, "/x")).rejects.toThrow("ECONNREFUSED");
  });

  it("starts from what it had last when no control plane answers, says so, and follows the next one", async () => {
    istiod.child.kill("SIGKILL");
    await istiod.exited;
    agent = startAgent();
    const source = async () => /^istio_agent_config_source\{source="(.*)"\} 1$/m.exec((await answerOf(ports.status, "/metrics")).body)?.[1];
    await expect
      .poll(
        () =>
          answerOf(ports.http, "/version").then(
            ({ body }) => body,
            () => "",
          ),
        { timeout: 20_000 },
      )
      .toBe("two");
    await expect.poll(async () => (await answerOf(ports.ready, "/healthz/ready")).status, { timeout: 10_000 }).toBe(200);
    expect(await source()).toBe("last good");
    expect(agent.stderr).toContain("no control plane answers: the proxy starts with what it had last");
    write("three");
    istiod = await startIstiod();
    await expect.poll(async () => (await answerOf(ports.http, "/version")).body, { timeout: 30_000 }).toBe("three");
    expect(await source()).toBe("control plane");
  });
});
