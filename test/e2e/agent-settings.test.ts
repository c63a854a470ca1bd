/**
 * Settings of Istio's agent, each by an agent of its own beside one control plane: what ends a drain, certificates that others bring, a
 * bootstrap of the user's, the application's metrics in the same page.
 */
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { get as httpsGet } from "node:https";
import { type AddressInfo, connect } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { decodeObject } from "../../src/api/documents/decode-object.ts";
import type { WritableConfigStore } from "../../src/config/store.ts";
import { Istiod } from "../../src/istiod/istiod.ts";
import { envoyBinary } from "../support/envoy.ts";
import { askHttp } from "../support/http-ask.ts";
import { freePortRow } from "../support/ports.ts";
import { TopsailProcess } from "../support/topsail.ts";

const loopback = { host: "127.0.0.1", port: 0 };
const account = { namespace: "vm", serviceAccount: "web" };
const gateway = (port: number) => ({
  apiVersion: "networking.istio.io/v1",
  kind: "Gateway",
  metadata: { name: "gw", namespace: "vm" },
  spec: {
    selector: { istio: "ingressgateway" },
    servers: [{ port: { number: port, name: "http", protocol: "HTTP" }, bind: "127.0.0.1", hosts: ["*"] }],
  },
});
const route = {
  apiVersion: "networking.istio.io/v1",
  kind: "VirtualService",
  metadata: { name: "web", namespace: "vm" },
  spec: { hosts: ["*"], gateways: ["gw"], http: [{ directResponse: { status: 200, body: { string: "served" } } }] },
};

const hasIpv6 = Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === "::1"));

