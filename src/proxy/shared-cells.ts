/**
 * Numbers that all workers of a proxy share, where Envoy has one object for all its threads (token buckets of local rate limits).
 *
 * The main thread gives each update that needs any a block of zeros; it goes when the last configuration of that update goes.
 * Workers compile the same resources by themselves, so they find each other's numbers by what a number belongs to: the block is
 * an open-addressed table of (hash, value), and who comes first claims an entry by compare-and-exchange. Nobody waits and no
 * message is sent. Within one resource equal identities are numbered in the order in which they are compiled.
 *
 * A listener that waits for something (jwt_authn's keys) may become active in one worker before, in another after its next
 * version arrives; chains that both versions have then use the numbers of either.
 */
import { createHash } from "node:crypto";

/** A signed 64-bit number at `values[at]`, 0 at first. Read and written by Atomics alone. */
export interface SharedCell {
  readonly values: BigInt64Array;
  readonly at: number;
}

/** Cells that resources of several updates share by a name of their own. Kept for good: all workers have to forget them together. */
export type NamedCells = Map<string, SharedCell>;

export class SharedCells {
  readonly #table: BigInt64Array | null;
  readonly #named: NamedCells;
  #resource = "";
  #counts = new Map<string, number>();

  /** null: nobody to share with; each cell stands alone. */
  constructor(block: SharedArrayBuffer | null, named: NamedCells = new Map()) {
    this.#table = block === null ? null : new BigInt64Array(block);
    this.#named = named;
  }

  /** What is compiled from now on belongs to that resource. */
  begin(resource: string): void {
    this.#resource = resource;
    this.#counts.clear();
  }

  /** The number of something that is described completely by `identity`, its configuration included. */
  cell(identity: string): SharedCell {
    const count = this.#counts.get(identity) ?? 0;
    this.#counts.set(identity, count + 1);
    return this.#claim(`${this.#resource}\0${count}\0${identity}`);
  }

  /** The number of everything that has this name, in whatever resource. */
  namedCell(name: string): SharedCell {
    let cell = this.#named.get(name);
    if (cell === undefined) {
      cell = this.#claim(`\0${name}`);
      this.#named.set(name, cell);
    }
    return cell;
  }

  #claim(key: string): SharedCell {
    const table = this.#table;
    if (table === null) return { values: new BigInt64Array(1), at: 0 };
    const digest = createHash("sha256").update(key).digest();
    const hash = digest.readBigInt64LE(0) || 1n;
    const entries = table.length / 2;
    const first = digest.readUInt32LE(8) % entries;
    for (let i = 0; i < entries; i++) {
      const at = ((first + i) % entries) * 2;
      const found = Atomics.compareExchange(table, at, 0n, hash);
      if (found === 0n || found === hash) return { values: table, at: at + 1 };
    }
    throw new Error("more shared numbers than an update's size allows");
  }
}

/** What is configured with a cell takes more bytes than that. */
const minConfigBytes = 12;

/** Memory for the cells that resources of these bytes may ask for; undefined where none of them names `users`. */
export function allocateCells(resources: readonly Uint8Array[], users: string): SharedArrayBuffer | undefined {
  let entries = 0;
  for (const bytes of resources) {
    const isUser = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).includes(users);
    if (isUser) entries += Math.ceil(bytes.byteLength / minConfigBytes);
  }
  // A table that is never full needs few steps.
  return entries === 0 ? undefined : new SharedArrayBuffer(2 * entries * 16);
}
