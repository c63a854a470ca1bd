/**
 * `hash_balance_factor`: a host that has more requests under way than this percentage of its share passes its requests on to others,
 * tried in an order that depends on the request's hash alone. https://arxiv.org/abs/1608.01350, Envoy's thread_aware_lb_impl.cc.
 *
 * Requests are counted in this worker; each worker bounds its own.
 */
import type { Hash64 } from "../../lib/hash64.ts";
import type { Host } from "./host.ts";
import type { WeightedHost } from "./host-weights.ts";
import { MersenneTwister } from "./mersenne-twister.ts";

interface HashTable {
  choose(hash: Hash64, attempt: number): Host | null;
}

export class BoundedLoad implements HashTable {
  readonly #table: HashTable;
  readonly #weights: readonly WeightedHost[];
  readonly #weightOf: ReadonlyMap<Host, number>;
  readonly #factor: number;
  readonly #activeRequests: () => number;

  /** `activeRequests`: of all hosts of the cluster. */
  constructor(table: HashTable, weights: readonly WeightedHost[], factor: number, activeRequests: () => number) {
    this.#table = table;
    this.#weights = weights;
    this.#weightOf = new Map(weights.map(({ host, weight }) => [host, weight]));
    this.#factor = factor;
    this.#activeRequests = activeRequests;
  }

  choose(hash: Hash64, attempt: number): Host | null {
    const first = this.#table.choose(hash, attempt);
    if (first === null) return null;
    const slots = Math.floor(((this.#activeRequests() + 1) * this.#factor + 99) / 100);
    const least = overload(first, this.#weightOf.get(first)!, slots);
    return least <= 1 ? first : this.#another(hash, first, least, slots);
  }

  #another(hash: Hash64, first: Host, overloadOfFirst: number, slots: number): Host {
    const weights = this.#weights;
    const count = weights.length;
    const order = Uint32Array.from(weights.keys());
    const random = new MersenneTwister(hash.low);
    let best = first;
    let least = overloadOfFirst;
    for (let i = 0; i < count; i++) {
      const other = i + random.below(count - i);
      const index = order[other]!;
      order[other] = order[i]!;
      order[i] = index;
      const { host, weight } = weights[index]!;
      if (host === first) continue;
      const load = overload(host, weight, slots);
      if (load <= 1) return host;
      if (load < least) {
        best = host;
        least = load;
      }
    }
    return best;
  }
}

/** Requests under way for each one that the host may have. */
function overload(host: Host, weight: number, slots: number): number {
  return host.activeRequests / Math.max(1, Math.ceil(slots * weight));
}
