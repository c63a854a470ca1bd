/**
 * `npm run bench -- --push`: what a push costs a proxy that has many clusters and routes, beside Envoy.
 *
 * The proxy runs on CPU 0; the control plane, the upstream and who asks for the effect on CPU 1. One ADS server answers both
 * proxies with the same bytes. A change is over when the control plane has its ACK and a request sees the effect; CPU is that of
 * the proxy's threads from the push until a second later, because garbage is part of the price.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { typeUrls } from "../src/api/type-urls.ts";
import { type NamedAny, type ScriptedStream, startScriptedAdsServer } from "../test/support/scripted-ads-server.ts";
import { usageOf } from "./process-usage.ts";
import { assignment, cluster, clusterName, listener, pathOf, routeHeader, routes } from "./proxy-push-resources.ts";

export interface PushOptions {
  readonly envoy: string;
  readonly topsail: string;
  readonly proxies: readonly string[];
  readonly clusters: number;
  readonly workers: number;
  /** Of each change. */
  readonly changes: number;
  readonly modes: readonly string[];
}

interface Cost {
  readonly ms: number;
  readonly cpuMs: number;
}

interface Outcome {
  readonly proxy: string;
  readonly costs: ReadonlyMap<string, Cost>;
  readonly rssMiB: { readonly started: number; readonly changed: number };
}

const proxyPort = 18_310;
const adminPort = 18_311;
const patienceMs = 120_000;
const settleMs = 1000;
const addressesOf = (version: number) => [`127.0.${version}.1`, "127.0.0.2", "127.0.0.3"];
/** To changes the proxy is as used as it will be: V8 has compiled what is hot. */
const warmUpChanges = 2;

export async function measurePush(options: PushOptions, print: (line: string) => void): Promise<void> {
  execFileSync("taskset", ["-cp", "1", String(process.pid)], { stdio: "ignore" });
  for (const mode of options.modes) {
    const outcomes: Outcome[] = [];
    for (const proxy of options.proxies) outcomes.push(await measureProxy(proxy, mode === "delta", options));
    report(mode, options, outcomes, print);
  }
}

function report(mode: string, { clusters, workers }: PushOptions, outcomes: readonly Outcome[], print: (line: string) => void): void {
  const anchor = outcomes.find(({ proxy }) => proxy === "envoy");
  print(`\npush of ${clusters} clusters and routes, ${mode}, ${workers} worker(s)`);
  print("                          proxy          ms to effect       CPU ms");
  for (const what of outcomes[0]!.costs.keys()) {
    for (const { proxy, costs } of outcomes) {
      const { ms, cpuMs } = costs.get(what)!;
      const reference = anchor?.costs.get(what);
      print(`${what.padEnd(26)}${proxy.padEnd(12)}${ratio(ms, reference?.ms)}${ratio(cpuMs, reference?.cpuMs)}`);
    }
  }
  for (const { proxy, rssMiB } of outcomes) {
    const columns = `${ratio(rssMiB.started, anchor?.rssMiB.started)}${ratio(rssMiB.changed, anchor?.rssMiB.changed)}`;
    print(`${"RSS MiB, begin and end".padEnd(26)}${proxy.padEnd(12)}${columns}`);
  }
}

function ratio(value: number, reference: number | undefined): string {
  return `${value.toFixed(1).padStart(9)} ${reference ? `(${(value / reference).toFixed(2)})` : ""}`.padEnd(19);
}

