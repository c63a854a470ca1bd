/** How many slots of shared memory a statistic takes. A histogram: count, sum, then one for each bucket. */
import type { StatKind } from "./store.ts";

/** Upper bounds of histogram buckets (milliseconds or plain numbers), as Envoy's default; the last bucket is +Inf. */
export const histogramBounds = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
] as const;

const histogramSlots = 2 + histogramBounds.length + 1;

export function slotsOf(kind: StatKind): number {
  return kind === "histogram" ? histogramSlots : 1;
}
