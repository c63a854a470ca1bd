/**
 * Everything one worker runs, and how updates change it. Apart from worker.ts so that tests can run a worker in their own thread.
 *
 * An update is applied in the order secrets, clusters, endpoints, health, routes, listeners. A resource that can't be applied is
 * named in the answer; the others stand.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { ConfigError } from "../api/config-error.ts";
import { type Bootstrap, BootstrapSchema } from "../api/gen/envoy/config/bootstrap/v3/bootstrap_pb.js";
import { ClusterSchema } from "../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "../api/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "../api/gen/envoy/config/route/v3/route_pb.js";
import { originalDestination } from "../platform/original-destination.ts";
import { AccessLogSinks } from "./accesslog/sinks.ts";
import type { CompileContext } from "./compile-context.ts";
import { compilePerFilterConfig } from "./filters/http/index.ts";
import { Listener, type ListenerHost } from "./listener/listener.ts";
import { addressText, compileListener, type ListenerConfig } from "./listener/listener-config.ts";
import { changeOfRoutes } from "./router/encoded-routes.ts";
import { compileRouteConfiguration, type RouteTable, recompileRoutes } from "./router/route-table.ts";
import { type NamedCells, SharedCells } from "./shared-cells.ts";
import { StatsStore } from "./stats/store.ts";
import { Telemetry } from "./telemetry/telemetry.ts";
import { SecretStore } from "./tls/secret.ts";
import { TlsSessions } from "./tls/tls-sessions.ts";
import type { FromWorker, NamedBytes, WorkerApplied, WorkerData, WorkerDrain, WorkerUpdate } from "./update.ts";
import { Cluster } from "./upstream/cluster.ts";
import { compileCluster } from "./upstream/cluster-config.ts";
import { ClusterSet } from "./upstream/cluster-set.ts";

type Failure = WorkerApplied["errors"][number];

export class WorkerState implements AsyncDisposable {
  readonly stats = new StatsStore();
  readonly tlsSessions: TlsSessions;
  readonly #data: WorkerData;
  readonly #post: (message: FromWorker) => void;
  #context: CompileContext;
  readonly #sinks: AccessLogSinks;
  readonly #secrets = new SecretStore();
  readonly #namedCells: NamedCells = new Map();
  readonly #clusters: ClusterSet;
  readonly #routes = new Map<string, RouteTable>();
  /** What they were compiled from. */
  readonly #routeBytes = new Map<string, Uint8Array>();
  readonly #listeners = new Map<string, Listener>();
  /** Compiled listeners whose filters have something to wait for, by name; what is active meanwhile stays. */
  readonly #warming = new Map<string, ListenerConfig>();
  readonly #listenerHost: ListenerHost;
  /** Updates are applied one after the other. */
  #last: Promise<void> = Promise.resolve();
  #healthFailed = false;

  constructor(data: WorkerData, post: (message: FromWorker) => void) {
    this.#data = data;
    this.#post = post;
    this.tlsSessions = new TlsSessions(data.tlsSessions);
    const bootstrap: Bootstrap = fromBinary(BootstrapSchema, data.bootstrap);
    this.#sinks = new AccessLogSinks({
      flushIntervalMs: data.fileFlushIntervalMs,
      onError: (path, error) => this.#log("warning", "file", `cannot write ${path}: ${error.message}`),
    });
    this.#clusters = new ClusterSet({
      compile: (cluster) => this.#compileCluster(cluster),
      place: (cluster, { bytes, cells }) => cluster.setEndpoints(fromBinary(ClusterLoadAssignmentSchema, bytes), cells),
      onFailure: (name, error) => this.#log("error", "upstream", `cannot use cluster ${name}: ${messageOf(error)}`),
    });
    this.#context = {
      stats: this.stats,
      accessLog: { sinks: this.#sinks },
      clusters: this.#clusters,
      routes: this.#routes,
      secrets: this.#secrets,
      tlsSessions: this.tlsSessions,
      nodeId: bootstrap.node?.id ?? "",
      nodeCluster: bootstrap.node?.cluster ?? "",
      telemetry: new Telemetry(bootstrap.node, this.stats),
      cells: new SharedCells(null),
      warn() {}, // the main thread has compiled the same, and said it
      compilePerFilterConfig: (config) => compilePerFilterConfig(config, this.#context),
    };
    this.#listenerHost = {
      stats: this.stats,
      workerIndex: data.index,
      originalDestination,
      listenerFor: (ip, port) => this.#listenerFor(ip, port),
      log: (level, message) => this.#log(level, "connection", message),
    };
    this.stats.onChange = () => setImmediate(() => post({ type: "stats", ...this.stats.takeChanges() }));
  }

  get listeners(): ReadonlyMap<string, Listener> {
    return this.#listeners;
  }

  update(update: WorkerUpdate): void {
    this.#last = this.#last.then(() => this.#apply(update));
  }

  drain(drain: WorkerDrain): void {
    this.#last = this.#last.then(() => {
      for (const [name, listener] of this.#listeners) {
        if (drain.listeners !== undefined && !drain.listeners.includes(name)) continue;
        if (drain.inboundOnly && listener.config.trafficDirection !== "inbound") continue;
        if (drain.stopListening) listener.stopListening();
        listener.drain(listener.config.chains, drain.strategy, drain.drainTimeMs, false);
        if (drain.stopListening) listener.announceDrain();
      }
      this.#answer(drain.sequence, []);
    });
  }

  setHealth(failed: boolean): void {
    this.#healthFailed = failed;
    for (const listener of this.#listeners.values()) this.#showHealth(listener);
  }

  reopenLogs(): void {
    this.#sinks.reopen();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    for (const name of this.#warming.keys()) this.#forgetWarming(name);
    for (const listener of this.#listeners.values()) listener.close();
    this.#clusters.drain();
    await this.#sinks[Symbol.asyncDispose]();
  }

  async #apply(update: WorkerUpdate): Promise<void> {
    const failures: Failure[] = [];
    const cells = new SharedCells(update.cells ?? null, this.#namedCells);
    this.#context = { ...this.#context, cells };
    for (const { name, bytes } of update.secrets ?? []) this.#secrets.set(name, bytes);
    for (const name of update.removedSecrets ?? []) this.#secrets.delete(name);
    this.#each(update.clusters, "cluster", failures, (cluster) => this.#clusters.set(cluster));
    for (const name of update.removedClusters ?? []) this.#clusters.remove(name);
    this.#each(update.endpoints, "endpoints", failures, (endpoints) => this.#clusters.setEndpoints(endpoints));
    for (const name of update.health ?? []) this.#clusters.refreshHealth(name);
    this.#each(update.routes, "route", failures, ({ name, bytes }) => {
      cells.begin(`route ${name}`);
      this.#routes.set(name, this.#compileRoutes(name, bytes, update.cells !== undefined));
      this.#routeBytes.set(name, bytes);
    });
    for (const name of update.removedListeners ?? []) this.#removeListener(name);
    const waits: Promise<void>[] = [];
    for (const resource of update.listeners ?? []) {
      const warming = await this.#setListener(resource, failures);
      if (warming !== undefined) waits.push(warming.active);
    }
    if (waits.length === 0) this.#answer(update.sequence, failures);
    // Later updates don't wait: they may bring what is being waited for.
    else void Promise.all(waits).then(() => this.#answer(update.sequence, failures));
  }

  #each<T extends NamedBytes>(
    resources: readonly T[] | undefined,
    kind: Failure["resource"],
    failures: Failure[],
    apply: (resource: T) => void,
  ): void {
    for (const resource of resources ?? []) {
      try {
        apply(resource);
      } catch (error) {
        failures.push({ resource: kind, name: resource.name, message: messageOf(error) });
      }
    }
  }

  /** Where numbers are shared, all of it anew: all workers must number alike what is configured alike. */
  #compileRoutes(name: string, bytes: Uint8Array, sharesNumbers: boolean): RouteTable {
    const before = this.#routes.get(name);
    const change = before && !sharesNumbers ? changeOfRoutes(this.#routeBytes.get(name)!, bytes) : undefined;
    if (before === undefined || change === undefined) {
      return compileRouteConfiguration(fromBinary(RouteConfigurationSchema, bytes), this.#context);
    }
    return recompileRoutes(change, before, this.#context);
  }

  #compileCluster({ name, bytes }: NamedBytes): Cluster {
    const config = compileCluster(fromBinary(ClusterSchema, bytes), this.#context);
    return new Cluster(config, this.stats, this.#data.index === 0, (host, event) =>
      this.#post({ type: "hostEvent", cluster: name, host, event }),
    );
  }

  /** The promise: the listener waits for something; it resolves when the listener is active, or another has taken its place. */
  async #setListener({ name, bytes }: NamedBytes, failures: Failure[]): Promise<{ readonly active: Promise<void> } | undefined> {
    this.#forgetWarming(name);
    const activate = async (config: ListenerConfig) => {
      try {
        await this.#activate(name, config);
      } catch (error) {
        failures.push({ resource: "listener", name, message: messageOf(error) });
        this.#disposeNew(name, config);
      }
    };
    let config: ListenerConfig;
    this.#context.cells.begin(`listener ${name}`);
    try {
      config = compileListener(fromBinary(ListenerSchema, bytes), this.#context, this.#listeners.get(name)?.config);
    } catch (error) {
      failures.push({ resource: "listener", name, message: messageOf(error) });
      return undefined;
    }
    const waits = config.chains.map((chain) => chain.filter?.start?.()).filter((wait) => wait !== undefined);
    if (waits.length === 0) {
      await activate(config);
      return undefined;
    }
    this.#warming.set(name, config);
    const warm = async () => {
      await Promise.all(waits);
      this.#last = this.#last.then(async () => {
        if (this.#warming.get(name) !== config) return;
        this.#warming.delete(name);
        await activate(config);
      });
      await this.#last;
    };
    return { active: warm() };
  }

  #forgetWarming(name: string): void {
    const config = this.#warming.get(name);
    if (config === undefined) return;
    this.#warming.delete(name);
    this.#disposeNew(name, config);
  }

  /** What the listener does not share with the active one of its name. */
  #disposeNew(name: string, config: ListenerConfig): void {
    const kept = new Set(this.#listeners.get(name)?.config.chains);
    for (const chain of config.chains) if (!kept.has(chain)) chain.filter?.dispose();
    for (const log of config.accessLogs) log.close();
  }

  async #activate(name: string, config: ListenerConfig): Promise<void> {
    const old = this.#listeners.get(name);
    this.#refuseDuplicateAddress(name, config);
    const listener = new Listener(config, this.#listenerHost);
    const sameAddress =
      old?.isBound &&
      config.bindsToPort &&
      old.config.reusesPort === config.reusesPort &&
      old.config.isTransparent === config.isTransparent &&
      JSON.stringify(old.config.addresses) === JSON.stringify(config.addresses);
    if (sameAddress) listener.adopt(old);
    else await listener.listen();
    this.#showHealth(listener);
    this.#listeners.set(name, listener);
    if (old === undefined) return;
    old.stopListening();
    const kept = new Set(config.chains);
    old.drain(
      old.config.chains.filter((chain) => !kept.has(chain)),
      this.#data.drainStrategy,
      this.#data.drainTimeMs,
      true,
    );
    for (const log of old.config.accessLogs) log.close();
  }

  /** With SO_REUSEPORT the kernel would let two listeners share an address, and connections would go to either. */
  #refuseDuplicateAddress(name: string, config: ListenerConfig): void {
    if (!config.bindsToPort) return;
    for (const [otherName, { config: other }] of this.#listeners) {
      if (otherName === name || !other.bindsToPort) continue;
      const shared = config.addresses.find(
        (address) => address.port !== 0 && other.addresses.some((taken) => addressText(taken) === addressText(address)),
      );
      if (shared !== undefined) {
        throw new ConfigError(`error adding listener: '${name}' has duplicate address '${addressText(shared)}' as existing listener`);
      }
    }
  }

  #removeListener(name: string): void {
    this.#forgetWarming(name);
    const old = this.#listeners.get(name);
    if (old === undefined) return;
    this.#listeners.delete(name);
    old.stopListening();
    old.drain(old.config.chains, this.#data.drainStrategy, this.#data.drainTimeMs, true);
    for (const log of old.config.accessLogs) log.close();
  }

  #showHealth(listener: Listener): void {
    for (const chain of listener.config.chains) chain.drain.healthFailed = this.#healthFailed;
  }

  #listenerFor(ip: string, port: number): Listener | null {
    const isIpv6 = ip.includes(":");
    let wildcard: Listener | null = null;
    for (const listener of this.#listeners.values()) {
      for (const address of listener.config.addresses) {
        if (address.port !== port) continue;
        if (address.host === ip) return listener;
        if (address.host === (isIpv6 ? "::" : "0.0.0.0") || (address.host === "::" && address.takesIpv4)) wildcard = listener;
      }
    }
    return wildcard;
  }

  #answer(sequence: number, errors: readonly Failure[]): void {
    // What was just registered should be known before the main thread says that the update is in force.
    this.#post({ type: "stats", ...this.stats.takeChanges() });
    const bound = [...this.#listeners].flatMap(([name, listener]) => listener.bound.map((address) => ({ name, ...address })));
    this.#post({ type: "applied", sequence, errors, bound });
  }

  #log(level: "info" | "warning" | "error", logger: string, message: string): void {
    this.#post({ type: "log", level, logger, message });
  }
}

function messageOf(error: unknown): string {
  if (error instanceof ConfigError) return error.message;
  return error instanceof Error ? error.message : String(error);
}
