/**
 * Who of a cluster's hosts is ejected, and until when. Envoy's `DetectorImpl`; runs in the main thread.
 *
 *     failures in a row (a worker says so)     ─┐
 *     success rate, failure percentage (sweep) ─┴─> detected ─ room below max_ejection_percent ─ chance ─> ejected
 *     ejected ──sweep, base time × back-off is over──> let in again
 *
 * An ejection takes longer the more of them came one after the other; each sweep without one takes one back.
 */

import { type CountedOrigin, lastInterval, swapBuckets } from "./host-cells.ts";
import { hostFlags } from "./host-flags.ts";
import type { MonitoredHost } from "./monitored-host.ts";
import type { ConsecutiveKind, OutlierConfig, OutlierKind } from "./outlier-config.ts";
import type { OutlierStats } from "./outlier-stats.ts";

/** Percent, of the hosts that had enough requests in the last interval; -1: too few of them. */
export interface SuccessRates {
  readonly average: number;
  readonly ejectionThreshold: number;
}

const noRates: SuccessRates = { average: -1, ejectionThreshold: -1 };

export interface OutlierEvents {
  ejected(host: MonitoredHost, kind: OutlierKind, isEnforced: boolean, rates: SuccessRates): void;
  unejected(host: MonitoredHost): void;
}

export interface OutlierDetectorOptions {
  readonly config: OutlierConfig;
  readonly hosts: ReadonlyMap<string, MonitoredHost>;
  readonly stats: OutlierStats;
  readonly events: OutlierEvents | null;
  /** A host was ejected or let in. */
  readonly onChange: (host: MonitoredHost) => void;
  /** Milliseconds; default performance.now. */
  readonly now?: () => number;
  /** In [0, 1); default Math.random. */
  readonly random?: () => number;
}