async function measureProxy(name: string, isDelta: boolean, options: PushOptions): Promise<Outcome> {
  const directory = mkdtempSync(join(tmpdir(), "topsail-push-"));
  await using ads = await startScriptedAdsServer();
  await using upstream = await startUpstream();
  const count = options.clusters;
  const last = count - 1;
  const initial: Pushed = {
    clusters: Array.from({ length: count }, (_, index) => cluster(index, 0)),
    endpoints: new Map(
      Array.from({ length: count }, (_, index) => [clusterName(index), assignment(index, addressesOf(0), upstream.port, "v0")]),
    ),
    listeners: [listener(proxyPort)],
    routes: [routes(count, 0)],
  };
  const file = join(directory, "bootstrap.json");
  writeFileSync(file, JSON.stringify(bootstrap(ads.port, isDelta)));
  const binary = name === "envoy" ? [options.envoy, "--disable-hot-restart"] : [options.topsail, "envoy"];
  const args = ["-c", "0", ...binary, "-c", file, "--concurrency", String(options.workers), "-l", "error"];
  const started = performance.now();
  const child = spawn("taskset", args, { stdio: ["ignore", "ignore", "inherit"] });
  try {
    const costs = new Map<string, Cost>();
    const push = new Push(await ads.nextStream(), isDelta, initial);
    const asker = new Asker(name);
    await asker.until(last, (answer) => answer.status === 200);
    await push.acknowledged();
    costs.set("start", { ms: performance.now() - started, cpuMs: cpuMsOf(child.pid!) });
    await pause(4000);
    const rssStarted = usageOf(child.pid!).rssMiB;
    const measure = async (what: string, change: (version: number) => { send: () => void; effect: () => Promise<void> }) => {
      const taken: Cost[] = [];
      for (let index = 0; index < warmUpChanges + options.changes; index++) {
        const { send, effect } = change(index + 1);
        const cpu = cpuMsOf(child.pid!);
        const begin = performance.now();
        send();
        await effect();
        await push.acknowledged();
        const ms = performance.now() - begin;
        await pause(settleMs);
        if (index >= warmUpChanges) taken.push({ ms, cpuMs: cpuMsOf(child.pid!) - cpu });
      }
      costs.set(what, { ms: median(taken.map(({ ms }) => ms)), cpuMs: median(taken.map(({ cpuMs }) => cpuMs)) });
    };
    await measure("nothing, and one request", () => ({ send: () => {}, effect: () => asker.until(last, ({ status }) => status === 200) }));
    let clusterVersion = 0;
    const isWritten = (version: number) => (answer: Answer) => (answer.headers["x-host-header"] === "Host") === (version % 2 === 1);
    await measure("endpoint changed", (version) => {
      const address = addressesOf(version)[0]!;
      const next = assignment(last, addressesOf(version), upstream.port, `e${version}`);
      return { send: push.endpoints([next]), effect: () => asker.until(last, (answer) => answer.headers["x-address"] === address) };
    });
    await measure("cluster changed", () => {
      const version = ++clusterVersion;
      return { send: push.clusters([cluster(last, version)]), effect: () => asker.until(last, isWritten(version)) };
    });
    await measure("route changed", (version) => ({
      send: push.routes(routes(count, version)),
      effect: () => asker.until(last, (answer) => answer.headers[routeHeader] === String(version)),
    }));
    await measure("all clusters changed", () => {
      const version = ++clusterVersion;
      const changed = Array.from({ length: count }, (_, index) => cluster(index, version));
      return {
        send: push.clusters(changed),
        effect: async () => {
          await asker.until(last, isWritten(version));
          await asker.until(0, isWritten(version));
        },
      };
    });
    await pause(4000);
    return { proxy: name, costs, rssMiB: { started: rssStarted, changed: usageOf(child.pid!).rssMiB } };
  } finally {
    await stop(child);
    rmSync(directory, { recursive: true, force: true });
  }
}

interface Pushed {
  clusters: NamedAny[];
  readonly endpoints: Map<string, NamedAny>;
  readonly listeners: NamedAny[];
  routes: NamedAny[];
}

/** Does what Istio does: answers who asks, and sends the endpoints of changed clusters after them, because those warm. */
class Push {
  readonly #stream: ScriptedStream;
  readonly #isDelta: boolean;
  readonly #state: Pushed;
  /** By type, the nonce that an ACK is awaited of. */
  readonly #open = new Map<string, string>();
  #waiting: (() => void)[] = [];

  constructor(stream: ScriptedStream, isDelta: boolean, state: Pushed) {
    this.#stream = stream;
    this.#isDelta = isDelta;
    this.#state = state;
    for (const typeUrl of [typeUrls.cds, typeUrls.eds, typeUrls.lds, typeUrls.rds]) void this.#serve(typeUrl);
  }

