/** What the TLS servers of a worker have in common: OpenSSL's contexts, keys of session tickets, and sessions that are kept here. */
import { randomBytes } from "node:crypto";
import { SecureContexts } from "./secure-contexts.ts";
import { SessionCache } from "./session-cache.ts";
import { SessionKeys, type SessionSeed } from "./session-keys.ts";

/** Made once by the main thread, the same for all workers. */
export interface SharedSessions {
  readonly seed: SessionSeed;
  readonly cache: SharedArrayBuffer;
}

export function makeSharedSessions(): SharedSessions {
  return { seed: { bytes: randomBytes(32), madeAtEpochMs: Date.now() }, cache: SessionCache.allocate() };
}

export class TlsSessions {
  readonly contexts = new SecureContexts();
  readonly keys: SessionKeys;
  readonly cache: SessionCache;

  constructor({ seed, cache }: SharedSessions) {
    this.keys = new SessionKeys(seed);
    this.cache = new SessionCache(cache);
  }
}
