/**
 * A control plane and the sidecars that are connected to it: how long a change takes to reach all of them, what it costs the control plane, and
 * its memory.
 *
 *     npm run build && node bench/pushes.ts [sidecars=500] [rounds=5]
 *
 * 1,000 ServiceEntries of three endpoints each, 200 VirtualServices, 100 DestinationRules of two subsets, in 20 namespaces, kept and changed by
 * the Kubernetes-compatible API of `dist/topsail istiod`; sidecars by bench/push-clients.ts. Times are from the API's call to the last sidecar.
 */
import { fork, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { Agent, request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { typeUrls } from "../src/api/type-urls.ts";
import { type Kubeconfig, readKubeconfig } from "../test/support/kube-api.ts";
import { usageOf } from "./process-usage.ts";
import type { ClientsReport, ClientsTask } from "./push-clients.ts";

const [clients = 500, rounds = 5] = process.argv.slice(2).map(Number);
const [services, virtualServices, destinationRules, namespaces] = [1000, 200, 100, 20];
const ports = [80, 8080, 9090, 9080];
const portsFrom = 18_700;
const churnPerSecond = 100;
const churnSeconds = 8;
/** Afterwards istiod has given back what only the sync needed. */
const releaseMs = 15_000;

const print = (line: string) => process.stdout.write(`${line}\n`);
const namespaceOf = (index: number) => `ns-${index % namespaces}`;
/** Of the later ones the clients see when they come. */
const hostOf = (index: number) => `${index < services ? "svc" : "mark"}-${index}-x.mesh.test`;
const portOf = (index: number) => ports[(index >> 4) % ports.length]!;

const api = "networking.istio.io/v1";
const metadata = (name: string, index: number, resourceVersion?: string) => ({
  name,
  namespace: namespaceOf(index),
  ...(resourceVersion ? { resourceVersion } : {}),
});

function serviceEntry(index: number, firstAddress = `10.100.${index >> 8}.${index & 255}`) {
  const endpoints = [firstAddress, `10.101.${index >> 8}.${index & 255}`, `10.102.${index >> 8}.${index & 255}`];
  return {
    apiVersion: api,
    kind: "ServiceEntry",
    metadata: metadata(`svc-${index}`, index),
    spec: {
      hosts: [hostOf(index)],
      location: "MESH_INTERNAL",
      resolution: "STATIC",
      ports: [{ number: portOf(index), name: "http", protocol: "HTTP" }],
      endpoints: endpoints.map((address, place) => ({ address, labels: { version: place === 0 ? "v2" : "v1" } })),
    },
  };
}

function virtualService(index: number, marker: string) {
  const host = hostOf(index);
  const route = [{ destination: { host } }];
  return {
    apiVersion: api,
    kind: "VirtualService",
    metadata: metadata(`svc-${index}`, index),
    spec: {
      hosts: [host],
      http: [
        { match: [{ uri: { prefix: "/a" } }], headers: { request: { set: { "x-round": marker } } }, route },
        { route, timeout: "5s" },
      ],
    },
  };
}

function destinationRule(index: number) {
  const subsets = ["v1", "v2"].map((version) => ({ name: version, labels: { version } }));
  return {
    apiVersion: api,
    kind: "DestinationRule",
    metadata: metadata(`svc-${index}`, index),
    spec: { host: hostOf(index), subsets },
  };
}

type Manifest = ReturnType<typeof serviceEntry> | ReturnType<typeof virtualService> | ReturnType<typeof destinationRule>;

const plurals = { ServiceEntry: "serviceentries", VirtualService: "virtualservices", DestinationRule: "destinationrules" } as const;

class Api {
  readonly #config: Kubeconfig;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 4 });

  constructor(config: Kubeconfig) {
    this.#config = config;
  }

  create(object: Manifest): Promise<void> {
    return this.#call("POST", this.#path(object), object);
  }

  /** Alters the spec, whatever the object's version is. */
  patch(object: Manifest): Promise<void> {
    return this.#call("PATCH", `${this.#path(object)}/${object.metadata.name}`, { spec: object.spec });
  }

  #path({ kind, metadata: { namespace } }: Manifest): string {
    return `/apis/${api}/namespaces/${namespace}/${plurals[kind as keyof typeof plurals]}`;
  }

  namespace(name: string): Promise<void> {
    return this.#call("POST", "/api/v1/namespaces", { metadata: { name } });
  }

  #call(method: string, path: string, body: object): Promise<void> {
    const { server, root: ca, certificate: cert, key } = this.#config;
    const text = JSON.stringify(body);
    const headers = {
      "content-type": method === "PATCH" ? "application/merge-patch+json" : "application/json",
      "content-length": Buffer.byteLength(text),
    };
    return new Promise((resolve, reject) => {
      const sent = request(`${server}${path}`, { method, ca, cert, key, agent: this.#agent, headers }, (response) => {
        let answer = "";
        response.on("data", (chunk) => {
          answer += chunk;
        });
        const isDone = (response.statusCode ?? 500) < 300;
        response.on("end", () => (isDone ? resolve() : reject(new Error(`${method} ${path}: ${response.statusCode} ${answer}`))));
      });
      sent.on("error", reject);
      sent.end(text);
    });
  }
}

