/** Statistics of one cluster in this worker: `cluster.NAME.*`, indices resolved once. Reference 6.3 of Envoy's behaviour. */
import { codeCounters } from "../stats/code-counters.ts";
import { StatLayout } from "../stats/stat-layout.ts";
import type { StatIndex, StatsStore } from "../stats/store.ts";
import { SslStats } from "../tls/ssl-stats.ts";

const counters = [
  "upstream_cx_total",
  "upstream_cx_http1_total",
  "upstream_cx_http2_total",
  "upstream_cx_connect_fail",
  "upstream_cx_connect_timeout",
  "upstream_cx_connect_attempts_exceeded",
  "upstream_cx_destroy",
  "upstream_cx_destroy_local",
  "upstream_cx_destroy_remote",
  "upstream_cx_destroy_with_active_rq",
  "upstream_cx_destroy_local_with_active_rq",
  "upstream_cx_destroy_remote_with_active_rq",
  "upstream_cx_close_notify",
  "upstream_cx_idle_timeout",
  "upstream_cx_max_duration_reached",
  "upstream_cx_max_requests",
  "upstream_cx_none_healthy",
  "upstream_cx_overflow",
  "upstream_cx_pool_overflow",
  "upstream_cx_protocol_error",
  "upstream_cx_rx_bytes_total",
  "upstream_cx_tx_bytes_total",
  "upstream_rq_total",
  "upstream_rq_completed",
  "upstream_rq_cancelled",
  "upstream_rq_timeout",
  "upstream_rq_per_try_timeout",
  "upstream_rq_per_try_idle_timeout",
  "upstream_rq_pending_total",
  "upstream_rq_pending_overflow",
  "upstream_rq_pending_failure_eject",
  "upstream_rq_maintenance_mode",
  "upstream_rq_max_duration_reached",
  "upstream_rq_retry",
  "upstream_rq_retry_backoff_exponential",
  "upstream_rq_retry_backoff_ratelimited",
  "upstream_rq_retry_limit_exceeded",
  "upstream_rq_retry_overflow",
  "upstream_rq_retry_success",
  "upstream_rq_rx_reset",
  "upstream_rq_tx_reset",
  "upstream_flow_control_backed_up_total",
  "upstream_flow_control_drained_total",
  "upstream_flow_control_paused_reading_total",
  "upstream_flow_control_resumed_reading_total",
  "retry_or_shadow_abandoned",
  "lb_healthy_panic",
  "bind_errors",
  "original_dst_host_invalid",
  "default.total_match_count",
  "http1.dropped_headers_with_underscores",
  "http1.metadata_not_supported_error",
  "http1.requests_rejected_with_underscores_in_headers",
  "http1.response_flood",
] as const;

const gauges = ["upstream_cx_active", "upstream_rq_active", "upstream_rq_pending_active"] as const;

const histograms = ["upstream_cx_connect_ms", "upstream_cx_length_ms", "upstream_rq_time"] as const;

const breakers = ["cx_open", "cx_pool_open", "rq_open", "rq_pending_open", "rq_retry_open"] as const;

type BreakerName = `circuit_breakers.${"default" | "high"}.${(typeof breakers)[number]}`;

const breakerNames = breakers.flatMap((name) => [`circuit_breakers.default.${name}`, `circuit_breakers.high.${name}`] as const);

export const clusterLayout = new StatLayout<
  (typeof counters)[number] | (typeof gauges)[number] | (typeof histograms)[number] | BreakerName
>("cluster", { counter: counters, gauge: [...gauges, ...breakerNames], histogram: histograms });

/** `cluster.NAME.`; an address in the name would be taken for a port of another cluster. */
export function clusterPrefix(statName: string): string {
  return `cluster.${statName.replaceAll(":", "_")}.`;
}

export class ClusterStats {
  readonly store: StatsStore;
  readonly at: ReturnType<typeof clusterLayout.indices>;
  /** null where nothing is sent in TLS. */
  readonly ssl: SslStats | null;
  readonly #prefix: string;
  readonly #codes = new Map<number, readonly StatIndex[]>();
  readonly #retryCodes = new Map<number, readonly StatIndex[]>();

  constructor(store: StatsStore, clusterName: string, speaksTls = false) {
    this.store = store;
    const prefix = clusterPrefix(clusterName);
    this.#prefix = prefix;
    this.at = clusterLayout.indices(store.group(prefix, clusterLayout));
    this.ssl = speaksTls ? new SslStats(store, prefix) : null;
  }

  /** What only some clusters have. */
  gauges(group: string, names: readonly string[]): StatIndex[] {
    return names.map((name) => this.store.gauge(this.#prefix + group + name));
  }

  /** What only some requests bring, behind the cluster's prefix; slow. */
  counter(name: string): StatIndex {
    return this.store.counter(this.#prefix + name);
  }

  histogram(name: string): StatIndex {
    return this.store.histogram(this.#prefix + name);
  }

  /** Counts an answer under its status, its class, and the same for internal or external requests. Hot. */
  countResponse(status: number, isInternal: boolean): void {
    const key = isInternal ? status : -status;
    const indices = this.#codes.get(key) ?? this.#register(key, this.#codes, ["", isInternal ? "internal." : "external."]);
    const { values } = this.store;
    for (let i = 0; i < indices.length; i++) values[indices[i]!]! += 1;
  }

  countRetriedResponse(status: number): void {
    const indices = this.#retryCodes.get(status) ?? this.#register(status, this.#retryCodes, ["retry."]);
    for (const index of indices) this.store.add(index, 1);
  }

  #register(key: number, into: Map<number, readonly StatIndex[]>, groups: readonly string[]): readonly StatIndex[] {
    const status = Math.abs(key);
    const made = groups.flatMap((group) => codeCounters(this.store, this.#prefix + group, status));
    into.set(key, made);
    return made;
  }
}
