/**
 * WorkloadEntries that follow their agents: made from a WorkloadGroup when an agent connects, gone when it has been away for the grace period.
 * An entry that a user made is looked after too, when it is to be health-checked: it stays, but for its condition.
 *
 *   agent connects ──> entry: connectedAt ──disconnects──> disconnectedAt ──grace period──> deleted (or its condition is)
 *                        ^                                       │
 *                        └────────────── connects again ─────────┘
 *
 * An entry belongs to the node whose stream is open. Another node of the same name, two machines with one address say, is told so and waits.
 * Source: Istio pilot/pkg/autoregistration/controller.go.
 */
import { status } from "@grpc/grpc-js";
import { StreamRefused } from "../../ads/server.ts";
import type { ObjectOf } from "../../api/kinds/index.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import { formerAddressesKey, type ProxyNode } from "../../api/node.ts";
import type { SpiffeId } from "../../api/spiffe.ts";
import type { WritableConfigStore } from "../../config/store.ts";
import { log } from "../../lib/log.ts";
import { entryAnnotations } from "./entry-annotations.ts";
import { entryFromGroup, withAnnotations, withStatus } from "./entry-from-group.ts";
import { type EntryKey, entryId, entryKey, refuseStrangers, registeredEntryName } from "./entry-key.ts";
import { type HealthReport, hasHealth, statusWithHealth, statusWithoutHealth } from "./health-status.ts";
import type { RegistrationMetrics } from "./registration-metrics.ts";
import { WriteQueue } from "./write-queue.ts";

const scope = log.scope("wle");
/** What a node may make us look at. */
const maxFormerAddresses = 8;

export interface WorkloadRegistrationOptions {
  readonly store: WritableConfigStore;
  /** Name of this control plane. */
  readonly instanceId: string;
  /**
   * Whether other control planes write to the store as well; default true. Otherwise an entry of another name is of this one's former name, and
   * nobody else will ever look after it.
   */
  readonly isShared?: boolean;
  readonly metrics: RegistrationMetrics;
  /** How long an entry outlives its agent's last connection. Default 10,000. Istio PILOT_WORKLOAD_ENTRY_GRACE_PERIOD. */
  readonly graceMs?: number;
  /** How long after its own start a control plane waits for agents that were connected to it before. Default 60,000. */
  readonly restartGraceMs?: number;
}

/** A connected agent. */
export interface RegisteringProxy {
  readonly proxy: ProxyNode;
  /** Who it proved to be; undefined over plaintext, which can't register anything. */
  readonly identities: readonly SpiffeId[] | undefined;
  readonly connectedAt: Date;
  /** Ends the stream; the agent will come again. */
  readonly close: (reason: StreamRefused) => void;
}

export interface Registration {
  report(health: HealthReport): void;
  disconnect(): void;
}

interface Holder extends RegisteringProxy {
  readonly key: EntryKey;
  /** undefined: the entry is the user's. */
  readonly group: string | undefined;
  /** What its agent has said last; it says so once, and an entry that is made anew has to have it too. */
  said?: { readonly health: HealthReport };
}

export class WorkloadRegistration implements Disposable {
  readonly #options: WorkloadRegistrationOptions;
  readonly #graceMs: number;
  /** Open streams by entry. Those of one entry are of one node. */
  readonly #holders = new Map<string, Set<Holder>>();
  readonly #writes = new WriteQueue();
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #watch: Disposable;

