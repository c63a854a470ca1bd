/**
 * Gives memory back when a burst of work is over: what it passed through is never needed again, and neither the heap nor the allocator shrinks
 * by itself. Not before, since it takes some ten milliseconds to some hundred.
 */
export interface ReleaseOptions {
  /** How much work has been done so far, in whatever says how much memory it went through. */
  readonly spent: () => number;
  /** From so much on it is worth it. An eighth of it in one interval says that the burst is not over. */
  readonly worth: number;
  readonly release: () => void;
  readonly everyMs?: number;
}

export class ReleaseAfterBursts implements Disposable {
  readonly #options: ReleaseOptions;
  readonly #timer: NodeJS.Timeout;
  #lastSeen: number;
  #sinceRelease = 0;

  constructor(options: ReleaseOptions) {
    this.#options = options;
    this.#lastSeen = options.spent();
    this.#timer = setInterval(() => this.#look(), options.everyMs ?? 5000).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const spent = this.#options.spent();
    const now = spent - this.#lastSeen;
    this.#lastSeen = spent;
    this.#sinceRelease += now;
    if (this.#sinceRelease < this.#options.worth || now > this.#options.worth / 8) return;
    this.#sinceRelease = 0;
    this.#options.release();
  }
}
