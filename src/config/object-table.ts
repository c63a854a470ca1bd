import type { ObjectOf } from "../api/kinds/index.ts";
import { type ConfigObject, formatKey, type KindName, keyOf, type ObjectKey } from "../api/kinds/object.ts";
import { type ConfigEvent, StoreError, type WatchOptions } from "./store.ts";

/** Changes that are kept for watchers that come back. */
const historySize = 10_000;

/** A change to apply: the object as it is from now on, or the key of one that goes. */
export type TableChange = { readonly put: ConfigObject } | { readonly delete: ObjectKey };

/**
 * The image of a source in memory: objects by kind and key, the revision, the latest changes and those who watch. Sources
 * differ in how a change gets here; from here on they are the same.
 */
export class ObjectTable {
  readonly #byKind = new Map<KindName, Map<string, ConfigObject>>();
  readonly #watchers = new Set<(events: readonly ConfigEvent[]) => void>();
  #history: ConfigEvent[] = [];
  /** The newest revision whose changes are no longer in the history. */
  #forgottenRevision: number;
  #revision: number;

  /** A source that doesn't keep its revision over restarts starts at `freshRevision()`. */
  constructor(revision: number) {
    this.#revision = revision;
    this.#forgottenRevision = revision;
  }

  get revision(): number {
    return this.#revision;
  }

  get size(): number {
    let size = 0;
    for (const objects of this.#byKind.values()) size += objects.size;
    return size;
  }

  list(): ConfigObject[];
  list<K extends KindName>(kind: K, namespace?: string): ObjectOf<K>[];
  list(kind?: KindName, namespace?: string): ConfigObject[] {
    if (kind === undefined) return [...this.#byKind.values()].flatMap((objects) => [...objects.values()]);
    const objects = [...(this.#byKind.get(kind)?.values() ?? [])];
    return namespace === undefined ? objects : objects.filter((object) => object.metadata.namespace === namespace);
  }

  get<K extends KindName>(key: ObjectKey & { readonly kind: K }): ObjectOf<K> | undefined {
    return this.#byKind.get(key.kind)?.get(formatKey(key)) as ObjectOf<K> | undefined;
  }

  /** Fills the image before anybody watches; makes no events. */
  load(object: ConfigObject): void {
    this.#set(object);
  }

  /**
   * Applies changes, each with the next revision, and tells the watchers of them in one batch. What is put is expected to
   * bear its resource version already; deletions of what isn't there are passed over.
   */
  apply(changes: readonly TableChange[]): ConfigEvent[] {
    const events: ConfigEvent[] = [];
    for (const change of changes) {
      const key = "put" in change ? keyOf(change.put) : change.delete;
      const previous = this.get(key) as ConfigObject | undefined;
      if ("delete" in change && !previous) continue;
      const revision = ++this.#revision;
      if ("put" in change) {
        this.#set(change.put);
        events.push({ type: previous ? "modified" : "added", object: change.put, previous, revision });
      } else if (previous) {
        this.#byKind.get(key.kind)?.delete(formatKey(key));
        const metadata = { ...previous.metadata, resourceVersion: String(revision) };
        events.push({ type: "deleted", object: { ...previous, metadata }, previous, revision });
      }
    }
    this.#remember(events);
    if (events.length > 0) for (const watcher of [...this.#watchers]) watcher(events);
    return events;
  }

  watch(onEvents: (events: readonly ConfigEvent[]) => void, options: WatchOptions = {}): Disposable {
    const { afterRevision } = options;
    if (afterRevision !== undefined) {
      if (afterRevision < this.#forgottenRevision || afterRevision > this.#revision) {
        throw new StoreError(
          "expired",
          `Cannot watch from revision ${afterRevision}: changes are known from ${this.#forgottenRevision} on`,
        );
      }
      const missed = this.#history.filter((event) => event.revision > afterRevision);
      if (missed.length > 0) onEvents(missed);
    }
    // A function of its own, so that the same callback can watch twice.
    const watcher = (events: readonly ConfigEvent[]) => onEvents(events);
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => void this.#watchers.delete(watcher) };
  }

  #set(object: ConfigObject): void {
    let objects = this.#byKind.get(object.kind);
    if (!objects) {
      objects = new Map();
      this.#byKind.set(object.kind, objects);
    }
    objects.set(formatKey(keyOf(object)), object);
  }

  #remember(events: readonly ConfigEvent[]): void {
    for (const event of events) this.#history.push(event);
    // Trimmed by halves, so that a long life costs no copy per change.
    if (this.#history.length > 2 * historySize) {
      const dropped = this.#history.length - historySize;
      this.#forgottenRevision = (this.#history[dropped - 1] as ConfigEvent).revision;
      this.#history = this.#history.slice(dropped);
    }
  }
}

/** A first revision that is greater than any that an earlier process reached, short of a million changes per second. */
export function freshRevision(nowMs: number = Date.now()): number {
  return nowMs * 1000;
}
