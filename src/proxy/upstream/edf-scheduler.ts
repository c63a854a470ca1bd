/**
 * Earliest deadline first: picks entries in proportion to their weights, spread evenly (3:1 gives 0,0,1,0 and again).
 * A binary heap by deadline; entries of equal deadline leave in the order in which they came. Envoy `EdfScheduler`.
 */
interface Entry<T> {
  deadline: number;
  order: number;
  readonly value: T;
}

export class EdfScheduler<T> {
  #heap: Entry<T>[] = [];
  #now = 0;
  #order = 0;

  add(value: T, weight: number): void {
    this.#push({ deadline: this.#now + 1 / weight, order: this.#order++, value });
  }

  /** Takes the first and puts it back with its present weight. */
  pick(weight: (value: T) => number): T | null {
    const heap = this.#heap;
    const first = heap[0];
    if (first === undefined) return null;
    this.#now = first.deadline;
    first.deadline = this.#now + 1 / weight(first.value);
    first.order = this.#order++;
    this.#sink(0);
    return first.value;
  }

  #push(entry: Entry<T>): void {
    const heap = this.#heap;
    heap.push(entry);
    let at = heap.length - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(heap[at]!, heap[parent]!)) break;
      [heap[at], heap[parent]] = [heap[parent]!, heap[at]!];
      at = parent;
    }
  }

  #sink(at: number): void {
    const heap = this.#heap;
    for (;;) {
      let least = at;
      const left = 2 * at + 1;
      if (left < heap.length && before(heap[left]!, heap[least]!)) least = left;
      if (left + 1 < heap.length && before(heap[left + 1]!, heap[least]!)) least = left + 1;
      if (least === at) return;
      [heap[at], heap[least]] = [heap[least]!, heap[at]!];
      at = least;
    }
  }
}

function before(a: Entry<unknown>, b: Entry<unknown>): boolean {
  return a.deadline < b.deadline || (a.deadline === b.deadline && a.order < b.order);
}
