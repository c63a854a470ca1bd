/** /stats in its formats, and resetting. */
import { RE2JS } from "re2js";
import type { ProxyServer } from "../server.ts";
import type { HistogramMode } from "../stats/histogram-values.ts";
import { jsonPage } from "../stats/json-page.ts";
import { prometheusPage } from "../stats/prometheus-page.ts";
import { type Page, type ShownKind, StatSelection } from "../stats/stat-selection.ts";
import { textPage } from "../stats/text-page.ts";
import { type AdminHandler, type AdminResponse, isSet, ok } from "./admin-handler.ts";
import { escapeHtml } from "./home.ts";

const filterParams = [
  ["usedonly", "Only include stats that have been written by system since restart"],
  ["filter", "Regular expression (Google re2) for filtering stats"],
  ["invert_filter", "Invert the filter regex"],
] as const;

export const stats: AdminHandler = {
  path: "/stats",
  help: "print server stats",
  params: [
    ...filterParams,
    ["format", "Format to use; One of (html, text, json, prometheus)"],
    ["type", "Stat types to include.; One of (All, Counters, Histograms, Gauges, TextReadouts)"],
    ["histogram_buckets", "Histogram bucket display mode; One of (cumulative, disjoint, detailed, summary)"],
  ],
  handle: (server, { query }) => answer(server, query, query.get("format") ?? "text"),
};

export const statsPrometheusPath: AdminHandler = {
  path: "/stats/prometheus",
  help: "print server stats in prometheus format",
  params: [
    ...filterParams,
    ["text_readouts", "Render text readouts as gauges with value 0"],
    ["histogram_buckets", "Histogram bucket display mode; One of (cumulative, summary)"],
  ],
  handle: (server, { query }) => answer(server, query, "prometheus"),
};

export const resetCounters: AdminHandler = {
  path: "/reset_counters",
  help: "reset all counters to zero",
  mutates: true,
  handle(server) {
    server.stats.resetCounters();
    return ok;
  },
};

const kinds: Record<string, ShownKind | undefined> = {
  All: undefined,
  Counters: "counter",
  Histograms: "histogram",
  Gauges: "gauge",
  TextReadouts: "text",
};

const modes: readonly string[] = ["summary", "cumulative", "disjoint", "detailed"] satisfies HistogramMode[];

function answer(server: ProxyServer, query: URLSearchParams, format: string): AdminResponse {
  if (!["html", "active-html", "json", "prometheus", "text", ""].includes(format)) {
    return { status: 400, body: "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n" };
  }
  const mode = query.get("histogram_buckets") || (format === "prometheus" ? "cumulative" : "summary");
  if (!modes.includes(mode)) {
    return { status: 400, body: "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|prometheusnative)\n" };
  }
  const type = query.get("type") ?? "All";
  // The Prometheus format has no types to choose from.
  if (format !== "prometheus" && !Object.hasOwn(kinds, type)) return { status: 400, body: "invalid &type= param" };
  const filter = compileFilter(query);
  if ("error" in filter) return { status: 400, body: filter.error };
  server.refreshStats((name) => filter.passes?.(name) ?? true);
  const selection = new StatSelection(server.stats, server.tags, {
    passes: filter.passes,
    usedOnly: isSet(query, "usedonly"),
    kind: format === "prometheus" ? undefined : kinds[type],
  });
  switch (format) {
    case "json":
      return { type: "json", body: jsonPage(selection, mode as HistogramMode) };
    case "prometheus":
      return {
        body: prometheusPage(selection, { includesTexts: isSet(query, "text_readouts"), histogramsAsSummary: mode === "summary" }),
      };
    case "html":
    case "active-html":
      return { type: "html", body: htmlPage(textPage(selection, mode as HistogramMode)) };
    default:
      return { body: textPage(selection, mode as HistogramMode) };
  }
}

function* htmlPage(text: Page): Page {
  yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Envoy Stats</title></head><body><pre>\n';
  for (const piece of text) yield escapeHtml(piece);
  yield "</pre></body></html>\n";
}

/** Without one all pass. */
function compileFilter(query: URLSearchParams): { passes?: (name: string) => boolean } | { error: string } {
  const pattern = query.get("filter");
  if (pattern === null || pattern === "") return {};
  const inverted = isSet(query, "invert_filter");
  try {
    const regex = RE2JS.compile(pattern);
    return { passes: (name) => regex.matcher(name).find() !== inverted };
  } catch (error) {
    return { error: `Invalid re2 regex: ${regexReason(error)}` };
  }
}

/** RE2's own words, which follow the library's introduction. */
export function regexReason(error: unknown): string {
  return (error as Error).message
    .replace(/^error parsing regexp: /, "")
    .replaceAll("`", "")
    .replace("missing closing )", "missing )");
}
