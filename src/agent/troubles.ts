/**
 * What is wrong with this agent's surroundings while it goes on all the same: a disk that is full, a clock that is not right. Each is logged
 * when it begins and when it is over, and is there to be asked for in between.
 */
import { log } from "../lib/log.ts";

const scope = log.scope("trouble");

export class Troubles {
  readonly #present = new Map<string, string>();
  readonly #listeners = new Set<() => void>();

  /** `what` can't be had: `the last good configuration can't be kept`; and why. */
  report(what: string, reason: string): void {
    if (this.#present.get(what) === reason) return;
    this.#present.set(what, reason);
    scope.error(what, { reason });
    this.#tell();
  }

  clear(what: string): void {
    if (!this.#present.delete(what)) return;
    scope.info(`no longer: ${what}`);
    this.#tell();
  }

  /** Sentences for people; none when all is well. */
  get present(): readonly string[] {
    return [...this.#present].map(([what, reason]) => `${what}: ${reason}`);
  }

  /** What is wrong, without the reasons. */
  get names(): readonly string[] {
    return [...this.#present.keys()];
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}
