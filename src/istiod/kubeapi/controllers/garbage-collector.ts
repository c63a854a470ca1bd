/** What belonged to an object that is gone goes too: objects all of whose `ownerReferences` name owners that there are no more. */
import { type ConfigObject, formatKey, keyOf, type ObjectKey } from "../../../api/kinds/object.ts";
import { textAt } from "../../../api/kinds/raw-fields.ts";
import { StoreError, type WritableConfigStore } from "../../../config/store.ts";
import { WorkQueue } from "./work-queue.ts";

export class GarbageCollector implements AsyncDisposable {
  readonly #store: WritableConfigStore;
  /** Keys of what an owner has, by its uid. */
  readonly #owned = new Map<string, Map<string, ObjectKey>>();
  readonly #alive = new Set<string>();
  readonly #queue = new WorkQueue<string>("garbage", (uid) => this.#collect(uid));
  readonly #watch: Disposable;

  constructor(store: WritableConfigStore) {
    this.#store = store;
    for (const object of store.list()) this.#learn(object);
    for (const uid of this.#owned.keys()) if (!this.#alive.has(uid)) this.#queue.add(uid);
    this.#watch = store.watch((events) => {
      for (const { type, object } of events) {
        if (type === "deleted") this.#forget(object);
        else this.#learn(object);
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watch[Symbol.dispose]();
    await this.#queue[Symbol.asyncDispose]();
  }

  #learn(object: ConfigObject): void {
    this.#alive.add(object.metadata.uid);
    for (const uid of ownersOf(object)) {
      const keys = this.#owned.get(uid) ?? new Map<string, ObjectKey>();
      this.#owned.set(uid, keys.set(formatKey(keyOf(object)), keyOf(object)));
      // Written after its owner was deleted, or with an owner that never was.
      if (!this.#alive.has(uid)) this.#queue.add(uid);
    }
  }

  #forget(object: ConfigObject): void {
    this.#alive.delete(object.metadata.uid);
    for (const uid of ownersOf(object)) {
      this.#owned.get(uid)?.delete(formatKey(keyOf(object)));
      if (this.#owned.get(uid)?.size === 0) this.#owned.delete(uid);
    }
    if (this.#owned.has(object.metadata.uid)) this.#queue.add(object.metadata.uid);
  }

  async #collect(uid: string): Promise<void> {
    for (const key of [...(this.#owned.get(uid)?.values() ?? [])]) {
      const object = this.#store.get(key) as ConfigObject | undefined;
      if (!object || object.position || this.#alive.has(uid) || ownersOf(object).some((owner) => this.#alive.has(owner))) continue;
      try {
        await this.#store.delete(key, { resourceVersion: object.metadata.resourceVersion });
      } catch (error) {
        if (!(error instanceof StoreError) || error.code !== "not-found") throw error;
      }
    }
  }
}

function ownersOf({ metadata }: ConfigObject): string[] {
  return (metadata.ownerReferences ?? []).map((owner) => textAt(owner, "uid")).filter(Boolean);
}
