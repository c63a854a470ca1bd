/**
 * Statistics that are told apart by labels which only traffic brings: one worker's. What outsiders can name is bounded: when there are
 * too many sets of labels, those go that were used least.
 *
 *      find(shape, labels) -> Series        when a combination is seen for the first time; slow
 *      store.add(series.at[0], 1)           for every request; hot
 *
 * Who keeps a Series looks at `generation` before using it again: when that has changed, some of them are no more.
 */
import type { StatIndex, StatKind, StatsStore } from "../stats/store.ts";

export interface LabelledMetric {
  readonly name: string;
  readonly kind: StatKind;
  /** Labels that this metric does without; null: it has all. */
  readonly without: ReadonlySet<string> | null;
}

/** Metrics that are counted together. null: one that is not wanted. */
export interface SeriesShape {
  /** The same for shapes that are the same. */
  readonly key: string;
  readonly metrics: readonly (LabelledMetric | null)[];
}

export interface Series {
  /** By position in the shape; -1 for what is not wanted. */
  readonly at: readonly StatIndex[];
  /** Counted up by whoever counts with it. */
  uses: number;
}

interface Entry extends Series {
  readonly shape: SeriesShape;
}

/** Some 8 KB each, in both threads together. */
const defaultLimit = 8192;

export class LabelledSeries {
  readonly store: StatsStore;
  readonly #limit: number;
  readonly #entries = new Map<string, Entry>();
  #generation = 0;

  constructor(store: StatsStore, limit = defaultLimit) {
    this.store = store;
    this.#limit = limit;
  }

  get generation(): number {
    return this.#generation;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** `labels`: name, value, name, value ... */
  find(shape: SeriesShape, labels: readonly string[]): Series {
    const key = `${shape.key}\0${labels.join("\0")}`;
    const known = this.#entries.get(key);
    if (known !== undefined) return known;
    if (this.#entries.size >= this.#limit) this.#makeRoom();
    const at = shape.metrics.map((metric) => (metric === null ? -1 : this.#add(metric, labels)));
    const made: Entry = { shape, at, uses: 0 };
    this.#entries.set(key, made);
    return made;
  }

  #add({ name, kind, without }: LabelledMetric, labels: readonly string[]): StatIndex {
    if (without === null) return this.store.addTagged(name, kind, labels);
    return this.store.addTagged(
      name,
      kind,
      labels.filter((_, index) => !without.has(labels[index - (index % 2)]!)),
    );
  }

  /** A quarter goes; uses of long ago count less from time to time. */
  #makeRoom(): void {
    const rarest = [...this.#entries].sort(([, a], [, b]) => a.uses - b.uses);
    const excess = Math.ceil(this.#limit / 4);
    for (const [index, [key, entry]] of rarest.entries()) {
      if (index < excess) this.#remove(key, entry);
      else entry.uses >>>= 1;
    }
    this.#generation++;
  }

  #remove(key: string, { shape, at }: Entry): void {
    this.#entries.delete(key);
    for (const [index, metric] of shape.metrics.entries()) if (metric !== null) this.store.release(at[index]!, metric.kind);
  }
}
