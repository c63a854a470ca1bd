/**
 * Statistics of a route that has a stat_prefix: `vhost.VIRTUAL_HOST.route.STAT_PREFIX.*`. Both names stand there as they were written, colons
 * and dots included. Source: Envoy router.h ALL_ROUTE_STATS, codes.cc.
 */
import { codeCounters } from "../stats/code-counters.ts";
import type { StatIndex, StatsStore } from "../stats/store.ts";

const counters = [
  "upstream_rq_retry",
  "upstream_rq_retry_limit_exceeded",
  "upstream_rq_retry_overflow",
  "upstream_rq_retry_success",
  "upstream_rq_timeout",
  "upstream_rq_total",
] as const;

export type RouteCounter = (typeof counters)[number];

export class RouteStats {
  readonly #store: StatsStore;
  readonly #prefix: string;
  readonly #at: Readonly<Record<RouteCounter, StatIndex>>;
  readonly #codes = new Map<number, readonly StatIndex[]>();
  /** Not before something was measured: Envoy shows it from then on. */
  #time: StatIndex | undefined;

  constructor(store: StatsStore, virtualHost: string, statPrefix: string) {
    this.#store = store;
    this.#prefix = `vhost.${virtualHost}.route.${statPrefix}.`;
    this.#at = Object.fromEntries(counters.map((name) => [name, store.counter(this.#prefix + name)])) as Record<RouteCounter, StatIndex>;
  }

  count(name: RouteCounter): void {
    this.#store.add(this.#at[name], 1);
  }

  /** What the client gets, whoever made it. */
  countResponse(status: number): void {
    let indices = this.#codes.get(status);
    if (indices === undefined) {
      indices = codeCounters(this.#store, this.#prefix, status);
      this.#codes.set(status, indices);
    }
    for (let i = 0; i < indices.length; i++) this.#store.add(indices[i]!, 1);
  }

  recordTime(ms: number): void {
    this.#time ??= this.#store.histogram(`${this.#prefix}upstream_rq_time`);
    this.#store.record(this.#time, ms);
  }
}
