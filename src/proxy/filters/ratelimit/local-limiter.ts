/**
 * Whether a request may pass by the buckets of one configuration: those of its descriptors, the slowest first, and the default one.
 * The first that is empty says no; those before it have given their token all the same, as in Envoy.
 */
import { ConfigError } from "../../../api/config-error.ts";
import type { LocalRateLimitDescriptor } from "../../../api/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";
import type { Descriptor, DescriptorEntry } from "../../router/rate-limit-policy.ts";
import type { SharedCell } from "../../shared-cells.ts";
import { TokenBucket, type TokenBucketOptions, tokenBucketOptions } from "./token-bucket.ts";

export interface LocalLimiterOptions {
  /** null: only descriptors limit. */
  readonly defaultBucket: TokenBucketOptions | null;
  readonly descriptors: readonly LocalDescriptor[];
  /** Requests that a descriptor has let pass need a token of the default bucket as well. */
  readonly alwaysConsumesDefault: boolean;
  /** Buckets that a descriptor with wildcards has in one worker; the one that was not asked for longest goes. */
  readonly maxDynamicBuckets: number;
}

export interface LocalDescriptor {
  readonly entries: readonly DescriptorEntry[];
  /** Some values are empty: each value that comes gets a bucket of its own. */
  readonly isWildcard: boolean;
  readonly bucket: TokenBucketOptions;
}

const minFillIntervalMs = 50;

/** Throws ConfigError in Envoy's words. */
export function compileLocalDescriptors(messages: readonly LocalRateLimitDescriptor[]): LocalDescriptor[] {
  const seen = new Set<string>();
  return messages.map(({ entries, tokenBucket }) => {
    const bucket = tokenBucketOptions(tokenBucket);
    if (bucket.fillIntervalMs < minFillIntervalMs) {
      throw new ConfigError("local rate limit descriptor token bucket fill timer must be >= 50ms");
    }
    const key = keyOf(entries);
    if (seen.has(key)) {
      const text = entries.map((entry) => `${entry.key}=${entry.value}`).join(", ");
      throw new ConfigError(`duplicate descriptor in the local rate descriptor: ${text}`);
    }
    seen.add(key);
    return { entries, isWildcard: entries.some(({ value }) => value === ""), bucket };
  });
}

export function checkDefaultBucket(bucket: TokenBucketOptions): void {
  if (bucket.fillIntervalMs < minFillIntervalMs) throw new ConfigError("local rate limit token bucket fill timer must be >= 50ms");
}

export interface LimiterVerdict {
  readonly isAllowed: boolean;
  /** The bucket that decided, of which responses may tell; null where none was asked. */
  readonly bucket: TokenBucket | null;
}

export class LocalLimiter {
  readonly #default: TokenBucket | null;
  readonly #exact = new Map<string, TokenBucket>();
  readonly #dynamic: readonly DynamicBuckets[];
  readonly #alwaysConsumesDefault: boolean;

  constructor(options: LocalLimiterOptions, newCell: () => SharedCell) {
    this.#default = options.defaultBucket === null ? null : new TokenBucket(options.defaultBucket, newCell());
    for (const { entries, isWildcard, bucket } of options.descriptors) {
      if (!isWildcard) this.#exact.set(keyOf(entries), new TokenBucket(bucket, newCell()));
    }
    this.#dynamic = options.descriptors
      .filter(({ isWildcard }) => isWildcard)
      .map(({ entries, bucket }) => new DynamicBuckets(entries, bucket, options.maxDynamicBuckets));
    this.#alwaysConsumesDefault = options.alwaysConsumesDefault;
  }

  ask(descriptors: readonly Descriptor[]): LimiterVerdict {
    const matched: { readonly bucket: TokenBucket; readonly hits: number }[] = [];
    for (const { entries, hits } of descriptors) {
      const bucket = this.#bucketOf(entries);
      if (bucket !== null) matched.push({ bucket, hits: hits ?? 1 });
    }
    if (matched.length > 1) matched.sort((a, b) => a.bucket.tokensPerSecond - b.bucket.tokensPerSecond);
    for (const { bucket, hits } of matched) if (!bucket.consume(hits)) return { isAllowed: false, bucket };
    const first = matched[0]?.bucket ?? null;
    if (this.#default === null || (first !== null && !this.#alwaysConsumesDefault)) return { isAllowed: true, bucket: first };
    if (!this.#default.consume()) return { isAllowed: false, bucket: this.#default };
    return { isAllowed: true, bucket: first ?? this.#default };
  }

  #bucketOf(entries: readonly DescriptorEntry[]): TokenBucket | null {
    const key = keyOf(entries);
    const exact = this.#exact.get(key);
    if (exact !== undefined) return exact;
    for (const dynamic of this.#dynamic) if (dynamic.matches(entries)) return dynamic.get(key);
    return null;
  }
}

/** The buckets of a descriptor with wildcards, by what stands for them. Each worker has its own. */
class DynamicBuckets {
  readonly #entries: readonly DescriptorEntry[];
  readonly #options: TokenBucketOptions;
  readonly #max: number;
  /** In the order in which they were asked for. */
  readonly #buckets = new Map<string, TokenBucket>();

  constructor(entries: readonly DescriptorEntry[], options: TokenBucketOptions, max: number) {
    this.#entries = entries;
    this.#options = options;
    this.#max = max;
  }

  matches(entries: readonly DescriptorEntry[]): boolean {
    const wanted = this.#entries;
    if (entries.length !== wanted.length) return false;
    return wanted.every(({ key, value }, index) => {
      const entry = entries[index]!;
      return entry.key === key && (value === "" || entry.value === value);
    });
  }

  get(key: string): TokenBucket {
    const bucket = this.#buckets.get(key) ?? new TokenBucket(this.#options, { values: new BigInt64Array(1), at: 0 });
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > this.#max) this.#buckets.delete(this.#buckets.keys().next().value!);
    return bucket;
  }
}

function keyOf(entries: readonly DescriptorEntry[]): string {
  return entries.map(({ key, value }) => `${key}\0${value}`).join("\0");
}
