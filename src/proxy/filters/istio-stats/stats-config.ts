/** `stats.PluginConfig`, which both filters named istio.stats take: what is counted, with which labels, from which side. */
import { ConfigError } from "../../../api/config-error.ts";
import { type PluginConfig, Reporter as ReporterMessage } from "../../../api/gen/istio/stats/plugin_config_pb.js";
import type { CompileContext } from "../../compile-context.ts";
import { durationMs } from "../../duration.ts";
import type { StatKind } from "../../stats/store.ts";
import type { SeriesShape } from "../../telemetry/labelled-series.ts";
import type { Reporter } from "../../telemetry/traffic-labels.ts";

export interface StatsConfig {
  readonly reporter: Reporter;
  readonly usesHostHeader: boolean;
  /** Of what lasts: connections, and calls of gRPC. 0: never. */
  readonly reportMs: number;
  /** In the order of `httpMetric`. */
  readonly http: SeriesShape;
  /** In the order of `grpcMetric`. */
  readonly grpc: SeriesShape;
  /** In the order of `tcpMetric`. */
  readonly tcp: SeriesShape;
}

export const httpMetric = { requests: 0, duration: 1, requestBytes: 2, responseBytes: 3 } as const;
export const grpcMetric = { requests: 0, responses: 1 } as const;
export const tcpMetric = { opened: 0, closed: 1, sent: 2, received: 3 } as const;

const httpMetrics = [
  ["requests_total", "counter"],
  ["request_duration_milliseconds", "histogram"],
  ["request_bytes", "histogram"],
  ["response_bytes", "histogram"],
] as const;

const grpcMetrics = [
  ["request_messages_total", "counter"],
  ["response_messages_total", "counter"],
] as const;

const tcpMetrics = [
  ["tcp_connections_opened_total", "counter"],
  ["tcp_connections_closed_total", "counter"],
  ["tcp_sent_bytes_total", "counter"],
  ["tcp_received_bytes_total", "counter"],
] as const;

export function compileStatsConfig(config: PluginConfig, context: CompileContext, direction: string): StatsConfig {
  if (config.reporter === ReporterMessage.SERVER_GATEWAY) {
    throw new ConfigError("stats.PluginConfig: reporter SERVER_GATEWAY is not supported by this proxy");
  }
  const changed = config.metrics.filter(({ dimensions, match }) => Object.keys(dimensions).length > 0 || match !== "");
  if (changed.length > 0) context.warn(`stats.PluginConfig: expressions in metrics are not evaluated by this proxy (${named(changed)})`);
  if (config.definitions.length > 0) {
    context.warn(`stats.PluginConfig: metrics of one's own are not made by this proxy (${named(config.definitions)})`);
  }
  return {
    reporter: direction === "inbound" ? "destination" : "source",
    usesHostHeader: !config.disableHostHeaderFallback,
    reportMs: durationMs(config.tcpReportingDuration, 5000),
    http: shapeOf("http", httpMetrics, config),
    grpc: shapeOf("grpc", grpcMetrics, config),
    tcp: shapeOf("tcp", tcpMetrics, config),
  };
}

function named(list: readonly { readonly name: string }[]): string {
  return list.map(({ name }) => name || "all").join(", ");
}

function shapeOf(kind: string, names: readonly (readonly [name: string, kind: StatKind])[], config: PluginConfig): SeriesShape {
  const metrics = names.map(([name, statKind]) => {
    if (config.metrics.some((metric) => metric.drop && metric.name === name)) return null;
    const without = new Set(config.metrics.flatMap((metric) => (metric.name === "" || metric.name === name ? metric.tagsToRemove : [])));
    return { name: `istiocustom.istio_${name}`, kind: statKind, without: without.size === 0 ? null : without };
  });
  const key = metrics.map((metric) => (metric === null ? "" : [...(metric.without ?? [])].sort().join(",") || "all")).join(";");
  return { key: `${kind} ${key}`, metrics };
}