/** The process that all the sidecars are in. */
class Sidecars {
  readonly #child;
  readonly synced: Promise<Extract<ClientsReport, { kind: "synced" }>>;
  readonly #seen = new Map<string, (at: bigint) => void>();

  constructor(task: ClientsTask) {
    const child = fork(join(import.meta.dirname, "push-clients.ts"), [JSON.stringify(task)]);
    this.#child = child;
    this.synced = new Promise((resolve, reject) => {
      child.on("message", (report: ClientsReport) => {
        if (report.kind === "synced") resolve(report);
        else this.#seen.get(report.mark)?.(BigInt(report.at));
      });
      child.once("exit", (code) => code !== 0 && reject(new Error("the clients ended")));
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** When the last of them had it. */
  see(typeUrl: string, mark: string): Promise<bigint> {
    this.#child.send({ typeUrl, mark });
    return new Promise((resolve) => this.#seen.set(mark, resolve));
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.disconnect();
    await ended;
  }
}

const now = () => process.hrtime.bigint();
const milliseconds = (from: bigint, to: bigint) => Number(to - from) / 1e6;
const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** CPU seconds of the process when it has nothing more to do, or goes on for ten seconds. */
async function untilIdle(pid: number): Promise<number> {
  let before = usageOf(pid).cpuSeconds;
  for (let tries = 0; tries < 20; tries++) {
    await sleep(500);
    const after = usageOf(pid).cpuSeconds;
    if (after - before <= 0.02) return after;
    before = after;
  }
  return before;
}

async function untilReady(port: number): Promise<void> {
  while (istiod.exitCode === null) {
    const answer = await fetch(`http://127.0.0.1:${port}/ready`).catch(() => undefined);
    if (answer?.status === 200 && existsSync(kubeconfig)) return;
    await sleep(50);
  }
  throw new Error("istiod ended");
}

const directory = mkdtempSync(join(tmpdir(), "topsail-pushes-"));
const kubeconfig = join(directory, "kubeconfig");
const address = (offset: number) => `127.0.0.1:${portsFrom + offset}`;
const flags = {
  configDir: directory,
  dataDir: join(directory, "data"),
  grpcAddr: address(0),
  secureGRPCAddr: address(1),
  monitoringAddr: address(2),
  kubeAPIAddr: address(3),
  "kubeconfig-out": kubeconfig,
};
const topsail = process.env.TOPSAIL ?? join(import.meta.dirname, "../dist/topsail");
const istiod = spawn(
  topsail,
  ["istiod", "--log_output_level", "error", ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])],
  {
    stdio: ["ignore", "ignore", "inherit"],
  },
);
const pid = istiod.pid!;
try {
  await untilReady(portsFrom + 2);
  const kube = new Api(readKubeconfig(kubeconfig));
  for (let index = 0; index < namespaces; index++) await kube.namespace(namespaceOf(index));
  const manifests = [
    ...Array.from({ length: services }, (_, index) => serviceEntry(index)),
    ...Array.from({ length: virtualServices }, (_, index) => virtualService(index * 5, "round-0")),
    ...Array.from({ length: destinationRules }, (_, index) => destinationRule(index * 10)),
  ];
  let started = now();
  for (const manifest of manifests) await kube.create(manifest);
  const loaded = now();
  let cpu = await untilIdle(pid);
  print(`${manifests.length} objects in ${(milliseconds(started, loaded) / 1000).toFixed(1)} s; RSS ${usageOf(pid).rssMiB.toFixed(0)} MiB`);

  const row = (name: string, ms: number, seconds: number, remark = "") =>
    print(
      `${process.uptime().toFixed(1).padStart(6)} s ${name.padEnd(30)} ${ms.toFixed(0).padStart(6)} ms ${seconds.toFixed(2).padStart(7)} CPU s  ${remark}`,
    );
  const task: ClientsTask = { port: portsFrom, clients, namespaces };
  let sidecars: Sidecars | undefined;
  for (const name of ["first sync", "sync of clients that restart"]) {
    await sidecars?.end();
    cpu = await untilIdle(pid);
    started = now();
    sidecars = new Sidecars(task);
    const { at, bytesEach } = await sidecars.synced;
    const spent = (await untilIdle(pid)) - cpu;
    row(
      name,
      milliseconds(started, BigInt(at)),
      spent,
      `${(bytesEach / 1e6).toFixed(2)} MB a client; RSS ${usageOf(pid).rssMiB.toFixed(0)} MiB`,
    );
  }
  if (!sidecars) throw new Error("no sidecars");
  await sleep(releaseMs);
  print(`RSS a quarter of a minute later: ${usageOf(pid).rssMiB.toFixed(0)} MiB`);

  const measure = async (
    name: string,
    typeUrl: string,
    change: (round: number) => { readonly mark: string; readonly done: () => Promise<void> },
  ) => {
    const [times, costs]: [number[], number[]] = [[], []];
    for (let round = 1; round <= rounds; round++) {
      const { mark, done } = change(round);
      const seen = sidecars.see(typeUrl, mark);
      const before = await untilIdle(pid);
      const from = now();
      await done();
      times.push(milliseconds(from, await seen));
      costs.push((await untilIdle(pid)) - before);
    }
    row(name, median(times), median(costs), `worst ${Math.max(...times).toFixed(0)} ms`);
  };
  await measure("VirtualService changed", typeUrls.rds, (round) => ({
    mark: `mark-${round}-`,
    done: () => kube.patch(virtualService(5 * round, `mark-${round}-`)),
  }));
  await measure("endpoint changed", typeUrls.eds, (round) => ({
    mark: `10.200.0.${round}`,
    done: () => kube.patch(serviceEntry(7 * round, `10.200.0.${round}`)),
  }));
  await measure("DestinationRule changed", typeUrls.cds, (round) => {
    const rule = destinationRule(10 * round);
    const subsets = [...rule.spec.subsets, { name: `mark-${round}-x`, labels: { version: "v1" } }];
    return { mark: `mark-${round}-`, done: () => kube.patch({ ...rule, spec: { ...rule.spec, subsets } }) };
  });
  await measure("new ServiceEntry", typeUrls.rds, (round) => ({
    mark: `mark-${services + round}-`,
    done: () => kube.create(serviceEntry(services + round)),
  }));

  cpu = await untilIdle(pid);
  const latencies: Promise<number>[] = [];
  const churnStarted = now();
  for (let index = 0; index < churnPerSecond * churnSeconds; index++) {
    const pause = (index * 1000) / churnPerSecond - milliseconds(churnStarted, now());
    if (pause > 0) await sleep(pause);
    const mark = `10.201.${index >> 8}.${index & 255}`;
    const seen = sidecars.see(typeUrls.eds, mark);
    const from = now();
    latencies.push(kube.patch(serviceEntry(index, mark)).then(async () => milliseconds(from, await seen)));
  }
  const waits = (await Promise.all(latencies)).sort((a, b) => a - b);
  const churned = milliseconds(churnStarted, now()) / 1000;
  const spent = (await untilIdle(pid)) - cpu;
  print(
    `${churnPerSecond} endpoint changes a second, ${churned.toFixed(1)} s: median ${median(waits).toFixed(0)} ms, worst ${waits.at(-1)!.toFixed(0)} ms, ${spent.toFixed(1)} CPU s`,
  );
  await sleep(releaseMs);
  print(`RSS after all that: ${usageOf(pid).rssMiB.toFixed(0)} MiB; the clients used ${usageOf(sidecars.pid).cpuSeconds.toFixed(0)} CPU s`);
  await sidecars.end();
} finally {
  istiod.kill("SIGTERM");
  await new Promise((resolve) => (istiod.exitCode === null ? istiod.once("exit", resolve) : resolve(undefined)));
  rmSync(directory, { recursive: true, force: true });
}
