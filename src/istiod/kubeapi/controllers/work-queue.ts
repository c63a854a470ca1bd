import { log } from "../../../lib/log.ts";

const scope = log.scope("kubeapi");

const firstRetryMs = 200;
const maxRetryMs = 30_000;

/** Keys that are worked on at the same time: their writes share a transaction. */
const maxAtOnce = 64;

/** Does a piece of work for each key, once however often the key was added meanwhile; what fails is tried again, ever more seldom. */
export class WorkQueue<Key extends string> implements AsyncDisposable {
  readonly #name: string;
  readonly #work: (key: Key) => Promise<void>;
  readonly #pending = new Set<Key>();
  readonly #failures = new Map<Key, number>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #running: Promise<void> | undefined;
  #isClosed = false;

  constructor(name: string, work: (key: Key) => Promise<void>) {
    this.#name = name;
    this.#work = work;
  }

  add(key: Key): void {
    if (this.#isClosed) return;
    this.#pending.add(key);
    this.#running ??= this.#run();
  }

  /** Resolves when nothing is to be done, apart from what waits to be tried again. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async #run(): Promise<void> {
    // Whoever adds several keys in one go adds them all before the first is worked on.
    await Promise.resolve();
    while (this.#pending.size > 0) {
      const keys = [...this.#pending].slice(0, maxAtOnce);
      for (const key of keys) this.#pending.delete(key);
      await Promise.all(keys.map((key) => this.#do(key)));
    }
    this.#running = undefined;
  }

  async #do(key: Key): Promise<void> {
    try {
      await this.#work(key);
      this.#failures.delete(key);
    } catch (error) {
      this.#retry(key, error);
    }
  }

  #retry(key: Key, error: unknown): void {
    const failures = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, failures);
    if (failures === 1) scope.warn(`${this.#name}: failed, is tried again`, { key, error });
    const timer = setTimeout(
      () => {
        this.#timers.delete(timer);
        this.add(key);
      },
      Math.min(maxRetryMs, firstRetryMs * 2 ** (failures - 1)),
    ).unref();
    this.#timers.add(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#pending.clear();
    for (const timer of this.#timers) clearTimeout(timer);
    await this.idle();
  }
}
