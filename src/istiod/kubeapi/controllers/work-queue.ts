import { log } from "../../../lib/log.ts";

const scope = log.scope("kubeapi");

const firstRetryMs = 200;
const maxRetryMs = 30_000;

/** Does a piece of work for each key, one at a time and once however often the key was added; what fails is tried again, ever more seldom. */
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
    for (const key of this.#pending) {
      this.#pending.delete(key);
      try {
        await this.#work(key);
        this.#failures.delete(key);
      } catch (error) {
        this.#retry(key, error);
      }
    }
    this.#running = undefined;
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
