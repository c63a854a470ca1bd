/**
 * Which clusters there are, and when each is warm.
 *
 *     added (bootstrap, CDS) -> warming --EDS | DNS | SDS came, hosts checked once--> active -> replaced or removed
 *                                  a changed cluster warms beside the active one, which serves meanwhile
 *
 * A cluster and its endpoints go to the workers together, so that none is ever active without them. While clusters of a CDS
 * response warm, CDS itself is paused: the server gets its ACK when they are in force.
 */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import type { XdsResource, XdsSubscription, XdsUpdate } from "../../ads/client.ts";
import { ConfigError } from "../../api/config-error.ts";
import { type Cluster, ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { ConfigSource } from "../../api/gen/envoy/config/core/v3/config_source_pb.js";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { typeUrls } from "../../api/type-urls.ts";
import type { LogScope } from "../../lib/log.ts";
import type { AccessLogSinks } from "../accesslog/sinks.ts";
import { ClusterHealth } from "../health/cluster-health.ts";
import type { StatsReader } from "../stats/stats-reader.ts";
import type { StatsStore } from "../stats/store.ts";
import type { SecretStore } from "../tls/secret.ts";
import type { NamedEndpoints, WorkerHostEvent } from "../update.ts";
import type { ClusterConfig } from "../upstream/cluster-config.ts";
import { isHashing } from "../upstream/load-balancer.ts";
import { speaksTls } from "../upstream/transport-socket.ts";
import type { CertificateSources } from "./certificate-sources.ts";
import { type ClusterRecord, type ClusterView, isDns, isEds, type RejectedRecord } from "./cluster-record.ts";
import { MainClusterStats } from "./cluster-update-stats.ts";
import type { ConfigSources } from "./config-sources.ts";
import { DnsEndpoints } from "./dns-endpoints.ts";
import type { ResolveHost } from "./dns-resolver.ts";
import { encodedName, isSameBytes } from "./encoded-name.ts";
import {
  checkStaticAssignment,
  decodeAssignment,
  emptyAssignment,
  endpointsOfResource,
  type KnownEndpoints,
  knownEndpoints,
  validateAssignment,
} from "./known-endpoints.ts";
import { type Membership, membershipOf, noMembers } from "./membership.ts";
import { type NamedResource, NamedResources, type ResourceHold } from "./named-resources.ts";
import { holdReferences, type ReferenceSources, type ResourceHolds } from "./resource-holds.ts";
import { inSharedMemory } from "./shared-bytes.ts";
import { subscribeToAll } from "./subscribe-to-all.ts";
import type { UpdateQueue } from "./update-queue.ts";
import { WildcardUpdateStats } from "./wildcard-update-stats.ts";

interface RunningCluster {
  record: ClusterRecord;
  readonly isUsedAtOnce: boolean;
  /** "" where endpoints don't come by EDS. */
  readonly edsName: string;
  readonly holds: ResourceHolds;
  readonly stats: MainClusterStats;
  endpoints: ResourceHold<ClusterLoadAssignment, Membership> | undefined;
  dns: DnsEndpoints | undefined;
  /** As discovery has said it. */
  known: KnownEndpoints;
  /** Where the cluster watches its hosts. */
  readonly health: ClusterHealth | undefined;
}

export interface ClusterManagerOptions {
  readonly sources: ConfigSources;
  readonly references: ReferenceSources;
  readonly updates: UpdateQueue;
  /** Throws ConfigError. */
  readonly validate: (cluster: Cluster) => ClusterConfig;
  readonly stats: StatsStore;
  readonly texts: Pick<StatsReader, "setText" | "value">;
  /** Of health checks. */
  readonly secrets: SecretStore;
  /** Of events that are logged. */
  readonly sinks: AccessLogSinks;
  /** Where ejections are logged; "": nowhere. */
  readonly outlierLogPath: string;
  readonly log: LogScope;
  readonly resolveHost?: ResolveHost;
}

export class ClusterManager implements Disposable {
  #options: ClusterManagerOptions;
  #active = new Map<string, RunningCluster>();
  #warming = new Map<string, RunningCluster>();
  #rejected = new Map<string, RejectedRecord>();
  #endpoints: NamedResources<typeof ClusterLoadAssignmentSchema, Membership>;
  /** Active and warming. */
  #byEdsName = new Map<string, Set<RunningCluster>>();
  /** Filters of connections that some cluster has; the first shows their statistics. */
  #filters = new Set<NonNullable<ClusterConfig["peerExchange"]>>();
  #cds: XdsSubscription | undefined;
  #isCdsPaused = false;
  /** Clusters that are warm and on their way to the workers. */
  #activating = 0;
  #idleWaiters: (() => void)[] = [];
  #version = "";
  #counts;

  constructor(options: ClusterManagerOptions) {
    this.#options = options;
    const { stats } = options;
    this.#counts = {
      added: stats.counter("cluster_manager.cluster_added"),
      modified: stats.counter("cluster_manager.cluster_modified"),
      removed: stats.counter("cluster_manager.cluster_removed"),
      updated: stats.counter("cluster_manager.cluster_updated"),
      active: stats.gauge("cluster_manager.active_clusters"),
      warming: stats.gauge("cluster_manager.warming_clusters"),
    };
    stats.counter("cluster_manager.cluster_updated_via_merge");
    stats.counter("cluster_manager.update_merge_cancelled");
    stats.counter("cluster_manager.update_out_of_merge_window");
    this.#endpoints = new NamedResources({
      typeUrl: typeUrls.eds,
      schema: ClusterLoadAssignmentSchema,
      nameOf: ({ clusterName }) => clusterName,
      sources: options.sources,
      validate: validateAssignment,
      keep: (assignment) => membershipOf(assignment),
      onChange: (resource) => this.#endpointsChanged(resource),
      onEvent: (name, event) => {
        for (const cluster of this.#byEdsName.get(name) ?? []) cluster.stats.count(event);
      },
    });
  }

  get versionInfo(): string {
    return this.#version;
  }

  /** Throws ConfigError. */
  addStatic(clusters: readonly Cluster[]): void {
    const encoded = inSharedMemory(clusters.map((cluster) => toBinary(ClusterSchema, cluster)));
    const updatedAt = new Date();
    for (const [index, cluster] of clusters.entries()) {
      const config = this.#validate(cluster);
      this.#add({ name: cluster.name, bytes: encoded[index]!, version: "", updatedAt, isStatic: true }, cluster, config);
    }
  }

  /** Resolves with the first CDS answer, or when it was waited for long enough. */
  subscribe(source: ConfigSource): Promise<void> {
    const { sources, stats, texts } = this.#options;
    const updates = new WildcardUpdateStats(stats, texts, "cluster_manager.cds");
    const { subscription, answered } = subscribeToAll({
      typeUrl: typeUrls.cds,
      source,
      sources,
      updates,
      take: (update) => this.#takeUpdate(update),
    });
    this.#cds = subscription;
    return answered;
  }

  /** Resolves when no cluster is warming, and all that were are in force. */
  get idle(): Promise<void> {
    if (this.#warming.size + this.#activating === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  list(): { active: readonly ClusterRecord[]; warming: readonly ClusterRecord[]; rejected: readonly RejectedRecord[] } {
    return { active: records(this.#active), warming: records(this.#warming), rejected: [...this.#rejected.values()] };
  }

  /** Of the TLS contexts of all active clusters, by the clusters' names. */
  certificates(): readonly CertificateSources[] {
    const withTls = [...this.#active.values()].filter(({ holds }) => holds.certificates.length > 0);
    return withTls.sort((a, b) => (a.record.name < b.record.name ? -1 : 1)).flatMap(({ holds }) => holds.certificates);
  }

  /** The same, once each. */
  distinctCertificates(): ReadonlySet<CertificateSources> {
    const found = new Set<CertificateSources>();
    for (const { holds } of this.#active.values()) for (const sources of holds.certificates) found.add(sources);
    return found;
  }

  has(name: string): boolean {
    return this.#active.has(name) || this.#warming.has(name);
  }

  /** Endpoints of the active clusters in force, by cluster name, sorted. */
  assignments(): readonly ClusterView[] {
    return [...this.#active.values()]
      .map((cluster) => {
        const { record, endpoints, health } = cluster;
        return { record, version: endpoints?.current?.version ?? "", health, assignment: () => endpointsInForce(cluster) };
      })
      .sort((a, b) => (a.record.name < b.record.name ? -1 : 1));
  }

  /** A worker has found something out about a host. */
  onHostEvent({ cluster, host, event }: Pick<WorkerHostEvent, "cluster" | "host" | "event">): void {
    this.#active.get(cluster)?.health?.onHostEvent(host, event);
  }

  [Symbol.dispose](): void {
    this.#cds?.close();
    for (const cluster of [...this.#active.values(), ...this.#warming.values()]) this.#dispose(cluster);
  }

  async #takeUpdate(update: XdsUpdate): Promise<string | undefined> {
    const reasons: string[] = [];
    const seen = new Set<string>();
    const updatedAt = new Date();
    const known = update.resources.map(({ content }) => this.#same(content.value));
    const isChanged = (_resource: XdsResource, index: number) => known[index] === undefined;
    const contents = inSharedMemory(update.resources.filter(isChanged).map(({ content }) => content.value)).values();
    for (const [index, { name: wrappedName, version }] of update.resources.entries()) {
      const same = known[index];
      let name = same?.record.name ?? wrappedName;
      try {
        const bytes = same?.record.bytes ?? contents.next().value!;
        const message = same ? undefined : fromBinary(ClusterSchema, bytes);
        name = message?.name ?? name;
        if (seen.has(name)) throw new ConfigError(`duplicate cluster ${name} found`);
        seen.add(name);
        if (message) this.#update(message, { name, bytes, version, updatedAt, isStatic: false });
        else if (same && !same.record.isStatic) same.record = { ...same.record, version };
        this.#rejected.delete(name);
      } catch (error) {
        const details = (error as Error).message;
        reasons.push(`${name}: ${details}`);
        this.#rejected.set(name, { name, details, version: update.version, attemptedAt: updatedAt });
      }
    }
    const gone = update.isFull ? [...this.#dynamicNames()].filter((name) => !seen.has(name)) : update.removed;
    for (const name of gone) this.#remove(name);
    this.#version = update.version;
    this.#pauseWhileWarming();
    return reasons.length > 0 ? `Error adding/updating cluster(s) ${reasons.join(", ")}` : undefined;
  }

  /** The cluster that these bytes are already: servers that don't send differences send all of them again. */
  #same(bytes: Uint8Array): RunningCluster | undefined {
    const name = encodedName(bytes) ?? "";
    const known = this.#warming.get(name) ?? this.#active.get(name);
    return known && isSameBytes(known.record.bytes, bytes) ? known : undefined;
  }

  #update(message: Cluster, record: ClusterRecord): void {
    this.#options.sources.check(ClusterSchema, message);
    const known = this.#warming.get(record.name) ?? this.#active.get(record.name);
    if (known?.record.isStatic) return; // the bootstrap's clusters are not CDS's business
    this.#add(record, message, this.#validate(message));
  }

  #validate(cluster: Cluster): ClusterConfig {
    const config = this.#options.validate(cluster);
    checkStaticAssignment(cluster);
    return config;
  }

  #dynamicNames(): Set<string> {
    const running = [...this.#active.values(), ...this.#warming.values()];
    return new Set([...running.filter(({ record }) => !record.isStatic).map(({ record }) => record.name), ...this.#rejected.keys()]);
  }

  #add(record: ClusterRecord, message: Cluster, config: ClusterConfig): void {
    const { references, stats, log } = this.#options;
    const health = this.#watchHosts(record, message, config);
    const holds = holdReferences(ClusterSchema, message, references);
    const cluster: RunningCluster = {
      record,
      isUsedAtOnce: isUsedAtOnce(config) || this.#isFirstWithFilters(config),
      edsName: isEds(message) ? message.edsClusterConfig?.serviceName || message.name : "",
      holds,
      stats: new MainClusterStats(stats, config.statName, { isEds: isEds(message), speaksTls: speaksTls(config.transportSockets) }),
      endpoints: undefined,
      dns: undefined,
      known: knownEndpoints(message.loadAssignment ?? emptyAssignment(message.name)),
      health,
    };
    this.#index(cluster);
    let discovered: Promise<void>;
    try {
      discovered = this.#discover(cluster, message);
    } catch (error) {
      this.#dispose(cluster);
      throw error;
    }
    const superseded = this.#warming.get(record.name);
    if (superseded) this.#dispose(superseded);
    this.#warming.set(record.name, cluster);
    this.#showCounts();
    Promise.all([holds.ready, discovered])
      .then(() => this.#checkHosts(cluster))
      .then(() => this.#activate(cluster))
      .catch((error: unknown) => log.error("Cannot activate a cluster", { cluster: record.name, error }));
  }

  /** undefined for a cluster that takes its hosts as they are. Throws ConfigError. */
  #watchHosts(record: ClusterRecord, message: Cluster, config: ClusterConfig): ClusterHealth | undefined {
    if (config.outlier === null && config.healthChecks.length === 0) return undefined;
    const { stats, texts, secrets, sinks, outlierLogPath, updates, log } = this.#options;
    const { name, bytes } = record;
    const ifActive = (act: (cluster: RunningCluster) => Promise<unknown>) => {
      const cluster = this.#active.get(name);
      if (cluster?.record.bytes !== bytes) return;
      act(cluster).catch((error: unknown) => log.error("Cannot tell the workers of hosts' health", { cluster: name, error }));
    };
    return new ClusterHealth({
      message,
      config,
      stats,
      readStat: (stat) => texts.value(stat),
      secrets,
      sinks,
      outlierLogPath,
      onHealthChange: () =>
        ifActive(async (cluster) => {
          // Together with the ejection that is the reason, and is counted already.
          showMembership(cluster);
          await updates.apply({ health: [name] });
        }),
      onHostsChange: () => ifActive((cluster) => this.#publishEndpoints(cluster)),
    });
  }

  /** Resolves when every host has been checked for the first time. */
  async #checkHosts(cluster: RunningCluster): Promise<void> {
    const { record, health } = cluster;
    if (health === undefined || this.#warming.get(record.name) !== cluster) return;
    this.#takeEndpoints(cluster);
    await health.start(decodeAssignment(cluster.known));
  }

  #takeEndpoints(cluster: RunningCluster): void {
    if (cluster.endpoints)
      cluster.known = endpointsOfResource(cluster.endpoints.current) ?? knownEndpoints(emptyAssignment(cluster.record.name));
  }

  /** Begins to find the endpoints; resolves when there is a first answer. */
  #discover(cluster: RunningCluster, message: Cluster): Promise<void> {
    if (isEds(message)) {
      const isNew = !this.#active.has(message.name);
      cluster.endpoints = this.#endpoints.acquire(cluster.edsName, message.edsClusterConfig?.edsConfig);
      // A changed cluster asks again, as servers expect; what is known serves when no answer comes.
      return isNew || !cluster.endpoints.current ? cluster.endpoints.ready : this.#refetch(cluster.endpoints);
    }
    if (isDns(message)) {
      const { resolveHost } = this.#options;
      cluster.dns = new DnsEndpoints({
        cluster: message,
        ...(resolveHost && { resolve: resolveHost }),
        onChange: (assignment) => {
          cluster.known = knownEndpoints(assignment);
          if (cluster.health?.isStarted) cluster.health.update(assignment);
          if (this.#active.get(message.name) === cluster) void this.#publishEndpoints(cluster);
        },
        onEvent: (event) => cluster.stats.count(event),
      });
      return cluster.dns.ready;
    }
    return Promise.resolve();
  }

  #refetch(hold: Pick<ResourceHold<ClusterLoadAssignment>, "refetch">): Promise<void> {
    // Delta servers don't answer a question they have answered.
    return this.#isDelta ? Promise.resolve() : hold.refetch();
  }

  get #isDelta(): boolean {
    return this.#options.sources.isAdsDelta;
  }

  async #activate(cluster: RunningCluster): Promise<void> {
    const { name } = cluster.record;
    if (this.#warming.get(name) !== cluster) return; // replaced or removed meanwhile
    this.#takeEndpoints(cluster);
    cluster.health?.update(decodeAssignment(cluster.known));
    const previous = this.#active.get(name);
    this.#warming.delete(name);
    this.#active.set(name, cluster);
    this.#count(previous ? "modified" : "added");
    this.#showCounts();
    this.#activating++;
    try {
      await this.#sendActivated(cluster);
      showMembership(cluster);
    } finally {
      this.#activating--;
      if (previous) this.#dispose(previous);
      this.#settleWarming();
    }
  }

  async #sendActivated(cluster: RunningCluster): Promise<void> {
    const { isUsedAtOnce, record } = cluster;
    const { name, bytes, isStatic } = record;
    const outcome = await this.#options.updates.apply({
      clusters: [{ name, bytes, isUsedAtOnce }],
      endpoints: [encodedEndpoints(cluster)],
    });
    for (const error of outcome.errors) {
      if (error.name === name && (error.resource === "cluster" || error.resource === "endpoints")) {
        this.#options.log.error("A worker refused a cluster", { cluster: name, static: isStatic, reason: error.message });
      }
    }
  }

  #settleWarming(): void {
    if (this.#warming.size + this.#activating > 0) return;
    if (this.#isCdsPaused) {
      this.#isCdsPaused = false;
      this.#cds?.resume();
    }
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }

  #remove(name: string): void {
    this.#rejected.delete(name);
    const warming = this.#warming.get(name);
    const active = this.#active.get(name);
    if ((warming ?? active)?.record.isStatic !== false) return;
    for (const cluster of [warming, active]) if (cluster) this.#dispose(cluster);
    active?.stats.showMembership({ ...noMembers, maxWeight: active.known.membership.maxWeight });
    this.#warming.delete(name);
    this.#active.delete(name);
    this.#count("removed");
    this.#showCounts();
    if (active) {
      this.#options.updates
        .apply({ removedClusters: [name] })
        .catch((error: unknown) => this.#options.log.error("Cannot remove a cluster", { cluster: name, error }));
    }
    this.#settleWarming();
  }

  async #endpointsChanged(resource: NamedResource<ClusterLoadAssignment, Membership>): Promise<void> {
    const changed: Promise<void>[] = [];
    for (const cluster of this.#byEdsName.get(resource.name) ?? []) {
      if (this.#active.get(cluster.record.name) === cluster) {
        cluster.known = endpointsOfResource(resource)!;
        cluster.health?.update(decodeAssignment(cluster.known));
        changed.push(this.#publishEndpoints(cluster));
      } else if (cluster.health?.isStarted) cluster.health.update(resource.decode());
    }
    await Promise.all(changed);
  }

  async #publishEndpoints(cluster: RunningCluster): Promise<void> {
    const { name } = cluster.record;
    cluster.stats.count("changed");
    try {
      const outcome = await this.#options.updates.apply({ endpoints: [encodedEndpoints(cluster)] });
      const error = outcome.errors.find((candidate) => candidate.resource === "endpoints" && candidate.name === name);
      if (error) this.#options.log.error("A worker refused endpoints", { cluster: name, reason: error.message });
      else showMembership(cluster);
    } catch (error) {
      this.#options.log.error("Cannot update endpoints", { cluster: name, error });
    }
  }

  #pauseWhileWarming(): void {
    if (this.#warming.size + this.#activating === 0 || this.#isCdsPaused) return;
    this.#isCdsPaused = true;
    this.#cds?.pause();
  }

  #index(cluster: RunningCluster): void {
    const { edsName } = cluster;
    if (edsName === "") return;
    const known = this.#byEdsName.get(edsName);
    if (known) known.add(cluster);
    else this.#byEdsName.set(edsName, new Set([cluster]));
  }

  #dispose(cluster: RunningCluster): void {
    const sharing = this.#byEdsName.get(cluster.edsName);
    sharing?.delete(cluster);
    if (sharing?.size === 0) this.#byEdsName.delete(cluster.edsName);
    cluster.holds.release();
    cluster.endpoints?.release();
    cluster.dns?.[Symbol.dispose]();
    cluster.health?.[Symbol.dispose]();
  }

  #isFirstWithFilters({ peerExchange }: ClusterConfig): boolean {
    if (peerExchange === null || this.#filters.has(peerExchange)) return false;
    this.#filters.add(peerExchange);
    return true;
  }

  #count(what: "added" | "modified" | "removed"): void {
    this.#options.stats.add(this.#counts[what], 1);
    if (what === "modified") this.#options.stats.add(this.#counts.updated, 1);
  }

  #showCounts(): void {
    this.#options.stats.set(this.#counts.active, this.#active.size);
    this.#options.stats.set(this.#counts.warming, this.#warming.size);
  }
}

function endpointsInForce({ known, health }: RunningCluster): ClusterLoadAssignment {
  return health?.assignment ?? decodeAssignment(known);
}

function encodedEndpoints({ record, known, health }: RunningCluster): NamedEndpoints {
  if (health === undefined) return { name: record.name, bytes: known.bytes };
  return { name: record.name, bytes: toBinary(ClusterLoadAssignmentSchema, health.assignment), cells: health.cells };
}

function showMembership({ stats, known, health }: RunningCluster): void {
  stats.showMembership(health ? membershipOf(health.assignment, health.hosts) : known.membership);
}

/** It shows what only a worker works out, goes by when hosts came, or by files as they are now. */
function isUsedAtOnce({ policy, transportSockets }: ClusterConfig): boolean {
  const { standard, matchers } = transportSockets;
  const isTimed = "slowStart" in policy && policy.slowStart !== null;
  return isHashing(policy) || isTimed || [standard, ...matchers].some(({ tls, announcement }) => tls?.hasOwnFiles || announcement !== null);
}

function records(clusters: ReadonlyMap<string, RunningCluster>): ClusterRecord[] {
  return [...clusters.values()].map(({ record }) => record).sort((a, b) => (a.name < b.name ? -1 : 1));
}
