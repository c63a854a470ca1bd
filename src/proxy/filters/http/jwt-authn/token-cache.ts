/**
 * Tokens whose signature was found good, by their whole text, so that the next request with the same one need not be asked again. What
 * changes with time and place (exp, nbf, audiences) is checked all the same. A cache belongs to one key set and goes with it: under
 * other keys nothing of it holds. The token used longest ago makes room.
 */
import type { Jwt } from "./jwt.ts";

export class TokenCache {
  readonly #maxTokens: number;
  readonly #maxTokenLength: number;
  readonly #tokens = new Map<string, Jwt>();

  constructor(maxTokens: number, maxTokenLength: number) {
    this.#maxTokens = maxTokens;
    this.#maxTokenLength = maxTokenLength;
  }

  get size(): number {
    return this.#tokens.size;
  }

  /** Hot. */
  get(token: string): Jwt | undefined {
    const jwt = this.#tokens.get(token);
    if (jwt === undefined) return undefined;
    // A Map remembers the order of insertion: last used, last in it.
    this.#tokens.delete(token);
    this.#tokens.set(token, jwt);
    return jwt;
  }

  add(token: string, jwt: Jwt): void {
    if (token.length > this.#maxTokenLength) return;
    this.#tokens.set(token, jwt);
    if (this.#tokens.size > this.#maxTokens) this.#tokens.delete(this.#tokens.keys().next().value!);
  }

  delete(token: string): void {
    this.#tokens.delete(token);
  }
}
