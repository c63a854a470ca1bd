/**
 * A bucket of tokens that fills by the clock, for all workers together.
 *
 * Its whole state is one number, the time at which it would have been empty: what has flowed in since then is in it. Taking a token
 * moves that time forward by compare-and-exchange, so that workers neither lock each other out nor need a timer. 0 is a full bucket.
 */
import type { TokenBucket as TokenBucketMessage } from "../../../api/gen/envoy/type/v3/token_bucket_pb.js";
import { durationMs } from "../../duration.ts";
import type { SharedCell } from "../../shared-cells.ts";

/** A year; Envoy fills no bucket more slowly. */
const slowestTokenNs = 365 * 24 * 3600 * 1e9;

export interface TokenBucketOptions {
  readonly maxTokens: number;
  readonly tokensPerFill: number;
  readonly fillIntervalMs: number;
}

export function tokenBucketOptions(message: TokenBucketMessage | undefined): TokenBucketOptions {
  return {
    maxTokens: message?.maxTokens ?? 0,
    tokensPerFill: message?.tokensPerFill ?? 1,
    fillIntervalMs: durationMs(message?.fillInterval, 0),
  };
}

export class TokenBucket {
  readonly maxTokens: number;
  readonly tokensPerSecond: number;
  readonly #tokenNs: number;
  readonly #values: BigInt64Array;
  readonly #at: number;
  /** Nanoseconds that are the same in every thread; performance.now() is not. */
  readonly #now: () => bigint;

  constructor(options: TokenBucketOptions, cell: SharedCell, now: () => bigint = process.hrtime.bigint) {
    this.maxTokens = options.maxTokens;
    this.#tokenNs = Math.min((options.fillIntervalMs * 1e6) / options.tokensPerFill, slowestTokenNs);
    this.tokensPerSecond = 1e9 / this.#tokenNs;
    this.#values = cell.values;
    this.#at = cell.at;
    this.#now = now;
  }

  /** False: there are not so many whole tokens, or none was asked for, which Envoy refuses as well. Then nothing was taken. */
  consume(count = 1): boolean {
    if (count === 0) return false;
    const now = this.#now();
    let emptyAt = Atomics.load(this.#values, this.#at);
    for (;;) {
      const tokens = this.#tokensAt(now, emptyAt);
      if (tokens < count) return false;
      const next = now - BigInt(Math.round((tokens - count) * this.#tokenNs));
      const found = Atomics.compareExchange(this.#values, this.#at, emptyAt, next);
      if (found === emptyAt) return true;
      emptyAt = found;
    }
  }

  /** Whole tokens that are left. */
  get remainingTokens(): number {
    return Math.floor(this.#tokens());
  }

  /** Whole seconds until there is a token again, rounded up; 0 while there is one. */
  get resetSeconds(): number {
    const tokens = this.#tokens();
    return tokens >= 1 ? 0 : Math.ceil(((1 - tokens) * this.#tokenNs) / 1e9);
  }

  #tokens(): number {
    return this.#tokensAt(this.#now(), Atomics.load(this.#values, this.#at));
  }

  #tokensAt(now: bigint, emptyAt: bigint): number {
    return emptyAt === 0n ? this.maxTokens : Math.min(this.maxTokens, Number(now - emptyAt) / this.#tokenNs);
  }
}
