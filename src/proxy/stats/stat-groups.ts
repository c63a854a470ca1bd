/**
 * Statistics by layout, read: a prefix has the statistics of one layout or several, and no object for any of them unless
 * somebody has asked for it to be reset, or it was flushed with something in it.
 */
import { layoutOf, type StatLayout } from "./stat-layout.ts";
import {
  addHistogram,
  type CountedPlace,
  type CountingThread,
  emptyHistogram,
  noHistogram,
  type StatValue,
  shownGauge,
  sumOf,
  toHistogram,
} from "./stat-numbers.ts";
import { type StatRow, StatRows } from "./stat-rows.ts";
import type { StatGroup } from "./store.ts";

interface Flushed {
  readonly last: number[];
  readonly interval: number[];
}

/** One layout's statistics of a prefix. */
interface Part {
  readonly layout: StatLayout;
  readonly places: CountedPlace[];
  /** By index in the layout: what a reset found, which is subtracted since; whether it was ever seen counted; histograms. */
  base: Map<number, number> | undefined;
  used: Set<number> | undefined;
  flushed: Map<number, Flushed> | undefined;
}

/** All of a prefix. */
export class PrefixStats {
  readonly prefix: string;
  readonly parts: Part[] = [];
  #rows: StatRows | undefined;

  constructor(prefix: string) {
    this.prefix = prefix;
  }

  part(layout: StatLayout): Part {
    let part = this.parts.find((candidate) => candidate.layout === layout);
    if (part === undefined) {
      part = { layout, places: [], base: undefined, used: undefined, flushed: undefined };
      this.parts.push(part);
      this.#rows = undefined;
    }
    return part;
  }

  get rows(): StatRows {
    this.#rows ??= rowsOf(this.parts.map(({ layout }) => layout));
    return this.#rows;
  }

  /** One counter or gauge; undefined for a name that is none of these. `name` is without the prefix. */
  value(name: string): number | undefined {
    for (const part of this.parts) {
      const index = part.layout.indexOf(name);
      if (index !== undefined) return numberOf(part, index);
    }
    return undefined;
  }

  read({ part: at, index, kind }: StatRow): StatValue {
    const part = this.parts[at]!;
    if (kind === "histogram") {
      const offset = part.layout.offsets[index]!;
      const isUsed = sumOf(part.places, offset) > 0;
      const histogram = isUsed ? toHistogram(addHistogram(emptyHistogram(), part.places, offset)) : noHistogram;
      const interval = part.flushed?.get(index)?.interval;
      return { kind, histogram, interval: interval ? toHistogram(interval) : null, isUsed };
    }
    const value = numberOf(part, index);
    if (value !== 0) {
      part.used ??= new Set();
      part.used.add(index);
    }
    return { kind, value, isUsed: part.used?.has(index) ?? false };
  }
}

export class StatGroups {
  readonly #groups = new Map<string, PrefixStats>();
  #sorted: readonly PrefixStats[] | undefined;

  add(source: CountingThread, { layout: id, prefix, slot }: StatGroup): void {
    let group = this.#groups.get(prefix);
    if (group === undefined) {
      group = new PrefixStats(prefix);
      this.#groups.set(prefix, group);
      this.#sorted = undefined;
    }
    const { places } = group.part(layoutOf(id));
    if (slot !== undefined) places.push({ source, slot });
  }

  get(prefix: string): PrefixStats | undefined {
    return this.#groups.get(prefix);
  }

  /** One counter or gauge; undefined for a name that is none of these. */
  value(name: string): number | undefined {
    for (let at = name.lastIndexOf("."); at > 0; at = name.lastIndexOf(".", at - 1)) {
      const value = this.#groups.get(name.slice(0, at + 1))?.value(name.slice(at + 1));
      if (value !== undefined) return value;
    }
    return undefined;
  }

  /** By prefix. What is added later is not in it. */
  get sorted(): readonly PrefixStats[] {
    this.#sorted ??= [...this.#groups.values()].sort((a, b) => (a.prefix < b.prefix ? -1 : 1));
    return this.#sorted;
  }

  /** Closes an interval of the histograms that have anything in them. */
  flush(): void {
    for (const { parts } of this.#groups.values()) {
      for (const part of parts) if (part.places.length > 0) flush(part);
    }
  }

  resetCounters(): void {
    for (const { parts } of this.#groups.values()) {
      for (const part of parts) {
        if (part.places.length === 0) continue;
        for (const [index, kind] of part.layout.kinds.entries()) {
          const sum = kind === "counter" ? sumOf(part.places, part.layout.offsets[index]!) : 0;
          if (sum === 0) continue;
          part.base ??= new Map();
          part.base.set(index, sum);
        }
      }
    }
  }
}

/** By the layouts' ids: there are few combinations. */
const knownRows = new Map<string, StatRows>();

function rowsOf(layouts: readonly StatLayout[]): StatRows {
  const key = layouts.map(({ id }) => id).join();
  let rows = knownRows.get(key);
  if (rows === undefined) {
    rows = StatRows.of(layouts);
    knownRows.set(key, rows);
  }
  return rows;
}

function numberOf(part: Part, index: number): number {
  const { layout, places, base } = part;
  if (places.length === 0) return 0;
  const number = sumOf(places, layout.offsets[index]!) - (base?.get(index) ?? 0);
  return number > 1 && layout.kinds[index] === "gauge" ? shownGauge(`.${layout.names[index]!}`, number) : number;
}

function flush(part: Part): void {
  for (const [index, kind] of part.layout.kinds.entries()) {
    if (kind !== "histogram") continue;
    const offset = part.layout.offsets[index]!;
    const known = part.flushed?.get(index);
    if (known === undefined && sumOf(part.places, offset) === 0) continue;
    const now = addHistogram(emptyHistogram(), part.places, offset);
    const interval = known ? now.map((value, bucket) => value - known.last[bucket]!) : now;
    part.flushed ??= new Map();
    part.flushed.set(index, { last: now, interval });
  }
}
