import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { LocalRateLimitDescriptorSchema } from "../../../api/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";
import { compileLocalDescriptors, LocalLimiter } from "./local-limiter.ts";
import { TokenBucket } from "./token-bucket.ts";

const secondNs = 1_000_000_000n;
const options = (maxTokens: number, tokensPerFill: number, fillIntervalMs: number) => ({ maxTokens, tokensPerFill, fillIntervalMs });
const newCell = () => ({ values: new BigInt64Array(1), at: 0 });

describe("TokenBucket", () => {
  function bucketAt(start: bigint, ...[max, perFill, intervalMs]: [number, number, number]) {
    const clock = { now: start };
    return { clock, bucket: new TokenBucket(options(max, perFill, intervalMs), newCell(), () => clock.now) };
  }

  it("is full at first, and empty after as many tokens as it holds", () => {
    const { bucket } = bucketAt(secondNs, 2, 1, 60_000);
    expect([bucket.remainingTokens, bucket.resetSeconds]).toEqual([2, 0]);
    expect([bucket.consume(), bucket.consume(), bucket.consume()]).toEqual([true, true, false]);
    expect([bucket.remainingTokens, bucket.resetSeconds]).toEqual([0, 60]);
  });

  it("fills steadily by its rate, up to its size", () => {
    const { bucket, clock } = bucketAt(5n * secondNs, 4, 2, 1000);
    for (let i = 0; i < 4; i++) bucket.consume();
    clock.now += secondNs / 2n;
    expect([bucket.consume(), bucket.consume()]).toEqual([true, false]);
    clock.now += 100n * secondNs;
    expect(bucket.remainingTokens).toBe(4);
  });

  it("keeps what is left of a token", () => {
    const { bucket, clock } = bucketAt(secondNs, 1, 1, 1000);
    bucket.consume();
    clock.now += (3n * secondNs) / 4n;
    expect([bucket.consume(), bucket.resetSeconds]).toEqual([false, 1]);
    clock.now += secondNs / 4n;
    expect(bucket.consume()).toBe(true);
  });

  it("is one for all that have its cell", () => {
    const cell = newCell();
    const buckets = [0, 1].map(() => new TokenBucket(options(2, 1, 60_000), cell));
    expect([0, 1, 0, 1].map((index) => buckets[index]!.consume())).toEqual([true, true, false, false]);
  });
});

describe("LocalLimiter", () => {
  const descriptor = (entries: Record<string, string>, maxTokens: number, seconds: number) =>
    create(LocalRateLimitDescriptorSchema, {
      entries: Object.entries(entries).map(([key, value]) => ({ key, value })),
      tokenBucket: { maxTokens, fillInterval: { seconds: BigInt(seconds) } },
    });
  const request = (entries: Record<string, string>) => ({
    entries: Object.entries(entries).map(([key, value]) => ({ key, value })),
    limit: null,
    hits: null,
    tellsLimits: null,
  });

  it("lets a limiter without buckets pass everything", () => {
    const limiter = new LocalLimiter({ defaultBucket: null, descriptors: [], alwaysConsumesDefault: true, maxDynamicBuckets: 1 }, newCell);
    expect(limiter.ask([request({ a: "1" })])).toMatchObject({ isAllowed: true, isShadowed: false, bucket: null });
  });

  it("gives each value of a wildcard a bucket, and forgets the one that was not asked for longest", () => {
    const descriptors = compileLocalDescriptors([descriptor({ user: "" }, 1, 1000)]);
    const limiter = new LocalLimiter({ defaultBucket: null, descriptors, alwaysConsumesDefault: true, maxDynamicBuckets: 2 }, newCell);
    const ask = (user: string) => limiter.ask([request({ user })]).isAllowed;
    expect([ask("a"), ask("b"), ask("a"), ask("c"), ask("a"), ask("b")]).toEqual([true, true, false, true, false, true]);
  });

  it("asks the slowest of several buckets first", () => {
    const descriptors = compileLocalDescriptors([descriptor({ fast: "1" }, 5, 60), descriptor({ slow: "1" }, 1, 6000)]);
    const limiter = new LocalLimiter({ defaultBucket: null, descriptors, alwaysConsumesDefault: true, maxDynamicBuckets: 1 }, newCell);
    const both = [request({ fast: "1" }), request({ slow: "1" })];
    expect(limiter.ask(both).bucket!.maxTokens).toBe(1);
    expect(limiter.ask(both).isAllowed).toBe(false);
    expect(limiter.ask([both[0]!]).bucket!.remainingTokens).toBe(3);
  });

  it("refuses two descriptors that are the same, and buckets that fill too often", () => {
    expect(() => compileLocalDescriptors([descriptor({ a: "1" }, 1, 1), descriptor({ a: "1" }, 2, 2)])).toThrow("duplicate descriptor");
    expect(() => compileLocalDescriptors([descriptor({ a: "1" }, 1, 0)])).toThrow("fill timer must be >= 50ms");
  });
});