  constructor(options: WorkloadRegistrationOptions) {
    this.#options = options;
    this.#graceMs = options.graceMs ?? 10_000;
    this.#watch = options.store.watch((events) => {
      for (const { type, object } of events) {
        if (object.kind !== "WorkloadGroup") continue;
        if (type === "added") this.#registerWaiting(object as ObjectOf<"WorkloadGroup">);
        if (type === "deleted") this.#deleteEntriesOf(object);
      }
    });
    for (const entry of options.store.list("WorkloadEntry")) this.#resume(entry);
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    for (const timer of this.#timers) clearTimeout(timer);
  }

  /** undefined for a proxy that is no such workload. Throws StreamRefused for one that may not be what it says. */
  connect(proxy: RegisteringProxy): Registration | undefined {
    const holder = this.#holderOf(proxy);
    if (!holder) return undefined;
    const id = entryId(holder.key);
    const others = this.#holders.get(id) ?? new Set();
    const other = [...others].find(({ proxy: { nodeId } }) => nodeId !== proxy.proxy.nodeId);
    if (other) {
      throw new StreamRefused(
        status.ALREADY_EXISTS,
        `WorkloadEntry ${holder.key.namespace}/${holder.key.name} belongs to ${other.proxy.id}, which is connected: two machines have the address ${proxy.proxy.ipAddresses[0]}; give them different networks or groups`,
      );
    }
    this.#holders.set(id, others.add(holder));
    const registered = this.#write(holder.key, () => this.#markConnected(holder));
    registered.then(
      () => this.#leaveFormer(holder),
      () => undefined,
    );
    registered.catch((error: unknown) => {
      this.#options.metrics.errors.inc();
      const reason = error instanceof Error ? error.message : String(error);
      scope.warn("registration failed", { proxy: proxy.proxy.id, entry: id, reason });
      proxy.close(error instanceof StreamRefused ? error : new StreamRefused(status.UNAVAILABLE, `registration failed: ${reason}`));
    });
    return {
      report: (health) => {
        holder.said = { health };
        this.#inBackground(holder, "health is not recorded", () => this.#recordHealth(holder, health));
      },
      disconnect: () => this.#onDisconnect(holder),
    };
  }

  #holderOf(connecting: RegisteringProxy): Holder | undefined {
    const { proxy, identities } = connecting;
    const { store } = this.#options;
    const group = textOf(proxy.metadata.AUTO_REGISTER_GROUP);
    if (group) {
      const key = entryKey(proxy.namespace, registeredEntryName(group, proxy));
      const entry = store.get(key);
      const template = this.#groupOf(proxy.namespace, group);
      if (!entry && !template) {
        this.#options.metrics.errors.inc();
        throw new StreamRefused(
          status.FAILED_PRECONDITION,
          `auto-registration of ${proxy.id} failed: there is no WorkloadGroup ${proxy.namespace}/${group}`,
        );
      }
      const { serviceAccount = "" } = entry?.spec ?? template?.spec.template ?? {};
      refuseStrangers(key, serviceAccount, identities);
      return { ...connecting, key, group };
    }
    const name = textOf(proxy.metadata.WORKLOAD_ENTRY);
    if (!name) return undefined;
    const key = entryKey(proxy.namespace, name);
    const entry = store.get(key);
    if (!entry)
      throw new StreamRefused(
        status.FAILED_PRECONDITION,
        `${proxy.id} says that it is WorkloadEntry ${proxy.namespace}/${name}, which does not exist`,
      );
    if (!isHealthChecked(entry)) return undefined;
    refuseStrangers(key, entry.spec.serviceAccount, identities);
    return { ...connecting, key, group: undefined };
  }

  #groupOf(namespace: string, name: string): ObjectOf<"WorkloadGroup"> | undefined {
    return this.#options.store.get({ kind: "WorkloadGroup", namespace, name });
  }

  async #markConnected(holder: Holder): Promise<void> {
    const { key, group, proxy, connectedAt } = holder;
    const { store, instanceId, metrics } = this.#options;
    const connected = { [entryAnnotations.controller]: instanceId, [entryAnnotations.connectedAt]: connectedAt.toISOString() };
    const entry = store.get(key);
    if (entry) {
      const latest = timeOf(entry, "connectedAt");
      // A time that is still to come was written before the clock was set back.
      if (latest > connectedAt.getTime() && latest <= Date.now()) return;
      await store.put(withAnnotations(entry, { ...connected, [entryAnnotations.disconnectedAt]: undefined }), sameVersion(entry));
      metrics.updates.inc();
      scope.info("entry is connected", { entry: entryId(key), proxy: proxy.id });
      return;
    }
    const template = group === undefined ? undefined : this.#groupOf(key.namespace, group);
    if (!template) throw new StreamRefused(status.FAILED_PRECONDITION, `there is no WorkloadGroup ${key.namespace}/${group} any more`);
    await store.put(entryFromGroup(key.name, template, proxy, connected), { absent: true });
    metrics.successes.inc();
    scope.info("entry is registered", { entry: entryId(key), proxy: proxy.id });
    if (holder.said) await this.#recordHealth(holder, holder.said.health);
  }

  /**
   * A machine that has been given another address leaves its entry of before at once: nobody answers there any more, and its old stream may
   * not be known to be dead for a while. Only its own: the same name's, by the same identity.
   */
  #leaveFormer({ key, group, proxy, identities }: Holder): void {
    if (group === undefined) return;
    const { store, metrics } = this.#options;
    for (const address of textOf(proxy.metadata[formerAddressesKey]).split(",").slice(0, maxFormerAddresses)) {
      if (address === "" || proxy.ipAddresses.includes(address)) continue;
      const former = entryKey(key.namespace, registeredEntryName(group, { ...proxy, ipAddresses: [address] }));
      const id = entryId(former);
      const entry = store.get(former);
      const holders = [...(this.#holders.get(id) ?? [])];
      if (entry?.metadata.annotations[entryAnnotations.group] !== group) continue;
      if (!isOwn(former, entry.spec.serviceAccount, identities) || holders.some((other) => other.proxy.id !== proxy.id)) continue;
      this.#holders.delete(id);
      for (const { close } of holders)
        close(new StreamRefused(status.CANCELLED, `the machine has the address ${proxy.ipAddresses[0]} now`));
      this.#write(former, async () => {
        const present = store.get(former);
        if (!present || this.#holders.has(id)) return;
        await store.delete(former, sameVersion(present));
        metrics.deletes.inc();
        scope.info("entry is deleted: its machine has another address", { entry: id, now: entryId(key) });
      }).catch((error: unknown) => metricsError(this.#options, former, "entry is not deleted", error));
    }
  }

  async #recordHealth({ key, group }: Holder, health: HealthReport): Promise<void> {
    const entry = this.#options.store.get(key);
    if (!entry || !(group !== undefined || isHealthChecked(entry))) return;
    await this.#options.store.put(withStatus(entry, statusWithHealth(entry, health, new Date())), sameVersion(entry));
    scope.info("health of a workload", {
      entry: entryId(key),
      isHealthy: health === undefined,
      ...(health === undefined ? {} : { reason: health }),
    });
  }

  #onDisconnect(holder: Holder): void {
    const id = entryId(holder.key);
    const holders = this.#holders.get(id);
    holders?.delete(holder);
    if (holders && holders.size > 0) return;
    this.#holders.delete(id);
    const disconnectedAt = new Date();
    this.#inBackground(holder, "disconnection is not recorded", async () => {
      if (await this.#markDisconnected(holder.key, disconnectedAt)) this.#later(this.#graceMs, () => this.#cleanUp(holder.key));
    });
  }

  /** Whether there is something to clean up after the grace period. */
  async #markDisconnected(key: EntryKey, at: Date): Promise<boolean> {
    const { store, metrics } = this.#options;
    const entry = store.get(key);
    if (!entry || this.#holders.has(entryId(key)) || !this.#isOwn(entry)) return false;
    const changes = { [entryAnnotations.connectedAt]: undefined, [entryAnnotations.disconnectedAt]: at.toISOString() };
    await store.put(withAnnotations(entry, changes), sameVersion(entry));
    metrics.unregistrations.inc();
    scope.info("entry is disconnected", { entry: entryId(key) });
    return true;
  }

  /** `isWaited`: the grace period is over whatever the entry says. */
  #cleanUp(key: EntryKey, isWaited = false): void {
    this.#write(key, async () => {
      const { store, metrics } = this.#options;
      const entry = store.get(key);
      if (!entry || this.#holders.has(entryId(key)) || entry.metadata.annotations[entryAnnotations.connectedAt] !== undefined) return;
      const leftMs = timeOf(entry, "disconnectedAt") + this.#graceMs - Date.now();
      // Somebody else's disconnection, or the clock was set back: no wait is longer than the grace period.
      if (leftMs > 0 && !isWaited) return this.#later(Math.min(leftMs, this.#graceMs), () => this.#cleanUp(key, leftMs > this.#graceMs));
      if (entry.metadata.annotations[entryAnnotations.group] !== undefined) {
        await store.delete(key, sameVersion(entry));
        metrics.deletes.inc();
        scope.info("entry is deleted", { entry: entryId(key) });
      } else if (hasHealth(entry)) {
        await store.put(withStatus(entry, statusWithoutHealth(entry)), sameVersion(entry));
      }
    }).catch((error: unknown) => {
      metricsError(this.#options, key, "entry is not cleaned up", error);
      this.#later(this.#graceMs, () => this.#cleanUp(key));
    });
  }

  /** What an earlier run of this control plane left: its agents may come back, or have gone while nobody looked. */
  #resume(entry: ObjectOf<"WorkloadEntry">): void {
    const { annotations } = entry.metadata;
    if (annotations[entryAnnotations.group] === undefined && !isHealthChecked(entry)) return;
    const key = entryKey(entry.metadata.namespace, entry.metadata.name);
    if (annotations[entryAnnotations.disconnectedAt] !== undefined) {
      this.#later(this.#graceMs, () => this.#cleanUp(key));
    } else if (this.#isOwn(entry)) {
      this.#later(this.#options.restartGraceMs ?? 60_000, () => {
        this.#write(key, async () => {
          if (await this.#markDisconnected(key, new Date(Date.now() - this.#graceMs))) this.#cleanUp(key);
        }).catch((error: unknown) => metricsError(this.#options, key, "entry is not cleaned up", error));
      });
    }
  }

  #isOwn({ metadata: { annotations } }: ConfigObject): boolean {
    const { instanceId, isShared = true } = this.#options;
    const controller = annotations[entryAnnotations.controller];
    return isShared ? controller === instanceId : controller !== undefined;
  }

  /** Agents that are connected already get their entries when their group comes back. */
  #registerWaiting(group: ObjectOf<"WorkloadGroup">): void {
    for (const holders of this.#holders.values()) {
      for (const holder of holders) {
        if (holder.group !== group.metadata.name || holder.key.namespace !== group.metadata.namespace) continue;
        this.#inBackground(holder, "registration failed", () => this.#markConnected(holder));
      }
    }
  }

  /** They are the group's, as Kubernetes' owner references say. */
  #deleteEntriesOf(group: ConfigObject): void {
    for (const entry of this.#options.store.list("WorkloadEntry", group.metadata.namespace)) {
      if (entry.metadata.annotations[entryAnnotations.group] !== group.metadata.name) continue;
      const key = entryKey(entry.metadata.namespace, entry.metadata.name);
      this.#write(key, async () => {
        if (this.#groupOf(key.namespace, group.metadata.name) || !this.#options.store.get(key)) return;
        await this.#options.store.delete(key);
      }).catch((error: unknown) => metricsError(this.#options, key, "entry is not deleted", error));
    }
  }

  #inBackground(holder: Holder, failure: string, action: () => Promise<void>): void {
    this.#write(holder.key, action).catch((error: unknown) => metricsError(this.#options, holder.key, failure, error));
  }

  #write(key: EntryKey, action: () => Promise<void>): Promise<void> {
    return this.#writes.write(entryId(key), action);
  }

  #later(delayMs: number, action: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      action();
    }, delayMs);
    timer.unref();
    this.#timers.add(timer);
  }
}

function isOwn(key: EntryKey, serviceAccount: string, identities: readonly SpiffeId[] | undefined): boolean {
  try {
    refuseStrangers(key, serviceAccount, identities);
    return true;
  } catch {
    return false;
  }
}

function metricsError({ metrics }: WorkloadRegistrationOptions, key: EntryKey, failure: string, error: unknown): void {
  metrics.errors.inc();
  scope.warn(failure, { entry: entryId(key), reason: error instanceof Error ? error.message : error });
}

function isHealthChecked(entry: ConfigObject): boolean {
  return entry.metadata.annotations[entryAnnotations.healthChecks] === "true";
}

/** 0 when it is not there or can't be read. */
function timeOf(entry: ConfigObject, annotation: "connectedAt" | "disconnectedAt"): number {
  return Date.parse(entry.metadata.annotations[entryAnnotations[annotation]] ?? "") || 0;
}

function sameVersion(entry: ConfigObject): { readonly resourceVersion: string } {
  return { resourceVersion: entry.metadata.resourceVersion };
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
