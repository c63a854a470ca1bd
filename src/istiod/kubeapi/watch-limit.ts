import type { ServerResponse } from "node:http";
import { ApiError } from "./status.ts";
import type { User } from "./users.ts";

/** How many watches one user may have at a time: each holds a connection and costs something at every change. */
export class WatchLimit {
  readonly #max: number;
  readonly #counts = new Map<string, number>();

  constructor(max: number) {
    this.#max = max;
  }

  /** Until the response is closed. Throws ApiError 429. */
  take({ name }: User, response: ServerResponse): void {
    const count = this.#counts.get(name) ?? 0;
    if (count >= this.#max)
      throw new ApiError(429, `too many watches of ${JSON.stringify(name)}: at most ${this.#max}`, { details: { retryAfterSeconds: 1 } });
    this.#counts.set(name, count + 1);
    response.once("close", () => {
      const left = (this.#counts.get(name) ?? 1) - 1;
      if (left > 0) this.#counts.set(name, left);
      else this.#counts.delete(name);
    });
  }
}
