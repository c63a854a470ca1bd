/**
 * Gives memory back after much has been sent. When hundreds of proxies connect at once, gigabytes pass through buffers that are never needed
 * again, and neither the heap nor the allocator shrinks by itself. Done when the bustle is over, since it takes some hundred milliseconds.
 */
export interface ReleaseOptions {
  /** Bytes sent so far. */
  readonly sent: () => number;
  readonly release: () => void;
  readonly everyMs?: number;
  /** From so many on it is worth it. */
  readonly worthBytes?: number;
}

export class ReleaseAfterBursts implements Disposable {
  readonly #options: ReleaseOptions;
  readonly #worthBytes: number;
  readonly #timer: NodeJS.Timeout;
  #lastSeen = 0;
  #sinceRelease = 0;

  constructor(options: ReleaseOptions) {
    this.#options = options;
    this.#worthBytes = options.worthBytes ?? 256 * 1024 * 1024;
    this.#lastSeen = options.sent();
    this.#timer = setInterval(() => this.#look(), options.everyMs ?? 5000).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const sent = this.#options.sent();
    const now = sent - this.#lastSeen;
    this.#lastSeen = sent;
    this.#sinceRelease += now;
    // Much of it in this interval: it is not over.
    if (this.#sinceRelease < this.#worthBytes || now > this.#worthBytes / 16) return;
    this.#sinceRelease = 0;
    this.#options.release();
  }
}
