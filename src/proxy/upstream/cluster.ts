/** A cluster as it runs in one worker: its hosts, who of them is next, its limits and its statistics. */

import { ConfigError } from "../../api/config-error.ts";
import { HealthStatus } from "../../api/gen/envoy/config/core/v3/health_check_pb.js";
import type { ClusterLoadAssignment } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { StatsStore } from "../stats/store.ts";
import type { AlpnOffer } from "./alpn-offer.ts";
import { type Priority, Resources } from "./circuit-breakers.ts";
import type { ClientView } from "./client-view.ts";
import type { ClusterConfig } from "./cluster-config.ts";
import { ClusterStats } from "./cluster-stats.ts";
import { ConnectionPool } from "./connection-pool.ts";
import { Host, type HostDescription, type HostHealth, hostKey } from "./host.ts";
import { PrioritySet } from "./priority-set.ts";
import { announcementNamespace, tlvsOfEndpoint } from "./proxy-announcement.ts";
import { chooseTransportSocket, speaksTls } from "./transport-socket.ts";

const hostHealths: Record<HealthStatus, HostHealth> = {
  [HealthStatus.UNKNOWN]: "healthy",
  [HealthStatus.HEALTHY]: "healthy",
  [HealthStatus.DEGRADED]: "degraded",
  [HealthStatus.UNHEALTHY]: "unhealthy",
  [HealthStatus.DRAINING]: "unhealthy",
  [HealthStatus.TIMEOUT]: "unhealthy",
};

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
  #onPanic: () => void;

  constructor(config: ClusterConfig, store: StatsStore, countsMembership: boolean) {
    this.config = config;
    this.#store = store;
    this.#countsMembership = countsMembership;
    this.stats = new ClusterStats(store, config.statName, speaksTls(config.transportSockets));
    this.resources = {
      default: new Resources(config.thresholds.default, this.stats, "default"),
      high: new Resources(config.thresholds.high, this.stats, "high"),
    };
    this.#onPanic = () => store.add(this.stats.at.lb_healthy_panic, 1);
    this.#priorities = this.#prioritize(140);
    if (countsMembership) store.set(this.stats.at.max_host_weight, 0);
  }

  get hosts(): ReadonlyMap<string, Host> {
    return this.#hosts;
  }

  /** Share of requests to drop (ClusterLoadAssignment.policy.drop_overloads). */
  get dropChance(): number {
    return this.#dropChance;
  }

  /** null: no usable endpoint. Hot. */
  choose(): Host | null {
    return this.#priorities.choose();
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
      hostname: "",
      weight: 1,
      health: "healthy",
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

  /** Replaces the hosts. Known ones keep their connections; those that left finish what they have. */
  setEndpoints(assignment: ClusterLoadAssignment): void {
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
          hostname: endpoint.hostname,
          weight: entry.loadBalancingWeight || 1,
          health: hostHealths[entry.healthStatus] ?? "healthy",
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
        const wasHealthy = known.description.health !== "unhealthy";
        known.description = description;
        const socket = chooseTransportSocket(this.config.transportSockets, description.metadata);
        if (socket !== known.transportSocket) {
          known.transportSocket = socket;
          known.drain();
        }
        const isDraining = entry.healthStatus === HealthStatus.DRAINING;
        if (wasHealthy && description.health === "unhealthy" && (isDraining || this.config.closesOnHealthFailure)) known.drain();
        hosts.set(key, known);
      }
    }
    for (const [key, host] of this.#hosts) if (!hosts.has(key)) host.drain();
    this.#hosts = hosts;
    this.#dropChance = dropChance(assignment);
    this.#priorities = this.#prioritize(assignment.policy?.overprovisioningFactor ?? 140);
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

  /** Connections to the host, of their own for each ALPN that requests ask for, and for each client that the host is shown or told of. Hot. */
  pool(host: Host, offer: AlpnOffer | null = null, client: ClientView | null = null): ConnectionPool {
    // An offer matters to TLS alone.
    const wanted = host.transportSocket.tls === null ? null : offer;
    const owner = host.ownerFor(client);
    const pools = owner === null ? host.pools : host.poolsOf(owner);
    for (let i = 0; i < pools.length; i++) if (pools[i]!.alpnOffer === wanted) return pools[i]!;
    const made = new ConnectionPool(this, host, wanted, client);
    pools.push(made);
    // What was told is true of nobody else.
    if (owner !== null && typeof owner !== "string") owner.whenGone(() => made.drain());
    return made;
  }

  #makeHost(key: string, description: HostDescription): Host {
    const socket = chooseTransportSocket(this.config.transportSockets, description.metadata);
    return new Host(key, description, socket, this.config.name, this.#store);
  }

  #prioritize(overprovisioningPercent: number): PrioritySet {
    return new PrioritySet(
      [...this.#hosts.values()],
      {
        policy: this.config.policy,
        panicThresholdPercent: this.config.panicThresholdPercent,
        failsOnPanic: this.config.failsOnPanic,
        weighsLocalities: this.config.weighsLocalities,
        overprovisioningPercent,
      },
      this.#onPanic,
    );
  }

  #showMembership(): void {
    if (!this.#countsMembership) return;
    const all = [...this.#hosts.values()];
    const { at } = this.stats;
    this.#store.set(at.membership_total, all.length);
    this.#store.set(at.membership_healthy, all.filter((host) => host.description.health === "healthy").length);
    this.#store.set(at.membership_degraded, all.filter((host) => host.description.health === "degraded").length);
    this.#store.set(at.max_host_weight, Math.max(0, ...all.map((host) => host.description.weight)));
  }
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
