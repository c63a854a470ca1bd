/** The statistics of a prefix, whatever it is, in the order of their names: which of its layouts, and which of the layout's. */
import type { StatLayout } from "./stat-layout.ts";
import type { StatKind } from "./store.ts";

export interface StatRow {
  /** Without the prefix. */
  readonly name: string;
  readonly kind: StatKind;
  readonly part: number;
  readonly index: number;
}

let made = 0;

export class StatRows {
  /** Of this process. */
  readonly id = ++made;
  readonly all: readonly StatRow[];
  readonly #ofKinds = new Map<string, readonly StatRow[]>();

  private constructor(sorted: readonly StatRow[]) {
    this.all = sorted;
  }

  static of(layouts: readonly StatLayout[]): StatRows {
    return new StatRows(
      layouts
        .flatMap(({ names, kinds }, part) => names.map((name, index): StatRow => ({ name, kind: kinds[index]!, part, index })))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
    );
  }

  filter(isKept: (row: StatRow, index: number) => boolean): StatRows {
    return new StatRows(this.all.filter(isKept));
  }

  ofKinds(kinds: readonly string[]): readonly StatRow[] {
    const key = kinds.join();
    let rows = this.#ofKinds.get(key);
    if (rows === undefined) {
      rows = this.all.filter(({ kind }) => kinds.includes(kind));
      this.#ofKinds.set(key, rows);
    }
    return rows;
  }
}
