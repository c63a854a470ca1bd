/**
 * The embedded store: SQLite in the data directory. A write is acknowledged after the transaction that holds it is on the
 * disk (WAL, synchronous=FULL), so that kill -9 and power loss take nothing that was acknowledged. Writes that come in one
 * turn of the event loop share a transaction, for a sync of the disk costs more than all the rest.
 *
 * The database holds the objects as they were written (JSON); they are decoded once, at the start. One process at a time:
 * the file is locked for as long as the store is open.
 */
import { chmodSync, closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { ConfigError } from "../api/config-error.ts";
import { decodeObject, unknownKindError } from "../api/documents/decode-object.ts";
import type { ObjectOf } from "../api/kinds/index.ts";
import { type ConfigObject, formatKey, type KindName, keyOf, type ObjectKey } from "../api/kinds/object.ts";
import { ObjectTable, type TableChange } from "./object-table.ts";
import { type PlannedWrite, planDelete, planPut } from "./plan-write.ts";
import { type ConfigEvent, type Precondition, StoreError, type WatchOptions, type WritableConfigStore } from "./store.ts";

const schemaVersion = 1;

export interface SqliteStoreOptions {
  /** Made with mode 0700 when it is missing; the database in it has mode 0600. */
  readonly dataDir: string;
  readonly now?: () => number;
}

interface PendingWrite {
  readonly key: ObjectKey;
  /** Throws when the write can't be done. `stored` is the object as the writes before this one leave it. */
  readonly plan: (stored: ConfigObject | undefined, revision: number) => PlannedWrite;
  readonly resolve: (object: ConfigObject) => void;
  readonly reject: (error: unknown) => void;
}

export class SqliteStore implements WritableConfigStore {
  readonly name: string;
  readonly problems: readonly ConfigError[];
  readonly #database: DatabaseSync;
  readonly #table: ObjectTable;
  readonly #now: () => number;
  readonly #upsert: StatementSync;
  readonly #remove: StatementSync;
  readonly #setRevision: StatementSync;
  #pending: PendingWrite[] = [];
  #isClosed = false;

  private constructor(name: string, database: DatabaseSync, table: ObjectTable, problems: readonly ConfigError[], now: () => number) {
    this.name = name;
    this.#database = database;
    this.#table = table;
    this.problems = problems;
    this.#now = now;
    this.#upsert = database.prepare(
      "INSERT INTO objects (key, revision, raw) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, raw = excluded.raw",
    );
    this.#remove = database.prepare("DELETE FROM objects WHERE key = ?");
    this.#setRevision = database.prepare("UPDATE state SET revision = ?");
  }

  static async start(options: SqliteStoreOptions): Promise<SqliteStore> {
    const path = join(options.dataDir, "config.sqlite");
    let database: DatabaseSync | undefined;
    try {
      database = openDatabase(options.dataDir, path);
      const { table, problems } = loadObjects(database, path);
      return new SqliteStore(`sqlite ${path}`, database, table, problems, options.now ?? Date.now);
    } catch (cause) {
      database?.close();
      if (cause instanceof StoreError) throw cause;
      throw new StoreError("unavailable", `Cannot open the store ${path}: ${reasonOf(cause)}`, { cause });
    }
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

  put(object: ConfigObject, precondition?: Precondition): Promise<ConfigObject> {
    const key = keyOf(object);
    return this.#write(key, (stored, revision) => planPut(object, key, stored, precondition, revision, this.#now()));
  }

  delete(key: ObjectKey, precondition?: Precondition): Promise<ConfigObject> {
    return this.#write(key, (stored) => planDelete(key, stored, precondition));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#flush();
    this.#isClosed = true;
    this.#database.close();
  }

  #write(key: ObjectKey, plan: PendingWrite["plan"]): Promise<ConfigObject> {
    if (this.#isClosed) return Promise.reject(new StoreError("unavailable", `Cannot write to ${this.name}: it is closed`));
    const { promise, resolve, reject } = Promise.withResolvers<ConfigObject>();
    if (this.#pending.push({ key, plan, resolve, reject }) === 1) setImmediate(() => this.#flush());
    return promise;
  }

  /** Does all pending writes in one transaction, then tells their writers and the watchers. */
  #flush(): void {
    const writes = this.#pending;
    if (writes.length === 0) return;
    this.#pending = [];
    const changes: TableChange[] = [];
    const settle: (() => void)[] = [];
    try {
      this.#database.exec("BEGIN IMMEDIATE");
      const ahead = new Map<string, ConfigObject | undefined>();
      for (const write of writes) {
        const id = formatKey(write.key);
        let planned: PlannedWrite;
        try {
          planned = write.plan(ahead.has(id) ? ahead.get(id) : this.#table.get(write.key), this.#table.revision + changes.length + 1);
        } catch (error) {
          settle.push(() => write.reject(error));
          continue;
        }
        settle.push(() => write.resolve(planned.result));
        if (!planned.change) continue;
        changes.push(planned.change);
        const object = "put" in planned.change ? planned.change.put : undefined;
        ahead.set(id, object);
        if (object) this.#upsert.run(id, this.#table.revision + changes.length, JSON.stringify(object.raw));
        else this.#remove.run(id);
      }
      this.#setRevision.run(this.#table.revision + changes.length);
      this.#database.exec("COMMIT");
    } catch (cause) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      const error = new StoreError("unavailable", `Cannot write to ${this.name}: ${reasonOf(cause)}`, { cause });
      for (const write of writes) write.reject(error);
      return;
    }
    for (const done of settle) done();
    this.#table.apply(changes);
  }
}

function openDatabase(dataDir: string, path: string): DatabaseSync {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  try {
    chmodSync(dataDir, 0o700);
  } catch (error) {
    // Somebody else's, as a container's volume may be: what is in it is closed by itself.
    if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
  }
  // SQLite gives the WAL the mode of the database, so the database is made first, closed to others.
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
  const database = new DatabaseSync(path, { timeout: 0 });
  database.exec(`
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, raw TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS state (schemaVersion INTEGER NOT NULL, revision INTEGER NOT NULL) STRICT;
    INSERT INTO state SELECT ${schemaVersion}, 0 WHERE NOT EXISTS (SELECT 1 FROM state);
  `);
  return database;
}

function loadObjects(database: DatabaseSync, path: string): { table: ObjectTable; problems: ConfigError[] } {
  const state = database.prepare("SELECT schemaVersion, revision FROM state").get() as { schemaVersion: number; revision: number };
  if (state.schemaVersion !== schemaVersion) {
    throw new StoreError(
      "unavailable",
      `Cannot open the store ${path}: it has schema version ${state.schemaVersion}, this program knows ${schemaVersion}`,
    );
  }
  const table = new ObjectTable(state.revision);
  const problems: ConfigError[] = [];
  for (const row of database.prepare("SELECT key, raw FROM objects").iterate() as Iterable<{ key: string; raw: string }>) {
    try {
      const { object, errors, foreign } = decodeObject(JSON.parse(row.raw));
      if (object) table.load(object);
      else problems.push(...(foreign ? [unknownKindError(foreign)] : errors));
    } catch (cause) {
      problems.push(new ConfigError(`${row.key} in ${path} can't be read`, { cause }));
    }
  }
  return { table, problems };
}

function reasonOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  if (/database is locked/.test(message)) return "another process has it open";
  if (/not a database|malformed/.test(message)) return `it is damaged (${message})`;
  return message;
}
