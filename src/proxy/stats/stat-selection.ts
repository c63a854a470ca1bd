/**
 * Which statistics a page shows, read one after the other while it is written: what is counted meanwhile is seen, what comes new is not.
 *
 * A page is a generator of its pieces. Pieces are small, and an empty one comes where much was passed over, so that whoever writes the
 * page can stop between two of them.
 */
import { type Cursor, merged, type SortedSequence } from "./merged.ts";
import type { NamedStat } from "./named-stat.ts";
import type { PrefixStats } from "./stat-groups.ts";
import type { StatValue, TextValue } from "./stat-numbers.ts";
import type { StatRow } from "./stat-rows.ts";
import type { StatsReader } from "./stats-reader.ts";
import type { TagExtractor } from "./tags.ts";

export type Page = Generator<string, void>;

/** So many characters, about, are a piece, and so many statistics at most are passed over for one. */
export const pieceLength = 8192;
export const pieceStats = 256;

export type ShownKind = "counter" | "gauge" | "text" | "histogram";

export interface StatSelectionOptions {
  /** Default: all pass. */
  readonly passes?: ((name: string) => boolean) | undefined;
  readonly usedOnly?: boolean;
  /** Default: every kind. */
  readonly kind?: ShownKind | undefined;
}

export interface SelectedStat {
  readonly name: string;
  readonly value: StatValue | TextValue;
}

export class StatSelection {
  readonly reader: StatsReader;
  readonly tags: TagExtractor;
  readonly #options: StatSelectionOptions;

  constructor(reader: StatsReader, tags: TagExtractor, options: StatSelectionOptions = {}) {
    this.reader = reader;
    this.tags = tags;
    this.#options = options;
  }

  /** Whether nothing but the bootstrap's matcher has to be asked about names. */
  get takesAllNames(): boolean {
    return this.#options.passes === undefined;
  }

  passes(name: string): boolean {
    return this.#options.passes?.(name) ?? true;
  }

  isWanted({ isUsed }: StatValue | TextValue): boolean {
    return isUsed || !this.#options.usedOnly;
  }

  /** By name; null where much was passed over. */
  *inOrder(...kinds: readonly ShownKind[]): Generator<SelectedStat | null, void> {
    const { kind } = this.#options;
    const wanted = kinds.filter((each) => kind === undefined || each === kind);
    if (wanted.length === 0) return;
    let passedOver = 0;
    for (const cursor of merged(this.#sequences(wanted))) {
      if (cursor === null) {
        yield null;
        continue;
      }
      const name = cursor.key!;
      const value = this.passes(name) ? cursor.read() : undefined;
      if (value !== undefined && this.isWanted(value)) yield { name, value };
      else if (++passedOver % pieceStats === 0) yield null;
    }
  }

  *#sequences(kinds: readonly ShownKind[]): Generator<SortedSequence<StatCursor> | null, void> {
    const { reader, tags } = this;
    const named = reader.named.filter(({ name, kind }) => kinds.includes(kind) && tags.includes(name));
    yield { bound: "", open: () => new NamedCursor(named) };
    if (kinds.includes("text")) {
      const texts = reader.texts.filter(([name]) => tags.includes(name));
      yield { bound: "", open: () => new TextCursor(texts) };
    }
    for (const [index, group] of reader.prefixed.entries()) {
      // It may be the first time that the matcher is asked about them.
      if (index % 8 === 7) yield null;
      const rows = tags.shown(group.prefix, group.rows).ofKinds(kinds);
      yield { bound: group.prefix, open: () => new PrefixCursor(group, rows) };
    }
  }
}

interface StatCursor extends Cursor {
  /** Undefined: it is no more. */
  read(): StatValue | TextValue | undefined;
}

class NamedCursor implements StatCursor {
  key: string | undefined;
  readonly #stats: readonly NamedStat[];
  #at = 0;

  constructor(stats: readonly NamedStat[]) {
    this.#stats = stats;
    this.key = stats[0]?.name;
  }

  advance(): void {
    this.key = this.#stats[++this.#at]?.name;
  }

  read(): StatValue | undefined {
    const stat = this.#stats[this.#at]!;
    return stat.isGone ? undefined : stat.read();
  }
}

class TextCursor implements StatCursor {
  key: string | undefined;
  readonly #texts: StatsReader["texts"];
  #at = 0;

  constructor(texts: StatsReader["texts"]) {
    this.#texts = texts;
    this.key = texts[0]?.[0];
  }

  advance(): void {
    this.key = this.#texts[++this.#at]?.[0];
  }

  read(): TextValue {
    return this.#texts[this.#at]![1];
  }
}

class PrefixCursor implements StatCursor {
  key: string | undefined;
  readonly #group: PrefixStats;
  readonly #rows: readonly StatRow[];
  #at = -1;

  constructor(group: PrefixStats, rows: readonly StatRow[]) {
    this.#group = group;
    this.#rows = rows;
    this.advance();
  }

  advance(): void {
    const row = this.#rows[++this.#at];
    this.key = row && this.#group.prefix + row.name;
  }

  read(): StatValue {
    return this.#group.read(this.#rows[this.#at]!);
  }
}
