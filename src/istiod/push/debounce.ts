/**
 * Gathers events until they pause: a push begins `quietMs` after the last event, and at most `maxMs` after the first. While a push is
 * being made, events gather for the next. Source: Istio pilot/pkg/xds/discovery.go (debounce).
 */
export interface DebounceOptions<Event> {
  readonly quietMs: number;
  readonly maxMs: number;
  /** Everything that came since the last call; the next call waits until this one has resolved. */
  readonly onQuiet: (events: readonly Event[]) => Promise<void>;
  readonly now?: () => number;
}

export class Debouncer<Event> implements Disposable {
  readonly #options: DebounceOptions<Event>;
  readonly #now: () => number;
  #events: Event[] = [];
  #firstAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;
  #isDisposed = false;

  constructor(options: DebounceOptions<Event>) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  add(events: readonly Event[]): void {
    if (this.#isDisposed || events.length === 0) return;
    if (this.#events.length === 0) this.#firstAt = this.#now();
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
    const left = this.#firstAt + this.#options.maxMs - this.#now();
    this.#timer = setTimeout(() => void this.#run(), Math.max(0, Math.min(this.#options.quietMs, left)));
  }

  async #run(): Promise<void> {
    const events = this.#events;
    this.#events = [];
    this.#isRunning = true;
    try {
      await this.#options.onQuiet(events);
    } finally {
      this.#isRunning = false;
      if (this.#events.length > 0 && !this.#isDisposed) this.#schedule();
    }
  }
}
