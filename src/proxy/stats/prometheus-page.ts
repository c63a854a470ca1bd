/**
 * Statistics in Prometheus' text format. Families are in the order of their names, counters before gauges before texts before histograms;
 * within a family statistics are in the order of theirs.
 *
 * Of statistics by layout no list is made: those prefixes that leave the same when their tags are taken out have the same families, one
 * for each ending.
 */
import { bucketCounts, quantile, quantiles, sixDigits } from "./histogram-values.ts";
import { type Cursor, merged, type SortedSequence } from "./merged.ts";
import type { PrefixShape, Tag } from "./prefix-tags.ts";
import type { PrefixStats } from "./stat-groups.ts";
import type { StatValue, TextValue } from "./stat-numbers.ts";
import type { StatRow, StatRows } from "./stat-rows.ts";
import { type Page, pieceLength, pieceStats, type ShownKind, type StatSelection } from "./stat-selection.ts";
import { histogramBounds } from "./stat-slots.ts";

export interface PrometheusOptions {
  readonly includesTexts: boolean;
  /** Quantiles instead of buckets. */
  readonly histogramsAsSummary: boolean;
}

export function* prometheusPage(selection: StatSelection, options: PrometheusOptions): Page {
  const plan = new Plan(selection);
  yield* plan.make();
  for (const kind of ["counter", "gauge", "text", "histogram"] as const) {
    if (kind === "text" && !options.includesTexts) continue;
    const type = kind === "text" ? "gauge" : kind === "histogram" && options.histogramsAsSummary ? "summary" : kind;
    let piece = "";
    let passedOver = 0;
    for (const { name: family, series } of plan.families(kind)) {
      let isBegun = false;
      const write = linesOf(family, options);
      for (const one of series) {
        const value = selection.takesAllNames || selection.passes(one.name) ? one.read() : undefined;
        if (value !== undefined && selection.isWanted(value)) {
          if (!isBegun) piece += `# TYPE ${family} ${type}\n`;
          isBegun = true;
          piece += write(one.labels, value);
          if (piece.length < pieceLength) continue;
        } else if (++passedOver % pieceStats !== 0) continue;
        yield piece;
        piece = "";
      }
    }
    yield piece;
  }
}

/** One statistic of a family. */
interface Series {
  /** The whole name, by which they are sorted. */
  readonly name: string;
  /** `a="b",c="d"` */
  readonly labels: string;
  /** Undefined: it is no more. */
  read(): StatValue | TextValue | undefined;
}

interface Family {
  readonly name: string;
  readonly series: Iterable<Series>;
}

/** Prefixes that have the same families. */
interface PrefixClass {
  readonly base: string;
  readonly shape: PrefixShape;
  readonly rows: StatRows;
  readonly members: { readonly group: PrefixStats; readonly labels: readonly string[] }[];
  /** Whether none of them begins with another: then their names are in the order of their prefixes, whatever the ending. */
  isPrefixFree: boolean;
}

