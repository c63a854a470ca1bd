/**
 * Which clusters there are, and when each is warm.
 *
 *     added (bootstrap, CDS) -> warming --EDS | DNS | SDS came, hosts checked once--> active -> replaced or removed
 *                                  a changed cluster warms beside the active one, which serves meanwhile
 *
 * A cluster and its endpoints go to the workers together, so that none is ever active without them. While clusters of a CDS
 * response warm, CDS itself is paused: the server gets its ACK when they are in force.
 */
import { isIP } from "node:net";
import { clone, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { XdsSubscription, XdsUpdate } from "../../ads/client.ts";
import { ConfigError } from "../../api/config-error.ts";
import { type Cluster, Cluster_DiscoveryType, ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
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
import { MainClusterStats } from "./cluster-update-stats.ts";
import type { ConfigSources } from "./config-sources.ts";
import { checkDnsCluster, DnsEndpoints } from "./dns-endpoints.ts";
import type { ResolveHost } from "./dns-resolver.ts";
import { type NamedResource, NamedResources, type ResourceHold } from "./named-resources.ts";
import { holdReferences, type ReferenceSources, type ResourceHolds } from "./resource-holds.ts";
import { subscribeToAll } from "./subscribe-to-all.ts";
import type { UpdateQueue } from "./update-queue.ts";
import { WildcardUpdateStats } from "./wildcard-update-stats.ts";

export interface ClusterRecord {
  readonly name: string;
  readonly message: Cluster;
  readonly bytes: Uint8Array;
  readonly version: string;
  readonly updatedAt: Date;
  readonly isStatic: boolean;
}

export interface RejectedRecord {
  readonly name: string;
  readonly details: string;
  readonly version: string;
  readonly attemptedAt: Date;
}

interface RunningCluster {
  record: ClusterRecord;
  readonly holds: ResourceHolds;
  readonly stats: MainClusterStats;
  endpoints: ResourceHold<ClusterLoadAssignment> | undefined;
  dns: DnsEndpoints | undefined;
  /** As discovery has said it. */
  assignment: ClusterLoadAssignment;
  /** Where the cluster watches its hosts. */
  readonly health: ClusterHealth | undefined;
}

/** An active cluster with the endpoints in force. */
export interface ClusterView {
  readonly record: ClusterRecord;
  readonly assignment: ClusterLoadAssignment;
  readonly version: string;
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
  #endpoints: NamedResources<typeof ClusterLoadAssignmentSchema>;
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
      onChange: (resource) => this.#endpointsChanged(resource),
      onEvent: (name, event) => {
        for (const cluster of [...this.#active.values(), ...this.#warming.values()]) {
          if (isEds(cluster.record.message) && edsName(cluster.record.message) === name) cluster.stats.count(event);
        }
      },
    });
  }

  get versionInfo(): string {
    return this.#version;
  }

  /** Throws ConfigError. */
  addStatic(cluster: Cluster): void {
    const config = this.#validate(cluster);
    const bytes = toBinary(ClusterSchema, cluster);
    this.#add({ name: cluster.name, message: cluster, bytes, version: "", updatedAt: new Date(), isStatic: true }, config);
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

  has(name: string): boolean {
    return this.#active.has(name) || this.#warming.has(name);
  }

  /** Endpoints of the active clusters in force, by cluster name, sorted. */
  assignments(): readonly ClusterView[] {
    return [...this.#active.values()]
      .map((cluster) => {
        const { record, endpoints, health } = cluster;
        return { record, assignment: endpointsInForce(cluster), version: endpoints?.current?.version ?? "", health };
      })
      .sort((a, b) => (a.record.name < b.record.name ? -1 : 1));
  }

  /** A worker has found something out about a host. */
  onHostEvent({ cluster, host, event }: Pick<WorkerHostEvent, "cluster" | "host" | "event">): void {
    this.#active.get(cluster)?.health?.onHostEvent(host, event);
  }

  [Symbol.dispose](): void {
    this.#cds?.close();
    for (const cluster of [...this.#active.values(), ...this.#warming.values()]) dispose(cluster);
  }

  async #takeUpdate(update: XdsUpdate): Promise<string | undefined> {
    const reasons: string[] = [];
    const seen = new Set<string>();
    for (const { content, name: wrappedName, version } of update.resources) {
      let name = wrappedName;
      try {
        const message = fromBinary(ClusterSchema, content.value);
        name = message.name;
        if (seen.has(name)) throw new ConfigError(`duplicate cluster ${name} found`);
        seen.add(name);
        this.#options.sources.check(ClusterSchema, message);
        this.#update(message, content.value, version);
        this.#rejected.delete(name);
      } catch (error) {
        const details = (error as Error).message;
        reasons.push(`${name}: ${details}`);
        this.#rejected.set(name, { name, details, version: update.version, attemptedAt: new Date() });
      }
    }
    const gone = update.isFull ? [...this.#dynamicNames()].filter((name) => !seen.has(name)) : update.removed;
    for (const name of gone) this.#remove(name);
    this.#version = update.version;
    this.#pauseWhileWarming();
    return reasons.length > 0 ? `Error adding/updating cluster(s) ${reasons.join(", ")}` : undefined;
  }

  #update(message: Cluster, bytes: Uint8Array, version: string): void {
    const { name } = message;
    const known = this.#warming.get(name) ?? this.#active.get(name);
    if (known?.record.isStatic) return; // the bootstrap's clusters are not CDS's business
    if (known && Buffer.compare(known.record.bytes, bytes) === 0) {
      known.record = { ...known.record, version };
      return;
    }
    const config = this.#validate(message);
    this.#add({ name, message, bytes, version, updatedAt: new Date(), isStatic: false }, config);
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

  #add(record: ClusterRecord, config: ClusterConfig): void {
    const { references, stats, log } = this.#options;
    const health = this.#watchHosts(record, config);
    const holds = holdReferences(ClusterSchema, record.message, references);
    const cluster: RunningCluster = {
      record,
      holds,
      stats: new MainClusterStats(stats, record.message.altStatName || record.name, isEds(record.message)),
      endpoints: undefined,
      dns: undefined,
      assignment: staticAssignment(record.message),
      health,
    };
    let discovered: Promise<void>;
    try {
      discovered = this.#discover(cluster);
    } catch (error) {
      holds.release();
      health?.[Symbol.dispose]();
      throw error;
    }
    const superseded = this.#warming.get(record.name);
    if (superseded) dispose(superseded);
    this.#warming.set(record.name, cluster);
    this.#showCounts();
    Promise.all([holds.ready, discovered])
      .then(() => this.#checkHosts(cluster))
      .then(() => this.#activate(cluster))
      .catch((error: unknown) => log.error("Cannot activate a cluster", { cluster: record.name, error }));
  }

  /** undefined for a cluster that takes its hosts as they are. Throws ConfigError. */
  #watchHosts(record: ClusterRecord, config: ClusterConfig): ClusterHealth | undefined {
    if (config.outlier === null && config.healthChecks.length === 0) return undefined;
    const { stats, texts, secrets, sinks, outlierLogPath, updates, log } = this.#options;
    const { name, message } = record;
    const ifActive = (act: (cluster: RunningCluster) => Promise<unknown>) => {
      const cluster = this.#active.get(name);
      if (cluster?.record.message !== message) return;
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
      onHealthChange: () => ifActive(() => updates.apply({ health: [name] })),
      onHostsChange: () => ifActive((cluster) => this.#publishEndpoints(cluster)),
    });
  }

  /** Resolves when every host has been checked for the first time. */
  async #checkHosts(cluster: RunningCluster): Promise<void> {
    const { record, health } = cluster;
    if (health === undefined || this.#warming.get(record.name) !== cluster) return;
    this.#takeEndpoints(cluster);
    await health.start(cluster.assignment);
  }

  #takeEndpoints(cluster: RunningCluster): void {
    if (cluster.endpoints) cluster.assignment = cluster.endpoints.current?.message ?? emptyAssignment(cluster.record.name);
  }

  /** Begins to find the endpoints; resolves when there is a first answer. */
  #discover(cluster: RunningCluster): Promise<void> {
    const { message } = cluster.record;
    if (isEds(message)) {
      const isNew = !this.#active.has(message.name);
      cluster.endpoints = this.#endpoints.acquire(edsName(message), message.edsClusterConfig?.edsConfig);
      // A changed cluster asks again, as servers expect; what is known serves when no answer comes.
      return isNew || !cluster.endpoints.current ? cluster.endpoints.ready : this.#refetch(cluster.endpoints);
    }
    if (isDns(message)) {
      const { resolveHost } = this.#options;
      cluster.dns = new DnsEndpoints({
        cluster: message,
        ...(resolveHost && { resolve: resolveHost }),
        onChange: (assignment) => {
          cluster.assignment = assignment;
          if (cluster.health?.isStarted) cluster.health.update(assignment);
          if (this.#active.get(message.name) === cluster) void this.#publishEndpoints(cluster);
        },
        onEvent: (event) => cluster.stats.count(event),
      });
      return cluster.dns.ready;
    }
    return Promise.resolve();
  }

  #refetch(hold: ResourceHold<ClusterLoadAssignment>): Promise<void> {
    // Delta servers don't answer a question they have answered.
    return this.#isDelta ? Promise.resolve() : hold.refetch();
  }

  get #isDelta(): boolean {
    return this.#options.sources.isAdsDelta;
  }

  async #activate(cluster: RunningCluster): Promise<void> {
    const { name, bytes, isStatic } = cluster.record;
    if (this.#warming.get(name) !== cluster) return; // replaced or removed meanwhile
    this.#takeEndpoints(cluster);
    cluster.health?.update(cluster.assignment);
    const previous = this.#active.get(name);
    this.#warming.delete(name);
    this.#active.set(name, cluster);
    this.#count(previous ? "modified" : "added");
    this.#showCounts();
    this.#activating++;
    try {
      await this.#sendActivated(cluster, { name, bytes, isStatic });
    } finally {
      this.#activating--;
      if (previous) dispose(previous);
      this.#settleWarming();
    }
  }

  async #sendActivated(
    cluster: RunningCluster,
    { name, bytes, isStatic }: Pick<ClusterRecord, "name" | "bytes" | "isStatic">,
  ): Promise<void> {
    const outcome = await this.#options.updates.apply({
      clusters: [{ name, bytes }],
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
    for (const cluster of [warming, active]) if (cluster) dispose(cluster);
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

  async #endpointsChanged(resource: NamedResource<ClusterLoadAssignment>): Promise<void> {
    const changed: Promise<void>[] = [];
    const isTheirs = ({ record }: RunningCluster) => isEds(record.message) && edsName(record.message) === resource.name;
    for (const cluster of this.#warming.values()) {
      if (isTheirs(cluster) && cluster.health?.isStarted) cluster.health.update(resource.message);
    }
    for (const cluster of this.#active.values()) {
      if (!isTheirs(cluster)) continue;
      cluster.assignment = resource.message;
      cluster.health?.update(resource.message);
      changed.push(this.#publishEndpoints(cluster));
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
    } catch (error) {
      this.#options.log.error("Cannot update endpoints", { cluster: name, error });
    }
  }

  #pauseWhileWarming(): void {
    if (this.#warming.size + this.#activating === 0 || this.#isCdsPaused) return;
    this.#isCdsPaused = true;
    this.#cds?.pause();
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

function dispose(cluster: RunningCluster): void {
  cluster.holds.release();
  cluster.endpoints?.release();
  cluster.dns?.[Symbol.dispose]();
  cluster.health?.[Symbol.dispose]();
}

function endpointsInForce({ assignment, health }: RunningCluster): ClusterLoadAssignment {
  return health?.assignment ?? assignment;
}

function encodedEndpoints(cluster: RunningCluster): NamedEndpoints {
  const { record, health } = cluster;
  const bytes = toBinary(ClusterLoadAssignmentSchema, endpointsInForce(cluster));
  return { name: record.name, bytes, ...(health && { cells: health.cells }) };
}

function records(clusters: ReadonlyMap<string, RunningCluster>): ClusterRecord[] {
  return [...clusters.values()].map(({ record }) => record).sort((a, b) => (a.name < b.name ? -1 : 1));
}

function isEds(cluster: Cluster): boolean {
  return cluster.clusterDiscoveryType.case === "type" && cluster.clusterDiscoveryType.value === Cluster_DiscoveryType.EDS;
}

function isDns(cluster: Cluster): boolean {
  const type = cluster.clusterDiscoveryType;
  return type.case === "type" && (type.value === Cluster_DiscoveryType.STRICT_DNS || type.value === Cluster_DiscoveryType.LOGICAL_DNS);
}

function edsName(cluster: Cluster): string {
  return cluster.edsClusterConfig?.serviceName || cluster.name;
}

function emptyAssignment(name: string): ClusterLoadAssignment {
  return create(ClusterLoadAssignmentSchema, { clusterName: name });
}

function staticAssignment(cluster: Cluster): ClusterLoadAssignment {
  return cluster.loadAssignment ? clone(ClusterLoadAssignmentSchema, cluster.loadAssignment) : emptyAssignment(cluster.name);
}

/** Throws ConfigError for a host name where an address is needed, and for what can't be resolved. */
export function checkStaticAssignment(cluster: Cluster): void {
  if (isDns(cluster)) checkDnsCluster(cluster);
  else if (cluster.loadAssignment) validateAssignment(cluster.loadAssignment);
}

/** Only clusters of a DNS type may name hosts; everything else needs addresses. */
function validateAssignment(assignment: ClusterLoadAssignment): void {
  for (const { lbEndpoints } of assignment.endpoints) {
    for (const { hostIdentifier } of lbEndpoints) {
      const address = hostIdentifier.case === "endpoint" ? hostIdentifier.value.address?.address : undefined;
      if (address?.case === "socketAddress" && isIP(address.value.address) === 0) {
        throw new ConfigError(
          `malformed IP address: ${address.value.address}. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'`,
        );
      }
    }
  }
}
