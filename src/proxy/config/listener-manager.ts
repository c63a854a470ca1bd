/**
 * Which listeners there are, and when each may be bound.
 *
 *     added (bootstrap, LDS) -> warming --RDS, SDS came or were waited for long enough--> active -> replaced or removed
 *
 * Until the whole proxy is initialised nothing is bound: warm listeners wait for `start`. A changed listener warms beside
 * the active one; the workers drain the old one when the new one is there.
 */
import { randomUUID } from "node:crypto";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import type { XdsSubscription, XdsUpdate } from "../../ads/client.ts";
import { ConfigError } from "../../api/config-error.ts";
import type { Address } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import { TrafficDirection } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import type { ConfigSource } from "../../api/gen/envoy/config/core/v3/config_source_pb.js";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { typeUrls } from "../../api/type-urls.ts";
import type { LogScope } from "../../lib/log.ts";
import type { StatsReader } from "../stats/stats-reader.ts";
import type { StatsStore } from "../stats/store.ts";
import type { UpdateOutcome } from "../worker-group.ts";
import type { CertificateSources } from "./certificate-sources.ts";
import type { RejectedRecord } from "./cluster-record.ts";
import type { ConfigSources } from "./config-sources.ts";
import { holdReferences, type ReferenceSources, type ResourceHolds } from "./resource-holds.ts";
import { subscribeToAll } from "./subscribe-to-all.ts";
import type { UpdateQueue } from "./update-queue.ts";
import { WildcardUpdateStats } from "./wildcard-update-stats.ts";

export interface ListenerRecord {
  readonly name: string;
  readonly message: Listener;
  readonly bytes: Uint8Array;
  readonly version: string;
  readonly updatedAt: Date;
  readonly isStatic: boolean;
}

export interface BoundAddress {
  readonly address: string;
  readonly port: number;
}

interface RunningListener {
  record: ListenerRecord;
  readonly holds: ResourceHolds;
}

export interface ListenerManagerOptions {
  readonly sources: ConfigSources;
  readonly references: ReferenceSources;
  readonly updates: UpdateQueue;
  /** Throws ConfigError. */
  readonly validate: (listener: Listener) => void;
  readonly stats: StatsStore;
  readonly texts: Pick<StatsReader, "setText">;
  readonly log: LogScope;
  readonly drainTimeMs: number;
}

export class ListenerManager implements Disposable {
  #options: ListenerManagerOptions;
  #active = new Map<string, RunningListener>();
  #warming = new Map<string, RunningListener>();
  /** Warm, but the proxy is not initialised yet. */
  #waiting = new Set<RunningListener>();
  #rejected = new Map<string, RejectedRecord>();
  #bound = new Map<string, readonly BoundAddress[]>();
  #isStarted = false;
  #isStopped = false;
  #lds: XdsSubscription | undefined;
  #version = "";
  #idleWaiters: (() => void)[] = [];
  #counts;

