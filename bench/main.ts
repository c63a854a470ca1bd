/**
 * `npm run bench`: our proxy beside Envoy, HAProxy and nginx, in turn in one run, each with its ratio to Envoy.
 *
 * The proxy runs on CPU 0 with one worker, the load and the upstream (nginx) on CPU 1. Each case: warm-up, as much load as goes
 * through for CPU per request and requests per second, then half of that rate for latency. CPU is user and system time of the
 * whole process, all threads and children.
 *
 *     npm run bench                          everything, some ten minutes
 *     npm run bench -- --case "1000 routes"  one case
 *     npm run bench -- --proxies envoy,topsail --seconds 4
 *     npm run bench -- --dns                 the agent's DNS proxy, asked by dnsperf
 *     npm run bench -- --machine             memory and start of a machine's agent, and 500 of them that join at once
 *     npm run bench -- --times               start of the control plane, and a file's change to its effect
 *     npm run bench -- --pages               pages of the admin interface with 10,000 clusters
 *     npm run bench -- --push                10,000 clusters and routes pushed to a proxy: at its start, and when some of it changes
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { arch, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { envoyBinary } from "../test/support/envoy.ts";
import { makeMeshCa } from "../test/support/mesh-ca.ts";
import { measureAgent } from "./agent.ts";
import { type BenchCase, cases, pathOf, ports } from "./cases.ts";
import { headersOf, type Material, makeToken, type ProxyUnderTest, proxies, serverName, upstreamConfiguration } from "./configurations.ts";
import { measureDns } from "./dns.ts";
import { handshakes } from "./handshakes.ts";
import { load, loadOfPaths } from "./load.ts";
import { measurePages } from "./pages.ts";
import { type Usage, usageOf } from "./process-usage.ts";
import { measurePush } from "./proxy-push.ts";
import { measureTimes } from "./times.ts";

const topsail = join(import.meta.dirname, "..", "dist", "topsail");
/** Debian packs nginx's TCP part by itself. */
const streamModule = "/usr/lib/nginx/modules/ngx_stream_module.so";
const proxyCpu = 0;
const loadCpu = 1;
/** Where each request has a token of its own: clients, and tokens that each has. Together more than any proxy remembers. */
const clients = 16;
const tokensEach = 125;
/** Of handshakes there are few in a second, so that the compiler needs longer to see what is hot. */
const warmUpSeconds = 6;

