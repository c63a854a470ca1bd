/** A cluster as it runs in one worker: its hosts, who of them is next, its limits and its statistics. */

import { ConfigError } from "../../api/config-error.ts";
import { HealthStatus } from "../../api/gen/envoy/config/core/v3/health_check_pb.js";
import type { Endpoint } from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import type { ClusterLoadAssignment, ClusterLoadAssignment_Policy } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { Hash64 } from "../../lib/hash64.ts";
import type { CellsOfHost } from "../health/host-cells.ts";
import { edsFlags } from "../health/host-flags.ts";
import { type HostEvent, HostMonitor } from "../health/host-monitor.ts";
import { Http2CodecStats } from "../http2/codec-stats.ts";
import type { HashPolicy } from "../router/hash-policy.ts";
import type { StatsStore } from "../stats/store.ts";
import type { AlpnOffer, AlpnOffers } from "./alpn-offer.ts";
import { type Priority, Resources } from "./circuit-breakers.ts";
import type { ClientView } from "./client-view.ts";
import type { ClusterConfig } from "./cluster-config.ts";
import { ClusterStats } from "./cluster-stats.ts";
import { ConnectionPool, type PoolProtocol } from "./connection-pool.ts";
import { Host, type HostDescription, hostKey } from "./host.ts";
import { isHashing, type TableReport } from "./load-balancer.ts";
import { PrioritySet } from "./priority-set.ts";
import { announcementNamespace, tlvsOfEndpoint } from "./proxy-announcement.ts";
import { chooseTransportSocket, speaksTls } from "./transport-socket.ts";

export class Cluster {
  readonly config: ClusterConfig;
  readonly stats: ClusterStats;
  readonly resources: Readonly<Record<Priority, Resources>>;
  readonly #store: StatsStore;
  /** Only one worker counts what all of them see alike. */
  readonly #countsMembership: boolean;
  #hosts = new Map<string, Host>();
  #priorities: PrioritySet;
  #dropChance = 0;
  #http2CodecStats: Http2CodecStats | null = null;
  #policy: ClusterLoadAssignment_Policy | undefined;
  #onPanic: () => void;
  /** The policy goes by a request's hash: whoever calls `choose` is asked for one. */
  readonly choosesByHash: boolean;
  /** null: that of the route. */
  readonly hashPolicy: HashPolicy | null;
  readonly #onTable: TableReport;
  readonly #activeRequests: () => number;
  readonly #onHostEvent: (host: string, event: HostEvent) => void;

  constructor(
    config: ClusterConfig,
    store: StatsStore,
    countsMembership: boolean,
    onHostEvent: (host: string, event: HostEvent) => void = () => {},
  ) {
    this.config = config;
    this.#onHostEvent = onHostEvent;
    this.#store = store;
    this.#countsMembership = countsMembership;
    this.stats = new ClusterStats(store, config.statName, speaksTls(config.transportSockets));
    this.resources = {
      default: new Resources(config.thresholds.default, this.stats, "default"),
      high: new Resources(config.thresholds.high, this.stats, "high"),
    };
    this.#onPanic = () => store.add(this.stats.at.lb_healthy_panic, 1);
    this.choosesByHash = isHashing(config.policy);
    this.hashPolicy = "hashPolicy" in config.policy && config.policy.hashPolicy.length > 0 ? config.policy.hashPolicy : null;
    this.#onTable = this.#tableReport();
    this.#activeRequests = () => store.values[this.stats.at.upstream_rq_active]!;
    this.#priorities = this.#prioritize();
    if (countsMembership) store.set(this.stats.at.max_host_weight, 0);
  }

  get hosts(): ReadonlyMap<string, Host> {
    return this.#hosts;
  }

  /** Share of requests to drop (ClusterLoadAssignment.policy.drop_overloads). */
  get dropChance(): number {
    return this.#dropChance;
  }

  /** Made with the first connection that needs them: most clusters never speak HTTP/2. */
  get http2CodecStats(): Http2CodecStats {
    this.#http2CodecStats ??= new Http2CodecStats(this.#store, `cluster.${this.config.statName.replaceAll(":", "_")}.`);
    return this.#http2CodecStats;
  }

  /** null: no usable endpoint. `attempt` counts what was chosen by the same hash and not wanted. Hot. */
  choose(hash: Hash64 | null = null, attempt = 0): Host | null {
    return this.#priorities.choose(hash, attempt);
  }

  /** Replaced whenever the hosts change. */
  get priorities(): PrioritySet {
    return this.#priorities;
  }

