/**
 * A deadline that moves often and expires seldom.
 *
 * A request sets its timeout and, microseconds later, lifts it again. A Node timer a request would cost more than the codec,
 * so the timer here stays armed at the earliest deadline ever set and looks again when it fires: setting and lifting are
 * assignments to a number.
 */
export class LazyTimer {
  #expire: () => void;
  #deadline = Number.POSITIVE_INFINITY;
  #armedFor = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;

  constructor(expire: () => void) {
    this.#expire = expire;
  }

  /** Milliseconds of performance.now(); Infinity lifts. Hot. */
  set(deadline: number): void {
    this.#deadline = deadline;
    if (deadline < this.#armedFor) this.#arm(deadline);
  }

  get deadline(): number {
    return this.#deadline;
  }

  dispose(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#deadline = Number.POSITIVE_INFINITY;
    this.#armedFor = Number.POSITIVE_INFINITY;
  }

  #arm(deadline: number): void {
    clearTimeout(this.#timer);
    this.#armedFor = deadline;
    // setTimeout counts in 31 bits; a longer wait simply looks again.
    const delay = Math.min(Math.max(0, Math.ceil(deadline - performance.now())), 0x7fff_ffff);
    this.#timer = setTimeout(() => this.#fired(), delay);
    this.#timer.unref();
  }

  #fired(): void {
    this.#timer = undefined;
    this.#armedFor = Number.POSITIVE_INFINITY;
    const deadline = this.#deadline;
    if (deadline === Number.POSITIVE_INFINITY) return;
    if (performance.now() < deadline - 0.5) {
      this.#arm(deadline);
      return;
    }
    this.#deadline = Number.POSITIVE_INFINITY;
    this.#expire();
  }
}