interface Row {
  readonly proxy: string;
  readonly microsecondsPerRequest: number;
  /** Connections, where each has one request. */
  readonly requestsPerSecond: number;
  /** 0: not measured. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly usage: Usage;
}

const { values } = parseArgs({
  options: {
    case: { type: "string", multiple: true },
    proxies: { type: "string", default: "envoy,topsail,haproxy,nginx" },
    seconds: { type: "string", default: "4" },
    rounds: { type: "string", default: "3" },
    times: { type: "boolean", default: false },
    dns: { type: "boolean", default: false },
    machine: { type: "boolean", default: false },
    parts: { type: "string", default: "memory,start,join" },
    agents: { type: "string", default: "500" },
    profile: { type: "string" },
    pages: { type: "boolean", default: false },
    push: { type: "boolean", default: false },
    clusters: { type: "string", default: "10000" },
    workers: { type: "string", default: "1" },
    changes: { type: "string", default: "10" },
    modes: { type: "string", default: "delta,sotw" },
  },
});

const print = (line: string) => process.stdout.write(`${line}\n`);

await main();

async function main(): Promise<void> {
  print(`${cpus()[0]?.model ?? arch()}, ${cpus().length} CPUs, commit ${commit()}`);
  if (values.dns) return measureDns(topsail, print, Number(values.seconds));
  if (values.machine)
    return measureAgent({ parts: values.parts.split(","), agents: Number(values.agents), rounds: 9, profile: values.profile }, print);
  if (values.times) return measureTimes(topsail, print);
  if (!envoyBinary) throw new Error("there is no Envoy to compare with");
  const wanted = values.proxies.split(",");
  if (values.push) {
    const { clusters, workers, changes, modes } = values;
    const numbers = { clusters: Number(clusters), workers: Number(workers), changes: Number(changes) };
    return measurePush(
      {
        envoy: envoyBinary,
        topsail,
        proxies: wanted.filter((name) => name === "envoy" || name === "topsail"),
        ...numbers,
        modes: modes.split(","),
      },
      print,
    );
  }
  if (values.pages)
    return pages(proxies(envoyBinary, topsail).filter(({ name }) => wanted.includes(name) && (name === "envoy" || name === "topsail")));
  const missing = ["taskset", "h2load", "nginx", ...(wanted.includes("haproxy") ? ["haproxy"] : [])].filter((tool) => !isInstalled(tool));
  if (!existsSync(streamModule)) missing.push("nginx's stream module");
  if (missing.length > 0) {
    print(`installing ${missing.join(", ")} from Debian's packages`);
    execFileSync("apt-get", ["install", "-y", "-qq", "nginx", "libnginx-mod-stream", "haproxy", "nghttp2-client", "util-linux"], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  }
  const candidates = proxies(envoyBinary, topsail).filter(({ name }) => wanted.includes(name));
  const selected = cases.filter(({ name }) => !values.case || values.case.includes(name));
  for (const benchCase of selected) await runCase(benchCase, candidates);
  await measureTimes(topsail, print);
}

async function pages(candidates: readonly ProxyUnderTest[]): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "topsail-bench-"));
  try {
    const many = cases.find(({ manyClusters }) => manyClusters)!;
    const material = makeCertificate(directory, "ec");
    const commands = new Map(candidates.map((candidate) => [candidate.name, candidate.command(many, material)]));
    await measurePages({ commands, rounds: Number(values.rounds) }, print);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function runCase(benchCase: BenchCase, candidates: readonly ProxyUnderTest[]): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "topsail-bench-"));
  try {
    chmodSync(directory, 0o755); // nginx as root reads as another user
    const material = makeCertificate(directory, benchCase.keyKind ?? "ec");
    const upstream = start(["taskset", "-c", String(loadCpu), "nginx", "-c", upstreamConfiguration(benchCase, material), "-p", directory]);
    try {
      await listening(ports.upstream);
      const rows = new Map<string, Row[]>();
      // In turn, not one after the other: what else the machine does meanwhile hits all of them.
      for (let round = 0; round < Number(values.rounds); round++) {
        for (const candidate of candidates) {
          if (
            (benchCase.checks || benchCase.http2 || benchCase.upstream || benchCase.manyClusters) &&
            candidate.name !== "envoy" &&
            candidate.name !== "topsail"
          )
            continue;
          if (benchCase.checks?.kind === "telemetry" && benchCase.checks.counts && candidate.name === "envoy") continue;
          const row = await measure(candidate, benchCase, material);
          rows.set(candidate.name, [...(rows.get(candidate.name) ?? []), row]);
        }
      }
      report(benchCase, [...rows.values()].map(median));
    } finally {
      await stop(upstream);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function measure(candidate: ProxyUnderTest, benchCase: BenchCase, material: Material): Promise<Row> {
  const seconds = Number(values.seconds);
  const proxy = start(["taskset", "-c", String(proxyCpu), ...candidate.command(benchCase, material)]);
  try {
    await listening(ports.proxy);
    const busy = benchCase.connects ? connectingLoad(benchCase.connects) : manyTokens(benchCase, material);
    if (busy) return await measureBusy(candidate, proxy.pid!, busy, seconds);
    const { scheme, port } = benchCase.isMutual
      ? { scheme: "http", port: ports.front }
      : { scheme: benchCase.kind === "https" ? "https" : "http", port: ports.proxy };
    const url = `${scheme}://127.0.0.1:${port}${pathOf(benchCase)}`;
    const headers = headersOf(benchCase);
    const { http2 } = benchCase;
    const bodyFile = benchCase.upstream === "grpc" ? join(material.directory, "message") : undefined;
    if (bodyFile) writeFileSync(bodyFile, Buffer.from([0, 0, 0, 0, 95, ...Buffer.alloc(95, "m")]));
    load({ url, http2, headers, bodyFile, seconds: 2, cpu: loadCpu });
    const before = usageOf(proxy.pid!);
    const saturated = load({ url, http2, headers, bodyFile, seconds, cpu: loadCpu });
    const after = usageOf(proxy.pid!);
    if (saturated.failed > 0) throw new Error(`${candidate.name}: ${saturated.failed} requests failed`);
    const requestsPerSecond = saturated.requests / seconds;
    const half = load({
      url,
      http2,
      headers,
      bodyFile,
      seconds,
      requestsPerSecond: requestsPerSecond / 2,
      cpu: loadCpu,
      logFile: join(material.directory, "requests.log"),
    });
    return {
      proxy: candidate.name,
      microsecondsPerRequest: ((after.cpuSeconds - before.cpuSeconds) / saturated.requests) * 1e6,
      requestsPerSecond,
      p50Ms: half.p50Ms ?? 0,
      p99Ms: half.p99Ms ?? 0,
      usage: usageOf(proxy.pid!),
    };
  } finally {
    await stop(proxy);
  }
}

/** As much load as goes through for so many seconds; resolves to how many requests were answered. */
type BusyLoad = (seconds: number) => Promise<number>;

function connectingLoad(connects: NonNullable<BenchCase["connects"]>): BusyLoad {
  const options = { port: ports.proxy, resumes: connects === "resumed", cpu: loadCpu };
  return (seconds) => handshakes({ ...options, seconds });
}

/** Undefined where one token is enough. */
function manyTokens({ checks }: BenchCase, { directory }: Material): BusyLoad | undefined {
  if (checks?.kind !== "jwt" || checks.tokens === "one") return undefined;
  const paths = Array.from({ length: clients * tokensEach }, (_, index) => `/?token=${makeToken(checks.algorithm, `subject-${index}`)}`);
  const url = `http://127.0.0.1:${ports.proxy}`;
  return (seconds) => loadOfPaths({ url, paths, clients, seconds, cpu: loadCpu, directory });
}

async function measureBusy({ name }: ProxyUnderTest, pid: number, busy: BusyLoad, seconds: number): Promise<Row> {
  await busy(warmUpSeconds);
  const before = usageOf(pid);
  const requests = await busy(seconds);
  const after = usageOf(pid);
  return {
    proxy: name,
    microsecondsPerRequest: ((after.cpuSeconds - before.cpuSeconds) / requests) * 1e6,
    requestsPerSecond: requests / seconds,
    p50Ms: 0,
    p99Ms: 0,
    usage: after,
  };
}

/** The row whose CPU is in the middle. */
function median(rows: readonly Row[]): Row {
  return [...rows].sort((a, b) => a.microsecondsPerRequest - b.microsecondsPerRequest)[Math.floor(rows.length / 2)]!;
}

function report(benchCase: BenchCase, rows: readonly Row[]): void {
  const anchor = rows.find(({ proxy }) => proxy === "envoy");
  print(`\n${benchCase.name}`);
  const one = benchCase.connects ? "connection" : "request";
  const head = `proxy      CPU us/${one}`.padEnd(29) + `${one}s/s`.padEnd(18);
  print(`${head}p50 ms         p99 ms         RSS MiB (anonymous)`);
  for (const row of rows) {
    const column = (value: number, reference: number | undefined, digits: number, width: number) =>
      (value === 0 ? "      -" : `${value.toFixed(digits).padStart(7)} ${reference ? `(${(value / reference).toFixed(2)})` : ""}`).padEnd(
        width,
      );
    print(
      row.proxy.padEnd(8) +
        column(row.microsecondsPerRequest, anchor?.microsecondsPerRequest, 1, 18) +
        column(row.requestsPerSecond, anchor?.requestsPerSecond, 0, 18) +
        column(row.p50Ms, anchor?.p50Ms, 2, 15) +
        column(row.p99Ms, anchor?.p99Ms, 2, 15) +
        `${column(row.usage.rssMiB, anchor?.usage.rssMiB, 0, 15)} ${row.usage.anonymousMiB.toFixed(0)}`,
    );
  }
}

function makeCertificate(directory: string, algorithm: "ec" | "rsa"): Material {
  const ca = makeMeshCa("bench");
  const issued = ca.issueFor(`DNS:${serverName},IP:127.0.0.1`, { algorithm });
  const files = { certificate: issued.certificate, key: issued.key, ca: ca.root };
  const paths = Object.entries(files).map(([name, text]) => {
    const path = join(directory, `${name}.pem`);
    writeFileSync(path, text);
    return [name, path] as const;
  });
  return { directory, ...(Object.fromEntries(paths) as Record<keyof typeof files, string>) };
}

function start([command = "", ...args]: readonly string[]): ChildProcess {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
  child.stderr?.resume();
  return child;
}

async function stop(child: ChildProcess): Promise<void> {
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 3000);
  if (child.exitCode === null && child.signalCode === null) await exited;
  clearTimeout(timer);
}

async function listening(port: number): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => {
        socket.destroy();
        resolve(true);
      });
      socket.on("error", () => resolve(false));
    });
    if (isOpen) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`nothing listens on ${port}`);
}

function isInstalled(tool: string): boolean {
  return spawnSync("which", [tool]).status === 0;
}

function commit(): string {
  return spawnSync("git", ["rev-parse", "--short", "HEAD"], { cwd: import.meta.dirname, encoding: "utf8" }).stdout?.trim() ?? "";
}
