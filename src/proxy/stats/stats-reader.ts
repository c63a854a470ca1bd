/**
 * All threads' statistics, added up by name when somebody reads them.
 *
 * Each thread's store is a source: names and slots came by message, numbers are read from shared memory. Counters and
 * histograms add up, gauges too, except those that say yes or no. The main thread's own numbers are one more source,
 * texts (text readouts) stand beside.
 *
 * Names of endpoints (`host|cluster|address|stat`) are kept apart: they feed /clusters and are no part of /stats.
 */
import type { WorkerStats } from "../update.ts";
import { StatGroups } from "./stat-groups.ts";
import {
  addHistogram,
  type CountedPlace,
  type CountingThread,
  emptyHistogram,
  type Histogram,
  histogramLength,
  shownGauge,
  sumOf,
  toHistogram,
} from "./stat-numbers.ts";
import type { StatDefinition, StatKind } from "./store.ts";

/** What it is made of when it came with tags of its own; else `name` says all. */
export interface TaggedStatName {
  readonly base: string;
  /** Name, value, name, value ... */
  readonly tags: readonly string[];
}

export type Stat =
  | {
      readonly name: string;
      readonly tagged?: TaggedStatName;
      readonly kind: "counter" | "gauge";
      readonly value: number;
      readonly isUsed: boolean;
    }
  | {
      readonly name: string;
      readonly tagged?: TaggedStatName;
      readonly kind: "histogram";
      readonly histogram: Histogram;
      readonly interval: Histogram | null;
      readonly isUsed: boolean;
    }
  | { readonly name: string; readonly tagged?: undefined; readonly kind: "text"; readonly value: string; readonly isUsed: boolean };

export interface StatsSource {
  take(message: Pick<WorkerStats, "block" | "changes">): void;
  detach(): void;
}

interface Source extends CountingThread {
  /** Of those with tags, which can be removed. */
  readonly tagged: Map<number, Entry>;
}

interface Entry {
  readonly name: string;
  readonly kind: StatKind;
  readonly tagged: TaggedStatName | undefined;
  readonly places: CountedPlace[];
  /** What sources had counted that have it no more. */
  retired: number[] | undefined;
  /** What /reset_counters found; subtracted since. */
  base: number[] | undefined;
  wasUsed: boolean;
}

export class StatsReader {
  #entries = new Map<string, Entry>();
  /** Those that have a layout: of clusters, and of endpoints. */
  #groups = new StatGroups();
  #hosts = new StatGroups();
  #texts = new Map<string, string>();
  readonly #written = new Set<string>();
  /** Histograms as of the last two flushes: their difference is the interval. */
  #flushed = new Map<Entry, { readonly last: number[]; readonly interval: number[] }>();
  #sorted: Entry[] | undefined;

  attach(): StatsSource {
    const source: Source = { values: new Float64Array(0), tagged: new Map() };
    return {
      take: ({ block, changes }) => {
        if (block) source.values = new Float64Array(block);
        for (const change of changes) {
          if (typeof change === "number") this.#remove(source, change);
          else if ("layout" in change) (change.prefix.startsWith("host|") ? this.#hosts : this.#groups).add(source, change);
          else this.#add(source, change);
        }
      },
      detach: () => {
        source.values = new Float64Array(0);
      },
    };
  }

  #add(source: Source, { name, kind, slot, tags }: StatDefinition): void {
    const key = tags ? `${name}.${tags.join(".")}` : name;
    let entry = this.#entries.get(key);
    if (!entry) {
      const tagged = tags && { base: name, tags };
      entry = { name: key, kind, tagged, places: [], retired: undefined, base: undefined, wasUsed: this.#written.has(key) };
      this.#entries.set(key, entry);
      this.#sorted = undefined;
    }
    entry.places.push({ source, slot });
    if (tags) source.tagged.set(slot, entry);
  }

  #remove(source: Source, slot: number): void {
    const entry = source.tagged.get(slot);
    if (!entry) return;
    source.tagged.delete(slot);
    const at = entry.places.findIndex((place) => place.source === source && place.slot === slot);
    const [place] = entry.places.splice(at, 1);
    if (entry.places.length === 0) {
      this.#entries.delete(entry.name);
      this.#flushed.delete(entry);
      this.#sorted = undefined;
      return;
    }
    // Others go on counting: what is added up must not go down.
    const length = entry.kind === "histogram" ? histogramLength : 1;
    entry.retired ??= new Array<number>(length).fill(0);
    for (let index = 0; index < length; index++) entry.retired[index]! += place!.source.values[place!.slot + index] ?? 0;
  }

