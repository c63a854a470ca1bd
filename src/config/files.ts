/**
 * A directory of YAML and JSON files as a source: the operator owns the files, this process only reads them.
 *
 * inotify tells that something happened, never what: every notice, and a slow clock besides (network file systems send no
 * notices), leads to a walk of the tree that re-reads what has changed. The rules by which the files make the objects in force:
 *
 * - an object is in force when exactly one document holds it and that document is valid;
 * - a broken document leaves the last good version of its object in force; when not even its identity can be made out, all
 *   objects that came from its file stay;
 * - of an object that is written twice, the version in force stays, else the first by path and line is taken; both places are named;
 * - a file that is being written (just changed, or emptied) is read once it is quiet; a file that is gone takes its objects
 *   along only when the next walk misses it too, for a rename is seen as a hole.
 */
import { type FSWatcher, watch } from "node:fs";
import { readFile, realpath } from "node:fs/promises";
import { resolve } from "node:path";
import { ConfigError } from "../api/config-error.ts";
import { maxFileBytes, readText, tooLarge } from "../api/documents/read-text.ts";
import type { ObjectOf } from "../api/kinds/index.ts";
import { type ConfigObject, formatKey, type KindName, keyOf, type ObjectKey } from "../api/kinds/object.ts";
import type { LogScope } from "../lib/log.ts";
import { type FileContent, type ReadContent, readContent } from "./file-content.ts";
import { ObjectBirths } from "./object-births.ts";
import { freshRevision, ObjectTable, type TableChange } from "./object-table.ts";
import { saysTheSame, stamp } from "./stamp.ts";
import { type ConfigEvent, type ConfigStore, StoreError, type WatchOptions } from "./store.ts";
import { type FoundFile, walkDirectory } from "./walk-directory.ts";

export interface FilesStoreOptions {
  readonly directory: string;
  /** Files in the directory that are no objects, such as the one that --meshConfig names. */
  readonly exclude?: readonly string[];
  /** Where creation times are kept over restarts; without it they are the files'. */
  readonly dataDir?: string | undefined;
  readonly log?: LogScope;
  /** The clock's period. Default 2000; a walk never takes more than a twentieth of the time. */
  readonly rescanMs?: number;
}

/** A file is read when it wasn't touched for this long; editors and `cp` write in several steps. */
const settleMs = 40;
/** A file that is written without pause is read after this time all the same. */
const maxSettleMs = 1000;
/** From a notice to the walk, so that one `git checkout` is one walk. */
const noticeMs = 15;

interface TrackedFile {
  readonly found: FoundFile;
  readonly read: ReadContent;
  /** Whether the last walk missed it. */
  readonly isMissing: boolean;
}

/** What an object in force was made from. */
interface Origin {
  readonly file: string;
  readonly written: ConfigObject;
}

export class FilesStore implements ConfigStore {
  readonly name: string;
  readonly #directory: string;
  readonly #options: FilesStoreOptions;
  readonly #table = new ObjectTable(freshRevision());
  readonly #births: ObjectBirths;
  readonly #files = new Map<string, TrackedFile>();
  readonly #origins = new Map<string, Origin>();
  readonly #unsettledSinceMs = new Map<string, number>();
  #problems: readonly ConfigError[] = [];
  #warnings: readonly ConfigError[] = [];
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerDueMs = Number.POSITIVE_INFINITY;
  #scanning: Promise<void> | undefined;
  #isClosed = false;

  private constructor(options: FilesStoreOptions) {
    this.#options = options;
    this.#directory = resolve(options.directory);
    this.name = `files ${this.#directory}`;
    this.#births = new ObjectBirths(options.dataDir);
  }

