/** One endpoint of a cluster in this worker: where it is, how it is, and its connections. */
import type { JsonObject } from "@bufbuild/protobuf";
import { type HostHealth, healthOf, isExcluded } from "../health/host-flags.ts";
import type { HostMonitor } from "../health/host-monitor.ts";
import type { Tlv } from "../proxy-protocol/wire.ts";
import type { StatIndex, StatsStore } from "../stats/store.ts";
import type { ClientView } from "./client-view.ts";
import type { ConnectionPool } from "./connection-pool.ts";
import type { TransportSocketChoice } from "./transport-socket.ts";

const statNames = ["cx_total", "cx_connect_fail", "rq_total", "rq_success", "rq_error", "rq_timeout"] as const;
const gaugeNames = ["cx_active", "rq_active", "rq_pending_active"] as const;

type HostStat = (typeof statNames)[number] | (typeof gaugeNames)[number];

export interface HostDescription {
  /** IP address, or the path of a Unix domain socket with port -1. */
  readonly address: string;
  readonly port: number;
  /** Others of the same endpoint, tried one after the other where the first does not answer. */
  readonly otherAddresses: readonly string[];
  readonly hostname: string;
  readonly weight: number;
  /** What discovery says of its health: bits of host-flags.ts. */
  readonly edsFlags: number;
  readonly metadata: { readonly [namespace: string]: JsonObject };
  readonly priority: number;
  /** region/zone/sub_zone */
  readonly locality: string;
  readonly localityWeight: number;
  /** What a PROXY header to it holds besides. */
  readonly announcedTlvs: readonly Tlv[];
}

/** Whose connections they are to the endpoint's eyes: a client's that it is told of, or of all clients at an address that it is shown. */
export type PoolOwner = ClientView | string;

export class Host {
  /** `ip:port`, `[v6]:port`, or a path: its identity within the cluster. */
  readonly key: string;
  description: HostDescription;
  transportSocket: TransportSocketChoice;
  /** What its requests are told to; null in clusters that don't watch their hosts. */
  monitor: HostMonitor | null = null;
  /** As of the last look at what is known against it. */
  health: HostHealth;
  /** It does not count among the hosts of which a share must be healthy. */
  isExcluded: boolean;
  activeRequests = 0;
  /** On the clock of performance.now(); -1 before it was healthy for the first time. */
  healthySince = -1;
  /** One for each protocol and ALPN that requests have asked for: hardly ever more than one. */
  readonly pools: ConnectionPool[] = [];
  /** Likewise of clients that the endpoint knows of: none has another's connection. */
  #poolsByOwner: Map<PoolOwner, ConnectionPool[]> | null = null;
  readonly stats: StatsStore;
  readonly at: Readonly<Record<HostStat, StatIndex>>;

  constructor(key: string, description: HostDescription, transportSocket: TransportSocketChoice, clusterName: string, stats: StatsStore) {
    this.key = key;
    this.description = description;
    this.transportSocket = transportSocket;
    this.stats = stats;
    this.health = healthOf(description.edsFlags);
    this.isExcluded = isExcluded(description.edsFlags);
    const at: Record<string, StatIndex> = {};
    for (const name of statNames) at[name] = stats.counter(`host|${clusterName}|${key}|${name}`);
    for (const name of gaugeNames) at[name] = stats.gauge(`host|${clusterName}|${key}|${name}`);
    this.at = at as Record<HostStat, StatIndex>;
  }

  /** Looks again at what is known against it. */
  refreshHealth(): void {
    const flags = this.description.edsFlags | (this.monitor?.flags ?? 0);
    this.health = healthOf(flags);
    this.isExcluded = isExcluded(flags);
    if (this.healthySince < 0 && this.health === "healthy") this.healthySince = performance.now();
  }

  /** Connections close when what is under way on them is done; later requests get new ones. */
  drain(): void {
    for (const pool of this.#allPools()) pool.drain();
  }

  /** null: nobody's in particular. Hot. */
  ownerFor(client: ClientView | null): PoolOwner | null {
    if (client === null) return null;
    return this.transportSocket.announcement === null ? (client.originalSource?.ip ?? null) : client;
  }

  poolsOf(owner: PoolOwner): ConnectionPool[] {
    this.#poolsByOwner ??= new Map();
    const known = this.#poolsByOwner.get(owner);
    if (known !== undefined) return known;
    // Clients come and go: those without connections make room again.
    if (this.#poolsByOwner.size >= 1024) {
      for (const [other, pools] of this.#poolsByOwner) if (pools.every(({ isUnused }) => isUnused)) this.#poolsByOwner.delete(other);
    }
    const made: ConnectionPool[] = [];
    this.#poolsByOwner.set(owner, made);
    return made;
  }

  /** No later request takes it. */
  forgetPool(pool: ConnectionPool): void {
    const { owner } = pool;
    const pools = owner === null ? this.pools : this.#poolsByOwner?.get(owner);
    const index = pools?.indexOf(pool) ?? -1;
    if (index >= 0) pools!.splice(index, 1);
    if (owner !== null && pools?.length === 0) this.#poolsByOwner!.delete(owner);
  }

  get isUnused(): boolean {
    return this.#allPools().every(({ isUnused }) => isUnused);
  }

  #allPools(): ConnectionPool[] {
    return [...this.pools, ...(this.#poolsByOwner?.values() ?? [])].flat();
  }
}

export function hostKey(address: string, port: number): string {
  if (port < 0) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