class Plan {
  readonly #selection: StatSelection;
  /** What every statistic has. */
  readonly #fixed: readonly string[];
  readonly #classes: PrefixClass[] = [];
  /** Those that are taken apart one by one: by kind, by family. */
  readonly #single: Readonly<Record<ShownKind, Map<string, Series[]>>> = {
    counter: new Map(),
    gauge: new Map(),
    text: new Map(),
    histogram: new Map(),
  };

  constructor(selection: StatSelection) {
    this.#selection = selection;
    this.#fixed = selection.tags.fixed.map(label);
  }

  /** To be gone through first; empty pieces. */
  *make(): Page {
    const { reader, tags } = this.#selection;
    let done = 0;
    for (const stat of reader.named) {
      if (++done % pieceStats === 0) yield "";
      if (!tags.includes(stat.name)) continue;
      const { base, tags: found } = stat.tagged ? tags.withFixed(stat.tagged) : tags.extract(stat.name);
      const read = () => (stat.isGone ? undefined : stat.read());
      this.#add(stat.kind, base, { name: stat.name, labels: found.map(label).join(), read });
    }
    for (const [name, value] of reader.texts) {
      if (!tags.includes(name)) continue;
      const { base, tags: found } = tags.extract(name);
      this.#add("text", base, { name, labels: found.map(label).join(), read: () => value });
    }
    const classes = new Map<string, PrefixClass>();
    for (const group of reader.prefixed) {
      if (++done % 8 === 0) yield "";
      const rows = tags.shown(group.prefix, group.rows);
      if (rows.all.length > 0) yield* this.#addGroup(group, rows, classes);
    }
    this.#classes.push(...classes.values());
    this.#classes.sort((a, b) => compare(boundOf(a), boundOf(b)));
  }

  *#addGroup(group: PrefixStats, rows: StatRows, classes: Map<string, PrefixClass>): Page {
    const { tags } = this.#selection;
    const { prefix } = group;
    const { shape, base, tags: found } = tags.prefixed(prefix);
    const key = `${shape.id} ${rows.id} ${base}`;
    let one = classes.get(key);
    if (!one) {
      one = { base, shape, rows, members: [], isPrefixFree: true };
      classes.set(key, one);
    }
    const last = one.members.at(-1);
    if (last && prefix.startsWith(last.group.prefix)) one.isPrefixFree = false;
    one.members.push({ group, labels: found.map(label) });
    let done = 0;
    for (const row of shape.rowsToTakeApart(rows)) {
      if (++done % 16 === 0) yield "";
      const name = prefix + row.name;
      const { base: whole, tags: its } = tags.takeApart(name);
      this.#add(row.kind, whole, { name, labels: its.map(label).join(), read: () => group.read(row) });
    }
  }

  #add(kind: ShownKind, base: string, series: Series): void {
    const families = this.#single[kind];
    const name = metricName(base);
    const family = families.get(name);
    if (family) family.push(series);
    else families.set(name, [series]);
  }

  *families(kind: ShownKind): Generator<Family, void> {
    let name: string | undefined;
    let sources: Source[] = [];
    for (const cursor of merged(this.#sequences(kind))) {
      const { key, source } = cursor!;
      if (key !== name) {
        if (name !== undefined) yield { name, series: inOrder(sources) };
        name = key!;
        sources = [];
      }
      sources.push(source);
    }
    if (name !== undefined) yield { name, series: inOrder(sources) };
  }

  *#sequences(kind: ShownKind): Generator<SortedSequence<FamilyCursor>, void> {
    const families = [...this.#single[kind]].sort(([a], [b]) => compare(a, b));
    yield { bound: "", open: () => new FamilyCursor(families.map(([family, series]) => ({ family, source: new SingleSource(series) }))) };
    for (const one of this.#classes) yield { bound: boundOf(one), open: () => new FamilyCursor(this.#familiesOf(one, kind)) };
  }

  #familiesOf(one: PrefixClass, kind: ShownKind): { readonly family: string; readonly source: Source }[] {
    const found: { readonly family: string; readonly source: Source }[] = [];
    for (const row of one.rows.ofKinds([kind])) {
      const ending = one.shape.ending(row.name);
      if (!ending) continue;
      const labels = [...this.#fixed, ...ending.tags.map((tag) => (typeof tag === "number" ? tag : label(tag)))];
      found.push({ family: metricName(one.base + ending.base), source: new RowSource(one, row, labels) });
    }
    return found.sort((a, b) => compare(a.family, b.family));
  }
}

/** All families of a class begin with what its base becomes, if that can be told from the base alone. */
function boundOf({ base }: PrefixClass): string {
  return base.includes(".") ? metricName(base) : "";
}

class FamilyCursor implements Cursor {
  readonly #families: readonly { readonly family: string; readonly source: Source }[];
  #at = 0;

  constructor(families: readonly { readonly family: string; readonly source: Source }[]) {
    this.#families = families;
  }

  get key(): string | undefined {
    return this.#families[this.#at]?.family;
  }

  get source(): Source {
    return this.#families[this.#at]!.source;
  }

  advance(): void {
    this.#at++;
  }
}

interface Source {
  /** In the order of their names; for one that is alone in its family. */
  series(): Iterable<Series>;
  /** The same, to be sorted in among others. */
  sequences(): readonly SortedSequence<SeriesCursor>[];
}

class SingleSource implements Source {
  readonly #series: Series[];

  constructor(series: Series[]) {
    this.#series = series.sort((a, b) => compare(a.name, b.name));
  }

  series(): Iterable<Series> {
    return this.#series;
  }

  sequences(): readonly SortedSequence<SeriesCursor>[] {
    return [{ bound: "", open: () => new SeriesCursor(this.#series) }];
  }
}

/** One ending of all prefixes of a class. */
class RowSource implements Source {
  readonly #class: PrefixClass;
  readonly #row: StatRow;
  /** A text, or which of the prefix's. */
  readonly #labels: readonly (string | number)[];

  constructor(one: PrefixClass, row: StatRow, labels: readonly (string | number)[]) {
    this.#class = one;
    this.#row = row;
    this.#labels = labels;
  }

  series(): Iterable<Series> {
    if (this.#class.isPrefixFree) return this.#members();
    return seriesOf(merged(this.sequences()));
  }

  sequences(): readonly SortedSequence<SeriesCursor>[] {
    if (this.#class.isPrefixFree) return [{ bound: "", open: () => new SeriesCursor(this.#members()) }];
    return this.#class.members.map((_, index) => ({
      bound: this.#class.members[index]!.group.prefix,
      open: () => new SeriesCursor([this.#series(index)]),
    }));
  }

  *#members(): Generator<Series, void> {
    for (let index = 0; index < this.#class.members.length; index++) yield this.#series(index);
  }

  #series(index: number): Series {
    const { group, labels } = this.#class.members[index]!;
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

function inOrder(sources: readonly Source[]): Iterable<Series> {
  if (sources.length === 1) return sources[0]!.series();
  const sequences = sources.flatMap((source) => source.sequences());
  return seriesOf(merged(sequences.sort((a, b) => compare(a.bound, b.bound))));
}

function* seriesOf(cursors: Iterable<SeriesCursor | null>): Generator<Series, void> {
  for (const cursor of cursors) yield cursor!.series;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

type Writer = (labels: string, value: StatValue | TextValue) => string;

function linesOf(family: string, { histogramsAsSummary }: PrometheusOptions): Writer {
  const endings = histogramsAsSummary
    ? quantiles.map((percent) => `quantile="${percent / 100}"} `)
    : [...histogramBounds, "+Inf"].map((bound) => `le="${bound}"} `);
  const name = histogramsAsSummary ? `${family}{` : `${family}_bucket{`;
  return (labels, value) => {
    if (value.kind === "text") return `${family}{${behind(labels)}text_value="${escapeLabel(value.value)}"} 0\n`;
    if (value.kind !== "histogram") return `${family}{${labels}} ${value.value}\n`;
    const { histogram } = value;
    const numbers = histogramsAsSummary
      ? quantiles.map((percent) => sixDigits(quantile(histogram, percent)))
      : [...bucketCounts(histogram, "cumulative"), histogram.count];
    const start = name + behind(labels);
    let out = "";
    for (let index = 0; index < endings.length; index++) out += `${start}${endings[index]!}${numbers[index]!}\n`;
    return `${out}${family}_sum{${labels}} ${sixDigits(histogram.sum)}\n${family}_count{${labels}} ${histogram.count}\n`;
  };
}

function behind(labels: string): string {
  return labels === "" ? "" : `${labels},`;
}

function label({ name, value }: Tag): string {
  return `${labelName(name)}="${escapeLabel(value)}"`;
}

/** Istio's own metrics and those of Wasm come with a name of their own; everything else belongs to `envoy_`. */
const customNamespace = /^(?:istiocustom\.|wasmcustom\.)/;

function metricName(base: string): string {
  const name = customNamespace.test(base) ? base.replace(customNamespace, "") : `envoy_${base}`;
  const clean = name.replaceAll(/[^a-zA-Z0-9_]/g, "_");
  return /^\d/.test(clean) ? `_${clean}` : clean;
}

function labelName(name: string): string {
  const clean = name.replaceAll(/[^a-zA-Z0-9_]/g, "_");
  return /^\d/.test(clean) ? `_${clean}` : clean;
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
}
