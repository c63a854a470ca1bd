/**
 * Work that is done for a few milliseconds each time that the event loop comes around. Hundreds of clients that ask in one moment are all
 * read in one turn, and one of them may ask for what takes seconds: were they answered in it, that turn would take as long, and meanwhile
 * no certificate would be signed, no ping answered, no probe and no request of the API.
 */

/** To what is more urgent than any of the work. */
export interface GivingWay {
  readonly while: () => boolean;
  /** No work waits for longer than this because of it. */
  readonly maxMs: number;
}

interface Waiting {
  readonly work: () => void;
  readonly since: number;
}

/** How soon it is asked again. */
const pauseMs = 1;

export class Turns {
  readonly #turnMs: number;
  readonly #givesWay: GivingWay | undefined;
  readonly #waiting: Waiting[] = [];

  constructor(turnMs: number, givesWay?: GivingWay) {
    this.#turnMs = turnMs;
    this.#givesWay = givesWay;
  }

  add(work: () => void): void {
    if (this.#waiting.push({ work, since: performance.now() }) === 1) this.#schedule();
  }

  /** An immediate that is made by an immediate is the next turn's. */
  #schedule(): void {
    setImmediate(() => this.#run());
  }

  #run(): void {
    const now = performance.now();
    if (this.#givesWay?.while() && now - this.#waiting[0]!.since < this.#givesWay.maxMs) {
      setTimeout(() => this.#run(), pauseMs);
      return;
    }
    const end = now + this.#turnMs;
    try {
      do this.#waiting[0]!.work();
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
