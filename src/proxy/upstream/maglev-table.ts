/**
 * MAGLEV: a table of prime size that the hosts fill by turns, each in an order of its own; a request goes to the slot of its hash.
 * The table is Envoy's slot for slot (maglev_lb.cc).
 */
import { Hash64, modulo } from "../../lib/hash64.ts";
import { xxHash64 } from "../../lib/xx-hash64.ts";
import type { Host } from "./host.ts";
import { hashKey, type WeightedHost } from "./host-weights.ts";

export interface MaglevOptions {
  /** 65537 by default; a prime number. */
  readonly tableSize: number;
  readonly usesHostname: boolean;
}

interface Filler {
  readonly key: string;
  readonly host: Host;
  readonly weight: number;
  /** The next slot that it would take. */
  slot: number;
  readonly step: number;
  /** It takes a slot in a round whose number times its weight has reached this. */
  target: number;
  count: number;
}

export class MaglevTable {
  readonly minPerHost: number;
  readonly maxPerHost: number;
  readonly #size: number;
  readonly #hosts: readonly Host[];
  /** Index into `#hosts`, by slot. */
  readonly #owner: Uint32Array;

  constructor(weights: readonly WeightedHost[], { tableSize, usesHostname }: MaglevOptions) {
    this.#size = tableSize;
    const fillers = weights.map(({ host, weight }) => filler(host, weight, hashKey(host, usesHostname), tableSize));
    // Their order must not depend on the order of the endpoints.
    fillers.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    this.#hosts = fillers.map(({ host }) => host);
    this.#owner = fill(fillers, tableSize);
    this.minPerHost = Math.min(tableSize, ...fillers.map(({ count }) => count));
    this.maxPerHost = Math.max(0, ...fillers.map(({ count }) => count));
  }

  /** A later attempt looks with another hash. Hot. */
  choose(hash: Hash64, attempt: number): Host | null {
    if (this.#hosts.length === 0) return null;
    if (attempt === 0) return this.#hosts[this.#owner[modulo(hash, this.#size)]!]!;
    scratch.high = ~hash.high;
    scratch.low = hash.low ^ -attempt;
    return this.#hosts[this.#owner[modulo(scratch, this.#size)]!]!;
  }
}

const scratch = new Hash64();

function filler(host: Host, weight: number, key: string, tableSize: number): Filler {
  xxHash64(key, scratch);
  const slot = modulo(scratch, tableSize);
  xxHash64(key, scratch, 0, 1);
  return { key, host, weight, slot, step: tableSize === 1 ? 0 : modulo(scratch, tableSize - 1) + 1, target: 0, count: 0 };
}

function fill(fillers: readonly Filler[], tableSize: number): Uint32Array {
  const free = 0xffffffff;
  const owner = new Uint32Array(tableSize).fill(free);
  const heaviest = Math.max(0, ...fillers.map(({ weight }) => weight));
  let filled = fillers.length === 0 ? tableSize : 0;
  for (let round = 1; filled < tableSize; round++) {
    for (let i = 0; i < fillers.length && filled < tableSize; i++) {
      const entry = fillers[i]!;
      if (round * entry.weight < entry.target) continue;
      entry.target += heaviest;
      let { slot } = entry;
      while (owner[slot] !== free) slot = (slot + entry.step) % tableSize;
      owner[slot] = i;
      entry.slot = (slot + entry.step) % tableSize;
      entry.count++;
      filled++;
    }
  }
  return owner;
}
