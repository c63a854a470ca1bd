/** The statistics of a family, one after the other, wherever they come from. */
import { type Cursor, merged, type SortedSequence } from "./merged.ts";
import type { PrefixStats } from "./stat-groups.ts";
import type { StatValue, TextValue } from "./stat-numbers.ts";
import type { StatRow } from "./stat-rows.ts";

/** One statistic of a family. */
export interface Series {
  /** The whole name, by which they are sorted. */
  readonly name: string;
  /** `a="b",c="d"` */
  readonly labels: string;
  /** Undefined: it is no more. */
  read(): StatValue | TextValue | undefined;
}

/** A prefix and the labels that its tags become. */
export interface PrefixMember {
  readonly group: PrefixStats;
  readonly labels: readonly string[];
}

export class FamilyCursor implements Cursor {
  readonly #families: readonly { readonly family: string; readonly source: SeriesSource }[];
  #at = 0;

  constructor(families: readonly { readonly family: string; readonly source: SeriesSource }[]) {
    this.#families = families;
  }

  get key(): string | undefined {
    return this.#families[this.#at]?.family;
  }

  get source(): SeriesSource {
    return this.#families[this.#at]!.source;
  }

  advance(): void {
    this.#at++;
  }
}

export interface SeriesSource {
  /** In the order of their names. */
  series(): Iterable<Series>;
}

export class SingleSource implements SeriesSource {
  readonly #series: Series[];

  constructor(series: Series[]) {
    this.#series = series.sort((a, b) => compare(a.name, b.name));
  }

  series(): Iterable<Series> {
    return this.#series;
  }
}

/**
 * One ending of all prefixes of a class, in the order of the prefixes. These have a shape, which says how many words they have: none begins
 * with another, so names are in that order too.
 */
export class RowSource implements SeriesSource {
  readonly #members: readonly PrefixMember[];
  readonly #row: StatRow;
  /** A text, or which of the prefix's. */
  readonly #labels: readonly (string | number)[];

  constructor(members: readonly PrefixMember[], row: StatRow, labels: readonly (string | number)[]) {
    this.#members = members;
    this.#row = row;
    this.#labels = labels;
  }

  *series(): Generator<Series, void> {
    for (const member of this.#members) yield this.#seriesOf(member);
  }

  #seriesOf({ group, labels }: PrefixMember): Series {
    const [only] = this.#labels;
    const isOne = this.#labels.length === 1 && typeof only === "number";
    const text = isOne ? labels[only]! : this.#labels.map((each) => (typeof each === "number" ? labels[each] : each)).join();
    return new RowSeries(group, this.#row, text);
  }
}

class RowSeries implements Series {
  readonly labels: string;
  readonly #group: PrefixStats;
  readonly #row: StatRow;

  constructor(group: PrefixStats, row: StatRow, labels: string) {
    this.#group = group;
    this.#row = row;
    this.labels = labels;
  }

  /** Nobody asks, mostly. */
  get name(): string {
    return this.#group.prefix + this.#row.name;
  }

  read(): StatValue {
    return this.#group.read(this.#row);
  }
}

class SeriesCursor implements Cursor {
  readonly #series: Iterator<Series>;
  #next: IteratorResult<Series>;

  constructor(series: Iterable<Series>) {
    this.#series = series[Symbol.iterator]();
    this.#next = this.#series.next();
  }

  get key(): string | undefined {
    return this.#next.done ? undefined : this.#next.value.name;
  }

  get series(): Series {
    return this.#next.value;
  }

  advance(): void {
    this.#next = this.#series.next();
  }
}

export function inOrder(sources: readonly SeriesSource[]): Iterable<Series> {
  if (sources.length === 1) return sources[0]!.series();
  return mergedSeries(sources.map((source) => ({ bound: "", open: () => new SeriesCursor(source.series()) })));
}

function* mergedSeries(sequences: readonly SortedSequence<SeriesCursor>[]): Generator<Series, void> {
  for (const cursor of merged(sequences)) yield cursor!.series;
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
