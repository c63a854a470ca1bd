/** Changes of the store, told to all who watch a kind. What a change looks like on the wire is worked out once for all of them. */
import type { ConfigObject, KindName } from "../../api/kinds/object.ts";
import type { ConfigEvent, ConfigStore } from "../../config/store.ts";
import { type Presentation, presentObject } from "./present.ts";

export type WatchEventType = "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";

/** One line of a watch. */
export function watchLine(type: WatchEventType, object: unknown): Buffer {
  return Buffer.from(`{"type":"${type}","object":${JSON.stringify(object)}}\n`);
}

/** A change with its lines by version and form. */
export class SharedEvent {
  readonly change: ConfigEvent;
  readonly #lines = new Map<string, Buffer>();

  constructor(change: ConfigEvent) {
    this.change = change;
  }

  line(type: WatchEventType, presentation: Presentation, withColumns: boolean): Buffer {
    const { resource, form, rowObject } = presentation;
    const key = `${type} ${resource.apiVersion} ${form} ${rowObject} ${withColumns}`;
    const known = this.#lines.get(key);
    if (known) return known;
    const made = watchLine(type, presentObject(this.#object(), presentation, withColumns));
    this.#lines.set(key, made);
    return made;
  }

  /** What was deleted is shown with the revision of its deletion, from which a client goes on watching. */
  #object(): ConfigObject {
    const { type, object } = this.change;
    if (type !== "deleted") return object;
    const { resourceVersion } = object.metadata;
    return { ...object, raw: { ...object.raw, metadata: { ...(object.raw.metadata as object), resourceVersion } } };
  }
}

export class ObjectEvents implements Disposable {
  readonly #store: ConfigStore;
  readonly #watchers = new Map<KindName, Set<(event: SharedEvent) => void>>();
  readonly #watch: Disposable;

  constructor(store: ConfigStore) {
    this.#store = store;
    this.#watch = store.watch((changes) => {
      for (const change of changes) {
        const watchers = this.#watchers.get(change.object.kind);
        if (!watchers) continue;
        const event = new SharedEvent(change);
        for (const onEvent of [...watchers]) onEvent(event);
      }
    });
  }

  /** Throws StoreError `expired`. Changes after the revision come before this returns, later ones as they happen. */
  subscribe(kind: KindName, afterRevision: number, onEvent: (event: SharedEvent) => void): Disposable {
    const missed = this.#store.watch(
      (changes) => {
        for (const change of changes) if (change.object.kind === kind) onEvent(new SharedEvent(change));
      },
      { afterRevision },
    );
    missed[Symbol.dispose]();
    // A function of its own, so that the same callback can watch twice.
    const watcher = (event: SharedEvent) => onEvent(event);
    const watchers = this.#watchers.get(kind) ?? new Set();
    this.#watchers.set(kind, watchers.add(watcher));
    return { [Symbol.dispose]: () => void watchers.delete(watcher) };
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }
}
