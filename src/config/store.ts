import type { ConfigError } from "../api/config-error.ts";
import type { ObjectOf } from "../api/kinds/index.ts";
import type { ConfigObject, KindName, ObjectKey } from "../api/kinds/object.ts";

/**
 * Where configuration comes from. A source holds an image of all its objects in memory: reading is immediate, and what a
 * reader sees is always one consistent state. Every change has a revision; a watcher gets the changes in their order.
 * One conformance suite (store-conformance.ts) holds for all sources.
 */
export interface ConfigStore extends AsyncDisposable {
  /** For messages: `files /etc/topsail/config`. */
  readonly name: string;
  /** Of the last change. Revisions grow by every change, also over restarts. */
  readonly revision: number;
  /** Objects in no particular order; of one kind, or of one kind in one namespace. */
  list(): ConfigObject[];
  list<K extends KindName>(kind: K, namespace?: string): ObjectOf<K>[];
  get<K extends KindName>(key: ObjectKey & { readonly kind: K }): ObjectOf<K> | undefined;
  /**
   * Calls back with each later change, in batches that belong together. With `afterRevision` the changes since that revision
   * come first; throws StoreError `expired` when they are no longer known and the watcher has to list anew.
   */
  watch(onEvents: (events: readonly ConfigEvent[]) => void, options?: WatchOptions): Disposable;
  /** What is wrong in the source now: text that can't be read, objects that are refused. */
  readonly problems: readonly ConfigError[];
}

export interface WritableConfigStore extends ConfigStore {
  /** Other processes, other control planes of the mesh, write to it as well; absent: none does. */
  readonly isShared?: boolean;
  /**
   * Makes or replaces an object and resolves, once it can't be lost any more, with the object as stored: uid, creation time,
   * generation and resource version are the store's. An object that says nothing new is left as it is.
   */
  put(object: ConfigObject, precondition?: Precondition): Promise<ConfigObject>;
  /** Resolves with what was deleted; throws StoreError `not-found` when there is nothing. */
  delete(key: ObjectKey, precondition?: Precondition): Promise<ConfigObject>;
}

export interface ConfigEvent {
  readonly type: "added" | "modified" | "deleted";
  /** After the change; for `deleted` the last state, its resource version being that of the deletion. */
  readonly object: ConfigObject;
  /** Before the change; absent for `added`. */
  readonly previous?: ConfigObject | undefined;
  readonly revision: number;
}

export interface WatchOptions {
  readonly afterRevision?: number;
}

/** What must hold for a write to be done; nothing when absent. */
export type Precondition =
  /** The stored object must still have this resource version. */
  | { readonly resourceVersion: string }
  /** There must be no such object. */
  | { readonly absent: true };

export type StoreErrorCode =
  /** The precondition's resource version is not the stored one. */
  | "conflict"
  /** The object exists although it should be absent. */
  | "exists"
  | "not-found"
  /** The object belongs to a source that can't be written through this interface. */
  | "read-only"
  /** The revision to watch from is too old. */
  | "expired"
  /** The source itself can't be used: locked by another process, damaged, no access. */
  | "unavailable";

export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly code: StoreErrorCode;

  constructor(code: StoreErrorCode, message: string, options: { readonly cause?: unknown } = {}) {
    super(message, options);
    this.code = code;
  }
}
