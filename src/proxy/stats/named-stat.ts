/** One statistic that has a name of its own, out of the memory of all threads that count it. */
import {
  addHistogram,
  type CountedPlace,
  type CountingThread,
  emptyHistogram,
  histogramLength,
  type StatValue,
  shownGauge,
  sumOf,
  toHistogram,
} from "./stat-numbers.ts";
import type { StatKind } from "./store.ts";

/** What it is made of when it came with tags of its own; else the name says all. */
export interface TaggedStatName {
  readonly base: string;
  /** Name, value, name, value ... */
  readonly tags: readonly string[];
}

export class NamedStat {
  readonly name: string;
  readonly kind: StatKind;
  readonly tagged: TaggedStatName | undefined;
  readonly places: CountedPlace[] = [];
  /** A gauge says something with 0 as well. */
  wasUsed = false;
  /** What threads had counted that have it no more. */
  #retired: number[] | undefined;
  /** What a reset found; subtracted since. */
  #base = 0;
  /** A histogram as of the last two flushes: their difference is the interval. */
  #flushed: { readonly last: number[]; readonly interval: number[] } | undefined;

  constructor(name: string, kind: StatKind, tagged: TaggedStatName | undefined) {
    this.name = name;
    this.kind = kind;
    this.tagged = tagged;
  }

  /** Nobody counts it any more, and it is in no list but those that were made before. */
  get isGone(): boolean {
    return this.places.length === 0;
  }

  /** Of a counter or gauge. */
  get number(): number {
    const number = this.#sum() - this.#base;
    return this.kind === "gauge" ? shownGauge(this.name, number) : number;
  }

  read(): StatValue {
    const { kind } = this;
    if (kind === "histogram") {
      const histogram = toHistogram(this.#histogram());
      const interval = this.#flushed?.interval;
      return { kind, histogram, interval: interval ? toHistogram(interval) : null, isUsed: histogram.count > 0 };
    }
    const value = this.number;
    if (value !== 0) this.wasUsed = true;
    return { kind, value, isUsed: this.wasUsed };
  }

  /** Of a thread that has it no more. While others go on counting, what is added up must not go down. */
  leave(source: CountingThread, slot: number): void {
    const at = this.places.findIndex((place) => place.source === source && place.slot === slot);
    const [place] = this.places.splice(at, 1);
    if (this.isGone) return;
    const length = this.kind === "histogram" ? histogramLength : 1;
    this.#retired ??= new Array<number>(length).fill(0);
    for (let index = 0; index < length; index++) this.#retired[index]! += place!.source.values[place!.slot + index] ?? 0;
  }

  /** Closes an interval of a histogram. */
  flush(): void {
    if (this.kind !== "histogram") return;
    const now = this.#histogram();
    const last = this.#flushed?.last;
    this.#flushed = { last: now, interval: last ? now.map((value, index) => value - last[index]!) : now };
  }

  resetCounter(): void {
    if (this.kind === "counter") this.#base = this.#sum();
  }

  #sum(): number {
    return sumOf(this.places) + (this.#retired?.[0] ?? 0);
  }

  /** Count, sum, buckets. */
  #histogram(): number[] {
    return addHistogram(this.#retired?.slice() ?? emptyHistogram(), this.places);
  }
}