export class OutlierDetector implements Disposable {
  readonly rates: Record<CountedOrigin, SuccessRates> = { external: noRates, localOrigin: noRates };
  readonly #options: OutlierDetectorOptions;
  readonly #now: () => number;
  readonly #random: () => number;
  #ejected = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: OutlierDetectorOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#random = options.random ?? Math.random;
  }

  start(): void {
    this.#timer = setInterval(() => this.sweep(), Math.max(1, this.#options.config.intervalMs)).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (; this.#ejected > 0; this.#ejected--) this.#options.stats.active(-1);
  }

  /** A worker has counted enough failures in a row. */
  onConsecutive(host: MonitoredHost, kind: ConsecutiveKind): void {
    if (host.has(hostFlags.failedOutlierCheck)) return;
    const { stats } = this.#options;
    stats.detected(kind);
    this.#eject(host, kind);
    if (kind === "consecutive5xx") stats.deprecated("consecutive_5xx");
    host.reset(kind);
  }

  /** A health check passed. */
  onCheckPassed(host: MonitoredHost): void {
    if (!this.#options.config.passedCheckUnejects || host.has(hostFlags.failedActiveCheck)) return;
    if (host.has(hostFlags.failedOutlierCheck)) this.#uneject(host);
  }

  /** It is no host of the cluster any more. */
  forget(host: MonitoredHost): void {
    if (host.has(hostFlags.failedOutlierCheck)) this.#countEjected(-1);
  }

  /** What an interval's end brings. */
  sweep(): void {
    const { hosts, config } = this.#options;
    const now = this.#now();
    for (const host of hosts.values()) {
      this.#unejectIfDue(host, now);
      swapBuckets(host.cells);
      host.outlier.successRate = -1;
      host.outlier.localOriginSuccessRate = -1;
    }
    this.#judgeRates("external");
    this.#judgeRates("localOrigin");
    for (const host of hosts.values()) {
      const { outlier } = host;
      if (outlier.backOff === 0 || outlier.lastUnejection === null || host.has(hostFlags.failedOutlierCheck)) continue;
      if (now - outlier.lastUnejection >= config.intervalMs) outlier.backOff--;
    }
  }

  #unejectIfDue(host: MonitoredHost, now: number): void {
    if (!host.has(hostFlags.failedOutlierCheck)) return;
    const { baseEjectionMs, maxEjectionMs } = this.#options.config;
    const { backOff, jitterMs, lastEjection } = host.outlier;
    if (Math.min(baseEjectionMs * backOff, maxEjectionMs) + jitterMs <= now - lastEjection!) this.#uneject(host);
  }

  #judgeRates(origin: CountedOrigin): void {
    const { hosts, config, stats } = this.#options;
    const { successRate, failurePercentage } = config;
    this.rates[origin] = noRates;
    if (hosts.size < successRate.minHosts && hosts.size < failurePercentage.minHosts) return;
    const rated: { readonly host: MonitoredHost; readonly rate: number }[] = [];
    const failing: { readonly host: MonitoredHost; readonly rate: number }[] = [];
    for (const host of hosts.values()) {
      if (host.has(hostFlags.failedOutlierCheck)) continue;
      const { successes, total } = lastInterval(host.cells, origin);
      if (total === 0) continue;
      const rate = (successes * 100) / total;
      if (total >= Math.min(successRate.minRequests, failurePercentage.minRequests)) {
        if (origin === "external") host.outlier.successRate = rate;
        else host.outlier.localOriginSuccessRate = rate;
      }
      if (total >= successRate.minRequests) rated.push({ host, rate });
      if (total >= failurePercentage.minRequests) failing.push({ host, rate });
    }
    if (rated.length > 0 && rated.length >= successRate.minHosts) {
      const rates = ejectionThreshold(
        rated.map(({ rate }) => rate),
        successRate.stdevFactor,
      );
      this.rates[origin] = rates;
      for (const { host, rate } of rated) {
        if (rate >= rates.ejectionThreshold) continue;
        const kind = origin === "external" ? "successRate" : "localOriginSuccessRate";
        stats.deprecated("success_rate");
        stats.detected(kind);
        this.#eject(host, kind);
      }
    }
    if (failing.length === 0 || failing.length < failurePercentage.minHosts) return;
    for (const { host, rate } of failing) {
      if (100 - rate < failurePercentage.threshold) continue;
      const kind = origin === "external" ? "failurePercentage" : "localOriginFailurePercentage";
      stats.detected(kind);
      // Its success rate may have been enough.
      if (!host.has(hostFlags.failedOutlierCheck)) this.#eject(host, kind);
    }
  }

  #eject(host: MonitoredHost, kind: OutlierKind): void {
    const { config, hosts, stats, events, onChange } = this.#options;
    const wouldBePercent = (100 * (this.#ejected + 1)) / hosts.size;
    if (wouldBePercent > config.maxEjectionPercent && !(config.alwaysEjectsOneHost && this.#ejected === 0)) {
      stats.overflow();
      return;
    }
    if (kind === "consecutive5xx" || kind === "successRate") stats.deprecated("total");
    const origin = kind === "localOriginSuccessRate" ? "localOrigin" : "external";
    if (Math.floor(this.#random() * 100) >= config.enforcing[kind]) {
      events?.ejected(host, kind, false, this.rates[origin]);
      return;
    }
    this.#countEjected(1);
    stats.enforced(kind);
    host.set(hostFlags.failedOutlierCheck);
    const { outlier } = host;
    outlier.ejections++;
    outlier.lastEjection = this.#now();
    outlier.jitterMs = Math.floor(this.#random() * (config.maxJitterMs + 1));
    if (outlier.backOff * config.baseEjectionMs < config.maxEjectionMs + config.baseEjectionMs) outlier.backOff++;
    onChange(host);
    events?.ejected(host, kind, true, this.rates[origin]);
  }

  #uneject(host: MonitoredHost): void {
    this.#countEjected(-1);
    host.clear(hostFlags.failedOutlierCheck);
    for (const count of ["consecutive5xx", "consecutiveGatewayFailure", "consecutiveLocalOriginFailure"] as const) host.reset(count);
    host.outlier.lastUnejection = this.#now();
    this.#options.onChange(host);
    this.#options.events?.unejected(host);
  }

  #countEjected(amount: 1 | -1): void {
    this.#ejected += amount;
    this.#options.stats.active(amount);
  }
}

/** The mean less so many standard deviations: 50, 100, 100, 100, 100 with a factor of 1.9 give 90 - 1.9 × 20 = 52. */
function ejectionThreshold(rates: readonly number[], stdevFactor: number): SuccessRates {
  const average = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
  const variance = rates.reduce((sum, rate) => sum + (rate - average) ** 2, 0) / rates.length;
  return { average, ejectionThreshold: average - stdevFactor * Math.sqrt(variance) };
}
