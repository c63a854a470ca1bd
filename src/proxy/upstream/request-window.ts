/** How many requests have begun within the last interval, by tenths of it, as Envoy counts them: one counts for up to a tenth too long. */
const tenths = 10;

export class RequestWindow {
  readonly #tenthMs: number;
  readonly #now: () => number;
  /** Of the current tenth and the ten before it, by their number. */
  readonly #begun = new Array<number>(tenths + 1).fill(0);
  #total = 0;
  /** Number of the current tenth. */
  #current: number;

  /** `now`: in milliseconds. */
  constructor(intervalMs: number, now: () => number = () => performance.now()) {
    this.#tenthMs = intervalMs / tenths;
    this.#now = now;
    this.#current = this.#tenth();
  }

  /** Hot. */
  count(): void {
    this.#forget();
    this.#begun[this.#current % this.#begun.length]! += 1;
    this.#total++;
  }

  get total(): number {
    this.#forget();
    return this.#total;
  }

  #tenth(): number {
    return Math.floor(this.#now() / this.#tenthMs);
  }

  #forget(): void {
    const tenth = this.#tenth();
    if (tenth === this.#current) return;
    const places = this.#begun.length;
    for (let step = Math.min(tenth - this.#current, places); step > 0; step--) {
      const place = ++this.#current % places;
      this.#total -= this.#begun[place]!;
      this.#begun[place] = 0;
    }
    this.#current = tenth;
  }
}
