/** `cluster.NAME.health_check.*`, or `.health_check.name.CHECK.*` of a check that has a name. Counted by the main thread alone. */
import type { StatIndex, StatsStore } from "../stats/store.ts";

const counters = ["attempt", "success", "failure", "passive_failure", "network_failure", "verify_cluster"] as const;
const gauges = ["healthy", "degraded"] as const;

type Name = (typeof counters)[number] | (typeof gauges)[number];

export class HealthCheckStats {
  readonly #store: StatsStore;
  readonly #at: Readonly<Record<Name, StatIndex>>;

  constructor(store: StatsStore, clusterPrefix: string, checkName = "") {
    this.#store = store;
    const prefix = `${clusterPrefix}health_check.${checkName === "" ? "" : `name.${checkName}.`}`;
    const at: Record<string, StatIndex> = {};
    for (const name of counters) at[name] = store.counter(`${prefix}${name}`);
    for (const name of gauges) at[name] = store.gauge(`${prefix}${name}`);
    this.#at = at as Record<Name, StatIndex>;
  }

  add(name: Name, amount: 1 | -1 = 1): void {
    this.#store.add(this.#at[name], amount);
  }
}

/** Of a cluster with several checks: hosts as all of them together find them. */
export class CombinedCheckStats {
  readonly #store: StatsStore;
  readonly #at: Readonly<Record<(typeof gauges)[number], StatIndex>>;

  constructor(store: StatsStore, clusterPrefix: string) {
    this.#store = store;
    this.#at = {
      healthy: store.gauge(`${clusterPrefix}health_check.healthy`),
      degraded: store.gauge(`${clusterPrefix}health_check.degraded`),
    };
  }

  add(name: (typeof gauges)[number], amount: 1 | -1): void {
    this.#store.add(this.#at[name], amount);
  }
}