  /** Resolves when all files are read. Throws when the directory isn't there. */
  static async start(options: FilesStoreOptions): Promise<FilesStore> {
    const store = new FilesStore(options);
    try {
      await realpath(store.#directory);
    } catch (cause) {
      throw new StoreError("unavailable", `Cannot read the configuration directory ${store.#directory}: ${codeOf(cause)}`, { cause });
    }
    store.#watchDirectory();
    await store.#scan(true);
    store.#births.keepOnly(new Set(store.#origins.keys()));
    return store;
  }

  get revision(): number {
    return this.#table.revision;
  }

  get problems(): readonly ConfigError[] {
    return this.#problems;
  }

  /** What is in force and yet worth a word. */
  get warnings(): readonly ConfigError[] {
    return this.#warnings;
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

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#watcher?.close();
    clearTimeout(this.#timer);
    await this.#scanning;
  }

  #watchDirectory(): void {
    try {
      this.#watcher = watch(this.#directory, { recursive: true, persistent: false }, () => this.#scanIn(noticeMs));
      this.#watcher.on("error", (error) => this.#loseWatcher(error));
    } catch (error) {
      this.#loseWatcher(error);
    }
  }

  /** Out of inotify watches, or the directory itself was replaced: the clock still finds every change. */
  #loseWatcher(error: unknown): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#options.log?.warn("Cannot watch the configuration directory; changes are found by looking from time to time", {
      directory: this.#directory,
      error,
    });
  }

  /** Asks for a walk within the time; an earlier one that is planned already stays. */
  #scanIn(delayMs: number): void {
    const dueMs = performance.now() + delayMs;
    if (this.#isClosed || dueMs >= this.#timerDueMs) return;
    clearTimeout(this.#timer);
    this.#timerDueMs = dueMs;
    this.#timer = setTimeout(() => {
      this.#timerDueMs = Number.POSITIVE_INFINITY;
      this.#scanning = (this.#scanning ?? Promise.resolve()).then(() => this.#scan(false));
    }, delayMs).unref();
  }

  async #scan(isFirst: boolean): Promise<void> {
    if (this.#isClosed) return;
    const startedMs = performance.now();
    try {
      await this.#readTree(isFirst);
    } catch (error) {
      this.#publishProblems([
        new ConfigError(`can't be read: ${codeOf(error)}`, { position: { file: this.#directory, line: 1 }, cause: error }),
      ]);
    }
    this.#scanIn(Math.max(this.#options.rescanMs ?? 2000, 20 * (performance.now() - startedMs)));
  }

  async #readTree(isFirst: boolean): Promise<void> {
    const excluded = new Set(await Promise.all((this.#options.exclude ?? []).map((path) => realpath(path).catch(() => resolve(path)))));
    const { files, problems } = await walkDirectory(this.#directory, excluded);
    let isChanged = false;
    for (const found of files) {
      const known = this.#files.get(found.path);
      if (known?.found.signature === found.signature && !known.isMissing) continue;
      if (!isFirst && !this.#isSettled(found, known)) continue;
      const read = await this.#read(found, known);
      // At the start nothing waits for quiet; what was still being written is then read again.
      const isQuiet = !isFirst || ageMs(found) >= settleMs;
      this.#files.set(found.path, { found: isQuiet ? found : { ...found, signature: "" }, read, isMissing: false });
      if (!isQuiet) this.#scanIn(settleMs);
      isChanged = true;
    }
    const present = new Set(files.map((found) => found.path));
    for (const [path, known] of this.#files) {
      if (present.has(path)) continue;
      isChanged = true;
      this.#unsettledSinceMs.delete(path);
      if (known.isMissing) {
        this.#files.delete(path);
      } else {
        this.#files.set(path, { ...known, isMissing: true });
        this.#scanIn(settleMs);
      }
    }
    if (isChanged) await this.#putInForce();
    this.#publishProblems([...problems, ...this.#contentProblems()]);
  }

  #isSettled(found: FoundFile, known: TrackedFile | undefined): boolean {
    const nowMs = performance.now();
    const sinceMs = this.#unsettledSinceMs.get(found.path) ?? nowMs;
    const wasEmptied = found.size === 0 && known !== undefined && known.found.size > 0;
    if ((ageMs(found) < settleMs || wasEmptied) && nowMs - sinceMs < maxSettleMs) {
      this.#unsettledSinceMs.set(found.path, sinceMs);
      this.#scanIn(wasEmptied ? 100 : settleMs - ageMs(found) + 1);
      return false;
    }
    this.#unsettledSinceMs.delete(found.path);
    return true;
  }

  async #read(found: FoundFile, known: TrackedFile | undefined): Promise<ReadContent> {
    try {
      if (found.size > maxFileBytes) throw tooLarge(found.path, found.size);
      return await readContent(readText(await readFile(found.path), found.path), found.path, known?.read.cache);
    } catch (error) {
      const problem =
        error instanceof ConfigError
          ? error
          : new ConfigError(`can't be read: ${codeOf(error)}`, { position: { file: found.path, line: 1 }, cause: error });
      return { content: { ...nothing, errors: [problem], hasUnidentified: true }, cache: new Map() };
    }
  }

  /** Works out which objects are in force now, and applies the difference. */
  async #putInForce(): Promise<void> {
    const chosen = new Map<string, Origin>();
    for (const [id, candidates] of this.#candidates()) {
      const current = this.#origins.get(id);
      chosen.set(id, candidates.find((candidate) => candidate.file === current?.file) ?? (candidates[0] as Origin));
    }
    for (const [id, origin] of this.#origins) {
      if (!chosen.has(id) && this.#staysInForce(id, origin)) chosen.set(id, origin);
    }

    const changes: TableChange[] = [];
    for (const [id, origin] of this.#origins) {
      if (chosen.has(id)) continue;
      this.#births.forget(id);
      changes.push({ delete: keyOf(origin.written) });
    }
    let revision = this.#table.revision + changes.length;
    for (const [id, origin] of chosen) {
      const known = this.#origins.get(id);
      if (known && (known.written === origin.written || saysTheSame(known.written, origin.written))) continue;
      revision++;
      changes.push({ put: this.#stamped(id, origin, String(revision)) });
    }
    this.#origins.clear();
    for (const [id, origin] of chosen) this.#origins.set(id, origin);
    this.#table.apply(changes);
    await this.#births.save(this.#options.dataDir);
  }

  #stamped(id: string, origin: Origin, resourceVersion: string): ConfigObject {
    const previous = this.#table.get(keyOf(origin.written)) as ConfigObject | undefined;
    const createdMs = origin.written.metadata.creationTimestamp || this.#files.get(origin.file)?.found.createdMs || Date.now();
    const birth = this.#births.of(id, createdMs);
    return stamp(origin.written, previous, { resourceVersion, nowMs: birth.createdMs, uid: () => birth.uid });
  }

  /** The valid objects of all files that are there, by key, in the order of path and line. */
  #candidates(): Map<string, Origin[]> {
    const candidates = new Map<string, Origin[]>();
    const present = [...this.#files].filter(([, file]) => !file.isMissing).sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [path, file] of present) {
      for (const object of file.read.content.objects) {
        const id = formatKey(keyOf(object));
        const known = candidates.get(id);
        if (known) known.push({ file: path, written: object });
        else candidates.set(id, [{ file: path, written: object }]);
      }
    }
    return candidates;
  }

  /** Whether an object that no valid document holds any more is kept for what its file has become. */
  #staysInForce(id: string, origin: Origin): boolean {
    const file = this.#files.get(origin.file);
    if (!file) return false;
    const { content } = file.read;
    return file.isMissing || content.hasUnidentified || content.brokenKeys.some((key) => formatKey(key) === id);
  }

  #contentProblems(): ConfigError[] {
    const contents = [...this.#files.values()].filter((file) => !file.isMissing).map((file) => file.read.content);
    this.#publishWarnings(contents.flatMap((content) => content.warnings));
    return [...contents.flatMap((content) => content.errors), ...this.#duplicates()];
  }

  #duplicates(): ConfigError[] {
    const duplicates: ConfigError[] = [];
    for (const [id, candidates] of this.#candidates()) {
      if (candidates.length < 2) continue;
      const inForce = this.#origins.get(id)?.written;
      for (const { written } of candidates) {
        if (written === inForce) continue;
        const other = inForce?.position;
        duplicates.push(
          new ConfigError(`is written twice: the one in ${other?.file ?? "another file"}:${other?.line ?? 1} is in force`, {
            ...keyOf(written),
            position: written.position,
          }),
        );
      }
    }
    return duplicates;
  }

  #publishWarnings(warnings: readonly ConfigError[]): void {
    const known = new Set(this.#warnings.map((warning) => warning.describe()));
    this.#warnings = warnings;
    for (const warning of warnings) {
      if (!known.has(warning.describe())) this.#options.log?.warn("Configuration taken with a warning", { reason: warning.describe() });
    }
  }

  /** Each problem is logged once, when it comes up. */
  #publishProblems(problems: readonly ConfigError[]): void {
    const known = new Set(this.#problems.map((problem) => problem.describe()));
    this.#problems = problems;
    for (const problem of problems) {
      if (!known.has(problem.describe())) this.#options.log?.error("Configuration refused", { reason: problem.describe() });
    }
    if (known.size > 0 && problems.length === 0)
      this.#options.log?.info("Configuration is free of errors again", { directory: this.#directory });
  }
}

/** Time since the file was touched. A clock that was set back makes files of the future; those count as old. */
function ageMs(found: FoundFile): number {
  return Math.abs(Date.now() - found.modifiedMs);
}

const nothing: FileContent = { objects: [], errors: [], foreign: [], brokenKeys: [], hasUnidentified: false, warnings: [] };

function codeOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code ?? (error instanceof Error ? error.message : String(error));
}
