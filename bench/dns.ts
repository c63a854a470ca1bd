/**
 * `npm run bench -- --dns`: queries per second of the agent's DNS proxy, asked by dnsperf. The agent's process runs on CPU 0, its idle
 * proxy included; dnsperf, and dnsmasq as the nameserver behind it, on CPU 1. Tools come from Debian's packages.
 *
 *     dnsperf -s 127.0.0.1 -p PORT -d names.txt -l 8 -c 20 -q 100         as fast as it goes
 *     dnsperf ... -Q 20000                                              CPU at the rate that is asked for
 *
 * The name table has 1000 services. Garbage comes last: packets that are no queries, and what memory they leave behind.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePortRow } from "../test/support/ports.ts";
import { usageOf } from "./process-usage.ts";

const proxyCpu = "0";
const loadCpu = "1";
const services = 1000;
const seconds = 8;

const cases = [
  { name: "short name", query: (index: number) => `svc-${index} A` },
  { name: "full name", query: (index: number) => `svc-${index}.default.svc.cluster.local A` },
  { name: "full name, AAAA (none)", query: (index: number) => `svc-${index}.default.svc.cluster.local AAAA` },
  { name: "search domain, CNAME", query: (index: number) => `ext-${index}.example.com.default.svc.cluster.local A` },
  { name: "wildcard", query: (index: number) => `a.b.host-${index}.wild.test A` },
  { name: "headless, 64 addresses", query: () => "db A" },
  { name: "unknown, by nameserver", query: (index: number) => `host-${index}.outside.test A` },
];

function meshOf(): string {
  const parts = Array.from(
    { length: services },
    (_, index) => `apiVersion: v1
kind: Service
metadata: {name: svc-${index}, namespace: default}
spec: {clusterIP: 10.${100 + Math.floor(index / 250)}.1.${index % 250}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext-${index}, namespace: default}
spec: {hosts: [ext-${index}.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
`,
  );
  const addresses = Array.from({ length: 64 }, (_, index) => `10.90.0.${index}`).join(", ");
  parts.push(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: default}
spec: {hosts: ["*.wild.test"], addresses: [10.91.0.1], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE}
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
endpoints: [{addresses: [${addresses}]}]
`);
  return parts.join("---\n");
}

export async function measureDns(topsail: string, print: (line: string) => void): Promise<void> {
  const missing = ["dnsperf", "dnsmasq", "taskset"].filter((tool) => spawnSync("which", [tool]).status !== 0);
  if (missing.length > 0) {
    print(`installing ${missing.join(", ")} from Debian's packages`);
    execFileSync("apt-get", ["install", "-y", "-qq", "dnsperf", "dnsmasq-base", "util-linux"], { stdio: ["ignore", "ignore", "inherit"] });
  }
  const directory = mkdtempSync(join(tmpdir(), "topsail-dns-bench-"));
  const children: ChildProcess[] = [];
  const start = (cpu: string, command: string, args: readonly string[], env: Record<string, string> = {}) => {
    const child = spawn("taskset", ["-c", cpu, command, ...args], {
      cwd: directory,
      stdio: "ignore",
      env: { PATH: process.env.PATH ?? "", ...env },
    });
    children.push(child);
    return child;
  };
  try {
    const first = await freePortRow(8);
    const [xds, monitoring, admin, status, ready, stats, dns, nameserver] = Array.from({ length: 8 }, (_, index) => first + index);
    mkdirSync(join(directory, "mesh"));
    writeFileSync(join(directory, "mesh", "mesh.yaml"), meshOf());
    writeFileSync(join(directory, "resolv.conf"), `nameserver 127.0.0.1:${nameserver}\nsearch default.svc.cluster.local\n`);
    start(loadCpu, "dnsmasq", ["-k", "-C", "/dev/null", "-p", String(nameserver), "--no-resolv", "-c", "0", "--address=/#/192.0.2.1"]);
    start(loadCpu, topsail, [
      ...["istiod", "--configDir", "mesh", "--secureGRPCAddr", "", "--grpcAddr", `127.0.0.1:${xds}`],
      ...["--monitoringAddr", `127.0.0.1:${monitoring}`],
    ]);
    const agent = start(proxyCpu, topsail, ["pilot-agent", "proxy", "sidecar"], {
      POD_NAME: "bench",
      INSTANCE_IP: "127.0.0.1",
      TOPSAIL_BIND_ADDRESS: "127.0.0.1",
      TOPSAIL_RESOLV_CONF: join(directory, "resolv.conf"),
      ISTIO_META_DNS_CAPTURE: "true",
      DNS_PROXY_ADDR: `127.0.0.1:${dns}`,
      ENVOY_STATUS_PORT: String(ready),
      ENVOY_PROMETHEUS_PORT: String(stats),
      PROXY_CONFIG: JSON.stringify({
        discoveryAddress: `127.0.0.1:${xds}`,
        controlPlaneAuthPolicy: "NONE",
        proxyAdminPort: admin,
        statusPort: status,
        configPath: join(directory, "proxy"),
        concurrency: 1,
        proxyMetadata: { ISTIO_META_INTERCEPTION_MODE: "NONE" },
      }),
    });
    await isReady(status!);
    // The listeners of a thousand services have settled.
    await new Promise((resolve) => setTimeout(resolve, 3000));

    print("\nDNS                          queries/s     CPU us/query    average ms    lost    CPU % at 20,000/s");
    for (const { name, query } of cases) {
      const file = join(directory, "names.txt");
      writeFileSync(file, Array.from({ length: services }, (_, index) => query(index)).join("\n"));
      const ask = (extra: readonly string[]) => {
        const before = usageOf(agent.pid!).cpuSeconds;
        const options = ["-s", "127.0.0.1", "-p", String(dns), "-d", file, "-l", String(seconds), "-c", "20", "-q", "100", ...extra];
        const output = execFileSync("taskset", ["-c", loadCpu, "dnsperf", ...options], { encoding: "utf8" });
        const value = (label: string) => Number(new RegExp(`${label}: +([\\d.]+)`).exec(output)?.[1] ?? Number.NaN);
        return {
          completed: value("Queries completed"),
          lost: value("Queries lost"),
          perSecond: value("Queries per second"),
          averageMs: value("Average Latency \\(s\\)") * 1000,
          cpuSeconds: usageOf(agent.pid!).cpuSeconds - before,
        };
      };
      const most = ask([]);
      const steady = ask(["-Q", "20000"]);
      print(
        name.padEnd(26) +
          most.perSecond.toFixed(0).padStart(12) +
          ((most.cpuSeconds / most.completed) * 1e6).toFixed(1).padStart(17) +
          most.averageMs.toFixed(2).padStart(14) +
          String(most.lost).padStart(8) +
          ((steady.cpuSeconds / seconds) * 100).toFixed(0).padStart(17) +
          ` (${steady.perSecond.toFixed(0)}/s, ${steady.lost} lost)`,
      );
    }
    const before = usageOf(agent.pid!);
    await sendGarbage(dns!, 500_000);
    const after = usageOf(agent.pid!);
    print(`500,000 packets of garbage: RSS ${before.rssMiB.toFixed(0)} -> ${after.rssMiB.toFixed(0)} MiB`);
  } finally {
    for (const child of children.toReversed()) {
      const exited = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      if (child.exitCode === null && child.signalCode === null) await exited;
    }
    rmSync(directory, { recursive: true, force: true });
  }
}

async function sendGarbage(port: number, count: number): Promise<void> {
  const socket = createSocket("udp4");
  socket.on("message", () => {});
  for (let sent = 0; sent < count; sent++) {
    await new Promise<void>((done) => socket.send(randomBytes(randomInt(1, 200)), port, "127.0.0.1", () => done()));
    if (sent % 16 === 0) await new Promise((next) => setImmediate(next));
  }
  socket.close();
}

async function isReady(port: number): Promise<void> {
  for (let attempt = 0; attempt < 600; attempt++) {
    const status = await new Promise<number>((resolve) => {
      const call = get({ host: "127.0.0.1", port, path: "/healthz/ready", agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      call.on("error", () => resolve(0));
    });
    if (status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the agent does not become ready");
}
