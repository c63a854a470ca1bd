/**
 * Rate limits on a small mesh, with nothing but the executable and a rate limit service: control plane, two ingress gateways, and
 * httpbin with an agent and a sidecar of its own, on loopback and without root (as in mutual-tls.test.ts).
 *
 * The steps build on each other, as somebody types them: EnvoyFilters are written to the folder of the control plane, and taken away.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { createToken, type Kubeconfig, readKubeconfig } from "../support/kube-api.ts";
import { httpGet } from "../support/lab-mesh.ts";
import { freePortRow } from "../support/ports.ts";
import { RateLimitService } from "../support/rate-limit-service.ts";
import { RawConnection } from "../support/raw-client.ts";
import { runTopsail, TopsailProcess } from "../support/topsail.ts";
import { startTcpUpstream } from "../support/upstream.ts";

const variants = [
  { name: "the built-in proxy", network: 10, binaryPath: undefined },
  ...(envoyBinary ? [{ name: "Envoy", network: 11, binaryPath: envoyBinary }] : []),
];

const gateways = ["blue", "green"] as const;
type Gateway = (typeof gateways)[number];

describe.each(variants)("A mesh with rate limits, run by $name", ({ network, binaryPath }) => {
  const stack = new AsyncDisposableStack();
  const addresses = { blue: `127.0.${network}.1`, green: `127.0.${network}.2`, httpbin: `127.0.${network}.3` };
  type Node = keyof typeof addresses;
  const agents = new Map<Node, TopsailProcess>();
  let directory: string;
  let limits: RateLimitService;
  let ports: Record<"xds" | "monitoring" | "http" | "tcp" | "inbound" | "status" | "stats" | "app" | "echo" | "admin", number>;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "rate-limit-lab-"));
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    const echo = stack.use(await startTcpUpstream());
    limits = stack.use(await RateLimitService.start([{ domain: "shop", descriptor: "PATH=/status/200", requestsPerMinute: 3 }]));
    const first = await freePortRow(14);
    ports = {
      ...{ xds: first, monitoring: first + 1, http: first + 2, tcp: first + 3, inbound: first + 4, status: first + 5 },
      ...{ stats: first + 8, app: first + 9, echo: echo.port, admin: first + 10 },
    };
    mkdirSync(join(directory, "mesh"));
    apply("mesh", mesh());
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
    stack.use(new TopsailProcess(["sample", "httpbin", "--listen", `127.0.0.1:${ports.app}`]));
    await startAgent(config, "sidecar", "httpbin", "default", { app: "httpbin" });
    for (const node of gateways) {
      await startAgent(config, "router", node, "istio-system", { istio: "ingressgateway", side: node });
    }
  }, 90_000);
  afterAll(async () => {
    // Told to end, an agent takes its Envoy along; killed, it can't.
    for (const { child } of agents.values()) child.kill("SIGTERM");
    await Promise.all([...agents.values()].map(({ exited }) => Promise.race([exited, delay(10_000)])));
    await stack.disposeAsync();
  }, 30_000);

  function apply(name: string, yaml: string): void {
    writeFileSync(join(directory, "mesh", `${name}.yaml`), yaml);
  }

  const remove = (name: string) => rmSync(join(directory, "mesh", `${name}.yaml`));

  async function startAgent(config: Kubeconfig, type: "sidecar" | "router", name: Node, namespace: string, labels: object): Promise<void> {
    const home = join(directory, name);
    const files = join(home, "var/run/secrets");
    for (const part of ["tokens", "istio"]) mkdirSync(join(files, part), { recursive: true });
    writeFileSync(join(files, "tokens/istio-token"), await createToken(config, namespace, name));
    writeFileSync(join(files, "istio/root-cert.pem"), config.root);
    const agent = new TopsailProcess(["pilot-agent", "proxy", type], {
      cwd: home,
      env: {
        PATH: process.env.PATH ?? "",
        POD_NAME: name,
        POD_NAMESPACE: namespace,
        SERVICE_ACCOUNT: name,
        INSTANCE_IP: addresses[name],
        TOPSAIL_BIND_ADDRESS: addresses[name],
        ENVOY_STATUS_PORT: String(ports.status),
        ENVOY_PROMETHEUS_PORT: String(ports.stats),
        ISTIO_META_INTERCEPTION_MODE: type === "sidecar" ? "NONE" : "REDIRECT",
        ISTIO_METAJSON_LABELS: JSON.stringify(labels),
        PROXY_CONFIG: JSON.stringify({
          discoveryAddress: `127.0.0.1:${ports.xds}`,
          proxyAdminPort: ports.admin,
          statusPort: ports.status + 2,
          configPath: join(home, "proxy"),
          concurrency: 1,
          terminationDrainDuration: "0s",
          proxyStatsMatcher: { inclusionRegexps: [".*rate_?limit.*"] },
          ...(binaryPath ? { binaryPath } : {}),
        }),
      },
    });
    stack.use(agent);
    agents.set(name, agent);
  }

  const mesh = () => `
{ apiVersion: v1, kind: ServiceAccount, metadata: { name: blue, namespace: istio-system } }
---
{ apiVersion: v1, kind: ServiceAccount, metadata: { name: green, namespace: istio-system } }
---
{ apiVersion: v1, kind: ServiceAccount, metadata: { name: httpbin, namespace: default } }
---
apiVersion: v1
kind: Service
metadata: { name: httpbin, namespace: default }
spec: { selector: { app: httpbin }, ports: [{ name: http, port: 80, targetPort: ${ports.inbound} }] }
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: { name: httpbin, namespace: default }
spec: { address: ${addresses.httpbin}, labels: { app: httpbin }, ports: { http: ${ports.inbound} }, serviceAccount: httpbin }
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: httpbin, namespace: default }
spec:
  workloadSelector: { labels: { app: httpbin } }
  ingress:
    - port: { number: ${ports.inbound}, protocol: HTTP, name: http }
      bind: ${addresses.httpbin}
      captureMode: NONE
      defaultEndpoint: 127.0.0.1:${ports.app}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: echo, namespace: default }
spec:
  hosts: [echo.test]
  resolution: STATIC
  ports: [{ number: 9000, name: tcp, protocol: TCP }]
  endpoints: [{ address: 127.0.0.1, ports: { tcp: ${ports.echo} } }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ratelimit, namespace: default }
spec:
  hosts: [ratelimit.default.svc.cluster.local]
  resolution: STATIC
  ports: [{ number: 8081, name: grpc, protocol: GRPC }]
  endpoints: [{ address: 127.0.0.1, ports: { grpc: ${limits.port} } }]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: ingress, namespace: istio-system }
spec:
  selector: { istio: ingressgateway }
  servers:
    - { port: { number: ${ports.http}, name: http, protocol: HTTP }, hosts: ["shop.example"] }
    - { port: { number: ${ports.tcp}, name: tcp, protocol: TCP }, hosts: ["*"] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop, namespace: default }
spec:
  hosts: [shop.example]
  gateways: [istio-system/ingress]
  http:
    - { name: checkout, match: [{ uri: { prefix: /anything/checkout } }], route: [{ destination: { host: httpbin } }] }
    - { name: rest, route: [{ destination: { host: httpbin } }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: echo, namespace: default }
spec: { hosts: ["*"], gateways: [istio-system/ingress], tcp: [{ route: [{ destination: { host: echo.test } }] }] }
`;

  const envoyFilter = (name: string, namespace: string, labels: string, patches: string) => `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: ${name}, namespace: ${namespace} }
spec:
  workloadSelector: { labels: { ${labels} } }
  configPatches:${patches}`;
  const beforeRouter = (context: string) =>
    `{ context: ${context}, listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager, subFilter: { name: envoy.filters.http.router } } } } }`;
  const type = (name: string) => `type.googleapis.com/envoy.extensions.filters.${name}`;
  const always = "default_value: { numerator: 100, denominator: HUNDRED }";
  /** Hourly, so that none of it comes back while the steps run. */
  const bucket = (tokens: number) => `{ max_tokens: ${tokens}, tokens_per_fill: ${tokens}, fill_interval: 3600s }`;

  const via = (gateway: Gateway, path: string, headers: Record<string, string> = {}) =>
    httpGet(addresses[gateway], ports.http, "shop.example", path, headers);
  const statuses = async (gateway: Gateway, path: string, count: number, headers: Record<string, string> = {}) => {
    const seen: number[] = [];
    for (let index = 0; index < count; index++) seen.push((await via(gateway, path, headers)).status);
    return seen;
  };
  const stat = async (node: Node, name: RegExp) => {
    const text = await (await fetch(`http://${addresses[node]}:${ports.admin}/stats?filter=rate_?limit`)).text();
    return text.split("\n").find((line) => name.test(line));
  };

  it("comes up", async () => {
    const status = async () => {
      const answers = await Promise.all(gateways.map((gateway) => via(gateway, "/get").catch(() => undefined)));
      return answers.map((answer) => answer?.status);
    };
    const logs = () => [...agents].map(([name, { stderr }]) => `--- ${name}\n${stderr.slice(-2000)}`).join("\n");
    await expect
      .poll(status, { timeout: 30_000 })
      .toEqual([200, 200])
      .catch((error: Error) => expect.fail(`${error.message}\n${logs()}`));
  }, 40_000);

  it("limits a route of each gateway by itself", async () => {
    apply(
      "checkout",
      envoyFilter(
        "checkout",
        "istio-system",
        "istio: ingressgateway",
        `
    - applyTo: HTTP_FILTER
      match: ${beforeRouter("GATEWAY")}
      patch:
        operation: INSERT_BEFORE
        value:
          name: envoy.filters.http.local_ratelimit
          typed_config: { "@type": ${type("http.local_ratelimit.v3.LocalRateLimit")}, stat_prefix: http_local_rate_limiter }
    - applyTo: HTTP_ROUTE
      match: { context: GATEWAY, routeConfiguration: { vhost: { name: "shop.example:${ports.http}", route: { name: checkout } } } }
      patch:
        operation: MERGE
        value:
          typed_per_filter_config:
            envoy.filters.http.local_ratelimit:
              "@type": type.googleapis.com/udpa.type.v1.TypedStruct
              type_url: ${type("http.local_ratelimit.v3.LocalRateLimit")}
              value:
                stat_prefix: checkout
                token_bucket: ${bucket(4)}
                filter_enabled: { runtime_key: local_rate_limit_enabled, ${always} }
                filter_enforced: { runtime_key: local_rate_limit_enforced, ${always} }
                enable_x_ratelimit_headers: DRAFT_VERSION_03
                response_headers_to_add: [{ header: { key: x-local-rate-limit, value: "true" } }]`,
      ),
    );
    for (const gateway of gateways) {
      // The first answer that tells of the limit has taken one of it.
      const remaining = async () => (await via(gateway, "/anything/checkout")).headers["x-ratelimit-remaining"];
      await expect.poll(remaining, { timeout: 15_000 }).toBe("3");
      expect(await statuses(gateway, "/anything/checkout/cart", 4)).toEqual([200, 200, 200, 429]);
      const { status, body, headers } = await via(gateway, "/anything/checkout");
      expect({ status, body, limit: headers["x-ratelimit-limit"], header: headers["x-local-rate-limit"] }).toEqual({
        ...{ status: 429, body: "local_rate_limited", limit: "4", header: "true" },
      });
      expect(await statuses(gateway, "/get", 6), "another route").toEqual(Array(6).fill(200));
      expect(await stat(gateway, /checkout\.http_local_rate_limit\.rate_limited/)).toMatch(/: 2$/);
    }
  }, 60_000);

  it("limits what comes in to a workload, by who asks", async () => {
    apply(
      "inbound",
      envoyFilter(
        "per-user",
        "default",
        "app: httpbin",
        `
    - applyTo: HTTP_FILTER
      match: ${beforeRouter("SIDECAR_INBOUND")}
      patch:
        operation: INSERT_BEFORE
        value:
          name: envoy.filters.http.local_ratelimit
          typed_config:
            "@type": ${type("http.local_ratelimit.v3.LocalRateLimit")}
            stat_prefix: inbound
            token_bucket: ${bucket(1000)}
            filter_enabled: { ${always} }
            filter_enforced: { ${always} }
            enable_x_ratelimit_headers: DRAFT_VERSION_03
            descriptors: [{ entries: [{ key: user, value: ann }], token_bucket: ${bucket(2)} }]
            rate_limits: [{ actions: [{ request_headers: { header_name: x-user, descriptor_key: user } }] }]`,
      ),
    );
    // Of both gateways: a connection that one of them has kept is still of the listener before.
    const limit = () => Promise.all(gateways.map(async (gateway) => (await via(gateway, "/get")).headers["x-ratelimit-limit"]));
    await expect.poll(limit, { timeout: 15_000 }).toEqual(["1000", "1000"]);
    expect(await statuses("blue", "/get", 1, { "x-user": "ann" })).toEqual([200]);
    expect(await statuses("green", "/get", 2, { "x-user": "ann" }), "whichever way she comes").toEqual([200, 429]);
    expect(await statuses("green", "/get", 3, { "x-user": "ben" })).toEqual([200, 200, 200]);
    expect(await stat("httpbin", /inbound\.http_local_rate_limit\.rate_limited/)).toMatch(/: 1$/);
    remove("inbound");
    await expect.poll(limit, { timeout: 15_000 }).toEqual([undefined, undefined]);
    expect(await statuses("blue", "/get", 3, { "x-user": "ann" })).toEqual([200, 200, 200]);
  }, 60_000);

  it("limits connections", async () => {
    const echoes = async () => {
      using connection = await RawConnection.open(ports.tcp, undefined, addresses.blue);
      connection.write("hello");
      return await connection.until((received) => received.includes("tcp:hello"));
    };
    expect([await echoes(), await echoes(), await echoes(), await echoes()]).toEqual([true, true, true, true]);
    apply(
      "connections",
      envoyFilter(
        "connections",
        "istio-system",
        "side: blue",
        `
    - applyTo: NETWORK_FILTER
      match: { context: GATEWAY, listener: { portNumber: ${ports.tcp}, filterChain: { filter: { name: envoy.filters.network.tcp_proxy } } } }
      patch:
        operation: INSERT_BEFORE
        value:
          name: envoy.filters.network.local_ratelimit
          typed_config:
            "@type": ${type("network.local_ratelimit.v3.LocalRateLimit")}
            stat_prefix: connections
            token_bucket: ${bucket(2)}`,
      ),
    );
    const patched = async () => (await stat("blue", /^local_rate_limit\.connections\.rate_limited/)) ?? "";
    await expect.poll(patched, { timeout: 15_000 }).toMatch(/: 0$/);
    expect([await echoes(), await echoes(), await echoes()]).toEqual([true, true, false]);
    expect(await patched()).toMatch(/: 1$/);
    remove("connections");
    await expect.poll(echoes, { timeout: 15_000 }).toBe(true);
  }, 60_000);

  const global = (more: string) =>
    envoyFilter(
      "global",
      "istio-system",
      "istio: ingressgateway",
      `
    - applyTo: HTTP_FILTER
      match: ${beforeRouter("GATEWAY")}
      patch:
        operation: INSERT_BEFORE
        value:
          name: envoy.filters.http.ratelimit
          typed_config:
            "@type": ${type("http.ratelimit.v3.RateLimit")}
            domain: shop
            timeout: 5s
            ${more}
            rate_limit_service:
              transport_api_version: V3
              grpc_service:
                envoy_grpc: { cluster_name: outbound|8081||ratelimit.default.svc.cluster.local, authority: ratelimit.default.svc.cluster.local }
    - applyTo: VIRTUAL_HOST
      match: { context: GATEWAY, routeConfiguration: { vhost: { name: "shop.example:${ports.http}", route: { action: ANY } } } }
      patch:
        operation: MERGE
        value: { rate_limits: [{ actions: [{ request_headers: { header_name: ":path", descriptor_key: PATH } }] }] }`,
    );

  it("limits all gateways together, by a rate limit service", async () => {
    apply("global", global("enable_x_ratelimit_headers: DRAFT_VERSION_03"));
    for (const gateway of gateways) {
      const told = async () => (await via(gateway, "/status/200")).headers["x-ratelimit-limit"];
      await expect.poll(told, { timeout: 15_000 }).toBe("3, 3;w=60");
    }
    limits.reset();
    expect(await statuses("blue", "/status/200", 2)).toEqual([200, 200]);
    expect(await statuses("green", "/status/200", 2)).toEqual([200, 429]);
    const { headers, body } = await via("blue", "/status/200");
    expect({ limited: headers["x-envoy-ratelimited"], body }).toEqual({ limited: "true", body: "" });
    expect(await statuses("green", "/get", 4), "what has no limit").toEqual([200, 200, 200, 200]);
    expect(new Set(limits.asked)).toEqual(new Set(["shop PATH=/status/200", "shop PATH=/get"]));
    expect(await stat("green", /httpbin\.default\.svc\.cluster\.local;?\.ratelimit\.over_limit/)).toMatch(/: [1-9]/);
  }, 60_000);

  it("lets pass when the service is gone, unless the filter says otherwise", async () => {
    await limits[Symbol.asyncDispose]();
    expect(await statuses("blue", "/status/200", 3)).toEqual([200, 200, 200]);
    apply("global", global("failure_mode_deny: true"));
    await expect.poll(async () => (await via("blue", "/status/200")).status, { timeout: 15_000 }).toBe(500);
    remove("global");
    await expect.poll(async () => (await via("blue", "/status/200")).status, { timeout: 15_000 }).toBe(200);
  }, 60_000);

  it("leaves all as it is when a filter is wrong, and says where", async () => {
    const patch = "\n    - { applyTo: CLUSTER, patch: { operation: MERGE, value: { connect_timeout: soon } } }";
    apply("wrong", envoyFilter("wrong", "istio-system", "istio: ingressgateway", patch));
    const { status, stdout, stderr } = runTopsail(["istioctl", "validate", "-f", join(directory, "mesh", "wrong.yaml")]);
    expect(status).toBe(1);
    expect(stdout + stderr).toContain("spec.configPatches[0].patch.value.connect_timeout");
    const problems = async () => (await fetch(`http://127.0.0.1:${ports.monitoring}/debug/problems`)).text();
    await expect.poll(problems, { timeout: 15_000 }).toContain("wrong.yaml:8: EnvoyFilter istio-system/wrong");
    const metrics = await (await fetch(`http://127.0.0.1:${ports.monitoring}/metrics`)).text();
    expect(metrics).toContain('pilot_envoy_filter_status{name="istio-system/checkout",patch="httpfilter",result="applied"} 1');
    // The first limit is still there; its bucket is a new one since the routes changed.
    await expect.poll(async () => (await via("blue", "/anything/checkout")).status, { timeout: 15_000 }).toBe(429);
    remove("wrong");
    remove("checkout");
    for (const gateway of gateways) {
      await expect.poll(async () => (await via(gateway, "/anything/checkout")).status, { timeout: 15_000 }).toBe(200);
    }
  }, 60_000);
});
