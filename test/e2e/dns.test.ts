/** Control plane, agent and a nameserver as processes: what a machine's resolver gets to hear. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { askTcp, decodeResponse, encodeQuery, type QueryInit, resolve } from "../support/dns-client.ts";
import { DnsUpstream, reply } from "../support/dns-upstream.ts";
import { freePortRow } from "../support/ports.ts";
import { TopsailProcess } from "../support/topsail.ts";

const mesh = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, "fd96::1"], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: other}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: default}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {clusterIP: None, ports: [{name: tcp, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db, namespace: default, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: tcp, port: 5432}]
endpoints: [{addresses: [10.1.0.1], hostname: db-0}, {addresses: [10.1.0.2], hostname: db-1}, {addresses: [10.1.0.3], conditions: {ready: false}}]
---
apiVersion: v1
kind: Service
metadata: {name: partner, namespace: default}
spec: {type: ExternalName, externalName: partner.example}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: default}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: default}
spec: {hosts: ["*.wild.test"], addresses: [10.97.0.1], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: default}
spec: {hosts: [api.example.com], ports: [{number: 5432, name: tcp, protocol: TCP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: hidden, namespace: other}
spec: {hosts: [hidden.test], exportTo: ["."], addresses: [10.97.0.9], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
`;

const row = ["xds", "monitoring", "admin", "status", "ready", "stats", "dns"] as const;
type Ports = Readonly<Record<(typeof row)[number], number>>;

describe.each(["true", "false"])("DNS of a sidecar's agent, ISTIO_DELTA_XDS=%s", (deltaXds) => {
  let directory: string;
  let ports: Ports;
  let nameserver: DnsUpstream;
  let istiod: TopsailProcess;
  let agent: TopsailProcess;

  const startIstiod = async () => {
    const started = new TopsailProcess([
      ...["istiod", "--configDir", join(directory, "mesh"), "--dataDir", join(directory, "data"), "--secureGRPCAddr", ""],
      ...["--grpcAddr", `127.0.0.1:${ports.xds}`, "--monitoringAddr", `127.0.0.1:${ports.monitoring}`],
    ]);
    await started.printed("serving");
    return started;
  };
  const write = (text: string) => writeFileSync(join(directory, "mesh", "mesh.yaml"), text);
  const ask = (name: string, init: QueryInit = {}) => resolve({ port: ports.dns }, name, init);
  const addresses = async (name: string, init: QueryInit = {}) => {
    const { code, answers } = await ask(name, init);
    return code === "NOERROR" ? answers.map((answer) => answer.split(" ").at(-1)!).sort() : code;
  };
  const statusPort = async (path: string) => {
    const answer = await fetch(`http://127.0.0.1:${ports.status}${path}`);
    return { status: answer.status, text: await answer.text() };
  };

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "topsail-dns-"));
    mkdirSync(join(directory, "mesh"));
    write(mesh);
    const first = await freePortRow(row.length);
    ports = Object.fromEntries(row.map((name, index) => [name, first + index])) as unknown as Ports;
    nameserver = await DnsUpstream.start((asked) => [
      ["outside.example.", "partner.example."].includes(asked.name)
        ? reply(asked, { addresses: ["192.0.2.7"] })
        : reply(asked, { code: 3 }),
    ]);
    writeFileSync(join(directory, "resolv.conf"), `${nameserver.line}search default.svc.cluster.local corp.test\n`);
    agent = new TopsailProcess(["pilot-agent", "proxy", "sidecar"], {
      cwd: directory,
      env: {
        PATH: process.env.PATH ?? "",
        POD_NAME: "vm",
        POD_NAMESPACE: "default",
        INSTANCE_IP: "127.0.0.1",
        TOPSAIL_BIND_ADDRESS: "127.0.0.1",
        TOPSAIL_RESOLV_CONF: join(directory, "resolv.conf"),
        ISTIO_META_DNS_CAPTURE: "true",
        ISTIO_META_INTERCEPTION_MODE: "NONE",
        ISTIO_DELTA_XDS: deltaXds,
        DNS_PROXY_ADDR: `127.0.0.1:${ports.dns}`,
        ENVOY_STATUS_PORT: String(ports.ready),
        ENVOY_PROMETHEUS_PORT: String(ports.stats),
        PROXY_CONFIG: JSON.stringify({
          discoveryAddress: `127.0.0.1:${ports.xds}`,
          controlPlaneAuthPolicy: "NONE",
          proxyAdminPort: ports.admin,
          statusPort: ports.status,
          configPath: join(directory, "proxy"),
          concurrency: 1,
        }),
      },
    });
    await agent.printed("starting");
  });
  afterAll(async () => {
    await agent?.[Symbol.asyncDispose]();
    await istiod?.[Symbol.asyncDispose]();
    await nameserver?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  it("fails, and is not ready, before there is a table", async () => {
    expect(await ask("web")).toMatchObject({ code: "SERVFAIL" });
    expect(await statusPort("/healthz/ready")).toMatchObject({ status: 503 });
    expect(await statusPort("/debug/ndsz")).toEqual({ status: 404, text: "{}" });
    istiod = await startIstiod();
    await expect.poll(async () => (await statusPort("/healthz/ready")).status, { timeout: 20_000 }).toBe(200);
  });

  it.each([
    ["web", ["10.96.0.1"]],
    ["web.default", ["10.96.0.1"]],
    ["web.default.svc", ["10.96.0.1"]],
    ["web.default.svc.cluster.local", ["10.96.0.1"]],
    ["shop", "NXDOMAIN"],
    ["shop.other", ["10.96.0.2"]],
    ["shop.other.svc.cluster.local", ["10.96.0.2"]],
    ["db", ["10.1.0.1", "10.1.0.2"]],
    ["db-0.db", ["10.1.0.1"]],
    ["db-1.db.default.svc.cluster.local", ["10.1.0.2"]],
    ["a.b.wild.test", ["10.97.0.1"]],
    ["wild.test", "NXDOMAIN"],
    ["front", ["10.96.0.1"]],
    ["hidden.test", "NXDOMAIN"],
    ["outside.example", ["192.0.2.7"]],
  ])("answers %s with %s", async (name, expected) => {
    expect(await addresses(name)).toEqual(expected);
    expect(decodeResponse((await askTcp({ port: ports.dns }, [encodeQuery(name)]))[0]!).code).toBe(
      Array.isArray(expected) ? "NOERROR" : expected,
    );
  });

  it("answers an alias with what it stands for", async () => {
    expect((await ask("partner.default")).answers).toEqual([
      "partner.default. 30 CNAME partner.example.",
      "partner.example. 5 A 192.0.2.7",
    ]);
  });

  it("answers by IPv6 too, where the machine has an address", async () => {
    const hasIpv6 = Object.values(networkInterfaces()).some((list) =>
      list?.some(({ family, internal, address }) => family === "IPv6" && !internal && !address.startsWith("fe80:")),
    );
    expect(await addresses("web", { type: "AAAA" })).toEqual(hasIpv6 ? ["fd96:0:0:0:0:0:0:1"] : []);
  });

  it("gives addresses to names without one, the same over restarts, and the proxy listens there", async () => {
    const [api] = await addresses("api.example.com");
    const [plain] = await addresses("plain");
    expect(api).toMatch(/^240\.240\.\d+\.\d+$/);
    expect(plain).toMatch(/^240\.240\.\d+\.\d+$/);
    expect(plain).not.toBe(api);
    const listeners = await (await fetch(`http://127.0.0.1:${ports.monitoring}/debug/config_dump?proxyID=vm.default`)).text();
    expect(listeners).toContain("outbound|5432||api.example.com");
    expect((await ask("api.example.com.default.svc.cluster.local")).answers).toEqual([
      "api.example.com.default.svc.cluster.local. 30 CNAME api.example.com.",
      `api.example.com. 30 A ${api}`,
    ]);
  });

  it("follows the configuration", async () => {
    write(`${mesh}---
apiVersion: v1
kind: Service
metadata: {name: late, namespace: default}
spec: {clusterIP: 10.96.0.77, ports: [{name: http, port: 80}]}
`);
    await expect.poll(() => addresses("late"), { timeout: 20_000 }).toEqual(["10.96.0.77"]);
    write(mesh.replace("10.1.0.2", "10.1.0.9"));
    await expect.poll(() => addresses("late"), { timeout: 20_000 }).toBe("NXDOMAIN");
    await expect.poll(() => addresses("db"), { timeout: 20_000 }).toEqual(["10.1.0.1", "10.1.0.9"]);
  });

  it("shows its names to this machine, and the control plane what it told whom", async () => {
    const { table } = JSON.parse((await statusPort("/debug/ndsz")).text) as { table: Record<string, unknown> };
    expect(table["web.default."]).toEqual({ ips: expect.arrayContaining(["10.96.0.1"]), registry: "Kubernetes" });
    const told = await (await fetch(`http://127.0.0.1:${ports.monitoring}/debug/ndsz?proxyID=vm.default`)).json();
    expect(told).toMatchObject([{ table: { "web.default.svc.cluster.local": { shortname: "web", namespace: "default" } } }]);
  });

  it("counts, beside the proxy's own metrics", async () => {
    const { text } = await statusPort("/stats/prometheus");
    expect(text).toMatch(/^istio_agent_dns_requests_total [1-9]/m);
    expect(text).toMatch(/^istio_agent_dns_upstream_requests_total [1-9]/m);
    expect(text).toMatch(/^envoy_cluster_manager_cds_update_success\{\} [1-9]/m);
  });

  it("goes on without the control plane, and follows the next one, with the same addresses", async () => {
    const before = await addresses("api.example.com");
    istiod.child.kill("SIGKILL");
    await istiod.exited;
    expect(await addresses("web")).toEqual(["10.96.0.1"]);
    expect(await addresses("outside.example")).toEqual(["192.0.2.7"]);
    expect((await statusPort("/healthz/ready")).status).toBe(200);
    write(mesh.replace("10.96.0.1,", "10.96.0.5,").replace("[10.96.0.1,", "[10.96.0.5,"));
    istiod = await startIstiod();
    await expect.poll(() => addresses("web"), { timeout: 30_000 }).toEqual(["10.96.0.5"]);
    expect(await addresses("api.example.com")).toEqual(before);
  });
});

describe("DNS of agents that are not to answer", () => {
  it("is not started for a gateway, or a sidecar that captures none", async () => {
    const first = await freePortRow(5);
    const directory = mkdtempSync(join(tmpdir(), "topsail-dns-"));
    try {
      const start = (type: string, env: Record<string, string>) =>
        new TopsailProcess(["pilot-agent", "proxy", type], {
          cwd: directory,
          env: {
            PATH: process.env.PATH ?? "",
            TOPSAIL_BIND_ADDRESS: "127.0.0.1",
            DNS_PROXY_ADDR: `127.0.0.1:${first + 4}`,
            ENVOY_STATUS_PORT: String(first),
            ENVOY_PROMETHEUS_PORT: String(first + 1),
            PROXY_CONFIG: JSON.stringify({
              discoveryAddress: "127.0.0.1:1",
              controlPlaneAuthPolicy: "NONE",
              proxyAdminPort: first + 2,
              statusPort: first + 3,
              configPath: join(directory, "proxy"),
              concurrency: 1,
            }),
            ...env,
          },
        });
      for (const [type, env, answers] of [
        ["router", { ISTIO_META_DNS_CAPTURE: "true" }, false],
        ["sidecar", {}, false],
        ["router", { ISTIO_META_ENABLE_DNS_SERVER: "true" }, true],
      ] as const) {
        await using agent = start(type, env);
        await agent.printed("starting");
        expect(agent.stderr.includes("dns\tserving")).toBe(answers);
      }
      await using _ = await DnsUpstream.start(() => [], "127.0.0.1", first + 4);
      await using blocked = start("sidecar", { ISTIO_META_DNS_CAPTURE: "true" });
      expect(await blocked.exited).not.toBe(0);
      expect(blocked.stderr).toMatch(/^error: DNS_PROXY_ADDR: .*EADDRINUSE/m);
      await using refused = start("sidecar", { ISTIO_META_DNS_CAPTURE: "perhaps" });
      expect(await refused.exited).not.toBe(0);
      expect(refused.stderr).toMatch(/^error: ISTIO_META_DNS_CAPTURE: "perhaps" is neither true nor false$/m);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
