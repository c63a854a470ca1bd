/**
 * envoy.filters.http.health_check: answers health checks of others, in the proxy's own name or from what the application said last.
 *
 * Which requests are checks, `headers` says. Without pass-through all of them are answered here: 200, or 503 when /healthcheck/fail was
 * called, or too few hosts of some cluster are healthy. With it they go on to the application, unless the proxy was failed or an answer
 * is known that is younger than `cache_time`. All answers of a failed proxy ask their callers to leave it alone.
 */
import { ConfigError } from "../../../api/config-error.ts";
import { type HealthCheck, HealthCheckSchema } from "../../../api/gen/envoy/extensions/filters/http/health_check/v3/health_check_pb.js";
import { durationMs } from "../../duration.ts";
import { hasHeader, setHeader } from "../../http/header-list.ts";
import { defineHttpFilter, type FilterCompileContext, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { compileHeaderMatcher, type RouteCondition } from "../../router/header-matcher.ts";
import type { StatIndex, StatsStore } from "../../stats/store.ts";
import { responseFlags } from "../../stream-info.ts";
import type { ClusterLookup } from "../../upstream/cluster-set.ts";

const counters = [
  "request_total",
  "ok",
  "failed",
  "degraded",
  "cached_response",
  "failed_cluster_not_found",
  "failed_cluster_empty",
  "failed_cluster_unhealthy",
] as const;

interface Verdict {
  readonly status: number;
  readonly details: string;
  readonly isDegraded: boolean;
  /** Beside those of all. */
  readonly counter: (typeof counters)[number] | null;
}

const ok: Verdict = { status: 200, details: "health_check_ok", isDegraded: false, counter: null };
const failed = (why: string, counter: Verdict["counter"]): Verdict => ({
  status: 503,
  details: `health_check_failed${why}`,
  isDegraded: false,
  counter,
});
const verdicts = {
  failed: failed("", null),
  notFound: failed("_no_cluster_found", "failed_cluster_not_found"),
  empty: failed("_cluster_empty", "failed_cluster_empty"),
  unhealthy: failed("_cluster_unhealthy", "failed_cluster_unhealthy"),
} as const;

class HealthCheckFilter implements HttpFilter {
  readonly name: string;
  readonly #slot: number;
  readonly #matchers: readonly RouteCondition[];
  readonly #passesThrough: boolean;
  readonly #cacheMs: number;
  readonly #minHealthyPercent: readonly (readonly [cluster: string, percent: number])[];
  readonly #clusters: ClusterLookup;
  readonly #nodeCluster: string;
  readonly #stats: StatsStore;
  readonly #at: Readonly<Record<(typeof counters)[number], StatIndex>>;
  /** What the application has said last, and until when that holds in this worker. */
  #known: { readonly status: number; readonly isDegraded: boolean; readonly until: number } | null = null;

  constructor(name: string, config: HealthCheck, context: FilterCompileContext) {
    this.name = name;
    this.#slot = context.slot;
    this.#passesThrough = config.passThroughMode ?? false;
    this.#cacheMs = durationMs(config.cacheTime, 0);
    this.#minHealthyPercent = Object.entries(config.clusterMinHealthyPercentages).map(([cluster, { value }]) => [
      cluster,
      Math.trunc(value),
    ]);
    if (!this.#passesThrough && this.#cacheMs > 0)
      throw new ConfigError("cache_time_ms must not be set when path_through_mode is disabled");
    this.#matchers = config.headers.map(compileHeaderMatcher);
    this.#clusters = context.clusters;
    this.#nodeCluster = context.nodeCluster;
    this.#stats = context.stats;
    const at: Record<string, StatIndex> = {};
    for (const counter of counters) at[counter] = context.stats.counter(`${context.statPrefix}health_check.${counter}`);
    this.#at = at as Record<(typeof counters)[number], StatIndex>;
  }

  onRequestHeaders(stream: HttpStream, endStream: boolean): FilterStatus {
    const { info } = stream;
    for (let i = 0; i < this.#matchers.length; i++) if (!this.#matchers[i]!(info)) return "continue";
    info.isHealthCheck = true;
    stream.filterState ??= [];
    stream.filterState[this.#slot] = true;
    const isAnsweredHere = !this.#passesThrough || stream.connection.drain.healthFailed || this.#isKnown();
    if (!isAnsweredHere) return "continue";
    if (endStream) this.#answer(stream);
    return "stop";
  }

  onHeldRequestData(stream: HttpStream, endStream: boolean): void {
    if (endStream) this.#answer(stream);
  }

  onResponseHeaders(stream: HttpStream): FilterStatus {
    const { info } = stream;
    if (stream.filterState?.[this.#slot] === true) {
      if (this.#cacheMs > 0 && !this.#isKnown()) {
        const isDegraded = hasHeader(info.responseHeaders, "x-envoy-degraded");
        this.#known = { status: info.responseCode, isDegraded, until: performance.now() + this.#cacheMs };
      }
      setHeader(info.responseHeaders, "x-envoy-upstream-healthchecked-cluster", this.#nodeCluster);
    }
    if (stream.connection.drain.healthFailed) setHeader(info.responseHeaders, "x-envoy-immediate-health-check-fail", "true");
    return "continue";
  }

  #isKnown(): boolean {
    return this.#known !== null && performance.now() < this.#known.until;
  }

  #answer(stream: HttpStream): void {
    const verdict = this.#verdict(stream);
    const isGood = verdict.status >= 200 && verdict.status <= 299;
    this.#stats.add(this.#at.request_total, 1);
    this.#stats.add(isGood ? this.#at.ok : this.#at.failed, 1);
    if (verdict.counter !== null) this.#stats.add(this.#at[verdict.counter], 1);
    if (verdict.isDegraded) this.#stats.add(this.#at.degraded, 1);
    if (!isGood) stream.info.flags |= responseFlags.FailedLocalHealthCheck;
    stream.sendLocalReply(verdict.status, "", verdict.details, verdict.isDegraded ? ["x-envoy-degraded", ""] : null);
  }

  #verdict(stream: HttpStream): Verdict {
    if (stream.connection.drain.healthFailed) return verdicts.failed;
    if (this.#known !== null && this.#isKnown()) {
      const { status, isDegraded } = this.#known;
      return { status, isDegraded, details: "health_check_cached", counter: "cached_response" };
    }
    for (const [name, percent] of this.#minHealthyPercent) {
      const cluster = this.#clusters.get(name);
      if (cluster === undefined) return verdicts.notFound;
      const hosts = [...cluster.hosts.values()];
      if (hosts.length === 0 && percent > 0) return verdicts.empty;
      const usable = hosts.filter(({ health }) => health !== "unhealthy").length;
      if (100 * usable < hosts.length * percent) return verdicts.unhealthy;
    }
    return ok;
  }
}

export const healthCheck = defineHttpFilter({
  name: "envoy.filters.http.health_check",
  schema: HealthCheckSchema,
  create: (config, context, name) => new HealthCheckFilter(name, config, context),
});
