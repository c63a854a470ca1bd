/**
 * What all threads know of a host together, where Envoy has atomics in one object: flags, and what came of its requests.
 *
 * Cells lie in shared memory and are read and written by Atomics alone. The main thread gives them to a host when it comes, and
 * workers get them along with the endpoints. A place is never used for a second host, so a worker that has not heard of a host's
 * end counts for nobody; the memory goes when the last host of its block does.
 */

/** A host's cells are `values[at]` and the following. */
export interface HostCells {
  readonly values: Int32Array;
  readonly at: number;
}

/** Which cells are whose. */
export interface CellsOfHost {
  readonly key: string;
  readonly cells: HostCells;
}

/** The places of a host's cells, from `at` on. */
export const cellAt = {
  /** Bits of host-flags.ts, apart from those that discovery says. */
  flags: 0,
  consecutive5xx: 1,
  consecutiveGatewayFailure: 2,
  consecutiveLocalOriginFailure: 3,
  /** Which of two buckets is counted into, 0 or 1; the other holds the interval before. */
  bucket: 4,
  /** Successes and all, of bucket 0 and of bucket 1: of answers, then of connections and the like. */
  external: 5,
  localOrigin: 9,
} as const;

export type CountedOrigin = "external" | "localOrigin";

const cellsOfHost = 16;
const hostsOfBlock = 32;

export class CellBlocks {
  #values: Int32Array = new Int32Array(0);
  #used = 0;

  take(): HostCells {
    if (this.#used === this.#values.length) {
      this.#values = new Int32Array(new SharedArrayBuffer(hostsOfBlock * cellsOfHost * Int32Array.BYTES_PER_ELEMENT));
      this.#used = 0;
    }
    const at = this.#used;
    this.#used += cellsOfHost;
    return { values: this.#values, at };
  }
}

/** Hot. */
export function countOutcome({ values, at }: HostCells, origin: CountedOrigin, isSuccess: boolean): void {
  const first = at + cellAt[origin] + 2 * Atomics.load(values, at + cellAt.bucket);
  if (isSuccess) Atomics.add(values, first, 1);
  Atomics.add(values, first + 1, 1);
}

/** Begins another interval; what was counted until now can be read. */
export function swapBuckets({ values, at }: HostCells): void {
  const next = 1 - Atomics.load(values, at + cellAt.bucket);
  for (const origin of [cellAt.external, cellAt.localOrigin]) {
    for (let i = 0; i < 2; i++) Atomics.store(values, at + origin + 2 * next + i, 0);
  }
  Atomics.store(values, at + cellAt.bucket, next);
}

/** Of the interval that is over. */
export function lastInterval({ values, at }: HostCells, origin: CountedOrigin): { readonly successes: number; readonly total: number } {
  const first = at + cellAt[origin] + 2 * (1 - Atomics.load(values, at + cellAt.bucket));
  return { successes: Atomics.load(values, first), total: Atomics.load(values, first + 1) };
}
