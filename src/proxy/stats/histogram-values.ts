/**
 * What pages say of a histogram. Quantiles are interpolated inside the buckets of the store, which are coarser than Envoy's.
 */
import type { Histogram } from "./stat-numbers.ts";
import { histogramBounds } from "./stat-slots.ts";

export type HistogramMode = "summary" | "cumulative" | "disjoint" | "detailed";

/** In percent. */
export const quantiles = [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100];

export function bucketCounts(histogram: Histogram, mode: "cumulative" | "disjoint"): number[] {
  let sum = 0;
  return histogramBounds.map((_bound, index) => {
    const count = histogram.buckets[index] ?? 0;
    sum += count;
    return mode === "cumulative" ? sum : count;
  });
}

export function lowerBound(bucket: number): number {
  return bucket === 0 ? 0 : histogramBounds[bucket - 1]!;
}

export function widthOf(bucket: number): number {
  return (histogramBounds[bucket] ?? lowerBound(bucket)) - lowerBound(bucket);
}

/** NaN without values. */
export function quantile({ count, buckets }: Histogram, percent: number): number {
  if (count === 0) return Number.NaN;
  const wanted = (count * percent) / 100;
  let seen = 0;
  for (const [index, inBucket] of buckets.entries()) {
    if (inBucket === 0) continue;
    if (seen + inBucket >= wanted) {
      const ratio = Math.max(0, wanted - seen) / inBucket;
      return lowerBound(index) + widthOf(index) * ratio;
    }
    seen += inBucket;
  }
  return lowerBound(buckets.length - 1);
}

export function sixDigits(value: number): string {
  return Number.isNaN(value) ? "nan" : String(Number(value.toPrecision(6)));
}

export function sixDigitsOrNull(value: number): number | null {
  return Number.isNaN(value) ? null : Number(value.toPrecision(6));
}

/** As C++ streams print: six digits, large ones with an exponent. */
export function shortNumber(value: number): string {
  return value >= 1e6 ? `${Number((value / 1e6).toPrecision(6))}e+06` : String(value);
}