  /** The host of an ORIGINAL_DST cluster for that address; made on first use. */
  originalDestination(address: string, port: number): Host {
    const actualPort = this.config.originalDestinationPort || port;
    const key = hostKey(address, actualPort);
    const known = this.#hosts.get(key);
    if (known !== undefined) return known;
    const description: HostDescription = {
      address,
      port: actualPort,
      otherAddresses: [],
      hostname: "",
      weight: 1,
      edsFlags: 0,
      metadata: {},
      priority: 0,
      locality: "",
      localityWeight: 0,
      announcedTlvs: [],
    };
    const host = this.#makeHost(key, description);
    // Destinations come from outside: those without connections make room again.
    if (this.#hosts.size >= 1024) {
      for (const [other, { isUnused }] of this.#hosts) if (isUnused) this.#hosts.delete(other);
    }
    this.#hosts.set(key, host);
    return host;
  }

  /**
   * Replaces the hosts. Known ones keep their connections; those that left finish what they have. `cells` are what all workers know
   * of them together, in a cluster that watches its hosts.
   */
  setEndpoints(assignment: ClusterLoadAssignment, cells: readonly CellsOfHost[] = []): void {
    const hosts = new Map<string, Host>();
    for (const locality of assignment.endpoints) {
      const localityName = `${locality.locality?.region ?? ""}/${locality.locality?.zone ?? ""}/${locality.locality?.subZone ?? ""}`;
      const endpoints = locality.lbConfig.case === "loadBalancerEndpoints" ? locality.lbConfig.value.lbEndpoints : locality.lbEndpoints;
      for (const entry of endpoints) {
        if (entry.hostIdentifier.case !== "endpoint")
          throw new ConfigError(`endpoints of ${this.config.name}: endpoint_name is not supported`);
        const endpoint = entry.hostIdentifier.value;
        const address = endpoint.address?.address;
        let ip: string;
        let port: number;
        if (address?.case === "socketAddress") {
          ip = address.value.address;
          port = address.value.portSpecifier.case === "portValue" ? address.value.portSpecifier.value : 0;
        } else if (address?.case === "pipe") {
          ip = address.value.path;
          port = -1;
        } else throw new ConfigError(`endpoints of ${this.config.name}: an endpoint's address must be a socket_address or a pipe`);
        const description: HostDescription = {
          address: ip,
          port,
          otherAddresses: otherAddresses(endpoint, port),
          hostname: endpoint.hostname,
          weight: entry.loadBalancingWeight || 1,
          edsFlags: edsFlags(entry.healthStatus),
          metadata: entry.metadata?.filterMetadata ?? {},
          priority: locality.priority,
          locality: localityName,
          localityWeight: locality.loadBalancingWeight ?? 0,
          announcedTlvs: tlvsOfEndpoint(entry.metadata?.typedFilterMetadata[announcementNamespace]),
        };
        const key = hostKey(ip, port);
        const known = this.#hosts.get(key);
        if (known === undefined) {
          hosts.set(key, this.#makeHost(key, description));
          continue;
        }
        const wasHealthy = known.health !== "unhealthy";
        known.description = description;
        known.refreshHealth();
        const socket = chooseTransportSocket(this.config.transportSockets, description.metadata);
        if (socket !== known.transportSocket) {
          known.transportSocket = socket;
          known.drain();
        }
        const isDraining = entry.healthStatus === HealthStatus.DRAINING;
        if (wasHealthy && known.health === "unhealthy" && (isDraining || this.config.closesOnHealthFailure)) known.drain();
        hosts.set(key, known);
      }
    }
    for (const [key, host] of this.#hosts) if (!hosts.has(key)) host.drain();
    this.#hosts = hosts;
    this.#dropChance = dropChance(assignment);
    this.#policy = assignment.policy;
    this.#monitor(cells);
    this.refreshHealth();
  }

  /** The main thread knows something else of the hosts than before: who may be chosen is worked out again. */
  refreshHealth(): void {
    for (const host of this.#hosts.values()) {
      const wasUnhealthy = host.health === "unhealthy";
      host.refreshHealth();
      // Other connections may do better, should it be used all the same.
      if (!wasUnhealthy && host.health === "unhealthy") host.drain();
    }
    this.#priorities = this.#prioritize();
    this.#showMembership();
  }

  /** The cluster was removed or replaced: idle connections close, busy ones after their request. */
  drain(): void {
    for (const host of this.#hosts.values()) host.drain();
    if (this.#countsMembership) {
      for (const name of ["membership_total", "membership_healthy", "membership_degraded", "membership_excluded"] as const) {
        this.#store.set(this.stats.at[name], 0);
      }
    }
  }

  /** What is spoken to endpoints for a request that came by `downstream`. Hot. */
  protocolFor(downstream: string | null): PoolProtocol {
    const { protocol } = this.config;
    if (protocol !== "downstream") return protocol;
    return downstream === "HTTP/2" ? "http2" : "http1";
  }

  /** Of what requests of HTTP want to offer, what counts here; the cluster may insist on its own. */
  offerOf(offers: AlpnOffers | null, protocol: PoolProtocol): AlpnOffer | null {
    if (offers === null || this.config.mesh.keepsAlpn) return null;
    // Where the connection decides, HTTP/2 is what is wanted first.
    return protocol === "http1" ? offers.http1 : offers.http2;
  }

  /** Connections to the host: of their own for each protocol, each ALPN that requests ask for, and each client that the host is shown or told of. Hot. */
  pool(host: Host, protocol: PoolProtocol, offer: AlpnOffer | null = null, client: ClientView | null = null): ConnectionPool {
    // An offer matters to TLS alone.
    const alpnOffer = host.transportSocket.tls === null ? null : offer;
    const owner = host.ownerFor(client);
    const pools = owner === null ? host.pools : host.poolsOf(owner);
    for (let i = 0; i < pools.length; i++) {
      const pool = pools[i]!;
      if (pool.alpnOffer === alpnOffer && pool.protocol === protocol) return pool;
    }
    const made = new ConnectionPool(this, host, { protocol, alpnOffer, client });
    pools.push(made);
    // What was told is true of nobody else.
    if (owner !== null && typeof owner !== "string") owner.whenGone(() => made.drain());
    return made;
  }

  #makeHost(key: string, description: HostDescription): Host {
    const socket = chooseTransportSocket(this.config.transportSockets, description.metadata);
    return new Host(key, description, socket, this.config.name, this.#store);
  }

  #monitor(cells: readonly CellsOfHost[]): void {
    const { outlier, healthChecks } = this.config;
    for (const { key, cells: own } of cells) {
      const host = this.#hosts.get(key);
      if (host === undefined) continue;
      host.monitor = new HostMonitor(own, { outlier, hasChecks: healthChecks.length > 0 }, (event) => this.#onHostEvent(key, event));
    }
  }

  #prioritize(): PrioritySet {
    const { config } = this;
    const policy = this.#policy;
    return new PrioritySet(
      [...this.#hosts.values()],
      {
        policy: config.policy,
        panicThresholdPercent: config.panicThresholdPercent,
        failsOnPanic: config.failsOnPanic,
        weighsLocalities: config.weighsLocalities,
        overprovisioningPercent: policy?.overprovisioningFactor ?? 140,
        weighsHealth: policy?.weightedPriorityHealth ?? false,
        activeRequests: this.#activeRequests,
        onTable: this.#onTable,
      },
      this.#onPanic,
    );
  }

  #tableReport(): TableReport {
    const { kind } = this.config.policy;
    if (!this.#countsMembership || !this.choosesByHash) return () => {};
    const gauges =
      kind === "ringHash"
        ? this.stats.gauges("ring_hash_lb.", ["size", "min_hashes_per_host", "max_hashes_per_host"])
        : this.stats.gauges("maglev_lb.", ["min_entries_per_host", "max_entries_per_host"]);
    return (...numbers) => {
      // A table's size is part of the configuration, and no statistic.
      const shown = kind === "ringHash" ? numbers : numbers.slice(1);
      for (const [index, gauge] of gauges.entries()) this.#store.set(gauge, shown[index]!);
    };
  }

  #showMembership(): void {
    if (!this.#countsMembership) return;
    const all = [...this.#hosts.values()];
    const { at } = this.stats;
    this.#store.set(at.membership_total, all.length);
    this.#store.set(at.membership_healthy, all.filter(({ health }) => health === "healthy").length);
    this.#store.set(at.membership_degraded, all.filter(({ health }) => health === "degraded").length);
    this.#store.set(at.membership_excluded, all.filter(({ isExcluded }) => isExcluded).length);
    this.#store.set(at.max_host_weight, Math.max(0, ...all.map((host) => host.description.weight)));
  }
}

/** An endpoint listens on one port, whatever its addresses: those with another are left out. */
function otherAddresses({ additionalAddresses }: Endpoint, port: number): string[] {
  return additionalAddresses.flatMap(({ address }) => {
    const socket = address?.address.case === "socketAddress" ? address.address.value : undefined;
    return socket?.portSpecifier.value === port ? [socket.address] : [];
  });
}

function dropChance(assignment: ClusterLoadAssignment): number {
  let passes = 1;
  for (const drop of assignment.policy?.dropOverloads ?? []) {
    const denominators = [100, 10_000, 1_000_000];
    const percent = drop.dropPercentage;
    if (percent !== undefined) passes *= 1 - Math.min(1, percent.numerator / (denominators[percent.denominator] ?? 100));
  }
  return 1 - passes;
}
