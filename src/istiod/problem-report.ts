/** What of a store's content is refused, in the log: each problem when it comes up. Looked at when changes pause, since it takes all objects. */
import type { ConfigStore } from "../config/store.ts";
import { log } from "../lib/log.ts";

const scope = log.scope("istiod");

const pauseMs = 100;

export class ProblemReport implements Disposable {
  readonly #store: ConfigStore;
  readonly #watch: Disposable;
  #known: ReadonlySet<string> = new Set();
  #timer: NodeJS.Timeout | undefined;

  /** Reports what there is at once. */
  constructor(store: ConfigStore) {
    this.#store = store;
    this.#report();
    this.#watch = store.watch(() => {
      this.#timer ??= setTimeout(() => this.#report(), pauseMs);
    });
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    clearTimeout(this.#timer);
  }

  #report(): void {
    this.#timer = undefined;
    const now = new Set(this.#store.problems.map((problem) => problem.describe()));
    for (const problem of now) if (!this.#known.has(problem)) scope.warn("configuration is refused", { problem });
    this.#known = now;
  }
}
