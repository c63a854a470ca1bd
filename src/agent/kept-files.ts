/**
 * Files that hold what is in memory, for the next start. What can't be written is tried again, ever more seldom, until it can; the old files
 * stay whole meanwhile, and nothing else waits for it.
 */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { pause } from "../lib/pause.ts";
import { type WholeFile, writeTogether } from "../lib/write-whole.ts";
import type { Troubles } from "./troubles.ts";

const [firstRetryMs, lastRetryMs] = [1000, 60_000];

export interface KeptFilesOptions {
  /** What they hold, for people: `the last good configuration`. */
  readonly what: string;
  readonly troubles: Pick<Troubles, "report" | "clear">;
  /** The files as they should be now. Directories are made, for this user alone. */
  readonly files: () => readonly WholeFile[];
  readonly pause?: typeof pause;
}

export class KeptFiles implements AsyncDisposable {
  readonly #options: KeptFilesOptions;
  readonly #stop = new AbortController();
  #isChanged = false;
  #writing: Promise<void> | undefined;
  /** Resolves when the attempt that is being made has failed. */
  #failed = Promise.withResolvers<void>();
  #isWaiting = false;

  constructor(options: KeptFilesOptions) {
    this.#options = options;
  }

  /** What `files` returns has changed. Resolves when it is written, or can't be for now. */
  save(): Promise<void> {
    this.#isChanged = true;
    if (this.#isWaiting || this.#stop.signal.aborted) return Promise.resolve();
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
    return Promise.race([this.#failed.promise, this.#writing]);
  }

  /** Waits for what is being written, not for what can't be. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#writing;
  }

  async #write(): Promise<void> {
    const { what, troubles, files, pause: wait = pause } = this.#options;
    const { signal } = this.#stop;
    const trouble = `${what} can't be kept on disk`;
    let retryMs = firstRetryMs;
    while (this.#isChanged) {
      this.#isChanged = false;
      try {
        const wanted = files();
        for (const directory of new Set(wanted.map(({ path }) => dirname(path)))) await mkdir(directory, { recursive: true, mode: 0o700 });
        await writeTogether(wanted);
        troubles.clear(trouble);
        retryMs = firstRetryMs;
      } catch (error) {
        this.#isChanged = true;
        troubles.report(trouble, error instanceof Error ? error.message : String(error));
        this.#isWaiting = true;
        this.#failed.resolve();
        await wait(retryMs, signal);
        this.#isWaiting = false;
        this.#failed = Promise.withResolvers<void>();
        if (signal.aborted) return;
        retryMs = Math.min(retryMs * 2, lastRetryMs);
      }
    }
  }
}
