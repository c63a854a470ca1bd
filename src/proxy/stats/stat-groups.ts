/**
 * Statistics by layout, read: a prefix has the statistics of one layout or several, and no object for any of them unless
 * somebody has asked for it to be reset, or it was flushed with something in it.
 */
import { layoutOf, type StatLayout } from "./stat-layout.ts";
import { addHistogram, type CountedPlace, type CountingThread, emptyHistogram, shownGauge, sumOf, toHistogram } from "./stat-numbers.ts";
import type { Stat } from "./stats-reader.ts";
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

/** Of all of a prefix's layouts, in the order of names: which part, and which of its statistics. */
type Rows = readonly { readonly name: string; readonly part: number; readonly index: number }[];

export class StatGroups {
  readonly #groups = new Map<string, Part[]>();
  #sorted: (readonly [prefix: string, parts: readonly Part[]])[] | undefined;
  /** By the layouts' ids: there are few combinations. */
  readonly #rows = new Map<string, Rows>();

  add(source: CountingThread, { layout: id, prefix, slot }: StatGroup): void {
    const layout = layoutOf(id);
    let parts = this.#groups.get(prefix);
    if (parts === undefined) {
      parts = [];
      this.#groups.set(prefix, parts);
      this.#sorted = undefined;
    }
    let part = parts.find((candidate) => candidate.layout === layout);
    if (part === undefined) {
      part = { layout, places: [], base: undefined, used: undefined, flushed: undefined };
      parts.push(part);
    }
    if (slot !== undefined) part.places.push({ source, slot });
  }

  /** One counter or gauge; undefined for a name that is none of these. `separator` stands before what the layout names. */
  value(name: string, separator: "." | "|"): number | undefined {
    for (let at = name.lastIndexOf(separator); at > 0; at = name.lastIndexOf(separator, at - 1)) {
      for (const part of this.#groups.get(name.slice(0, at + 1)) ?? []) {
        const index = part.layout.indexOf(name.slice(at + 1));
        if (index !== undefined) return numberOf(part, index, name);
      }
    }
    return undefined;
  }

  /** Adds those whose name passes, sorted by prefix and within a prefix by name. */
  read(passes: (name: string) => boolean, into: Stat[]): void {
    this.#sorted ??= [...this.#groups].sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [prefix, parts] of this.#sorted) {
      for (const { name: suffix, part, index } of this.#rowsOf(parts)) {
        const name = prefix + suffix;
        if (passes(name)) into.push(read(parts[part]!, index, name));
      }
    }
  }

  /** Closes an interval of the histograms that have anything in them. */
  flush(): void {
    for (const parts of this.#groups.values()) {
      for (const part of parts) if (part.places.length > 0) flush(part);
    }
  }

  resetCounters(): void {
    for (const parts of this.#groups.values()) {
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

  #rowsOf(parts: readonly Part[]): Rows {
    const key = parts.map(({ layout }) => layout.id).join();
    let rows = this.#rows.get(key);
    if (rows === undefined) {
      rows = parts
        .flatMap(({ layout }, part) => layout.names.map((name, index) => ({ name, part, index })))
        .sort((a, b) => (a.name < b.name ? -1 : 1));
      this.#rows.set(key, rows);
    }
    return rows;
  }
}

function numberOf(part: Part, index: number, name: string): number {
  const number = sumOf(part.places, part.layout.offsets[index]!) - (part.base?.get(index) ?? 0);
  return part.layout.kinds[index] === "gauge" ? shownGauge(name, number) : number;
}

function read(part: Part, index: number, name: string): Stat {
  const kind = part.layout.kinds[index]!;
  if (kind === "histogram") {
    const histogram = toHistogram(addHistogram(emptyHistogram(), part.places, part.layout.offsets[index]!));
    const interval = part.flushed?.get(index)?.interval;
    return { name, kind, histogram, interval: interval ? toHistogram(interval) : null, isUsed: histogram.count > 0 };
  }
  const value = numberOf(part, index, name);
  if (value !== 0) {
    part.used ??= new Set();
    part.used.add(index);
  }
  return { name, kind, value, isUsed: part.used?.has(index) ?? false };
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
