/**
 * Gathers events until it is time for a push. While a push is being made, events gather for the next.
 *
 *   configuration   when it has paused for `quietMs`, at the latest `maxMs` after the first event: a user's objects belong together
 *   endpoints       soon: each stands for itself, and whoever calls one that is gone waits for it. Not so soon that pushes take more than an
 *                   eighth of the time, however fast endpoints come and go; and with configuration that is pending, when that is due
 *
 * Source: Istio pilot/pkg/xds/discovery.go (debounce), where endpoints wait for a pause as well, and in steady churn for `maxMs`.
 */
export interface DebounceOptions<Event> {
  readonly quietMs: number;
  readonly maxMs: number;
  /** The least that endpoints wait; default 10. */
  readonly promptMs?: number;
  /** Everything that came since the last call; the next call waits until this one has resolved. */
  readonly onQuiet: (events: readonly Event[]) => Promise<void>;
  readonly now?: () => number;
}

export type Urgency = "configuration" | "endpoints";

/** A push of endpoints is followed by a pause of so many times its own length, up to a second: longer nobody shall call who is gone. */
const pausePerPush = 7;
const maxPauseMs = 1000;

export class Debouncer<Event> implements Disposable {
  readonly #options: DebounceOptions<Event>;
  readonly #now: () => number;
  #events: Event[] = [];
  #firstAt = 0;
  /** Of configuration; undefined: none is pending. */
  #lastConfigurationAt: number | undefined;
  #nextPromptAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;
  #isDisposed = false;

  constructor(options: DebounceOptions<Event>) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  add(events: readonly Event[], urgency: Urgency): void {
    if (this.#isDisposed || events.length === 0) return;
    if (this.#events.length === 0) this.#firstAt = this.#now();
    if (urgency === "configuration") this.#lastConfigurationAt = this.#now();
    this.#events.push(...events);
    this.#schedule();
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    if (this.#isRunning) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#run(), Math.max(0, this.#dueAt() - this.#now()));
  }

  #dueAt(): number {
    const { quietMs, maxMs, promptMs = 10 } = this.#options;
    const latest = this.#firstAt + maxMs;
    if (this.#lastConfigurationAt !== undefined) return Math.min(this.#lastConfigurationAt + quietMs, latest);
    return Math.min(Math.max(this.#firstAt + promptMs, this.#nextPromptAt), latest);
  }

  async #run(): Promise<void> {
    const events = this.#events;
    const isPrompt = this.#lastConfigurationAt === undefined;
    this.#events = [];
    this.#lastConfigurationAt = undefined;
    this.#isRunning = true;
    const startedAt = this.#now();
    try {
      await this.#options.onQuiet(events);
    } finally {
      this.#isRunning = false;
      const endedAt = this.#now();
      if (isPrompt) this.#nextPromptAt = endedAt + Math.min(pausePerPush * (endedAt - startedAt), maxPauseMs);
      if (this.#events.length > 0 && !this.#isDisposed) this.#schedule();
    }
  }
}
