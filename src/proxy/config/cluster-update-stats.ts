/** What the main thread counts of a cluster: discovery and its updates. Traffic is counted by the workers. */
import type { StatIndex, StatsStore } from "../stats/store.ts";
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
  #store: StatsStore;
  #at: Readonly<Record<string, StatIndex>>;

  /** `isEds`: it has endpoints that can be refused or late. */
  constructor(store: StatsStore, statName: string, isEds: boolean) {
    this.#store = store;
    const prefix = `cluster.${statName.replaceAll(":", "_")}.`;
    this.#at = Object.fromEntries([...counters, ...(isEds ? edsCounters : [])].map((name) => [name, store.counter(prefix + name)]));
    store.gauge(`${prefix}version`);
    store.gauge(`${prefix}warming_state`);
  }

  count(event: ClusterEvent): void {
    this.#store.add(this.#at[counterOf[event]]!, 1);
  }
}
