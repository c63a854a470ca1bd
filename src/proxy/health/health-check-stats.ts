/** `cluster.NAME.health_check.*`, counted by the main thread alone. */
import type { StatIndex, StatsStore } from "../stats/store.ts";

const counters = ["attempt", "success", "failure", "passive_failure", "network_failure", "verify_cluster"] as const;
const gauges = ["healthy", "degraded"] as const;

type Name = (typeof counters)[number] | (typeof gauges)[number];

export class HealthCheckStats {
  readonly #store: StatsStore;
  readonly #at: Readonly<Record<Name, StatIndex>>;

  constructor(store: StatsStore, clusterPrefix: string) {
    this.#store = store;
    const at: Record<string, StatIndex> = {};
    for (const name of counters) at[name] = store.counter(`${clusterPrefix}health_check.${name}`);
    for (const name of gauges) at[name] = store.gauge(`${clusterPrefix}health_check.${name}`);
    this.#at = at as Record<Name, StatIndex>;
  }

  add(name: Name, amount: 1 | -1 = 1): void {
    this.#store.add(this.#at[name], amount);
  }
}
