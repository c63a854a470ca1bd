/** Envoy counts rate limits by the cluster that the request goes to: `cluster.NAME.ratelimit.*`. */
import type { HttpStream } from "../../../http/http-stream.ts";
import type { StatIndex, StatsStore } from "../../../stats/store.ts";

export class RateLimitStats {
  readonly #store: StatsStore;
  readonly #prefix: string;
  /** Made when first counted. */
  readonly #indices = new Map<string, StatIndex>();

  constructor(statPrefix: string, store: StatsStore) {
    this.#store = store;
    this.#prefix = statPrefix === "" ? "ratelimit." : `ratelimit.${statPrefix}.`;
  }

  count({ info }: HttpStream, name: "ok" | "error" | "over_limit" | "failure_mode_allowed"): void {
    const key = `cluster.${info.upstreamCluster.replaceAll(":", "_")}.${this.#prefix}${name}`;
    let index = this.#indices.get(key);
    if (index === undefined) {
      index = this.#store.counter(key);
      this.#indices.set(key, index);
    }
    this.#store.add(index, 1);
  }

  /** A refusal counts as an answer of the cluster. */
  chargeCluster(stream: HttpStream, status: number): void {
    stream.cluster?.stats.countResponse(status, true);
  }
}
