import { ConfigError } from "../api/config-error.ts";
import type { ObjectOf } from "../api/kinds/index.ts";
import { type ConfigObject, formatKey, type KindName, keyOf, type ObjectKey } from "../api/kinds/object.ts";
import { freshRevision, ObjectTable, type TableChange } from "./object-table.ts";
import { checkPrecondition } from "./plan-write.ts";
import { type ConfigEvent, type ConfigStore, type Precondition, StoreError, type WatchOptions, type WritableConfigStore } from "./store.ts";

/**
 * Several sources as one store. An object that two sources hold is that of the first; the other is a problem that names both.
 * Writes go to the one source that can be written, and are refused for objects of the others.
 *
 * The aggregate counts revisions of its own, for the sources' don't compare, and gives them to the objects as resource
 * versions; a writer's precondition is translated back. It owns its sources and disposes them, unless they are only lent to it.
 */
export class AggregateStore implements WritableConfigStore {
  readonly name: string;
  readonly #sources: readonly ConfigStore[];
  readonly #writable: WritableConfigStore | undefined;
  readonly #table = new ObjectTable(freshRevision());
  /** Which source each object comes from, and that source's version of it. */
  readonly #owned = new Map<string, { readonly source: ConfigStore; readonly object: ConfigObject }>();
  readonly #watches: Disposable[];
  readonly #ownsSources: boolean;

  /** `writable` is one of the sources, or absent. The sources are in the order of precedence. */
  constructor(sources: readonly ConfigStore[], writable?: WritableConfigStore, options: { readonly ownsSources?: boolean } = {}) {
    this.#ownsSources = options.ownsSources ?? true;
    this.name = sources.map((source) => source.name).join(" + ");
    this.#sources = sources;
    this.#writable = writable;
    for (const source of sources) {
      for (const object of source.list()) {
        const id = formatKey(keyOf(object));
        if (this.#owned.has(id)) continue;
        this.#owned.set(id, { source, object });
        this.#table.load(withResourceVersion(object, String(this.#table.revision)));
      }
    }
    this.#watches = sources.map((source) => source.watch((events) => this.#follow(events)));
  }

  get isShared(): boolean {
    return this.#writable?.isShared ?? false;
  }

  get revision(): number {
    return this.#table.revision;
  }

  get problems(): readonly ConfigError[] {
    return [...this.#sources.flatMap((source) => source.problems), ...this.#shadowed()];
  }

  list(): ConfigObject[];
  list<K extends KindName>(kind: K, namespace?: string): ObjectOf<K>[];
  list(kind?: KindName, namespace?: string): ConfigObject[] {
    return kind === undefined ? this.#table.list() : (this.#table.list(kind, namespace) as ConfigObject[]);
  }

  get<K extends KindName>(key: ObjectKey & { readonly kind: K }): ObjectOf<K> | undefined {
    return this.#table.get(key);
  }

  watch(onEvents: (events: readonly ConfigEvent[]) => void, options?: WatchOptions): Disposable {
    return this.#table.watch(onEvents, options);
  }

  /** Whether a `put` of the object would be taken. */
  isWritable(object: ConfigObject): boolean {
    const owner = this.#owned.get(formatKey(keyOf(object)));
    return this.#writable !== undefined && (owner === undefined || owner.source === this.#writable);
  }

  async put(object: ConfigObject, precondition?: Precondition): Promise<ConfigObject> {
    const key = keyOf(object);
    const source = this.#writableFor(key, "change");
    const stored = await source.put(object, this.#translate(key, precondition));
    return this.#own(key) ?? stored;
  }

  async delete(key: ObjectKey, precondition?: Precondition): Promise<ConfigObject> {
    const last = this.#own(key);
    const deleted = await this.#writableFor(key, "delete").delete(key, this.#translate(key, precondition));
    return last ?? deleted;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const watch of this.#watches) watch[Symbol.dispose]();
    if (!this.#ownsSources) return;
    for (const source of this.#sources.toReversed()) await source[Symbol.asyncDispose]();
  }

  #own(key: ObjectKey): ConfigObject | undefined {
    return this.#table.get(key);
  }

  #writableFor(key: ObjectKey, verb: string): WritableConfigStore {
    const owner = this.#owned.get(formatKey(key));
    if (owner && owner.source !== this.#writable) {
      const place = owner.object.position ? `${owner.object.position.file}:${owner.object.position.line}` : owner.source.name;
      throw new StoreError("read-only", `Cannot ${verb} ${formatKey(key)}: it is written in ${place} and is to be edited there`);
    }
    if (!this.#writable) throw new StoreError("read-only", `Cannot ${verb} ${formatKey(key)}: there is no store that takes writes`);
    return this.#writable;
  }

  /** A precondition on our resource version becomes one on the source's, once it is found to hold here. */
  #translate(key: ObjectKey, precondition: Precondition | undefined): Precondition | undefined {
    if (!precondition || "absent" in precondition) return precondition;
    checkPrecondition(key, this.#own(key), precondition);
    const resourceVersion = this.#owned.get(formatKey(key))?.object.metadata.resourceVersion;
    return resourceVersion === undefined ? precondition : { resourceVersion };
  }

  /** Takes over what a source's changes make of their objects, whichever source these are in now. */
  #follow(events: readonly ConfigEvent[]): void {
    const changes: TableChange[] = [];
    let { revision } = this.#table;
    for (const key of new Map(events.map((event) => [formatKey(keyOf(event.object)), keyOf(event.object)])).values()) {
      const id = formatKey(key);
      const before = this.#owned.get(id);
      const now = this.#find(key);
      if (now?.object === before?.object) continue;
      revision++;
      if (now) {
        this.#owned.set(id, now);
        changes.push({ put: withResourceVersion(now.object, String(revision)) });
      } else {
        this.#owned.delete(id);
        changes.push({ delete: key });
      }
    }
    this.#table.apply(changes);
  }

  #find(key: ObjectKey): { source: ConfigStore; object: ConfigObject } | undefined {
    for (const source of this.#sources) {
      const object = source.get(key) as ConfigObject | undefined;
      if (object) return { source, object };
    }
    return undefined;
  }

  #shadowed(): ConfigError[] {
    const shadowed: ConfigError[] = [];
    for (const source of this.#sources.slice(1)) {
      for (const object of source.list()) {
        const owner = this.#owned.get(formatKey(keyOf(object)));
        if (!owner || owner.source === source) continue;
        shadowed.push(
          new ConfigError(`is in ${owner.source.name} and in ${source.name}: the former is in force`, {
            ...keyOf(object),
            position: object.position,
          }),
        );
      }
    }
    return shadowed;
  }
}

function withResourceVersion(object: ConfigObject, resourceVersion: string): ConfigObject {
  const rawMetadata = object.raw.metadata as Record<string, unknown>;
  return {
    ...object,
    metadata: { ...object.metadata, resourceVersion },
    raw: { ...object.raw, metadata: { ...rawMetadata, resourceVersion } },
  };
}