  constructor(options: ListenerManagerOptions) {
    this.#options = options;
    const { stats } = options;
    this.#counts = {
      added: stats.counter("listener_manager.listener_added"),
      modified: stats.counter("listener_manager.listener_modified"),
      removed: stats.counter("listener_manager.listener_removed"),
      stopped: stats.counter("listener_manager.listener_stopped"),
      inPlace: stats.counter("listener_manager.listener_in_place_updated"),
      created: stats.counter("listener_manager.listener_create_success"),
      failed: stats.counter("listener_manager.listener_create_failure"),
      active: stats.gauge("listener_manager.total_listeners_active"),
      warming: stats.gauge("listener_manager.total_listeners_warming"),
      draining: stats.gauge("listener_manager.total_listeners_draining"),
      started: stats.gauge("listener_manager.workers_started"),
      chains: stats.gauge("listener_manager.total_filter_chains_draining"),
    };
  }

  get versionInfo(): string {
    return this.#version;
  }

  /** Throws ConfigError. */
  addStatic(message: Listener): void {
    const name = message.name || randomUUID();
    this.#check(name, message);
    void this.#add({ name, message, bytes: toBinary(ListenerSchema, message), version: "", updatedAt: new Date(), isStatic: true });
  }

  /** Resolves with the first LDS answer, or when it was waited for long enough. */
  subscribe(source: ConfigSource): Promise<void> {
    const { sources, stats, texts } = this.#options;
    const updates = new WildcardUpdateStats(stats, texts, "listener_manager.lds");
    const { subscription, answered } = subscribeToAll({
      typeUrl: typeUrls.lds,
      source,
      sources,
      updates,
      take: (update) => this.#takeUpdate(update),
    });
    this.#lds = subscription;
    return answered;
  }

  /** Resolves when every listener so far is warm. */
  get warm(): Promise<void> {
    if (this.#warming.size === this.#waiting.size) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Binds what is warm, and from now on what becomes warm. Gives the errors of binding by listener name. */
  async start(): Promise<ReadonlyMap<string, string>> {
    this.#isStarted = true;
    this.#options.stats.set(this.#counts.started, 1);
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    const reasons = await Promise.all(waiting.map(async (listener) => [listener.record.name, await this.#activate(listener)] as const));
    return new Map(reasons.flatMap(([name, reason]) => (reason === undefined ? [] : [[name, reason]])));
  }

  /** The sockets are closed for good: new listeners of the control plane are not bound any more. */
  stop(inboundOnly: boolean): void {
    this.#isStopped ||= !inboundOnly;
    for (const { record } of this.#active.values()) {
      if (inboundOnly && record.message.trafficDirection !== TrafficDirection.INBOUND) continue;
      this.#options.stats.add(this.#counts.stopped, 1);
    }
  }

  /** Of the TLS contexts of all active listeners. */
  certificates(): readonly CertificateSources[] {
    return [...this.#active.values()].flatMap(({ holds }) => holds.certificates);
  }

  list(): {
    readonly active: readonly ListenerRecord[];
    readonly warming: readonly ListenerRecord[];
    readonly rejected: readonly RejectedRecord[];
  } {
    const sorted = (map: ReadonlyMap<string, RunningListener>) => [...map.values()].map(({ record }) => record);
    return { active: sorted(this.#active), warming: sorted(this.#warming), rejected: [...this.#rejected.values()] };
  }

  /** Where active listeners are bound, in the order in which they came. */
  addresses(): readonly { readonly name: string; readonly addresses: readonly BoundAddress[] }[] {
    return [...this.#active.keys()].flatMap((name) => {
      const addresses = this.#bound.get(name);
      return addresses ? [{ name, addresses }] : [];
    });
  }

  [Symbol.dispose](): void {
    this.#lds?.close();
    for (const { holds } of [...this.#active.values(), ...this.#warming.values()]) holds.release();
  }

  async #takeUpdate(update: XdsUpdate): Promise<string | undefined> {
    const reasons: string[] = [];
    const seen = new Set<string>();
    const added: Promise<readonly [string, string | undefined]>[] = [];
    // Removals come first: a new listener may want the address of one that goes.
    const names = update.resources.map(({ name, content }) => name || fromBinaryName(content.value));
    const gone = update.isFull ? this.#dynamicNames().filter((name) => !names.includes(name)) : update.removed;
    for (const name of gone) this.#remove(name);
    for (const { content, name: wrappedName, version } of update.resources) {
      let name = wrappedName;
      try {
        const message = fromBinary(ListenerSchema, content.value);
        name = message.name;
        if (seen.has(name)) throw new ConfigError(`duplicate listener ${name} found`);
        seen.add(name);
        this.#options.sources.check(ListenerSchema, message);
        const applied = this.#update(message, content.value, version);
        if (applied) added.push(applied.then((reason) => [name, reason] as const));
        this.#rejected.delete(name);
      } catch (error) {
        this.#reject(name, (error as Error).message, update.version);
        reasons.push(`${name}: ${(error as Error).message}`);
      }
    }
    for (const [name, reason] of await Promise.all(added)) {
      if (reason !== undefined) reasons.push(`${name}: ${reason}`);
    }
    this.#version = update.version;
    return reasons.length > 0 ? `Error adding/updating listener(s) ${reasons.join("\n")}` : undefined;
  }

  /** Gives the outcome of binding when that happens at once; a listener that warms first is acknowledged before. */
  #update(message: Listener, bytes: Uint8Array, version: string): Promise<string | undefined> | undefined {
    const { name } = message;
    const known = this.#warming.get(name) ?? this.#active.get(name);
    if (known?.record.isStatic) return undefined; // the bootstrap's listeners are not LDS's business
    if (known && Buffer.compare(known.record.bytes, bytes) === 0) {
      known.record = { ...known.record, version };
      return undefined;
    }
    this.#check(name, message);
    return this.#add({ name, message, bytes, version, updatedAt: new Date(), isStatic: false });
  }

  #check(name: string, message: Listener): void {
    if (!message.address && !message.listenerSpecifier.case)
      throw new ConfigError(`error adding listener named '${name}': address is necessary`);
    this.#options.validate(message);
    const address = message.address && addressKey(message.address);
    if (address === undefined) return;
    for (const { record } of [...this.#active.values(), ...this.#warming.values()]) {
      if (record.name === name || !record.message.address || addressKey(record.message.address) !== address) continue;
      throw new ConfigError(`error adding listener: '${name}' has duplicate address '${address}' as existing listener`);
    }
  }

  #add(record: ListenerRecord): Promise<string | undefined> | undefined {
    const holds = holdReferences(ListenerSchema, record.message, this.#options.references);
    const listener: RunningListener = { record, holds };
    const superseded = this.#warming.get(record.name);
    if (superseded) {
      superseded.holds.release();
      this.#waiting.delete(superseded);
    }
    this.#warming.set(record.name, listener);
    this.#showCounts();
    if (holds.isReady) return this.#warmed(listener);
    holds.ready
      .then(() => this.#warmed(listener))
      .catch((error: unknown) => this.#options.log.error("Cannot activate a listener", { listener: record.name, error }));
    return undefined;
  }

  #warmed(listener: RunningListener): Promise<string | undefined> | undefined {
    if (this.#warming.get(listener.record.name) !== listener) return undefined; // replaced or removed meanwhile
    if (this.#isStarted) return this.#activate(listener);
    this.#waiting.add(listener);
    if (this.#warming.size === this.#waiting.size) for (const resolve of this.#idleWaiters.splice(0)) resolve();
    return undefined;
  }

  /** Resolves to what went wrong, in Envoy's words. */
  async #activate(listener: RunningListener): Promise<string | undefined> {
    const { stats, updates, log } = this.#options;
    const { name, bytes, version } = listener.record;
    if (this.#warming.get(name) !== listener) return undefined;
    this.#warming.delete(name);
    if (this.#isStopped) {
      listener.holds.release();
      return undefined;
    }
    const previous = this.#active.get(name);
    this.#active.set(name, listener);
    this.#showCounts();
    const outcome = await updates.apply({ listeners: [{ name, bytes }] });
    const error = outcome.errors.find((candidate) => candidate.resource === "listener" && candidate.name === name);
    if (error) {
      stats.add(this.#counts.failed, 1);
      if (this.#active.get(name) === listener) {
        if (previous) this.#active.set(name, previous);
        else this.#active.delete(name);
      }
      listener.holds.release();
      this.#reject(name, error.message, version);
      this.#showCounts();
      log.error("Cannot bind a listener", { listener: name, reason: error.message });
      return error.message;
    }
    stats.add(this.#counts.created, 1);
    stats.add(previous ? this.#counts.modified : this.#counts.added, 1);
    if (previous) {
      previous.holds.release();
      this.#showDraining();
    }
    this.#noteBound(name, outcome);
    return undefined;
  }

  #noteBound(name: string, outcome: UpdateOutcome): void {
    const addresses = outcome.bound.filter((bound) => bound.name === name).map(({ address, port }) => ({ address, port }));
    if (addresses.length > 0) this.#bound.set(name, addresses);
    else this.#bound.delete(name);
  }

  #remove(name: string): void {
    this.#rejected.delete(name);
    const warming = this.#warming.get(name);
    const active = this.#active.get(name);
    if ((warming ?? active)?.record.isStatic !== false) return;
    for (const listener of [warming, active]) listener?.holds.release();
    if (warming) this.#waiting.delete(warming);
    this.#warming.delete(name);
    this.#active.delete(name);
    this.#bound.delete(name);
    this.#options.stats.add(this.#counts.removed, 1);
    this.#showCounts();
    if (active) {
      this.#showDraining();
      this.#options.updates
        .apply({ removedListeners: [name] })
        .catch((error: unknown) => this.#options.log.error("Cannot remove a listener", { listener: name, error }));
    }
    if (this.#warming.size === this.#waiting.size) for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }

  #reject(name: string, details: string, version: string): void {
    this.#rejected.set(name, { name, details, version, attemptedAt: new Date() });
  }

  #dynamicNames(): string[] {
    const running = [...this.#active.values(), ...this.#warming.values()];
    return [...new Set([...running.filter(({ record }) => !record.isStatic).map(({ record }) => record.name), ...this.#rejected.keys()])];
  }

  /** The workers drain the old listener for the drain time. */
  #showDraining(): void {
    const { stats, drainTimeMs } = this.#options;
    stats.add(this.#counts.draining, 1);
    setTimeout(() => stats.add(this.#counts.draining, -1), drainTimeMs).unref();
  }

  #showCounts(): void {
    this.#options.stats.set(this.#counts.active, this.#active.size);
    this.#options.stats.set(this.#counts.warming, this.#warming.size);
  }
}

function fromBinaryName(bytes: Uint8Array): string {
  try {
    return fromBinary(ListenerSchema, bytes).name;
  } catch {
    return "";
  }
}

/** `127.0.0.1:80`; undefined where equal addresses do not clash: port 0, and listeners that are not bound. */
function addressKey({ address }: Address): string | undefined {
  switch (address.case) {
    case "socketAddress": {
      const port = address.value.portSpecifier.case === "portValue" ? address.value.portSpecifier.value : 0;
      if (port === 0) return undefined;
      const host = address.value.address;
      return `${address.value.protocol === 0 ? "" : "udp "}${host.includes(":") ? `[${host}]` : host}:${port}`;
    }
    case "pipe":
      return address.value.path;
    default:
      return undefined;
  }
}
