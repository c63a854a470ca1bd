/**
 * RING_HASH: each host stands in many places of a ring of 64-bit hashes; a request goes to the first place at or after its own.
 * The ring is Envoy's place for place (ring_hash_lb.cc), so that both send the same request to the same host.
 */
import { Hash64 } from "../../lib/hash64.ts";
import { murmurHash2 } from "../../lib/murmur-hash2.ts";
import { xxHash64 } from "../../lib/xx-hash64.ts";
import type { Host } from "./host.ts";
import { hashKey, type WeightedHost } from "./host-weights.ts";
import { sortByHash } from "./sort-by-hash.ts";

export interface RingOptions {
  /** 1024 by default; the ring may be somewhat larger, so that the lightest host has whole places. */
  readonly minimumSize: number;
  /** 8,388,608 by default, which is also the most that may be asked for. */
  readonly maximumSize: number;
  readonly hashFunction: "xxHash" | "murmurHash2";
  readonly usesHostname: boolean;
}

export class HashRing {
  readonly size: number;
  readonly minPerHost: number;
  readonly maxPerHost: number;
  readonly #high: Uint32Array;
  readonly #low: Uint32Array;
  /** Index into `#hosts`, by place. */
  readonly #owner: Uint32Array;
  readonly #hosts: readonly Host[];

  constructor(weights: readonly WeightedHost[], options: RingOptions) {
    this.#hosts = weights.map(({ host }) => host);
    const lightest = Math.min(1, ...weights.map(({ weight }) => weight));
    const scale = weights.length === 0 ? 0 : Math.min(Math.ceil(lightest * options.minimumSize) / lightest, options.maximumSize);
    this.size = Math.ceil(scale);
    const high: number[] = [];
    const low: number[] = [];
    const owner: number[] = [];
    const hashOf = options.hashFunction === "murmurHash2" ? murmurHash2 : xxHash64;
    const hash = new Hash64();
    let target = 0;
    let least = this.size;
    let most = 0;
    // Fractions of a place are carried over to the next host.
    for (const [index, { host, weight }] of weights.entries()) {
      const key = hashKey(host, options.usesHostname);
      target += scale * weight;
      let places = 0;
      for (; owner.length < target; places++) {
        hashOf(`${key}_${places}`, hash);
        high.push(hash.high >>> 0);
        low.push(hash.low >>> 0);
        owner.push(index);
      }
      least = Math.min(least, places);
      most = Math.max(most, places);
    }
    this.minPerHost = least;
    this.maxPerHost = most;
    const order = sortByHash(Uint32Array.from(high), Uint32Array.from(low));
    this.#high = order.map((at) => high[at]!);
    this.#low = order.map((at) => low[at]!);
    this.#owner = order.map((at) => owner[at]!);
  }

  /** A later attempt takes so many places further on. Hot. */
  choose(hash: Hash64, attempt: number): Host | null {
    const highs = this.#high;
    const count = highs.length;
    if (count === 0) return null;
    const high = hash.high >>> 0;
    const low = hash.low >>> 0;
    let from = 0;
    let to = count;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const other = highs[middle]!;
      if (other < high || (other === high && this.#low[middle]! < low)) from = middle + 1;
      else to = middle;
    }
    if (from === count) from = 0;
    return this.#hosts[this.#owner[(from + attempt) % count]!]!;
  }
}
