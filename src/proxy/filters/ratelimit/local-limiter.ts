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
  /** Its bucket says what would be, and refuses nothing. */
  readonly isShadow: boolean;
}

const minFillIntervalMs = 50;

/** Throws ConfigError in Envoy's words. */
export function compileLocalDescriptors(messages: readonly LocalRateLimitDescriptor[]): LocalDescriptor[] {
  const seen = new Set<string>();
  return messages.map(({ entries, tokenBucket, shadowMode }) => {
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
    return { entries, isWildcard: entries.some(({ value }) => value === ""), bucket, isShadow: shadowMode };
  });
}

export function checkDefaultBucket(bucket: TokenBucketOptions): void {
  if (bucket.fillIntervalMs < minFillIntervalMs) throw new ConfigError("local rate limit token bucket fill timer must be >= 50ms");
}

export interface LimiterVerdict {
  readonly isAllowed: boolean;
  /** A descriptor that is only tried would have refused it. */
  readonly isShadowed: boolean;
  /** The bucket that decided, of which responses may tell; null where none was asked. */
  readonly bucket: TokenBucket | null;
  /** Whether they do, as the descriptor says; null: it says nothing. */
  readonly tellsLimits: boolean | null;
}

interface LimiterBucket {
  readonly tokens: TokenBucket;
  readonly isShadow: boolean;
}

interface Match {
  readonly bucket: LimiterBucket;
  readonly descriptor: Descriptor;
}

export class LocalLimiter {
  readonly #default: TokenBucket | null;
  readonly #exact = new Map<string, LimiterBucket>();
  readonly #dynamic: readonly DynamicBuckets[];
  readonly #alwaysConsumesDefault: boolean;

  constructor(options: LocalLimiterOptions, newCell: () => SharedCell) {
    this.#default = options.defaultBucket === null ? null : new TokenBucket(options.defaultBucket, newCell());
    for (const { entries, isWildcard, bucket, isShadow } of options.descriptors) {
      if (!isWildcard) this.#exact.set(keyOf(entries), { tokens: new TokenBucket(bucket, newCell()), isShadow });
    }
    this.#dynamic = options.descriptors
      .filter(({ isWildcard }) => isWildcard)
      .map((descriptor) => new DynamicBuckets(descriptor, options.maxDynamicBuckets));
    this.#alwaysConsumesDefault = options.alwaysConsumesDefault;
  }

  ask(descriptors: readonly Descriptor[]): LimiterVerdict {
    const matched: Match[] = [];
    for (const descriptor of descriptors) {
      const bucket = this.#bucketOf(descriptor.entries);
      if (bucket !== null) matched.push({ bucket, descriptor });
    }
    if (matched.length > 1) matched.sort((a, b) => a.bucket.tokens.tokensPerSecond - b.bucket.tokens.tokensPerSecond);
    let isShadowed = false;
    for (const match of matched) {
      const { bucket, descriptor } = match;
      if (bucket.tokens.consume(descriptor.hits ?? 1)) continue;
      if (!bucket.isShadow) return verdictBy(match, false, false);
      isShadowed = true;
    }
    const first = matched[0];
    if (this.#default === null) return first === undefined ? { ...byDefault, bucket: null } : verdictBy(first, true, isShadowed);
    if (first !== undefined && !this.#alwaysConsumesDefault) return verdictBy(first, true, isShadowed);
    if (!this.#default.consume()) return { ...byDefault, isAllowed: false, bucket: this.#default };
    return first === undefined ? { ...byDefault, bucket: this.#default } : verdictBy(first, true, isShadowed);
  }

  #bucketOf(entries: readonly DescriptorEntry[]): LimiterBucket | null {
    const key = keyOf(entries);
    const exact = this.#exact.get(key);
    if (exact !== undefined) return exact;
    for (const dynamic of this.#dynamic) if (dynamic.matches(entries)) return dynamic.get(key);
    return null;
  }
}

const byDefault = { isAllowed: true, isShadowed: false, tellsLimits: null } as const;

function verdictBy({ bucket, descriptor }: Match, isAllowed: boolean, isShadowed: boolean): LimiterVerdict {
  return { isAllowed, isShadowed, bucket: bucket.tokens, tellsLimits: descriptor.tellsLimits };
}

/** The buckets of a descriptor with wildcards, by what stands for them. Each worker has its own. */
class DynamicBuckets {
  readonly #descriptor: LocalDescriptor;
  readonly #max: number;
  /** In the order in which they were asked for. */
  readonly #buckets = new Map<string, LimiterBucket>();

  constructor(descriptor: LocalDescriptor, max: number) {
    this.#descriptor = descriptor;
    this.#max = max;
  }

  matches(entries: readonly DescriptorEntry[]): boolean {
    const wanted = this.#descriptor.entries;
    if (entries.length !== wanted.length) return false;
    return wanted.every(({ key, value }, index) => {
      const entry = entries[index]!;
      return entry.key === key && (value === "" || entry.value === value);
    });
  }

  get(key: string): LimiterBucket {
    const bucket = this.#buckets.get(key) ?? this.#newBucket();
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > this.#max) this.#buckets.delete(this.#buckets.keys().next().value!);
    return bucket;
  }

  #newBucket(): LimiterBucket {
    const { bucket, isShadow } = this.#descriptor;
    return { tokens: new TokenBucket(bucket, { values: new BigInt64Array(1), at: 0 }), isShadow };
  }
}

function keyOf(entries: readonly DescriptorEntry[]): string {
  return entries.map(({ key, value }) => `${key}\0${value}`).join("\0");
}
