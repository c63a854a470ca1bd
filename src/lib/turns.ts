/**
 * Work that is done for a few milliseconds each time that the event loop comes around. Hundreds of clients that ask in one moment are all
 * read in one turn, and one of them may ask for what takes seconds: were they answered in it, that turn would take as long, and meanwhile
 * no certificate would be signed, no ping answered, no probe and no request of the API.
 */
export class Turns {
  readonly #turnMs: number;
  readonly #waiting: (() => void)[] = [];

  constructor(turnMs: number) {
    this.#turnMs = turnMs;
  }

  add(work: () => void): void {
    if (this.#waiting.push(work) === 1) this.#schedule();
  }

  /** An immediate that is made by an immediate is the next turn's. */
  #schedule(): void {
    setImmediate(() => this.#run());
  }

  #run(): void {
    const end = performance.now() + this.#turnMs;
    try {
      do this.#waiting[0]!();
      while (this.#shift() > 0 && performance.now() < end);
    } catch (error) {
      this.#shift();
      throw error;
    } finally {
      if (this.#waiting.length > 0) this.#schedule();
    }
  }

  #shift(): number {
    this.#waiting.shift();
    return this.#waiting.length;
  }
}
