/**
 * Statistics as text, JSON and Prometheus text, in the shapes of Envoy's admin interface.
 *
 * Quantiles are interpolated inside the buckets of the store, which are coarser than Envoy's.
 */
import type { Histogram } from "./stat-numbers.ts";
import { histogramBounds } from "./stat-slots.ts";
import type { Stat } from "./stats-reader.ts";
import type { TagExtractor } from "./tags.ts";

export type HistogramMode = "summary" | "cumulative" | "disjoint" | "detailed";

type HistogramStat = Extract<Stat, { kind: "histogram" }>;

const quantiles = [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100];

export function statsText(stats: readonly Stat[], mode: HistogramMode): string {
  let out = "";
  for (const stat of stats) {
    if (stat.kind === "text") out += `${stat.name}: ${JSON.stringify(stat.value)}\n`;
    else if (stat.kind !== "histogram") out += `${stat.name}: ${stat.value}\n`;
  }
  for (const stat of stats) if (stat.kind === "histogram") out += histogramText(stat, mode);
  return out;
}

export function statsJson(stats: readonly Stat[], mode: HistogramMode): string {
  const plain = stats.flatMap((stat) => (stat.kind === "histogram" ? [] : [{ name: stat.name, value: stat.value }]));
  const histograms = stats.filter((stat) => stat.kind === "histogram");
  const list: unknown[] = plain;
  if (histograms.length > 0) list.push({ histograms: histogramsJson(histograms, mode) });
  return JSON.stringify({ stats: list });
}

function histogramText({ name, histogram, interval }: HistogramStat, mode: HistogramMode): string {
  switch (mode) {
    case "summary":
      if (histogram.count === 0) return `${name}: No recorded values\n`;
      return `${name}: ${summary(histogram, interval)}\n`;
    case "cumulative":
    case "disjoint": {
      const whole = bucketCounts(histogram, mode);
      const last = bucketCounts(interval ?? emptyHistogram, mode);
      return `${name}: ${histogramBounds.map((bound, index) => `B${short(bound)}(${last[index]},${whole[index]})`).join(" ")}\n`;
    }
    case "detailed": {
      const parts = (of: Histogram | null) =>
        (of?.buckets ?? []).flatMap((count, index) => (count > 0 ? [`${short(lowerBound(index))},${short(widthOf(index))}:${count}`] : []));
      const totals = parts(histogram).join(" ");
      return `${name}:\n  totals=${totals}\n  intervals=${parts(interval).join(" ")}\n  summary=${summary(histogram, interval)}\n`;
    }
    default:
      return mode satisfies never;
  }
}

function summary(histogram: Histogram, interval: Histogram | null): string {
  return quantiles
    .map((percent) => `P${percent}(${number(quantile(interval ?? emptyHistogram, percent))},${number(quantile(histogram, percent))})`)
    .join(" ");
}

function histogramsJson(histograms: readonly HistogramStat[], mode: HistogramMode): unknown {
  const values = ({ histogram, interval }: HistogramStat) =>
    quantiles.map((percent) => ({
      cumulative: orNull(quantile(histogram, percent)),
      interval: orNull(quantile(interval ?? emptyHistogram, percent)),
    }));
  switch (mode) {
    case "summary":
      return {
        supported_quantiles: quantiles,
        computed_quantiles: histograms.map((stat) => ({ name: stat.name, values: values(stat) })),
      };
    case "cumulative":
    case "disjoint":
      return histograms.map(({ name, histogram, interval }) => {
        const whole = bucketCounts(histogram, mode);
        const last = bucketCounts(interval ?? emptyHistogram, mode);
        return {
          name,
          buckets: histogramBounds.map((bound, index) => ({ upper_bound: bound, interval: last[index], cumulative: whole[index] })),
        };
      });
    case "detailed": {
      const details = (of: Histogram | null) =>
        (of?.buckets ?? []).flatMap((count, index) =>
          count > 0 ? [{ lower_bound: lowerBound(index), width: widthOf(index), count }] : [],
        );
      return {
        supported_percentiles: quantiles,
        details: histograms.map((stat) => ({
          name: stat.name,
          totals: details(stat.histogram),
          intervals: details(stat.interval),
          percentiles: values(stat),
        })),
      };
    }
    default:
      return mode satisfies never;
  }
}

