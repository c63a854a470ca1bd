/** Statistics as JSON, in the shape of Envoy's admin interface: numbers and texts one by one, then one object with all histograms. */
import { bucketCounts, type HistogramMode, lowerBound, quantile, quantiles, sixDigitsOrNull, widthOf } from "./histogram-values.ts";
import { type Histogram, noHistogram, type StatValue } from "./stat-numbers.ts";
import { type Page, pieceLength, type StatSelection } from "./stat-selection.ts";
import { histogramBounds } from "./stat-slots.ts";

type HistogramValue = Extract<StatValue, { kind: "histogram" }>;

export function* jsonPage(selection: StatSelection, mode: HistogramMode): Page {
  let piece = '{"stats":[';
  let separator = "";
  for (const stat of selection.inOrder("counter", "gauge", "text")) {
    if (stat) {
      piece += `${separator}${JSON.stringify({ name: stat.name, value: (stat.value as { value: unknown }).value })}`;
      separator = ",";
      if (piece.length < pieceLength) continue;
    }
    yield piece;
    piece = "";
  }
  const [before, after] = frame(mode);
  let isBegun = false;
  for (const stat of selection.inOrder("histogram")) {
    if (stat) {
      piece += isBegun ? "," : `${separator}${before}`;
      isBegun = true;
      piece += JSON.stringify(histogramJson(stat.name, stat.value as HistogramValue, mode));
      if (piece.length < pieceLength) continue;
    }
    yield piece;
    piece = "";
  }
  yield `${piece}${isBegun ? after : ""}]}`;
}

/** What stands around the list of histograms. */
function frame(mode: HistogramMode): readonly [before: string, after: string] {
  switch (mode) {
    case "summary":
      return [`{"histograms":{"supported_quantiles":${JSON.stringify(quantiles)},"computed_quantiles":[`, "]}}"];
    case "cumulative":
    case "disjoint":
      return ['{"histograms":[', "]}"];
    case "detailed":
      return [`{"histograms":{"supported_percentiles":${JSON.stringify(quantiles)},"details":[`, "]}}"];
    default:
      return mode satisfies never;
  }
}

function histogramJson(name: string, { histogram, interval }: HistogramValue, mode: HistogramMode): unknown {
  const values = () =>
    quantiles.map((percent) => ({
      cumulative: sixDigitsOrNull(quantile(histogram, percent)),
      interval: sixDigitsOrNull(quantile(interval ?? noHistogram, percent)),
    }));
  switch (mode) {
    case "summary":
      return { name, values: values() };
    case "cumulative":
    case "disjoint": {
      const whole = bucketCounts(histogram, mode);
      const last = bucketCounts(interval ?? noHistogram, mode);
      return {
        name,
        buckets: histogramBounds.map((bound, index) => ({ upper_bound: bound, interval: last[index], cumulative: whole[index] })),
      };
    }
    case "detailed": {
      const details = (of: Histogram | null) =>
        (of?.buckets ?? []).flatMap((count, index) =>
          count > 0 ? [{ lower_bound: lowerBound(index), width: widthOf(index), count }] : [],
        );
      return { name, totals: details(histogram), intervals: details(interval), percentiles: values() };
    }
    default:
      return mode satisfies never;
  }
}
