/** What the main thread counts of a cluster: discovery, its updates, and how its hosts are. Traffic is counted by the workers that see any. */
import { StatLayout } from "../stats/stat-layout.ts";
import type { StatIndex, StatsStore } from "../stats/store.ts";
import { sslLayout } from "../tls/ssl-stats.ts";
import { clusterLayout, clusterPrefix } from "../upstream/cluster-stats.ts";
import type { Membership } from "./membership.ts";
import type { NamedResourceEvent } from "./named-resources.ts";

const counters = [
  "assignment_stale",
  "assignment_timeout_received",
  "assignment_use_cached",
  "membership_change",
  "update_attempt",
  "update_empty",
  "update_failure",
  "update_no_rebuild",
  "update_success",
] as const;
const edsCounters = ["update_rejected", "init_fetch_timeout"] as const;
const gauges = [
  "version",
  "warming_state",
  "membership_total",
  "membership_healthy",
  "membership_degraded",
  "membership_excluded",
  "max_host_weight",
] as const;

type Name = (typeof counters)[number] | (typeof edsCounters)[number] | (typeof gauges)[number];

const layout = new StatLayout<Name>("cluster updates", { counter: counters, gauge: gauges });
const edsLayout = new StatLayout<Name>("EDS cluster updates", { counter: [...counters, ...edsCounters], gauge: gauges });

export type ClusterEvent = NamedResourceEvent | "failure" | "changed" | "unchanged";

const counterOf: Record<ClusterEvent, (typeof counters)[number] | (typeof edsCounters)[number]> = {
  attempt: "update_attempt",
  success: "update_success",
  rejected: "update_rejected",
  failure: "update_failure",
  timeout: "init_fetch_timeout",
  changed: "membership_change",
  unchanged: "update_no_rebuild",
};

export class MainClusterStats {
  readonly #store: StatsStore;
  readonly #layout: StatLayout<Name>;
  readonly #first: StatIndex;

  /** `isEds`: it has endpoints that can be refused or late. */
  constructor(store: StatsStore, statName: string, { isEds, speaksTls }: { readonly isEds: boolean; readonly speaksTls: boolean }) {
    this.#store = store;
    const prefix = clusterPrefix(statName);
    this.#layout = isEds ? edsLayout : layout;
    this.#first = store.group(prefix, this.#layout);
    store.declare(prefix, clusterLayout);
    if (speaksTls) store.declare(`${prefix}ssl.`, sslLayout);
  }

  count(event: ClusterEvent): void {
    this.#store.add(this.#at(counterOf[event]), 1);
  }

  showMembership({ total, healthy, degraded, excluded, maxWeight }: Membership): void {
    this.#store.set(this.#at("membership_total"), total);
    this.#store.set(this.#at("membership_healthy"), healthy);
    this.#store.set(this.#at("membership_degraded"), degraded);
    this.#store.set(this.#at("membership_excluded"), excluded);
    this.#store.set(this.#at("max_host_weight"), maxWeight);
  }

  #at(name: Name): StatIndex {
    return this.#first + this.#layout.offsets[this.#layout.indexOf(name)!]!;
  }
}
