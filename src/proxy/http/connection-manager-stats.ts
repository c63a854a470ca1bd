/** `http.PREFIX.*` and `listener.ADDRESS.http.PREFIX.*`: reference 6.3 of Envoy's behaviour. */
import type { StatIndex, StatsStore } from "../stats/store.ts";

const counters = [
  "downstream_cx_total",
  "downstream_cx_http1_total",
  "downstream_cx_http2_total",
  "downstream_cx_http3_total",
  "downstream_cx_ssl_total",
  "downstream_cx_upgrades_total",
  "downstream_cx_destroy",
  "downstream_cx_destroy_active_rq",
  "downstream_cx_destroy_local",
  "downstream_cx_destroy_local_active_rq",
  "downstream_cx_destroy_remote",
  "downstream_cx_destroy_remote_active_rq",
  "downstream_cx_drain_close",
  "downstream_cx_delayed_close_timeout",
  "downstream_cx_idle_timeout",
  "downstream_cx_max_duration_reached",
  "downstream_cx_max_requests_reached",
  "downstream_cx_overload_disable_keepalive",
  "downstream_cx_protocol_error",
  "downstream_cx_rx_bytes_total",
  "downstream_cx_tx_bytes_total",
  "downstream_flow_control_paused_reading_total",
  "downstream_flow_control_resumed_reading_total",
  "downstream_rq_total",
  "downstream_rq_http1_total",
  "downstream_rq_http2_total",
  "downstream_rq_http3_total",
  "downstream_rq_1xx",
  "downstream_rq_2xx",
  "downstream_rq_3xx",
  "downstream_rq_4xx",
  "downstream_rq_5xx",
  "downstream_rq_completed",
  "downstream_rq_failed_path_normalization",
  "downstream_rq_header_timeout",
  "downstream_rq_idle_timeout",
  "downstream_rq_max_duration_reached",
  "downstream_rq_non_relative_path",
  "downstream_rq_overload_close",
  "downstream_rq_redirected_with_normalized_path",
  "downstream_rq_rejected_via_ip_detection",
  "downstream_rq_response_before_rq_complete",
  "downstream_rq_rx_reset",
  "downstream_rq_timeout",
  "downstream_rq_too_large",
  "downstream_rq_too_many_premature_resets",
  "downstream_rq_tx_reset",
  "downstream_rq_ws_on_non_ws_route",
  "rs_too_large",
  "no_cluster",
  "no_route",
  "rq_direct_response",
  "rq_redirect",
  "rq_reset_after_downstream_response_started",
  "rq_total",
  "rq_overload_local_reply",
  "passthrough_internal_redirect_bad_location",
  "passthrough_internal_redirect_no_route",
  "passthrough_internal_redirect_predicate",
  "passthrough_internal_redirect_too_many_redirects",
  "passthrough_internal_redirect_unsafe_scheme",
  "tracing.client_enabled",
  "tracing.health_check",
  "tracing.not_traceable",
  "tracing.random_sampling",
  "tracing.service_forced",
] as const;

const gauges = [
  "downstream_cx_active",
  "downstream_cx_http1_active",
  "downstream_cx_http1_soft_drain",
  "downstream_cx_http2_active",
  "downstream_cx_http3_active",
  "downstream_cx_ssl_active",
  "downstream_cx_upgrades_active",
  "downstream_cx_rx_bytes_buffered",
  "downstream_cx_tx_bytes_buffered",
  "downstream_rq_active",
] as const;

const histograms = ["downstream_cx_length_ms", "downstream_rq_time"] as const;

type Name = (typeof counters)[number] | (typeof gauges)[number] | (typeof histograms)[number];

const classes = ["1xx", "2xx", "3xx", "4xx", "5xx"] as const;

const known = new WeakMap<StatsStore, Map<string, ConnectionManagerStats>>();

export class ConnectionManagerStats {
  readonly store: StatsStore;
  readonly at: Readonly<Record<Name, StatIndex>>;
  /** downstream_rq_1xx to 5xx, of the manager and of its listener. */
  readonly #classes: readonly (readonly [manager: StatIndex, listener: StatIndex])[];
  readonly #completedAtListener: StatIndex;

  /** `listenerPrefix`: `listener.127.0.0.1_8080.` The filter chains of a listener mostly share one. */
  static of(store: StatsStore, statPrefix: string, listenerPrefix: string): ConnectionManagerStats {
    const key = `${listenerPrefix} ${statPrefix}`;
    let ofStore = known.get(store);
    if (ofStore === undefined) {
      ofStore = new Map();
      known.set(store, ofStore);
    }
    let stats = ofStore.get(key);
    if (stats === undefined) {
      stats = new ConnectionManagerStats(store, statPrefix, listenerPrefix);
      ofStore.set(key, stats);
    }
    return stats;
  }

  private constructor(store: StatsStore, statPrefix: string, listenerPrefix: string) {
    this.store = store;
    const prefix = `http.${statPrefix}.`;
    const at: Record<string, StatIndex> = {};
    for (const name of counters) at[name] = store.counter(prefix + name);
    for (const name of gauges) at[name] = store.gauge(prefix + name);
    for (const name of histograms) at[name] = store.histogram(prefix + name);
    this.at = at as Record<Name, StatIndex>;
    this.#classes = classes.map((name) => [
      this.at[`downstream_rq_${name}`],
      store.counter(`${listenerPrefix}${prefix}downstream_rq_${name}`),
    ]);
    this.#completedAtListener = store.counter(`${listenerPrefix}${prefix}downstream_rq_completed`);
  }

  /** Hot. */
  countResponse(status: number): void {
    const { values } = this.store;
    values[this.at.downstream_rq_completed]! += 1;
    values[this.#completedAtListener]! += 1;
    const pair = this.#classes[Math.floor(status / 100) - 1];
    if (pair === undefined) return;
    values[pair[0]]! += 1;
    values[pair[1]]! += 1;
  }
}
