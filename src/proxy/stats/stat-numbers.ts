/** A statistic's numbers out of the memory of all threads that count it. */
import { histogramBounds } from "./stat-slots.ts";

/** A thread that counts; its block is replaced when it grows. */
export interface CountingThread {
  values: Float64Array;
}

/** Where a thread counts it. */
export interface CountedPlace {
  readonly source: CountingThread;
  readonly slot: number;
}

export interface Histogram {
  readonly count: number;
  readonly sum: number;
  /** One per bound of `histogramBounds`, then +Inf; not cumulative. */
  readonly buckets: readonly number[];
}

export type StatValue =
  | { readonly kind: "counter" | "gauge"; readonly value: number; readonly isUsed: boolean }
  | { readonly kind: "histogram"; readonly histogram: Histogram; readonly interval: Histogram | null; readonly isUsed: boolean };

export type TextValue = { readonly kind: "text"; readonly value: string; readonly isUsed: boolean };

const bucketCount = histogramBounds.length + 1;

/** Count, sum, buckets. */
export const histogramLength = 2 + bucketCount;

/** `offset`: from the place on. */
export function sumOf(places: readonly CountedPlace[], offset = 0): number {
  let sum = 0;
  for (let i = 0; i < places.length; i++) {
    const { source, slot } = places[i]!;
    sum += source.values[slot + offset] ?? 0;
  }
  return sum;
}

/** Adds to `total`: count, sum, buckets. */
export function addHistogram(total: number[], places: readonly CountedPlace[], offset = 0): number[] {
  for (const { source, slot } of places) {
    for (let index = 0; index < histogramLength; index++) total[index]! += source.values[slot + offset + index] ?? 0;
  }
  return total;
}

export function emptyHistogram(): number[] {
  return new Array<number>(histogramLength).fill(0);
}

/** Of nothing. */
export const noHistogram: Histogram = { count: 0, sum: 0, buckets: new Array<number>(bucketCount).fill(0) };

export function toHistogram([count = 0, sum = 0, ...buckets]: readonly number[]): Histogram {
  return { count, sum, buckets };
}

/** Gauges that are 0 or 1 in every worker. */
const flagGauge = /\.circuit_breakers\.(default|high)\.\w+_open$|^istiocustom\.istio_build\./;

/** What a gauge shows that the threads have counted to `sum`. */
export function shownGauge(name: string, sum: number): number {
  return sum > 1 && flagGauge.test(name) ? 1 : sum;
}
