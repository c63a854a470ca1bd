/** `cluster.NAME.outlier_detection.*`, counted by the main thread alone. */
import type { StatIndex, StatsStore } from "../stats/store.ts";
import type { OutlierKind } from "./outlier-config.ts";

/** As statistics name them. */
const kinds: Readonly<Record<OutlierKind, string>> = {
  consecutive5xx: "consecutive_5xx",
  consecutiveGatewayFailure: "consecutive_gateway_failure",
  consecutiveLocalOriginFailure: "consecutive_local_origin_failure",
  successRate: "success_rate",
  localOriginSuccessRate: "local_origin_success_rate",
  failurePercentage: "failure_percentage",
  localOriginFailurePercentage: "local_origin_failure_percentage",
};

export class OutlierStats {
  readonly #store: StatsStore;
  readonly #prefix: string;
  readonly #active: StatIndex;

  constructor(store: StatsStore, clusterPrefix: string) {
    this.#store = store;
    this.#prefix = `${clusterPrefix}outlier_detection.ejections_`;
    this.#active = store.gauge(`${this.#prefix}active`);
    for (const name of ["consecutive_5xx", "success_rate", "enforced_total", "overflow", "total"]) store.counter(this.#prefix + name);
    for (const kind of Object.values(kinds)) for (const what of ["detected", "enforced"]) store.counter(`${this.#prefix}${what}_${kind}`);
  }

  detected(kind: OutlierKind): void {
    this.#count(`detected_${kinds[kind]}`);
  }

  enforced(kind: OutlierKind): void {
    this.#count("enforced_total");
    this.#count(`enforced_${kinds[kind]}`);
  }

  /** Ejections are rare; their counters are looked up by name. */
  #count(name: string): void {
    this.#store.add(this.#store.counter(this.#prefix + name), 1);
  }

  overflow(): void {
    this.#count("overflow");
  }

  /** Counters that Envoy keeps for those who know them from earlier. */
  deprecated(name: "total" | "consecutive_5xx" | "success_rate"): void {
    this.#count(name);
  }

  active(amount: 1 | -1): void {
    this.#store.add(this.#active, amount);
  }
}
