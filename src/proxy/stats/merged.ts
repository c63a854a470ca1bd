/**
 * Several sequences, each in the order of its keys, as one. A sequence is opened when its turn comes: of ten thousand only as many are
 * open at a time as have keys in between each other's.
 */
export interface SortedSequence<C extends Cursor> {
  /** No key comes before it. */
  readonly bound: string;
  open(): C;
}

export interface Cursor {
  /** Of where it is; undefined behind the last. */
  readonly key: string | undefined;
  advance(): void;
}

/**
 * Gives cursors, each where it is next, and goes on with them itself. Of equal keys the sequence that comes first is first.
 *
 * @param sequences in the order of their bounds; a null among them is passed on
 */
export function* merged<C extends Cursor>(sequences: Iterable<SortedSequence<C> | null>): Generator<C | null, void> {
  const unopened = sequences[Symbol.iterator]();
  let next = unopened.next();
  /** In the order in which they were opened. */
  const open: C[] = [];
  for (;;) {
    if (!next.done && next.value === null) {
      yield null;
      next = unopened.next();
      continue;
    }
    let least: C | undefined;
    for (let i = 0; i < open.length; i++) if (least === undefined || open[i]!.key! < least.key!) least = open[i]!;
    if (!next.done && (least === undefined || next.value!.bound <= least.key!)) {
      const cursor = next.value!.open();
      if (cursor.key !== undefined) open.push(cursor);
      next = unopened.next();
      continue;
    }
    if (least === undefined) return;
    // As long as it is before all others nothing needs to be looked for.
    let limit = next.done ? undefined : next.value!.bound;
    for (const other of open) if (other !== least && (limit === undefined || other.key! < limit)) limit = other.key!;
    do {
      yield least;
      least.advance();
    } while (least.key !== undefined && (limit === undefined || least.key < limit));
    if (least.key === undefined) open.splice(open.indexOf(least), 1);
  }
}
