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
import { NamedStat } from "./named-stat.ts";
import { type PrefixStats, StatGroups } from "./stat-groups.ts";
import type { CountingThread, TextValue } from "./stat-numbers.ts";
import type { StatDefinition } from "./store.ts";

export interface StatsSource {
  take(message: Pick<WorkerStats, "block" | "changes">): void;
  detach(): void;
}

interface Source extends CountingThread {
  /** Of those with tags, which can be removed. */
  readonly tagged: Map<number, NamedStat>;
}

export class StatsReader {
  #named = new Map<string, NamedStat>();
  /** Those that have a layout: of clusters, and of endpoints. */
  #groups = new StatGroups();
  #hosts = new StatGroups();
  #texts = new Map<string, string>();
  readonly #written = new Set<string>();
  #sorted: readonly NamedStat[] | undefined;

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
    let stat = this.#named.get(key);
    if (!stat) {
      stat = new NamedStat(key, kind, tags && { base: name, tags });
      stat.wasUsed = this.#written.has(key);
      this.#named.set(key, stat);
      this.#sorted = undefined;
    }
    stat.places.push({ source, slot });
    if (tags) source.tagged.set(slot, stat);
  }

  #remove(source: Source, slot: number): void {
    const stat = source.tagged.get(slot);
    if (!stat) return;
    source.tagged.delete(slot);
    stat.leave(source, slot);
    if (!stat.isGone) return;
    this.#named.delete(stat.name);
    this.#sorted = undefined;
  }

  setText(name: string, value: string): void {
    this.#texts.set(name, value);
  }

  /** A gauge that says something with 0 as well: it counts as used from now on. */
  written(name: string): void {
    this.#written.add(name);
    const stat = this.#named.get(name);
    if (stat) stat.wasUsed = true;
  }

  /** One counter or gauge; 0 when nobody has registered it. */
  value(name: string): number {
    return this.#named.get(name)?.number ?? this.#groups.value(name) ?? 0;
  }

  /** Of an endpoint, `host|cluster|address|`; undefined when nothing was sent to it. */
  ofHost(prefix: string): PrefixStats | undefined {
    return this.#hosts.get(prefix);
  }

  /** Those that have names of their own, which are not many, in the order of their names. What comes later is not in it. */
  get named(): readonly NamedStat[] {
    this.#sorted ??= [...this.#named.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    return this.#sorted;
  }

  /** Those of clusters, which may be very many, in the order of their prefixes. What comes later is not in it. */
  get prefixed(): readonly PrefixStats[] {
    return this.#groups.sorted;
  }

  /** In the order of their names. */
  get texts(): readonly (readonly [name: string, value: TextValue])[] {
    return [...this.#texts]
      .map(([name, value]) => [name, { kind: "text", value, isUsed: value !== "" }] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1));
  }

  /** Counters and gauges that pass, of those with names of their own. */
  numbers(passes: (name: string) => boolean): Map<string, number> {
    const found = new Map<string, number>();
    for (const stat of this.named) if (stat.kind !== "histogram" && passes(stat.name)) found.set(stat.name, stat.number);
    return found;
  }

  /** Closes an interval of the histograms; called every stats flush interval. */
  flush(): void {
    this.#groups.flush();
    for (const stat of this.#named.values()) stat.flush();
  }

  resetCounters(): void {
    for (const stat of this.#named.values()) stat.resetCounter();
    this.#groups.resetCounters();
    this.#hosts.resetCounters();
  }
}
