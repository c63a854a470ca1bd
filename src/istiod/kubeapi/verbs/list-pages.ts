/**
 * Long lists in pages. Objects never change in place, so the pages behind the first are those of the state that the first was taken of:
 * they are kept for a while, and whoever comes too late is told to begin anew.
 */
import { randomBytes } from "node:crypto";
import type { ConfigObject } from "../../../api/kinds/object.ts";
import { ApiError } from "../status.ts";

/** Lists that are being read at the same time; the oldest is forgotten first. */
const maxLists = 256;
const lifeMs = 5 * 60_000;
const tokenBytes = 18;

interface Rest {
  readonly objects: readonly ConfigObject[];
  /** What is listed, so that a token goes on with its own list alone. */
  readonly subject: string;
  readonly revision: number;
  readonly keptAtMs: number;
}

export interface Page {
  readonly objects: readonly ConfigObject[];
  /** Of the state that the list shows. */
  readonly revision: number;
  /** Names the next page; undefined for the last. */
  readonly next: string | undefined;
  readonly remaining: number;
}

export class ListPages {
  readonly #rests = new Map<string, Rest>();
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** `limit` 0: all in one page. */
  first(objects: readonly ConfigObject[], subject: string, revision: number, limit: number): Page {
    return this.#cut({ objects, subject, revision, keptAtMs: this.#now() }, limit);
  }

  /** Throws ApiError 410 when the list is not kept any more. A page can be asked for again. */
  next(token: string, subject: string, limit: number): Page {
    const rest = this.#rests.get(token);
    if (Buffer.from(token, "base64url").length !== tokenBytes || (rest && rest.subject !== subject))
      throw new ApiError(400, "continue key is not valid: it is not one of this list");
    if (!rest || this.#now() - rest.keptAtMs > lifeMs) {
      this.#rests.delete(token);
      throw new ApiError(
        410,
        "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
      );
    }
    return this.#cut(rest, limit);
  }

  #cut(rest: Rest, limit: number): Page {
    const { objects, revision } = rest;
    if (limit <= 0 || objects.length <= limit) return { objects, revision, next: undefined, remaining: 0 };
    const next = randomBytes(tokenBytes).toString("base64url");
    this.#rests.set(next, { ...rest, objects: objects.slice(limit), keptAtMs: this.#now() });
    for (const token of this.#rests.keys()) {
      if (this.#rests.size <= maxLists) break;
      this.#rests.delete(token);
    }
    return { objects: objects.slice(0, limit), revision, next, remaining: objects.length - limit };
  }
}
