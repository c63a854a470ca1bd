/**
 * Statistics that many things have alike, such as the hundred of each cluster: their names are written down once, and each thing
 * has a run of slots and what its names begin with. A mesh of ten thousand clusters would keep a million names otherwise.
 *
 * Layouts are constants of the program, so threads speak of them by their id.
 */

import { slotsOf } from "./stat-slots.ts";
import type { StatIndex, StatKind } from "./store.ts";

const known = new Map<string, StatLayout>();

export class StatLayout<Name extends string = string> {
  readonly id: string;
  readonly names: readonly Name[];
  readonly kinds: readonly StatKind[];
  /** Of each, from the first slot on. */
  readonly offsets: readonly number[];
  /** Of all together. */
  readonly slots: number;
  readonly #indices: ReadonlyMap<string, number>;

  constructor(id: string, names: { readonly [kind in StatKind]?: readonly Name[] }) {
    this.id = id;
    const all = (["counter", "gauge", "histogram"] as const).flatMap((kind) => (names[kind] ?? []).map((name) => ({ name, kind })));
    this.names = all.map(({ name }) => name);
    this.kinds = all.map(({ kind }) => kind);
    let slots = 0;
    this.offsets = this.kinds.map((kind) => {
      const offset = slots;
      slots += slotsOf(kind);
      return offset;
    });
    this.slots = slots;
    this.#indices = new Map(this.names.map((name, index) => [name, index]));
    known.set(id, this);
  }

  /** Where they lie whose first slot is `first`. */
  indices(first: StatIndex): Readonly<Record<Name, StatIndex>> {
    const at: Record<string, StatIndex> = {};
    for (let i = 0; i < this.names.length; i++) at[this.names[i]!] = first + this.offsets[i]!;
    return at as Record<Name, StatIndex>;
  }

  /** Place in `names`; undefined for a name that is none of them. */
  indexOf(name: string): number | undefined {
    return this.#indices.get(name);
  }
}

export function layoutOf(id: string): StatLayout {
  const layout = known.get(id);
  if (layout === undefined) throw new Error(`no statistics are laid out as ${id}`);
  return layout;
}
