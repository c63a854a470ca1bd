/**
 * OpenSSL's side of certificates: made from PEM at first use, shared by the connections of a worker, and forgotten when many others were
 * used since. One takes some 30 KiB and 0.2 ms, so that ten thousand certificates cost nothing before somebody asks for them; connections
 * that are open keep what they began with.
 */
import type * as tls from "node:tls";

/** A certificate that can have a context. */
export interface ContextOwner {
  context: tls.SecureContext | null;
}

const defaultLimit = 1000;

export class SecureContexts {
  /** Those that have one; the last used last. */
  readonly #owners = new Set<ContextOwner>();
  readonly #limit: number;
  /** How many were made, ever. */
  made = 0;

  constructor(limit = defaultLimit) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#owners.size;
  }

  use(owner: ContextOwner, make: () => tls.SecureContext): tls.SecureContext {
    this.#owners.delete(owner);
    const context = owner.context ?? this.#make(owner, make);
    this.#owners.add(owner);
    return context;
  }

  drop(owner: ContextOwner): void {
    owner.context = null;
    this.#owners.delete(owner);
  }

  #make(owner: ContextOwner, make: () => tls.SecureContext): tls.SecureContext {
    for (const oldest of this.#owners) {
      if (this.#owners.size < this.#limit) break;
      this.drop(oldest);
    }
    const context = make();
    owner.context = context;
    this.made++;
    return context;
  }
}
