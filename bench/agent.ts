/**
 * `npm run bench -- --machine`, or `node bench/agent.ts` once dist/topsail is built: what a machine's agent takes of the machine and of its
 * control plane. Memory of agent and proxy, idle and after load; start of an agent; many machines that join at once.
 *
 *     --parts memory,start,join    some of it
 *     --agents 500     how many join at once
 *     --rounds 9       starts, of which the median counts
 *     --profile DIR    CPU profiles of an agent's start and of the control plane while they join, from source
 *
 * Everything runs on loopback. The machine's other load is printed first: on two cores it decides.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { callApi, createToken, type Kubeconfig, readKubeconfig, watchApi } from "../test/support/kube-api.ts";
import { LabMesh } from "../test/support/lab-mesh.ts";
import { freePortRow } from "../test/support/ports.ts";
import { binary, TopsailProcess } from "../test/support/topsail.ts";
import type { SwarmReport, SwarmTask } from "./agent-swarm.ts";
import { load } from "./load.ts";
import { usageOf } from "./process-usage.ts";

type Print = (line: string) => void;

export interface AgentBenchOptions {
  /** memory, start, join. */
  readonly parts: readonly string[];
  readonly agents: number;
  readonly rounds: number;
  readonly profile: string | undefined;
}

const allParts = "memory,start,join";
/** In one, the agents would wait for each other's work. */
const swarmProcesses = 2;
/** For a profile to be written. */
const patienceMs = 10_000;
const entriesPath = "/apis/networking.istio.io/v1/namespaces/default/workloadentries";
const source = join(import.meta.dirname, "..", "src", "main.ts");

export async function measureAgent({ parts, agents, rounds, profile }: AgentBenchOptions, print: Print): Promise<void> {
  print(`load of the machine: ${loadavg()[0]!.toFixed(2)}`);
  if (parts.includes("memory")) await measureMemory(print);
  if (parts.includes("start")) await measureStart(rounds, profile, print);
  if (parts.includes("join")) await measureSwarm(agents, profile, print);
}

/** A sidecar among three and a gateway, two workers. */
async function measureMemory(print: Print): Promise<void> {
  const workloads = (["customers", "web-frontend", "httpbin"] as const).map((name) => ({ name }));
  await using lab = await LabMesh.start({ network: 77, workloads, concurrency: 2 });
  const { pid } = lab.agents.get("httpbin")!;
  const show = (when: string) => {
    const { rssMiB, anonymousMiB } = usageOf(pid);
    const mib = (count: number) => `${count.toFixed(0).padStart(4)} MiB`;
    print(
      `${`agent and proxy, ${when}`.padEnd(42)}${mib(rssMiB)},${mib(anonymousMiB)} anonymous; of files${mib(rssMiB - anonymousMiB)}, ${mib(hugeFileMiB(pid))} by 2 MiB at a time`,
    );
  };
  await delay(15_000);
  show("idle");
  const url = `http://${lab.addressOf("httpbin")}:${lab.ports.sidecar}/get`;
  const { requests, failed } = load({ url, headers: ["host: httpbin.default.svc.cluster.local"], seconds: 10, cpu: 1 });
  show(`after ${requests} requests${failed > 0 ? `, ${failed} FAILED` : ""}`);
  await delay(15_000);
  show("15 s later");
}

/**
 * Where the page cache holds a file in large pieces, as newer kernels' does, one touch maps a piece into the process. How large they are
 * depends on how the file was written: see docs/decisions/0017.
 */
function hugeFileMiB(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(/^FilePmdMapped:\s+(\d+) kB$/m.exec(rollup)?.[1] ?? 0) / 1024;
}

interface Plane extends AsyncDisposable {
  readonly config: Kubeconfig;
  readonly secure: number;
  readonly pid: number;
}

const documents = ["details", "reviews", "productpage", "ratings", "swarm"]
  .map(
    (name) => `{apiVersion: v1, kind: ServiceAccount, metadata: {name: ${name}, namespace: default}}
---
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: default}
spec: {selector: {app: ${name}}, ports: [{name: http, port: 9080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: ${name}, namespace: default}
spec: {metadata: {labels: {app: ${name}}}, template: {serviceAccount: ${name}}}
---
`,
  )
  .join("");

