/** Statistics as text, in the shape of Envoy's admin interface: numbers and texts first, histograms after. */
import { bucketCounts, type HistogramMode, lowerBound, quantile, quantiles, shortNumber, sixDigits, widthOf } from "./histogram-values.ts";
import { type Histogram, noHistogram, type StatValue } from "./stat-numbers.ts";
import { type Page, pieceLength, type StatSelection } from "./stat-selection.ts";
import { histogramBounds } from "./stat-slots.ts";

type HistogramValue = Extract<StatValue, { kind: "histogram" }>;

export function* textPage(selection: StatSelection, mode: HistogramMode): Page {
  let piece = "";
  for (const kinds of [["counter", "gauge", "text"], ["histogram"]] as const) {
    for (const stat of selection.inOrder(...kinds)) {
      if (stat) {
        const { name, value } = stat;
        if (value.kind === "histogram") piece += histogramText(name, value, mode);
        else piece += `${name}: ${value.kind === "text" ? JSON.stringify(value.value) : value.value}\n`;
        if (piece.length < pieceLength) continue;
      }
      yield piece;
      piece = "";
    }
  }
  yield piece;
}

function histogramText(name: string, { histogram, interval }: HistogramValue, mode: HistogramMode): string {
  switch (mode) {
    case "summary":
      if (histogram.count === 0) return `${name}: No recorded values\n`;
      return `${name}: ${summary(histogram, interval)}\n`;
    case "cumulative":
    case "disjoint": {
      const whole = bucketCounts(histogram, mode);
      const last = bucketCounts(interval ?? noHistogram, mode);
      return `${name}: ${histogramBounds.map((bound, index) => `B${shortNumber(bound)}(${last[index]},${whole[index]})`).join(" ")}\n`;
    }
    case "detailed": {
      const parts = (of: Histogram | null) =>
        (of?.buckets ?? []).flatMap((count, index) =>
          count > 0 ? [`${shortNumber(lowerBound(index))},${shortNumber(widthOf(index))}:${count}`] : [],
        );
      const totals = parts(histogram).join(" ");
      return `${name}:\n  totals=${totals}\n  intervals=${parts(interval).join(" ")}\n  summary=${summary(histogram, interval)}\n`;
    }
    default:
      return mode satisfies never;
  }
}

function summary(histogram: Histogram, interval: Histogram | null): string {
  return quantiles
    .map((percent) => `P${percent}(${sixDigits(quantile(interval ?? noHistogram, percent))},${sixDigits(quantile(histogram, percent))})`)
    .join(" ");
}
