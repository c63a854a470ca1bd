/**
 * A small mesh for labs, with nothing but the executable: control plane, ingress gateway, and services of the sample mesh, each with an
 * agent and a sidecar of its own. It runs on loopback and without root: a workload's address is one of 127.0.0.0/8, where its sidecar
 * listens as its Sidecar says; the application behind it listens on 127.0.0.1. A workload without a sidecar listens at its address itself.
 *
 *   sidecar        HTTP of the service, port 80 of its Service; `sidecar + 1`: the same by TCP, port 81
 *   grpc           gRPC of the service, where there is some, port 82
 *   outbound       to all services by name, as a proxy for HTTP
 *   gateway        HTTP, <workload>.example.com; `gateway + 1`: TCP to the first workload's port 81
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { stringify } from "yaml";
import { envoyBinary } from "./envoy.ts";
import { type Answer, askHttp } from "./http-ask.ts";
import { createToken, type Kubeconfig, readKubeconfig } from "./kube-api.ts";
import { freePortRow } from "./ports.ts";
import { eventually } from "./proxies.ts";
import { type Finished, runTopsail, TopsailProcess } from "./topsail.ts";

export type Json = Record<string, unknown>;

export interface LabWorkload {
  readonly name: "web-frontend" | "customers" | "customers-v2" | "httpbin";
  readonly hasSidecar?: boolean;
  /** Where something speaks gRPC on 127.0.0.1: port 82 of the Service. */
  readonly grpcPort?: number;
}

export interface LabOptions {
  /** Third part of the workloads' addresses, so that labs can run side by side. */
  readonly network: number;
  /** Of the proxies; undefined for the built-in one. */
  readonly binaryPath?: string | undefined;
  readonly workloads: readonly LabWorkload[];
  readonly meshConfig?: Json;
  /** Seconds that a certificate lives. */
  readonly certificateSeconds?: number;
  /** `region/zone/subzone` of the gateway. */
  readonly gatewayLocality?: string;
  /** An egress gateway too, which listens on the gateway's port at an address of its own. */
  readonly hasEgress?: boolean;
  /** Workers of each proxy; default 1. */
  readonly concurrency?: number;
}

/** Each lab runs by our proxy, and by a stock Envoy where there is one. */
export const labProxies = [
  { name: "the built-in proxy", binaryPath: undefined },
  ...(envoyBinary ? [{ name: "Envoy", binaryPath: envoyBinary }] : []),
];

/** A further version of an application is a workload of its own, and of the same service. */
function appOf(workload: string): { readonly app: string; readonly version: string } {
  const match = /^(.*)-(v\d+)$/.exec(workload);
  return match ? { app: match[1]!, version: match[2]! } : { app: workload, version: "v1" };
}

export const labDomain = "default.svc.cluster.local";
const systemNamespace = "istio-system";

