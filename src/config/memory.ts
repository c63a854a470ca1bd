import type { ConfigError } from "../api/config-error.ts";
import type { ObjectOf } from "../api/kinds/index.ts";
import { type ConfigObject, type KindName, keyOf, type ObjectKey } from "../api/kinds/object.ts";
import { freshRevision, ObjectTable } from "./object-table.ts";
import { type PlannedWrite, planDelete, planPut } from "./plan-write.ts";
import type { ConfigEvent, Precondition, WatchOptions, WritableConfigStore } from "./store.ts";

/** A store that lives as long as its process; for tests and for what needn't outlive a restart. */
export class MemoryStore implements WritableConfigStore {
  readonly name: string;
  readonly isShared: boolean;
  readonly problems: readonly ConfigError[] = [];
  readonly #table = new ObjectTable(freshRevision());
  readonly #now: () => number;

  /** `isShared`: it stands for one that is, in a test. */
  constructor(options: { readonly now?: () => number; readonly isShared?: boolean; readonly name?: string } = {}) {
    this.name = options.name ?? "memory";
    this.#now = options.now ?? Date.now;
    this.isShared = options.isShared ?? false;
  }

  get revision(): number {
    return this.#table.revision;
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

  async put(object: ConfigObject, precondition?: Precondition): Promise<ConfigObject> {
    const key = keyOf(object);
    return this.#apply(planPut(object, key, this.#table.get(key), precondition, this.#table.revision + 1, this.#now()));
  }

  async delete(key: ObjectKey, precondition?: Precondition): Promise<ConfigObject> {
    return this.#apply(planDelete(key, this.#table.get(key), precondition));
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #apply(write: PlannedWrite): ConfigObject {
    if (write.change) this.#table.apply([write.change]);
    return write.result;
  }
}