  /** Each encodes what it will send, and gives what sends it. */
  clusters(changed: readonly NamedAny[]): () => void {
    if (changed.length === this.#state.clusters.length) this.#state.clusters = [...changed];
    else for (const one of changed) this.#state.clusters[this.#state.clusters.findIndex(({ name }) => name === one.name)] = one;
    const sent = this.#isDelta ? changed : this.#state.clusters;
    const endpoints = changed.map(({ name }) => this.#state.endpoints.get(name)!);
    const sends = [this.#encode(typeUrls.cds, sent), this.#encode(typeUrls.eds, endpoints)];
    return () => {
      for (const send of sends) send();
    };
  }

  endpoints(changed: readonly NamedAny[]): () => void {
    for (const one of changed) this.#state.endpoints.set(one.name, one);
    return this.#encode(typeUrls.eds, changed);
  }

  routes(changed: NamedAny): () => void {
    this.#state.routes = [changed];
    return this.#encode(typeUrls.rds, [changed]);
  }

  /** Resolves when everything that was sent is acknowledged. */
  async acknowledged(): Promise<void> {
    while (this.#open.size > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  async #serve(typeUrl: string): Promise<void> {
    for (;;) {
      const request = this.#isDelta ? await this.#stream.nextDelta(typeUrl) : await this.#stream.next(typeUrl);
      if (request.errorDetail) throw new Error(`refused: ${request.errorDetail.message}`);
      if (request.responseNonce === this.#open.get(typeUrl)) {
        this.#open.delete(typeUrl);
        for (const resolve of this.#waiting.splice(0)) resolve();
      }
      const isFirst = request.responseNonce === "";
      if (typeUrl === typeUrls.cds && isFirst) this.#encode(typeUrl, this.#state.clusters)();
      if (typeUrl === typeUrls.lds && isFirst) this.#encode(typeUrl, this.#state.listeners)();
      const names = "resourceNamesSubscribe" in request ? request.resourceNamesSubscribe : isFirst ? request.resourceNames : [];
      if (names.length === 0) continue;
      if (typeUrl === typeUrls.rds) this.#encode(typeUrl, this.#state.routes)();
      if (typeUrl === typeUrls.eds) {
        this.#encode(
          typeUrl,
          names.map((name) => this.#state.endpoints.get(name)!),
        )();
      }
    }
  }

  #encode(typeUrl: string, resources: readonly NamedAny[]): () => void {
    const { nonce, send } = this.#stream.prepare(typeUrl, resources);
    return () => {
      this.#open.set(typeUrl, nonce);
      send();
    };
  }
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
}

class Asker {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  async until(index: number, isWanted: (answer: Answer) => boolean): Promise<void> {
    const deadline = performance.now() + patienceMs;
    for (;;) {
      const answer = await this.#ask(pathOf(index));
      if (isWanted(answer)) return;
      if (performance.now() > deadline) throw new Error(`${pathOf(index)} of ${this.#name} still answers ${JSON.stringify(answer)}`);
      await pause(1);
    }
  }

  #ask(path: string): Promise<Answer> {
    return new Promise((resolve) => {
      const request = get({ host: "127.0.0.1", port: proxyPort, path, agent: this.#agent }, (response) => {
        response.resume();
        response.on("end", () => resolve({ status: response.statusCode!, headers: response.headers }));
      });
      request.on("error", () => resolve({ status: 0, headers: {} }));
    });
  }
}

/** Says by which address it was reached, and how the proxy wrote the first header's name. */
async function startUpstream(): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
    const host = request.rawHeaders.find((name) => name.toLowerCase() === "host");
    response.writeHead(200, { "x-address": request.socket.localAddress, "x-host-header": host });
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function bootstrap(port: number, isDelta: boolean): unknown {
  const socketAddress = (portValue: number) => ({ socket_address: { address: "127.0.0.1", port_value: portValue } });
  return {
    node: { id: "bench", cluster: "bench" },
    admin: { address: socketAddress(adminPort) },
    dynamic_resources: {
      ads_config: {
        api_type: isDelta ? "DELTA_GRPC" : "GRPC",
        transport_api_version: "V3",
        grpc_services: [{ envoy_grpc: { cluster_name: "ads" } }],
      },
      cds_config: { ads: {}, resource_api_version: "V3" },
      lds_config: { ads: {}, resource_api_version: "V3" },
    },
    static_resources: {
      clusters: [
        {
          name: "ads",
          type: "STATIC",
          connect_timeout: "5s",
          typed_extension_protocol_options: {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
              "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
          load_assignment: { cluster_name: "ads", endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(port) } }] }] },
        },
      ],
    },
  };
}

/** Of all threads, in nanoseconds as the scheduler counts them: hundredths of a second say nothing about one change. */
function cpuMsOf(pid: number): number {
  let total = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    total += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]) / 1e6;
  }
  return total;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 3000);
  await exited;
  clearTimeout(timer);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