describe("pilot-agent's settings", { timeout: 40_000 }, () => {
  let directory: string;
  let istiod: Istiod;
  let ports: { http: number; admin: number; status: number; ready: number; stats: number; secure: number; merged: number };
  let agent: TopsailProcess | undefined;
  const servers: Server[] = [];

  const place = (file: string, text: string) => {
    const path = join(directory, file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    return path;
  };
  const ask = (port: number, path: string, headers: Readonly<Record<string, string>> = {}) =>
    askHttp("127.0.0.1", port, { line: `GET ${path}`, host: "web.test", headers });
  const until = (port: number, path: string) =>
    expect
      .poll(
        () =>
          ask(port, path).then(
            ({ status }) => status,
            () => 0,
          ),
        { timeout: 25_000 },
      )
      .toBe(200);

  interface Start {
    readonly type?: "router" | "sidecar";
    readonly env?: Readonly<Record<string, string>>;
    readonly proxyConfig?: Readonly<Record<string, unknown>>;
    readonly flags?: readonly string[];
  }
  const start = ({ type = "router", env = {}, proxyConfig = {}, flags = [] }: Start) => {
    agent = new TopsailProcess(["pilot-agent", "proxy", type, ...flags], {
      cwd: directory,
      env: {
        PATH: process.env.PATH ?? "",
        POD_NAME: "web",
        POD_NAMESPACE: account.namespace,
        SERVICE_ACCOUNT: account.serviceAccount,
        INSTANCE_IP: "127.0.0.1",
        TOPSAIL_BIND_ADDRESS: "127.0.0.1",
        ENVOY_STATUS_PORT: String(ports.ready),
        ENVOY_PROMETHEUS_PORT: String(ports.stats),
        ISTIO_METAJSON_LABELS: '{"istio":"ingressgateway"}',
        PROXY_CONFIG: JSON.stringify({
          discoveryAddress: `127.0.0.1:${istiod.secure!.port}`,
          proxyAdminPort: ports.admin,
          statusPort: ports.status,
          configPath: join(directory, "proxy"),
          concurrency: 1,
          terminationDrainDuration: "1s",
          ...proxyConfig,
        }),
        ...env,
      },
    });
    return agent;
  };

  beforeAll(async () => {
    istiod = await Istiod.start({ grpc: loopback, secureGrpc: loopback, monitoring: loopback, domain: "cluster.local" });
    const first = await freePortRow(7);
    ports = { http: first, admin: first + 1, status: first + 2, ready: first + 3, stats: first + 4, secure: first + 5, merged: first + 6 };
    for (const raw of [
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: account.serviceAccount, namespace: account.namespace } },
      gateway(ports.http),
      route,
    ]) {
      const { object, errors } = decodeObject(raw);
      if (!object) throw errors[0];
      await (istiod.discovery.store as WritableConfigStore).put(object);
    }
  });
  afterAll(() => istiod?.[Symbol.asyncDispose]());
  const provision = async () => {
    place("var/run/secrets/tokens/istio-token", (await istiod.secure!.tokens.issue(account, ["istio-ca"], 600)).token);
    place("var/run/secrets/istio/root-cert.pem", istiod.secure!.authority.trustBundle);
  };
  const certificateOf = async (serviceAccount: string) => {
    const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const value = `spiffe://cluster.local/ns/${account.namespace}/sa/${serviceAccount}`;
    const { chain } = await istiod.secure!.authority.sign(publicKey, [{ type: "url", value }], 3600);
    return { cert: chain.join(""), key: privateKey.export({ type: "pkcs8", format: "pem" }) as string };
  };
  const fresh = () => {
    directory = mkdtempSync(join(tmpdir(), "agent-settings-"));
  };
  afterEach(async () => {
    await agent?.[Symbol.asyncDispose]();
    agent = undefined;
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
    rmSync(directory, { recursive: true, force: true });
  });

  const proxies = [{ name: "built-in proxy", which: {} }, ...(envoyBinary ? [{ name: "Envoy", which: { binaryPath: envoyBinary } }] : [])];
  describe.each(proxies)("with the $name", ({ which }) => {
    it("EXIT_ON_ZERO_ACTIVE_CONNECTIONS: goes on as long as somebody is connected, and no longer", async () => {
      fresh();
      await provision();
      const { exited, child } = start({
        env: { EXIT_ON_ZERO_ACTIVE_CONNECTIONS: "true", MINIMUM_DRAIN_DURATION: "100ms" },
        proxyConfig: which,
      });
      await until(ports.http, "/");
      const open = connect(ports.http, "127.0.0.1");
      await new Promise((resolve) => open.once("connect", resolve));
      child.kill("SIGTERM");
      // Longer than terminationDrainDuration, and long enough for it to ask a few times.
      let hasEnded = false;
      void exited.then(() => {
        hasEnded = true;
      });
      await expect.poll(() => agent!.stderr, { timeout: 10_000 }).toContain("connections are still open\tcount=1");
      await new Promise((resolve) => setTimeout(resolve, 1500));
      expect(hasEnded).toBe(false);
      open.destroy();
      expect(await exited).toBe(0);
    });

    it("ENVOY_SECURE_METRICS_PORT and ENVOY_SECURE_MERGED_METRICS_PORT: metrics for who has a certificate of the mesh, and nobody else", async () => {
      fresh();
      await provision();
      const secure = { ENVOY_SECURE_METRICS_PORT: String(ports.secure), ENVOY_SECURE_MERGED_METRICS_PORT: String(ports.merged) };
      start({ env: secure, proxyConfig: which });
      await until(ports.ready, "/healthz/ready");
      const ca = istiod.secure!.authority.trustBundle;
      const scrape = (port: number, path: string, identity: { cert?: string; key?: string } = {}) =>
        new Promise<{ status: number; body: string }>((resolve, reject) => {
          const options = { host: "127.0.0.1", port, path, ca, ...identity, agent: false, checkServerIdentity: () => undefined };
          const call = httpsGet(options, async (response) => resolve({ status: response.statusCode!, body: await text(response) }));
          call.on("error", reject);
        });
      const scraper = await certificateOf("prometheus");
      const proxys = await scrape(ports.secure, "/stats/prometheus", scraper);
      expect(proxys).toMatchObject({ status: 200, body: expect.stringMatching(/^envoy_server_live\{\} 1$/m) });
      expect(proxys.body).not.toContain("istio_agent_");
      for (const path of ["/stats/prometheus", "/metrics"]) {
        const { body } = await scrape(ports.merged, path, scraper);
        expect(body).toMatch(/^istio_agent_build\{/m);
        expect(body).toMatch(/^envoy_server_live\{\} 1$/m);
      }
      for (const path of ["/", "/config_dump", "/quitquitquit"]) expect((await scrape(ports.secure, path, scraper)).status).toBe(404);
      expect((await scrape(ports.merged, "/healthz/ready", scraper)).status).toBe(404);
      for (const port of [ports.secure, ports.merged]) {
        await expect(scrape(port, "/stats/prometheus")).rejects.toThrow();
        await expect(ask(port, "/stats/prometheus")).rejects.toThrow();
      }
      expect(istiod.discovery.connected[0]!.proxy.metadata).toMatchObject({
        ENVOY_SECURE_METRICS_PORT: ports.secure,
        ENVOY_SECURE_MERGED_METRICS_PORT: ports.merged,
      });
    });

    it("ISTIO_BOOTSTRAP and ISTIO_BOOTSTRAP_OVERRIDE: a bootstrap of the user's, without node and admin, and what is laid over it", async () => {
      fresh();
      await provision();
      const listener = (name: string, port: number, status: number) => `
  - name: ${name}
    address: {socket_address: {address: $(HOST_IP), port_value: ${port}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: own
          route_config:
            virtual_hosts:
            - {name: own, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: ${status}}}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`;
      const bootstrap = place(
        "own.yaml",
        `static_resources:\n  listeners:${listener("mine", ports.stats, 201).replace("$(HOST_IP)", "127.0.0.1")}`,
      );
      const override = place("override.yaml", `static_resources:\n  listeners:${listener("over", ports.ready, 202)}`);
      start({ env: { ISTIO_BOOTSTRAP: bootstrap, ISTIO_BOOTSTRAP_OVERRIDE: override, HOST_IP: "127.0.0.1" }, proxyConfig: which });
      await expect
        .poll(
          () =>
            ask(ports.ready, "/").then(
              ({ status }) => status,
              () => 0,
            ),
          { timeout: 20_000 },
        )
        .toBe(202);
      expect((await ask(ports.stats, "/")).status).toBe(201);
      const dump = (await ask(ports.admin, "/config_dump")).body;
      expect(dump).toContain(`router~127.0.0.1~web.vm~vm.svc.cluster.local`);
    });
  });

  it.each([
    [
      "own.json",
      '{\n  "node": {"id": "{{ .nodeID }}"}\n}',
      /own\.json:2: "\{\{ \.nodeID \}\}" is an action of a Go template, which only Istio's agent can run/,
    ],
    [
      "own.yaml",
      "admin:\n  address: {socket_address: {address: 127.0.0.1, port_value: 1}}\n",
      /own\.yaml:2: admin\.address: is not port \d+ \(proxyAdminPort/,
    ],
    [
      "own.yaml",
      "node: {id: a, cluster: b}\nstatic_resources:\n  listeners:\n  - name: 5\n",
      /own\.yaml:4: static_resources\.listeners\[0\]\.name: /,
    ],
    ["own.json", "{\n", /own\.json:2: yaml: error/],
    ["none.json", undefined, /none\.json: the bootstrap can't be read: ENOENT/],
  ])("a bootstrap that can't be: %s %j", async (name, text, message) => {
    fresh();
    await provision();
    if (text !== undefined) place(name, text);
    const { exited } = start({ env: { ISTIO_BOOTSTRAP: name } });
    expect(await exited).toBe(1);
    expect(agent!.stderr).toMatch(new RegExp(`error: ${message.source}`));
  });

  it("FILE_MOUNTED_CERTS: proves itself to the control plane by ISTIO_META_TLS_CLIENT_*, and knows it by their root, without a token", async () => {
    fresh();
    const bring = async (chainFile: string, keyFile: string, serviceAccount: string) => {
      const { cert, key } = await certificateOf(serviceAccount);
      return [place(chainFile, cert), place(keyFile, key)] as const;
    };
    const [chain, key] = await bring("brought/chain.pem", "brought/key.pem", account.serviceAccount);
    const files = {
      ISTIO_META_TLS_CLIENT_CERT_CHAIN: chain,
      ISTIO_META_TLS_CLIENT_KEY: key,
      ISTIO_META_TLS_CLIENT_ROOT_CERT: place("brought/root.pem", istiod.secure!.authority.trustBundle),
    };
    mkdirSync(join(directory, "etc/certs"), { recursive: true });
    // In the ProxyConfig, as Istio has it; in the environment below.
    start({ env: { FILE_MOUNTED_CERTS: "true" }, proxyConfig: { proxyMetadata: files } });
    await until(ports.http, "/");
    await until(ports.ready, "/healthz/ready");
    expect(existsSync(join(directory, "var/run/secrets/tokens/istio-token"))).toBe(false);
    await agent![Symbol.asyncDispose]();

    // The workload's own is another's, which the control plane would not take for this node's.
    await bring("etc/certs/cert-chain.pem", "etc/certs/key.pem", "another");
    place("etc/certs/root-cert.pem", istiod.secure!.authority.trustBundle);
    rmSync(join(directory, "proxy"), { recursive: true });
    start({ env: { FILE_MOUNTED_CERTS: "true", ...files } });
    await until(ports.http, "/");
    await agent![Symbol.asyncDispose]();

    start({ env: { FILE_MOUNTED_CERTS: "true", ISTIO_META_TLS_CLIENT_KEY: files.ISTIO_META_TLS_CLIENT_KEY } });
    expect(await agent!.exited).toBe(1);
    expect(agent!.stderr).toContain("error: ISTIO_META_TLS_CLIENT_CERT_CHAIN: is missing, of a certificate and its key");
  });

  it("ISTIO_PROMETHEUS_ANNOTATIONS: a sidecar's page has the application's metrics, last and in their format", async () => {
    fresh();
    await provision();
    const type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    const application = createServer(({ headers }, response) =>
      response
        .writeHead(200, { "content-type": String(headers.accept).includes("openmetrics") ? type : "text/plain" })
        .end("app_up 1\n# EOF\n"),
    );
    servers.push(application);
    await new Promise<void>((resolve) => application.listen(0, "127.0.0.1", resolve));
    const { port } = application.address() as AddressInfo;
    const annotations = { ISTIO_PROMETHEUS_ANNOTATIONS: JSON.stringify({ scrape: "true", port: String(port), path: "/metrics" }) };
    start({ type: "sidecar", env: annotations });
    await until(ports.ready, "/healthz/ready");
    const page = await ask(ports.status, "/stats/prometheus", { accept: "application/openmetrics-text;version=1.0.0" });
    expect(page.headers["content-type"]).toBe(type);
    expect(page.body).toMatch(/^istio_agent_scrapes_total 1$/m);
    expect(page.body).toMatch(/^envoy_cluster_manager_cds_update_success\{\} 1$/m);
    expect(page.body).toMatch(/\napp_up 1\n# EOF\n$/);
    const text = await ask(ports.status, "/metrics");
    expect(text.headers["content-type"]).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(text.body).toMatch(/\napp_up 1\n$/);
    const packed = await fetch(`http://127.0.0.1:${ports.status}/metrics`, { headers: { "accept-encoding": "gzip" } });
    expect(packed.headers.get("content-encoding")).toBe("gzip");
    expect(await packed.text()).toMatch(/\napp_up 1\n$/);
  });

  it("ISTIO_KUBE_APP_PROBERS: asks the application in the place of who may not call it", async () => {
    fresh();
    await provision();
    const asked: string[] = [];
    const application = createServer(({ url, headers, socket }, response) => {
      asked.push(`${url} ${headers.host} ${headers["x-probe"]} ${socket.remoteAddress}`);
      response.writeHead(url === "/well" ? 200 : 418).end("as it is");
    });
    servers.push(application);
    await new Promise<void>((resolve) => application.listen(0, "127.0.0.1", resolve));
    const { port } = application.address() as AddressInfo;
    const probers = {
      "/app-health/web/readyz": { httpGet: { path: "/well", port }, timeoutSeconds: 5 },
      "/app-health/web/livez": { httpGet: { path: "unwell", port }, timeoutSeconds: 5 },
    };
    start({ type: "sidecar", env: { ISTIO_KUBE_APP_PROBERS: JSON.stringify(probers) } });
    await until(ports.ready, "/healthz/ready");
    const probe = (path: string) =>
      askHttp("127.0.0.1", ports.status, { line: `GET ${path}`, host: `me:${ports.status}`, headers: { "x-probe": "1" } });
    expect(await probe("/app-health/web/readyz")).toMatchObject({ status: 200, body: "as it is" });
    expect(await probe("/app-health/web/livez")).toMatchObject({ status: 418, body: "as it is" });
    expect(asked).toEqual([`/well me:${port} 1 127.0.0.6`, `/unwell me:${port} 1 127.0.0.6`]);
    expect((await probe("/app-health/other/readyz")).status).toBe(400);
    await agent![Symbol.asyncDispose]();
    start({ type: "sidecar", env: { ISTIO_KUBE_APP_PROBERS: '{"/app-health/web/readyz": {}}' } });
    expect(await agent!.exited).toBe(1);
    expect(agent!.stderr).toContain(
      "error: ISTIO_KUBE_APP_PROBERS: /app-health/web/readyz: has to have one of httpGet, tcpSocket and grpc",
    );
  });

  it.skipIf(!hasIpv6)("a machine of IPv6: others ask for readiness and metrics by its address, and the agent asks its proxy", async () => {
    fresh();
    await provision();
    start({ env: { INSTANCE_IP: "::1", TOPSAIL_BIND_ADDRESS: "" } });
    await until(ports.ready, "/healthz/ready");
    for (const host of ["::1", "127.0.0.1"])
      expect((await askHttp(host, ports.status, { line: "GET /metrics", host: "web.test", from: host })).body).toContain(
        "istio_agent_build",
      );
  });

  it("POST /drain: has clients go and serves on, and a signal afterwards ends it at once", async () => {
    fresh();
    await provision();
    const { exited, child } = start({ proxyConfig: { terminationDrainDuration: "600s" } });
    await until(ports.http, "/");
    expect((await askHttp("127.0.0.1", ports.status, { line: "POST /drain" })).status).toBe(200);
    expect((await ask(ports.http, "/")).headers.connection).toBe("close");
    child.kill("SIGTERM");
    expect(await exited).toBe(0);
  });

  it("a flag that only Istio's agent knows is no reason not to start", async () => {
    fresh();
    await provision();
    start({
      flags: ["--proxyLogLevel", "warning,misc:error", "--stsPort", "0", "--profiling=false"],
      proxyConfig: envoyBinary ? { binaryPath: envoyBinary } : {},
    });
    await until(ports.ready, "/healthz/ready");
    expect(agent!.stderr).toContain("no effect of unknown flags\tfrom=--stsPort");
  });
});
