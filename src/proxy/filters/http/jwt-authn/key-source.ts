/**
 * Where a provider's keys come from: its configuration, or a server that is asked for them.
 *
 * Asked on demand: the first token that needs keys waits for them, and so does the first one after `cache_duration`; all who wait share
 * one request. Asked ahead (`async_fetch`): each worker asks when its listener starts, before it listens unless `fast_listener` says
 * otherwise, and again some seconds before the keys are too old. An outage leaves the keys as they were: what was good stays good until
 * the server answers again, and the server is asked again, at most once a second.
 */
import { createHash } from "node:crypto";
import type { AsyncCall, AsyncClient, AsyncDone, AsyncRequest } from "../../../upstream/async-client.ts";
import { type Jwk, parseJwks } from "./jwks.ts";
import { TokenCache } from "./token-cache.ts";

/** Keys as they were published together, and the tokens that were found to be signed by one of them. */
export interface KeySet {
  readonly keys: readonly Jwk[];
  readonly verified: TokenCache;
}

export interface CacheLimits {
  readonly maxTokens: number;
  readonly maxTokenLength: number;
}

export function keySetOf(keys: readonly Jwk[], limits: CacheLimits): KeySet {
  return { keys, verified: new TokenCache(limits.maxTokens, limits.maxTokenLength) };
}

export interface KeySource {
  /** As they were last known; they may be too old to verify by. */
  readonly known: KeySet | null;
  /** Keys to verify by now, or null: `fetch` them. Hot. */
  readonly fresh: KeySet | null;
  /** False: there are no keys, and nobody to ask. */
  readonly canFetch: boolean;
  /** `done` is called later, with null when nothing could be had. */
  fetch(done: (keys: KeySet | null) => void): void;
  /** Begins to ask ahead. The promise: traffic should wait for it. */
  start(): Promise<void> | undefined;
  dispose(): void;
}

/** Keys of the configuration; null where that has none that can be used. */
export function localKeys(keys: KeySet | null): KeySource {
  return {
    known: keys,
    fresh: keys,
    canFetch: false,
    fetch: (done) => done(keys),
    start: () => undefined,
    dispose() {},
  };
}

export interface RemoteKeysOptions {
  readonly client: AsyncClient;
  readonly cluster: string;
  readonly request: AsyncRequest;
  readonly cacheLimits: CacheLimits;
  /** How long fetched keys are used before they are asked for again. */
  readonly cacheDurationMs: number;
  /** null: only on demand. */
  readonly ahead: { readonly holdsListener: boolean; readonly failedRefetchMs: number } | null;
  readonly onFetched: (isSuccess: boolean) => void;
}

/** Asked ahead, keys are asked for so long before they are too old. */
const refetchBeforeMs = 5000;
/** While the server can't be reached, old keys do for so long. */
const outageRetryMs = 1000;
/** A year or more is for ever; timers count milliseconds in 31 bits. */
const maxTimerMs = 0x7fff_ffff;

export class RemoteKeys implements KeySource {
  readonly canFetch = true;
  readonly #options: RemoteKeysOptions;
  known: KeySet | null = null;
  #fingerprint = "";
  /** performance.now() */
  #freshUntil = Number.NEGATIVE_INFINITY;
  #call: AsyncCall | null = null;
  #waiting: ((keys: KeySet | null) => void)[] = [];
  #timer: NodeJS.Timeout | null = null;
  #isStarted = false;

  constructor(options: RemoteKeysOptions) {
    this.#options = options;
  }

  get fresh(): KeySet | null {
    return performance.now() < this.#freshUntil ? this.known : null;
  }

  fetch(done: (keys: KeySet | null) => void): void {
    this.#waiting.push(done);
    if (this.#call !== null) return;
    const { client, cluster, request } = this.#options;
    this.#call = client.send(cluster, request, (outcome) => this.#fetched(outcome));
  }

  start(): Promise<void> | undefined {
    const { ahead } = this.#options;
    if (ahead === null || this.#isStarted) return undefined;
    this.#isStarted = true;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.fetch(() => resolve());
    return ahead.holdsListener ? promise : undefined;
  }

  dispose(): void {
    this.#isStarted = false;
    clearTimeout(this.#timer ?? undefined);
    this.#call?.cancel();
    this.#call = null;
    for (const done of this.#waiting.splice(0)) done(null);
  }

  #fetched(outcome: Parameters<AsyncDone>[0]): void {
    this.#call = null;
    const { ahead, cacheDurationMs, onFetched } = this.#options;
    const isSuccess = typeof outcome !== "string" && outcome.status === 200 && outcome.body.length > 0 && this.#take(outcome.body);
    onFetched(isSuccess);
    const now = performance.now();
    if (isSuccess) this.#freshUntil = this.#isStarted ? Number.POSITIVE_INFINITY : now + cacheDurationMs;
    else if (this.known !== null) this.#freshUntil = Math.max(this.#freshUntil, now + outageRetryMs);
    if (ahead !== null && this.#isStarted) {
      const goodMs = cacheDurationMs > refetchBeforeMs ? cacheDurationMs - refetchBeforeMs : cacheDurationMs;
      clearTimeout(this.#timer ?? undefined);
      this.#timer = setTimeout(() => this.fetch(() => {}), Math.min(maxTimerMs, isSuccess ? goodMs : ahead.failedRefetchMs));
      this.#timer.unref();
    }
    for (const done of this.#waiting.splice(0)) done(this.known);
  }

  /** The very same keys keep the tokens that are known to be theirs. */
  #take(body: Buffer): boolean {
    const fingerprint = createHash("sha256").update(body).digest("base64");
    if (this.known !== null && fingerprint === this.#fingerprint) return true;
    const keys = parseJwks(body);
    if (typeof keys === "string") return false;
    this.known = keySetOf(keys, this.#options.cacheLimits);
    this.#fingerprint = fingerprint;
    return true;
  }
}
