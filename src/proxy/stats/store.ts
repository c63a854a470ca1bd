/**
 * One thread's statistics: numbers in shared memory, names beside them.
 *
 * A counter or gauge is one slot; a histogram is a run of slots: count, sum, then one per bucket. The thread that owns the
 * store writes without locks; the main thread reads the same memory when somebody asks, and adds the threads up by name.
 * So a scrape never interrupts a request, and the hot path is `values[index] += n`.
 *
 * When the block is full it is replaced by one twice the size and the owner's `values` changes: do not keep `values`
 * across calls, keep the index.
 *
 * Statistics with tags of their own (Istio's metrics) come with traffic and go again: `add…`, `release`. Whoever makes them keeps
 * their number bounded, and makes none twice.
 */
import type { StatLayout } from "./stat-layout.ts";
import { histogramBounds, slotsOf } from "./stat-slots.ts";

/** A message of this thread takes milliseconds to be heard. */
const reuseAfterMs = 10_000;

export type StatKind = "counter" | "gauge" | "histogram";

export interface StatDefinition {
  /** Envoy's dotted name, `http.ingress.downstream_rq_total`. */
  readonly name: string;
  readonly kind: StatKind;
  readonly slot: number;
  /** Name, value, name, value ... of a statistic that is told apart by them; `name` is then what it has without. */
  readonly tags?: readonly string[];
}

/**
 * All of a layout, named by what they begin with, `cluster.xds-grpc.`. Without a slot there is nothing to read: others may count it. Those
 * of a single endpoint begin with `host|<cluster>|<ip:port>|`: they feed /clusters and are no part of /stats.
 */
export interface StatGroup {
  readonly layout: string;
  readonly prefix: string;
  readonly slot?: number;
}

/** Statistics that were added, or the slot of one with tags that is no more. */
export type StatChange = StatDefinition | StatGroup | number;

/** Index of a counter, gauge or histogram; made once when configuration is compiled, used on every request. */
export type StatIndex = number & { readonly brand?: "StatIndex" };

const noValues = new Float64Array(0);

export class StatsStore {
  values: Float64Array;
  /** Called when statistics were added or released since the last call of `takeChanges`; not called again before that. */
  onChange: (() => void) | undefined;
  readonly #initialSlots: number;
  /** Made with the first statistic: what is only compiled for its mistakes hardly ever has one. */
  #block: SharedArrayBuffer | undefined;
  #replaced = false;
  #next = 0;
  #byName = new Map<string, StatIndex>();
  /** By prefix. */
  #groups = new Map<string, { readonly layout: StatLayout; readonly slot: StatIndex }[]>();
  #changes: StatChange[] = [];
  #isAnnounced = false;
  /** Places that were given back, by their number of slots, oldest first. */
  readonly #free = new Map<number, { readonly slot: number; readonly since: number }[]>();

  constructor(initialSlots = 4096) {
    this.#initialSlots = initialSlots;
    this.values = noValues;
  }

  counter(name: string): StatIndex {
    return this.#register(name, "counter", 1);
  }

  gauge(name: string): StatIndex {
    return this.#register(name, "gauge", 1);
  }

  histogram(name: string): StatIndex {
    return this.#register(name, "histogram", slotsOf("histogram"));
  }

  /** All of the layout; gives the slot of the first. */
  group(prefix: string, layout: StatLayout): StatIndex {
    const known = this.#groups.get(prefix) ?? [];
    const same = known.find((group) => group.layout === layout);
    if (same !== undefined) return same.slot;
    const slot = this.#allocate(layout.slots);
    known.push({ layout, slot });
    this.#groups.set(prefix, known);
    this.#change({ layout: layout.id, prefix, slot });
    return slot;
  }

  /** They are there, as zeros, until some thread counts them. */
  declare(prefix: string, layout: StatLayout): void {
    this.#change({ layout: layout.id, prefix });
  }

  /** A new one, told apart from others of its name by tags: name, value, name, value ... */
  addTagged(name: string, kind: StatKind, tags: readonly string[]): StatIndex {
    return this.#add({ name, kind, tags }, slotsOf(kind));
  }

  /** One that `addTagged` made is no more. Its slots are used again when the reader has certainly heard of it. */
  release(index: StatIndex, kind: StatKind): void {
    const slots = slotsOf(kind);
    const places = this.#free.get(slots);
    const place = { slot: index, since: performance.now() };
    if (places) places.push(place);
    else this.#free.set(slots, [place]);
    this.#change(index);
  }

  /** Adds to a counter or gauge. Hot. */
  add(index: StatIndex, amount: number): void {
    this.values[index]! += amount;
  }

  set(index: StatIndex, value: number): void {
    this.values[index] = value;
  }

  /** Records one value in a histogram. Hot. */
  record(index: StatIndex, value: number): void {
    const values = this.values;
    values[index]! += 1;
    values[index + 1]! += value;
    let bucket = 0;
    while (bucket < histogramBounds.length && value > histogramBounds[bucket]!) bucket++;
    values[index + 2 + bucket]! += 1;
  }

  /** What was registered and released since the last call, for the reader in the main thread. */
  takeChanges(): { readonly block?: SharedArrayBuffer; readonly changes: readonly StatChange[] } {
    const changes = this.#changes;
    this.#changes = [];
    this.#isAnnounced = false;
    const block = this.#replaced && this.#block ? { block: this.#block } : {};
    this.#replaced = false;
    return { ...block, changes };
  }

  #register(name: string, kind: StatKind, slots: number): StatIndex {
    const known = this.#byName.get(name) ?? this.#laidOut(name);
    if (known !== undefined) return known;
    const slot = this.#add({ name, kind }, slots);
    this.#byName.set(name, slot);
    return slot;
  }

  #laidOut(name: string): StatIndex | undefined {
    for (let end = name.length; end > 1; end = Math.max(name.lastIndexOf(".", end - 2), name.lastIndexOf("|", end - 2)) + 1) {
      for (const { layout, slot } of this.#groups.get(name.slice(0, end)) ?? []) {
        const index = layout.indexOf(name.slice(end));
        if (index !== undefined) return slot + layout.offsets[index]!;
      }
    }
    return undefined;
  }

  #add(definition: Omit<StatDefinition, "slot">, slots: number): StatIndex {
    const slot = this.#allocate(slots);
    this.#change({ ...definition, slot });
    return slot;
  }

  #change(change: StatChange): void {
    this.#changes.push(change);
    if (this.#isAnnounced) return;
    this.#isAnnounced = true;
    this.onChange?.();
  }

  #allocate(slots: number): number {
    const places = this.#free.get(slots);
    if (places?.[0] !== undefined && performance.now() - places[0].since > reuseAfterMs) {
      const { slot } = places.shift()!;
      this.values.fill(0, slot, slot + slots);
      return slot;
    }
    if (this.#next + slots > this.values.length) this.#grow(this.#next + slots);
    const slot = this.#next;
    this.#next += slots;
    return slot;
  }

  #grow(least: number): void {
    let slots = this.values.length === 0 ? this.#initialSlots : this.values.length * 2;
    while (slots < least) slots *= 2;
    const larger = new SharedArrayBuffer(slots * 8);
    const values = new Float64Array(larger);
    values.set(this.values);
    this.#block = larger;
    this.values = values;
    this.#replaced = true;
  }
}