async function startPlane(node: readonly string[] = []): Promise<Plane> {
  await using parts = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-bench-"));
  parts.defer(() => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, "mesh"));
  writeFileSync(join(directory, "mesh", "services.yaml"), documents);
  const secure = await freePortRow(2);
  const flags = ["--configDir", "mesh", "--dataDir", "state", "--grpcAddr", "127.0.0.1:0", "--secureGRPCAddr", `127.0.0.1:${secure}`];
  const api = ["--monitoringAddr", `127.0.0.1:${secure + 1}`, "--kubeAPIAddr", "127.0.0.1:0", "--kubeconfig-out", "kubeconfig"];
  const started = new TopsailProcess([...node, "istiod", ...flags, ...api], {
    cwd: directory,
    ...(node.length > 0 && { executable: process.execPath }),
  });
  parts.defer(async () => {
    // In an orderly way, which is when a profile is written.
    started.child.kill("SIGTERM");
    await Promise.race([started.exited, delay(patienceMs, undefined, { ref: false })]);
    await started[Symbol.asyncDispose]();
  });
  await started.printed("serving");
  const moved = parts.move();
  return {
    config: readKubeconfig(join(directory, "kubeconfig")),
    secure,
    pid: started.pid,
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

/** From spawn to readiness, and to the WorkloadEntry as a client of the API sees it. */
async function measureStart(rounds: number, profile: string | undefined, print: Print): Promise<void> {
  await using plane = await startPlane();
  const ready: number[] = [];
  const registered: number[] = [];
  // The first one is for the disk's cache.
  for (let round = 0; round <= rounds; round++) {
    const times = await startOnce(plane, round, []);
    if (round === 0) continue;
    ready.push(times.readyMs);
    registered.push(times.registeredMs);
  }
  if (profile) await startOnce(plane, rounds + 1, ["--cpu-prof", `--cpu-prof-dir=${profile}`, source]);
  print(`agent, start to WorkloadEntry             ${describe(registered)}`);
  print(`agent, start to ready                     ${describe(ready)}`);
}

async function startOnce(
  { config, secure }: Plane,
  round: number,
  node: readonly string[],
): Promise<{ readyMs: number; registeredMs: number }> {
  const home = mkdtempSync(join(tmpdir(), "topsail-bench-"));
  try {
    const files = join(home, "var/run/secrets");
    for (const part of ["tokens", "istio"]) mkdirSync(join(files, part), { recursive: true });
    writeFileSync(join(files, "tokens/istio-token"), await createToken(config, "default", "ratings"));
    writeFileSync(join(files, "istio/root-cert.pem"), config.root);
    const address = `127.0.78.${round + 1}`;
    const first = await freePortRow(6);
    using watch = await watchApi(config, `${entriesPath}?watch=1`);
    const known = (await callApi(config, "GET", entriesPath)).body.items as unknown[];
    const started = performance.now();
    await using agent = new TopsailProcess([...node, "pilot-agent", "proxy", "sidecar", "--concurrency", "2"], {
      cwd: home,
      ...(node.length > 0 && { executable: process.execPath }),
      env: {
        PATH: process.env.PATH ?? "",
        POD_NAME: `vm-${round}`,
        SERVICE_ACCOUNT: "ratings",
        INSTANCE_IP: address,
        TOPSAIL_BIND_ADDRESS: address,
        ENVOY_STATUS_PORT: String(first),
        ENVOY_PROMETHEUS_PORT: String(first + 1),
        ISTIO_META_AUTO_REGISTER_GROUP: "ratings",
        ISTIO_META_CLUSTER_ID: "Kubernetes",
        PROXY_CONFIG: JSON.stringify({
          discoveryAddress: `127.0.0.1:${secure}`,
          proxyAdminPort: first + 2,
          statusPort: first + 3,
          configPath: join(home, "proxy"),
          terminationDrainDuration: "0s",
        }),
      },
    });
    const registered = watch.seen(known.length + 1).then(() => performance.now() - started);
    while ((await statusOf(address, first + 3)) !== 200) {
      if (performance.now() - started > 20_000) throw new Error(`the agent does not become ready: ${agent.stderr}`);
    }
    const readyMs = performance.now() - started;
    const registeredMs = await registered;
    agent.child.kill("SIGTERM");
    await agent.exited;
    return { readyMs, registeredMs };
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

function statusOf(host: string, port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const later = (status?: number) => setTimeout(resolve, 5, status);
    const call = get({ host, port, path: "/healthz/ready", agent: false }, (response) => {
      response.resume();
      response.on("end", () => (response.statusCode === 200 ? resolve(200) : later(response.statusCode)));
    });
    call.on("error", () => later());
  });
}

/** Keys, requests and what connections are made by are there before the clock runs: each machine would make its own, by itself. */
async function measureSwarm(agents: number, profile: string | undefined, print: Print): Promise<void> {
  const profiling = profile ? ["--cpu-prof", `--cpu-prof-dir=${profile}`] : [];
  await using plane = await startPlane(profile ? [...profiling, source] : []);
  const { config, secure, pid } = plane;
  const task: SwarmTask = {
    target: `127.0.0.1:${secure}`,
    root: config.root,
    token: await createToken(config, "default", "swarm"),
    first: 0,
    agents,
  };
  await using parts = new AsyncDisposableStack();
  const swarms = Array.from({ length: swarmProcesses }, (_, index) => {
    const [from, to] = [index, index + 1].map((part) => Math.round((part * agents) / swarmProcesses)) as [number, number];
    return parts.use(
      new TopsailProcess(
        [
          ...profiling,
          join(import.meta.dirname, "agent-swarm.ts"),
          JSON.stringify({ ...task, token: "", first: from, agents: to - from } satisfies SwarmTask),
        ],
        { executable: process.execPath, env: { ...(process.env as Record<string, string>), SWARM_TOKEN: task.token } },
      ),
    );
  });
  const all = <T>(one: (swarm: TopsailProcess) => T) => Promise.all(swarms.map(one));
  await all((swarm) => swarm.printed("prepared", 120_000));
  using watch = await watchApi(config, `${entriesPath}?watch=1`);
  const usage = () => ({
    plane: usageOf(pid).cpuSeconds,
    agents: swarms.reduce((sum, swarm) => sum + usageOf(swarm.pid).cpuSeconds, 0),
  });
  const before = usage();
  const started = performance.now();
  for (const swarm of swarms) swarm.child.kill("SIGUSR2");
  const certified = all((swarm) => swarm.printed("certified", 60_000)).then(usage);
  const names = () => new Set(watch.events.map(({ object }) => (object.metadata as { name: string }).name)).size;
  while (names() < agents) {
    await delay(10);
    if (performance.now() - started > 120_000)
      throw new Error(`only ${names()} of ${agents} are registered: ${swarms.map(({ stderr }) => stderr).join("")}`);
  }
  const registeredMs = performance.now() - started;
  await all((swarm) => swarm.printed("report", 60_000));
  const after = usage();
  const reports = swarms.map((swarm) => JSON.parse(swarm.stdout.split("report ")[1]!) as SwarmReport);
  const report: SwarmReport = {
    certificateMs: reports.flatMap(({ certificateMs }) => certificateMs),
    configuredMs: reports.flatMap(({ configuredMs }) => configuredMs),
    failures: reports.reduce((sum, { failures }) => sum + failures, 0),
  };
  await all(async (swarm) => {
    swarm.child.kill("SIGTERM");
    await swarm.exited;
  });
  const at = (times: readonly number[], share: number) => [...times].sort((a, b) => a - b)[Math.floor((times.length - 1) * share)] ?? 0;
  const row = (name: string, times: readonly number[]) =>
    print(`  ${name.padEnd(40)}${at(times, 0.5).toFixed(0).padStart(6)} ms median, p99 ${at(times, 0.99).toFixed(0)} ms`);
  print(`${agents} agents that join at once: all registered in ${(registeredMs / 1000).toFixed(1)} s, ${report.failures} failed calls`);
  // Whatever else the machine does, this stays. The agents' part is on as many machines in a real mesh.
  const cpu = (what: string, until: typeof before) =>
    print(
      `  ${`CPU of the control plane, ${what}`.padEnd(40)}${(until.plane - before.plane).toFixed(1).padStart(6)} s, of the agents ${(until.agents - before.agents).toFixed(1)} s`,
    );
  cpu("until all are certified", await certified);
  cpu("in all", after);
  row("certificate asked for to received", report.certificateMs);
  row("stream opened to clusters and listeners", report.configuredMs);
}

function describe(times: readonly number[]): string {
  const sorted = [...times].sort((a, b) => a - b);
  return `${sorted[Math.floor(sorted.length / 2)]!.toFixed(0).padStart(6)} ms (${sorted[0]!.toFixed(0)} to ${sorted.at(-1)!.toFixed(0)})`;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      parts: { type: "string", default: allParts },
      agents: { type: "string", default: "500" },
      rounds: { type: "string", default: "9" },
      profile: { type: "string" },
    },
  });
  process.stdout.write(`${binary}\n`);
  await measureAgent(
    { parts: values.parts.split(","), agents: Number(values.agents), rounds: Number(values.rounds), profile: values.profile },
    (line) => process.stdout.write(`${line}\n`),
  );
}
