/** The wall clock may be set at any time: by a time server, by hand, or because the machine was asleep. */
import type { KeyPair } from "./key-pair.ts";

/** What a time server corrects by and by is nobody's trouble. */
const leastStepMs = 30_000;

/** Tells the wall clock's steps by the monotonic clock, which knows none. */
export class ClockSteps {
  readonly #now: () => number;
  #offsetMs: number;

  constructor(now: () => number) {
    this.#now = now;
    this.#offsetMs = this.#offset();
  }

  /** Milliseconds by which the clock has been set since this was asked last, forwards or (negative) backwards; 0 for none. */
  since(): number {
    const offsetMs = this.#offset();
    const stepMs = offsetMs - this.#offsetMs;
    if (Math.abs(stepMs) < leastStepMs) return 0;
    this.#offsetMs = offsetMs;
    return stepMs;
  }

  #offset(): number {
    return this.#now() - performance.now();
  }
}

/** Why a certificate does not hold by this clock; undefined: it does. */
export function clockTrouble({ notBefore, notAfter }: Pick<KeyPair, "notBefore" | "notAfter">, now: number): string | undefined {
  const clock = `the clock says ${new Date(now).toISOString()}`;
  if (now < notBefore.getTime()) return `not yet valid: it begins at ${notBefore.toISOString()}, ${clock}`;
  if (now > notAfter.getTime()) return `expired: it ended at ${notAfter.toISOString()}, ${clock}`;
  return undefined;
}
