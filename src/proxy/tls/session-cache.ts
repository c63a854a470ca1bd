/**
 * TLS 1.2 sessions of clients that take no tickets, by session id, in memory that all workers share. A table of fixed size: a session that
 * falls into the place of another replaces it, and one that a worker is just writing is not found by the others. A miss costs the client a
 * full handshake, nothing else. Pages that were never written to take no memory.
 */

const slotBytes = 2048;
const slots = 4096;
const idBytes = 32;
// In a slot: lock, expiry in seconds, length of the id, length of the session; then the id, then the session.
const [lockAt, expiryAt, idLengthAt, lengthAt] = [0, 1, 2, 3];
const headerBytes = 16;
const maxSessionBytes = slotBytes - headerBytes - idBytes;

export class SessionCache {
  readonly #words: Int32Array;
  readonly #bytes: Buffer;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
    this.#bytes = Buffer.from(memory);
  }

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(slots * slotBytes);
  }

  put(id: Buffer, session: Buffer, expiresAtEpochMs: number): void {
    if (id.length === 0 || id.length > idBytes || session.length > maxSessionBytes) return;
    this.#locked(id, (word, byte) => {
      this.#words[word + expiryAt] = Math.floor(expiresAtEpochMs / 1000);
      this.#words[word + idLengthAt] = id.length;
      this.#words[word + lengthAt] = session.length;
      id.copy(this.#bytes, byte + headerBytes);
      session.copy(this.#bytes, byte + headerBytes + idBytes);
    });
  }

  get(id: Buffer, nowEpochMs: number): Buffer | null {
    if (id.length === 0 || id.length > idBytes) return null;
    let found: Buffer | null = null;
    this.#locked(id, (word, byte) => {
      if (this.#words[word + idLengthAt] !== id.length || this.#words[word + expiryAt]! * 1000 <= nowEpochMs) return;
      const from = byte + headerBytes;
      if (!id.equals(this.#bytes.subarray(from, from + id.length))) return;
      found = Buffer.from(this.#bytes.subarray(from + idBytes, from + idBytes + this.#words[word + lengthAt]!));
    });
    return found;
  }

  /** Ids are random, so their first bytes spread well. */
  #locked(id: Buffer, work: (word: number, byte: number) => void): void {
    const slot = id.readUIntBE(0, Math.min(4, id.length)) % slots;
    const word = (slot * slotBytes) / 4;
    if (Atomics.compareExchange(this.#words, word + lockAt, 0, 1) !== 0) return;
    try {
      work(word, slot * slotBytes);
    } finally {
      Atomics.store(this.#words, word + lockAt, 0);
    }
  }
}