export class LabMesh implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), "lab-"));
  readonly kubeconfig = join(this.directory, "kubeconfig");
  readonly agents = new Map<string, TopsailProcess>();
  readonly ports: Readonly<
    Record<"xds" | "monitoring" | "gateway" | "sidecar" | "grpc" | "outbound" | "status" | "stats" | "apps" | "admin", number>
  >;
  readonly #options: LabOptions;
  readonly #stack = new AsyncDisposableStack();

  private constructor(options: LabOptions, first: number) {
    this.#options = options;
    this.ports = {
      ...{ xds: first, monitoring: first + 1, gateway: first + 2, sidecar: first + 4, outbound: first + 6, status: first + 7 },
      ...{ stats: first + 8, apps: first + 10, admin: first + 14, grpc: first + 16 },
    };
    this.#stack.defer(() => rmSync(this.directory, { recursive: true, force: true }));
  }

  /** Resolves when every workload answers through the gateway. */
  static async start(options: LabOptions): Promise<LabMesh> {
    const lab = new LabMesh(options, await freePortRow(18));
    try {
      await lab.#start();
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
    return lab;
  }

  async #start(): Promise<void> {
    const { directory, ports } = this;
    const { workloads, meshConfig = {} } = this.#options;
    mkdirSync(join(directory, "mesh"));
    writeFileSync(join(directory, "mesh-config.yaml"), stringify(meshConfig));
    this.apply("services", ...workloads.flatMap((workload) => this.#objectsOf(workload)));
    this.apply("ingress", ...this.#ingress());
    const istiod = this.#stack.use(
      new TopsailProcess(
        [
          ...["istiod", "--configDir", "mesh", "--dataDir", "state", "--meshConfig", "mesh-config.yaml", "--grpcAddr", "127.0.0.1:0"],
          ...["--secureGRPCAddr", `127.0.0.1:${ports.xds}`, "--monitoringAddr", `127.0.0.1:${ports.monitoring}`],
          ...["--kubeAPIAddr", "127.0.0.1:0", "--kubeconfig-out", this.kubeconfig],
        ],
        { cwd: directory },
      ),
    );
    await istiod.printed("serving");
    const config = readKubeconfig(this.kubeconfig);
    for (const { name, hasSidecar = true } of workloads) {
      const address = this.addressOf(name);
      const listen = hasSidecar ? `127.0.0.1:${this.#applicationPort(name)}` : `${address}:${ports.sidecar}`;
      // Without a sidecar there is nobody to send calls through: they go to where the customers are.
      const via = hasSidecar ? `http://${address}:${ports.outbound}` : `http://${this.addressOf("customers")}:${ports.sidecar}`;
      const { app, version } = appOf(name);
      this.#stack.use(new TopsailProcess(["sample", app, "--version", version, "--listen", listen, "--via", via, "--domain", labDomain]));
      if (hasSidecar) await this.#startAgent(config, "sidecar", { name, namespace: "default", address, labels: { app, version } });
    }
    const gateway = { name: "ingress", namespace: systemNamespace, address: "127.0.0.1", labels: this.#gatewayLabels() };
    await this.#startAgent(config, "router", gateway);
    if (this.#options.hasEgress) {
      const labels = { istio: "egressgateway" };
      await this.#startAgent(config, "router", { name: "egress", namespace: systemNamespace, address: this.egressAddress, labels });
    }
    await this.#answers();
  }

  #gatewayLabels(): Json {
    const { gatewayLocality } = this.#options;
    // A label's value has no slashes.
    return { istio: "ingressgateway", ...(gatewayLocality && { "istio-locality": gatewayLocality.replaceAll("/", ".") }) };
  }

  async #answers(): Promise<void> {
    const logs = () => [...this.agents].map(([name, { stderr }]) => `--- ${name}\n${stderr.slice(-2000)}`).join("\n");
    for (const { name } of this.#options.workloads) {
      if (appOf(name).app !== name) continue;
      const isUp = async () => (await this.viaGateway(name).catch(() => undefined))?.status === 200 || undefined;
      await eventually(isUp, `${name} through the gateway`, 45_000).catch((error: Error) => {
        throw new Error(`${error.message}\n${logs()}`);
      });
    }
  }

  /** Told to end, an agent takes its Envoy along; killed, it can't. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of this.agents.values()) child.kill("SIGTERM");
    await Promise.all([...this.agents.values()].map(({ exited }) => Promise.race([exited, delay(10_000)])));
    await this.#stack.disposeAsync();
  }

  get egressAddress(): string {
    return `127.0.${this.#options.network}.200`;
  }

  addressOf(workload: string): string {
    return `127.0.${this.#options.network}.${this.#indexOf(workload) + 1}`;
  }

  #indexOf(workload: string): number {
    return this.#options.workloads.findIndex(({ name }) => name === workload);
  }

  #applicationPort(workload: string): number {
    return this.ports.apps + this.#indexOf(workload);
  }

  /** As kubectl would: a file of that name in the control plane's directory. */
  apply(name: string, ...objects: Json[]): void {
    writeFileSync(join(this.directory, "mesh", `${name}.yaml`), objects.map((object) => stringify(object)).join("---\n"));
  }

  remove(name: string): void {
    rmSync(join(this.directory, "mesh", `${name}.yaml`));
  }

  /** `httpbin.example.com` at the gateway. */
  viaGateway(workload: string, path = "/", headers: Record<string, string> = {}): Promise<Answer> {
    return httpGet("127.0.0.1", this.ports.gateway, `${workload}.example.com`, path, headers);
  }

  /** As a client that is not of the mesh, straight to the workload's address. */
  direct(workload: string, path = "/"): Promise<Answer> {
    return httpGet(this.addressOf(workload), this.ports.sidecar, `${workload}.${labDomain}`, path);
  }

  /** Likewise: the status, or why there was none. */
  outside(workload: string): Promise<number | string | undefined> {
    return this.direct(workload).then(
      ({ status }) => status,
      (error: NodeJS.ErrnoException) => error.code,
    );
  }

  /** As the application of a workload would call another one. */
  between(client: string, server: string, path = "/", headers: Record<string, string> = {}): Promise<Answer> {
    return httpGet(this.addressOf(client), this.ports.outbound, `${server}.${labDomain}`, path, headers);
  }

  /** Awaited: what the gateway answers in the end. */
  settled(workload: string, path = "/", headers: Record<string, string> = {}) {
    return expect.poll(async () => (await this.viaGateway(workload, path, headers)).status, { timeout: 15_000 });
  }

  /** Of a workload's proxy, or of `ingress`. */
  async metrics(proxy: string): Promise<string> {
    const address = proxy === "ingress" ? "127.0.0.1" : proxy === "egress" ? this.egressAddress : this.addressOf(proxy);
    const response = await fetch(`http://${address}:${this.ports.stats}/stats/prometheus`);
    return response.text();
  }

  istioctl(...args: string[]): Finished {
    return runTopsail(["istioctl", ...args], { env: { ...(process.env as Record<string, string>), KUBECONFIG: this.kubeconfig } });
  }

  async #startAgent(
    config: Kubeconfig,
    type: "sidecar" | "router",
    node: { name: string; namespace: string; address: string; labels: Json },
  ): Promise<void> {
    const { ports } = this;
    const { binaryPath, certificateSeconds, concurrency = 1 } = this.#options;
    const home = join(this.directory, node.name);
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
        ...(certificateSeconds ? { SECRET_TTL: `${certificateSeconds}s` } : {}),
        ENVOY_STATUS_PORT: String(ports.status),
        ENVOY_PROMETHEUS_PORT: String(ports.stats),
        ISTIO_META_INTERCEPTION_MODE: type === "sidecar" ? "NONE" : "REDIRECT",
        ISTIO_META_WORKLOAD_NAME: node.name,
        ISTIO_META_CLUSTER_ID: "Kubernetes",
        ISTIO_METAJSON_LABELS: JSON.stringify({ ...node.labels, "service.istio.io/canonical-name": node.name }),
        PROXY_CONFIG: JSON.stringify({
          discoveryAddress: `127.0.0.1:${ports.xds}`,
          proxyAdminPort: ports.admin,
          statusPort: ports.status + 2,
          configPath: join(home, "proxy"),
          concurrency,
          terminationDrainDuration: "0s",
          ...(binaryPath ? { binaryPath } : {}),
        }),
      },
    });
    this.#stack.use(agent);
    this.agents.set(node.name, agent);
  }

  #objectsOf({ name, hasSidecar = true, grpcPort }: LabWorkload): Json[] {
    const { ports } = this;
    const address = this.addressOf(name);
    const { app, version } = appOf(name);
    const ingress = [
      { number: ports.sidecar, protocol: "HTTP", name: "http" },
      { number: ports.sidecar + 1, protocol: "TCP", name: "tcp" },
    ].map((port) => ({ port, bind: address, captureMode: "NONE", defaultEndpoint: `127.0.0.1:${this.#applicationPort(name)}` }));
    if (grpcPort !== undefined) {
      const grpc = { number: ports.grpc, protocol: "GRPC", name: "grpc" };
      ingress.push({ port: grpc, bind: address, captureMode: "NONE", defaultEndpoint: `127.0.0.1:${grpcPort}` });
    }
    const port = { number: ports.outbound, protocol: "HTTP_PROXY", name: "outbound" };
    const selector = { labels: { app, version } };
    const servicePorts = [
      { name: "http", port: 80, targetPort: ports.sidecar },
      { name: "tcp", port: 81, targetPort: ports.sidecar + 1 },
      ...(grpcPort === undefined ? [] : [{ name: "grpc", port: 82, targetPort: ports.grpc }]),
    ];
    const ofService = [
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name, namespace: "default" },
        spec: { selector: { app }, ports: servicePorts },
      },
      istioObject("networking", "VirtualService", name, {
        hosts: [`${name}.example.com`],
        gateways: [`${systemNamespace}/ingress`],
        http: [
          ...(grpcPort === undefined
            ? []
            : [{ match: [{ uri: { prefix: "/test.Echo/" } }], route: [{ destination: { host: name, port: { number: 82 } } }] }]),
          { route: [{ destination: { host: name, port: { number: 80 } } }] },
        ],
      }),
      // Every request meets a new handshake, and with it the newest certificates.
      istioObject("networking", "DestinationRule", name, {
        host: name,
        trafficPolicy: { connectionPool: { http: { maxRequestsPerConnection: 1 } } },
      }),
    ];
    return [
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace: "default" } },
      istioObject("networking", "WorkloadEntry", name, {
        address,
        labels: { app, version },
        ports: { http: ports.sidecar, tcp: ports.sidecar + 1, ...(grpcPort === undefined ? {} : { grpc: ports.grpc }) },
        // Who has an account takes mutual TLS.
        ...(hasSidecar ? { serviceAccount: name } : {}),
      }),
      ...(hasSidecar
        ? [
            istioObject("networking", "Sidecar", name, {
              workloadSelector: selector,
              ingress,
              egress: [{ port, bind: address, captureMode: "NONE", hosts: ["./*", `${systemNamespace}/*`] }],
            }),
          ]
        : []),
      ...(app === name ? ofService : []),
    ];
  }

  #ingress(): Json[] {
    const { gateway } = this.ports;
    const [first] = this.#options.workloads.filter(({ hasSidecar = true }) => hasSidecar);
    const tcp = { match: [{ port: gateway + 1 }], route: [{ destination: { host: first!.name, port: { number: 81 } } }] };
    return [
      ...(this.#options.hasEgress ? this.#egress() : []),
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "ingress", namespace: systemNamespace } },
      istioObject(
        "networking",
        "Gateway",
        "ingress",
        {
          selector: { istio: "ingressgateway" },
          servers: [
            { port: { number: gateway, name: "http", protocol: "HTTP" }, hosts: ["*"] },
            { port: { number: gateway + 1, name: "tcp", protocol: "TCP" }, hosts: ["*"] },
          ],
        },
        systemNamespace,
      ),
      istioObject("networking", "VirtualService", "tcp", { hosts: ["*"], gateways: [`${systemNamespace}/ingress`], tcp: [tcp] }),
    ];
  }

  #egress(): Json[] {
    const labels = { istio: "egressgateway" };
    const ports = [{ name: "http", port: 80, targetPort: this.ports.gateway }];
    return [
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "egress", namespace: systemNamespace } },
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "istio-egressgateway", namespace: systemNamespace },
        spec: { selector: labels, ports },
      },
      istioObject(
        "networking",
        "WorkloadEntry",
        "egress",
        { address: this.egressAddress, labels, ports: { http: this.ports.gateway } },
        systemNamespace,
      ),
    ];
  }
}

export function istioObject(
  group: "networking" | "security" | "telemetry",
  kind: string,
  name: string,
  spec: Json,
  namespace = "default",
): Json {
  return { apiVersion: `${group}.istio.io/v1`, kind, metadata: { name, namespace }, spec };
}

/** Over a connection of its own. */
export function httpGet(address: string, port: number, host: string, path = "/", headers: Record<string, string> = {}): Promise<Answer> {
  return askHttp(address, port, { line: `GET ${path}`, host, headers, timeoutMs: 10_000 });
}
