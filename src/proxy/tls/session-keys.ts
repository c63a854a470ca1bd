/**
 * Keys of the tickets in which clients keep their TLS sessions.
 *
 * All workers start from one random seed, so that a ticket of one is good with any other. Each filter chain's keys are derived from it and
 * from everything that decided on the session: who may be let in by it, and as what. A ticket from elsewhere can therefore not even be
 * read, whatever the client asks for. Once a day the seed is replaced by its own hash: what was recorded before can't be read later.
 */
import { createHash, hkdfSync } from "node:crypto";

const dayMs = 86_400_000;
const ticketKeyBytes = 48;

/** What the main thread gives all workers. */
export interface SessionSeed {
  /** 32 random bytes. */
  readonly bytes: Uint8Array;
  readonly madeAtEpochMs: number;
}

export class SessionKeys {
  #seed: Buffer;
  #day = 0;
  readonly #madeAtEpochMs: number;

  constructor({ bytes, madeAtEpochMs }: SessionSeed) {
    this.#seed = Buffer.from(bytes);
    this.#madeAtEpochMs = madeAtEpochMs;
  }

  /** Changes when keys do. */
  dayAt(nowEpochMs: number): number {
    const day = Math.floor((nowEpochMs - this.#madeAtEpochMs) / dayMs);
    // A clock that was set back changes nothing.
    for (; this.#day < day; this.#day++) this.#seed = createHash("sha256").update("next day").update(this.#seed).digest();
    return this.#day;
  }

  /** For node:tls: name, HMAC key, AES key. */
  ticketKeys(context: string): Buffer {
    return deriveTicketKeys(this.#seed, context);
  }
}

export function deriveTicketKeys(secret: Uint8Array, context: string): Buffer {
  return Buffer.from(hkdfSync("sha256", secret, "topsail session tickets", context, ticketKeyBytes));
}