export interface PrometheusOptions {
  readonly includesTexts: boolean;
  /** Quantiles instead of buckets. */
  readonly histogramsAsSummary: boolean;
}

/** The text exposition format. Families are in the order of their names, counters before gauges before histograms. */
export function statsPrometheus(stats: readonly Stat[], tags: TagExtractor, options: PrometheusOptions): string {
  let out = "";
  for (const kind of ["counter", "gauge", "text", "histogram"] as const) {
    if (kind === "text" && !options.includesTexts) continue;
    const families = new Map<string, string>();
    for (const stat of stats) {
      if (stat.kind !== kind) continue;
      const { base, tags: found } = stat.tagged ? tags.withFixed(stat.tagged) : tags.extract(stat.name);
      const family = metricName(base);
      const labels = found.map(({ name, value }) => `${labelName(name)}="${escapeLabel(value)}"`);
      families.set(family, (families.get(family) ?? "") + lines(family, labels, stat, options));
    }
    const type = kind === "text" ? "gauge" : kind === "histogram" && options.histogramsAsSummary ? "summary" : kind;
    for (const family of [...families.keys()].sort()) out += `# TYPE ${family} ${type}\n${families.get(family)!}`;
  }
  return out;
}

function lines(family: string, labels: readonly string[], stat: Stat, options: PrometheusOptions): string {
  const all = labels.join(",");
  if (stat.kind === "text") return `${family}{${[...labels, `text_value="${escapeLabel(stat.value)}"`].join(",")}} 0\n`;
  if (stat.kind !== "histogram") return `${family}{${all}} ${stat.value}\n`;
  const { histogram } = stat;
  let out = "";
  if (options.histogramsAsSummary) {
    for (const percent of quantiles) {
      out += `${family}{${[...labels, `quantile="${percent / 100}"`].join(",")}} ${number(quantile(histogram, percent))}\n`;
    }
  } else {
    const counts = bucketCounts(histogram, "cumulative");
    for (const [index, bound] of histogramBounds.entries()) {
      out += `${family}_bucket{${[...labels, `le="${bound}"`].join(",")}} ${counts[index]}\n`;
    }
    out += `${family}_bucket{${[...labels, 'le="+Inf"'].join(",")}} ${histogram.count}\n`;
  }
  return `${out}${family}_sum{${all}} ${number(histogram.sum)}\n${family}_count{${all}} ${histogram.count}\n`;
}

/** Istio's own metrics and those of Wasm come with a name of their own; everything else belongs to `envoy_`. */
const customNamespace = /^(?:istiocustom\.|wasmcustom\.)/;

function metricName(base: string): string {
  const name = customNamespace.test(base) ? base.replace(customNamespace, "") : `envoy_${base}`;
  const clean = name.replaceAll(/[^a-zA-Z0-9_]/g, "_");
  return /^\d/.test(clean) ? `_${clean}` : clean;
}

function labelName(name: string): string {
  const clean = name.replaceAll(/[^a-zA-Z0-9_]/g, "_");
  return /^\d/.test(clean) ? `_${clean}` : clean;
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
}

const emptyHistogram: Histogram = { count: 0, sum: 0, buckets: [] };

function bucketCounts(histogram: Histogram, mode: "cumulative" | "disjoint"): number[] {
  let sum = 0;
  return histogramBounds.map((_bound, index) => {
    const count = histogram.buckets[index] ?? 0;
    sum += count;
    return mode === "cumulative" ? sum : count;
  });
}

function lowerBound(bucket: number): number {
  return bucket === 0 ? 0 : histogramBounds[bucket - 1]!;
}

function widthOf(bucket: number): number {
  return (histogramBounds[bucket] ?? lowerBound(bucket)) - lowerBound(bucket);
}

/** NaN without values. */
function quantile({ count, buckets }: Histogram, percent: number): number {
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

function number(value: number): string {
  return Number.isNaN(value) ? "nan" : String(Number(value.toPrecision(6)));
}

function orNull(value: number): number | null {
  return Number.isNaN(value) ? null : Number(value.toPrecision(6));
}

/** As C++ streams print: six digits, large ones with an exponent. */
function short(value: number): string {
  return value >= 1e6 ? `${Number((value / 1e6).toPrecision(6))}e+06` : String(value);
}