  setText(name: string, value: string): void {
    this.#texts.set(name, value);
  }

  /** A gauge that says something with 0 as well: it counts as used from now on. */
  written(name: string): void {
    this.#written.add(name);
    const entry = this.#entries.get(name);
    if (entry) entry.wasUsed = true;
  }

  /** One counter or gauge; 0 when nobody has registered it. */
  value(name: string): number {
    const entry = this.#entries.get(name);
    if (entry) return numberOf(entry);
    return (name.startsWith("host|") ? this.#hosts.value(name, "|") : this.#groups.value(name, ".")) ?? 0;
  }

  /** All statistics whose name passes, sorted by name. */
  read(passes: (name: string) => boolean = () => true): Stat[] {
    const stats = this.readOwn(passes);
    this.#groups.read(passes, stats);
    for (const [name, value] of this.#texts) {
      if (passes(name)) stats.push({ name, kind: "text", value, isUsed: value !== "" });
    }
    return stats.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  }

  /** The same without those of clusters, which may be very many, and texts. */
  readOwn(passes: (name: string) => boolean): Stat[] {
    this.#sorted ??= [...this.#entries.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    const stats: Stat[] = [];
    for (const entry of this.#sorted) {
      if (passes(entry.name)) stats.push(this.#read(entry));
    }
    return stats;
  }

  /** Closes an interval of the histograms; called every stats flush interval. */
  flush(): void {
    this.#groups.flush();
    for (const entry of this.#entries.values()) {
      if (entry.kind !== "histogram") continue;
      const now = histogramOf(entry);
      const last = this.#flushed.get(entry)?.last;
      this.#flushed.set(entry, { last: now, interval: last ? now.map((value, index) => value - last[index]!) : now });
    }
  }

  resetCounters(): void {
    for (const entry of this.#entries.values()) {
      if (entry.kind === "counter") entry.base = [rawNumber(entry)];
    }
    this.#groups.resetCounters();
    this.#hosts.resetCounters();
  }

  #read(entry: Entry): Stat {
    const tagged = entry.tagged && { tagged: entry.tagged };
    if (entry.kind === "histogram") {
      const histogram = toHistogram(histogramOf(entry));
      const interval = this.#flushed.get(entry)?.interval;
      return {
        name: entry.name,
        ...tagged,
        kind: "histogram",
        histogram,
        interval: interval ? toHistogram(interval) : null,
        isUsed: histogram.count > 0,
      };
    }
    const value = numberOf(entry);
    if (value !== 0) entry.wasUsed = true;
    return { name: entry.name, ...tagged, kind: entry.kind, value, isUsed: entry.wasUsed };
  }
}

function numberOf(entry: Entry): number {
  const number = rawNumber(entry) - (entry.base?.[0] ?? 0);
  return entry.kind === "gauge" ? shownGauge(entry.name, number) : number;
}

function rawNumber(entry: Entry): number {
  return sumOf(entry.places) + (entry.retired?.[0] ?? 0);
}

/** count, sum, buckets */
function histogramOf(entry: Entry): number[] {
  return addHistogram(entry.retired?.slice() ?? emptyHistogram(), entry.places);
}
