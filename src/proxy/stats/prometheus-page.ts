/**
 * Statistics in Prometheus' text format. Families are in the order of their names, counters before gauges before texts before histograms.
 */
import { bucketCounts, quantile, quantiles, sixDigits } from "./histogram-values.ts";
import { PrometheusFamilies } from "./prometheus-families.ts";
import { escapeLabel } from "./prometheus-names.ts";
import type { StatValue, TextValue } from "./stat-numbers.ts";
import { type Page, pieceLength, pieceStats, type StatSelection } from "./stat-selection.ts";
import { histogramBounds } from "./stat-slots.ts";

export interface PrometheusOptions {
  readonly includesTexts: boolean;
  /** Quantiles instead of buckets. */
  readonly histogramsAsSummary: boolean;
}

export function* prometheusPage(selection: StatSelection, options: PrometheusOptions): Page {
  const all = new PrometheusFamilies(selection);
  yield* all.gather();
  for (const kind of ["counter", "gauge", "text", "histogram"] as const) {
    if (kind === "text" && !options.includesTexts) continue;
    const type = kind === "text" ? "gauge" : kind === "histogram" && options.histogramsAsSummary ? "summary" : kind;
    let piece = "";
    let passedOver = 0;
    for (const { name: family, series } of all.families(kind)) {
      let isBegun = false;
      const write = linesOf(family, options);
      for (const one of series) {
        const value = selection.takesAllNames || selection.passes(one.name) ? one.read() : undefined;
        if (value !== undefined && selection.isWanted(value)) {
          if (!isBegun) piece += `# TYPE ${family} ${type}\n`;
          isBegun = true;
          piece += write(one.labels, value);
          if (piece.length < pieceLength) continue;
        } else if (++passedOver % pieceStats !== 0) continue;
        yield piece;
        piece = "";
      }
    }
    yield piece;
  }
}

type Writer = (labels: string, value: StatValue | TextValue) => string;

function linesOf(family: string, { histogramsAsSummary }: PrometheusOptions): Writer {
  const endings = histogramsAsSummary
    ? quantiles.map((percent) => `quantile="${percent / 100}"} `)
    : [...histogramBounds, "+Inf"].map((bound) => `le="${bound}"} `);
  const name = histogramsAsSummary ? `${family}{` : `${family}_bucket{`;
  return (labels, value) => {
    if (value.kind === "text") return `${family}{${behind(labels)}text_value="${escapeLabel(value.value)}"} 0\n`;
    if (value.kind !== "histogram") return `${family}{${labels}} ${value.value}\n`;
    const { histogram } = value;
    const numbers = histogramsAsSummary
      ? quantiles.map((percent) => sixDigits(quantile(histogram, percent)))
      : [...bucketCounts(histogram, "cumulative"), histogram.count];
    const start = name + behind(labels);
    let out = "";
    for (let index = 0; index < endings.length; index++) out += `${start}${endings[index]!}${numbers[index]!}\n`;
    return `${out}${family}_sum{${labels}} ${sixDigits(histogram.sum)}\n${family}_count{${labels}} ${histogram.count}\n`;
  };
}

function behind(labels: string): string {
  return labels === "" ? "" : `${labels},`;
}
