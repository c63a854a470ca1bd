/**
 * Statistics by Prometheus' families: those that are the same without their tags. Within a family they are in the order of their names.
 *
 * Of statistics by layout no list is made: those prefixes that leave the same when their tags are taken out have the same families, one
 * for each ending.
 */
import { merged, type SortedSequence } from "./merged.ts";
import type { PrefixShape } from "./prefix-tags.ts";
import { label, metricName } from "./prometheus-names.ts";
import {
  compare,
  FamilyCursor,
  inOrder,
  type PrefixMember,
  RowSource,
  type Series,
  type SeriesSource,
  SingleSource,
} from "./prometheus-series.ts";
import type { PrefixStats } from "./stat-groups.ts";
import type { StatRows } from "./stat-rows.ts";
import { type Page, pieceStats, type ShownKind, type StatSelection } from "./stat-selection.ts";

export interface Family {
  readonly name: string;
  readonly series: Iterable<Series>;
}

/** Prefixes that have the same families. */
interface PrefixClass {
  readonly base: string;
  readonly shape: PrefixShape;
  readonly rows: StatRows;
  /** In the order of the prefixes. */
  readonly members: PrefixMember[];
}

export class PrometheusFamilies {
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
  *gather(): Page {
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
      one = { base, shape, rows, members: [] };
      classes.set(key, one);
    }
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
    let sources: SeriesSource[] = [];
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

  #familiesOf(one: PrefixClass, kind: ShownKind): { readonly family: string; readonly source: SeriesSource }[] {
    const found: { readonly family: string; readonly source: SeriesSource }[] = [];
    for (const row of one.rows.ofKinds([kind])) {
      const ending = one.shape.ending(row.name);
      if (!ending) continue;
      const labels = [...this.#fixed, ...ending.tags.map((tag) => (typeof tag === "number" ? tag : label(tag)))];
      found.push({ family: metricName(one.base + ending.base), source: new RowSource(one.members, row, labels) });
    }
    return found.sort((a, b) => compare(a.family, b.family));
  }
}

/** All families of a class begin with what its base becomes, if that can be told from the base alone. */
function boundOf({ base }: PrefixClass): string {
  return base.includes(".") ? metricName(base) : "";
}
