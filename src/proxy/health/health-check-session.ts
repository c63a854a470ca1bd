/**
 * The health checks of one host: when it is asked, and what its answers make of it. Envoy's `ActiveHealthCheckSession`.
 *
 *     start ──> asked ──answer, or timeout──> flags of the host ──interval──> asked ...
 *
 * A host is taken for ill until its first answer. One good answer is then enough, later `healthy_threshold` in a row; a bad answer is
 * enough at once, unless it is a lost connection, a timeout or a status that counts as retriable: those need `unhealthy_threshold`.
 */
import type { CheckedFlags } from "./check-verdicts.ts";
import type { HealthCheckConfig } from "./health-check-config.ts";
import type { HealthCheckStats } from "./health-check-stats.ts";
import type { HealthProbe, ProbeOutcome } from "./health-probe.ts";
import { hostFlags } from "./host-flags.ts";
import type { MonitoredHost } from "./monitored-host.ts";

export type FailureType = "active" | "passive" | "network" | "networkTimeout";
/** Whether the host is another than before; pending: it will be if the next answers are as this one. */
export type Transition = "unchanged" | "pending" | "changed";

export interface CheckResult {
  readonly transition: Transition;
  readonly hasPassed: boolean;
  /** The first that this check has heard of the host. */
  readonly isFirst: boolean;
}

export interface HealthCheckEvents {
  ejected(host: MonitoredHost, type: FailureType): void;
  added(host: MonitoredHost, isFirst: boolean): void;
  failed(host: MonitoredHost, type: FailureType, isFirst: boolean): void;
  passed(host: MonitoredHost): void;
  degraded(host: MonitoredHost, isDegraded: boolean): void;
}

export interface HealthCheckSessionOptions {
  readonly config: HealthCheckConfig;
  readonly host: MonitoredHost;
  /** What this check has against the host; the host's own where it is the only one. */
  readonly flags: CheckedFlags;
  readonly probe: HealthProbe;
  readonly stats: HealthCheckStats;
  readonly events: HealthCheckEvents | null;
  /** The cluster has had connections. */
  readonly hasTraffic: () => boolean;
  readonly onResult: (host: MonitoredHost, result: CheckResult) => void;
}

export class HealthCheckSession {
  readonly host: MonitoredHost;
  readonly #flags: CheckedFlags;
  readonly #options: HealthCheckSessionOptions;
  #isFirst = true;
  #passes = 0;
  #failures = 0;
  #isAsking = false;
  #isClosed = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HealthCheckSessionOptions) {
    this.#options = options;
    this.host = options.host;
    this.#flags = options.flags;
    if (!this.#flags.has(hostFlags.failedActiveCheck)) options.stats.add("healthy");
    if (this.#flags.has(hostFlags.degradedActiveCheck)) options.stats.add("degraded");
  }

  start(): void {
    const { initialJitterMs } = this.#options.config;
    if (initialJitterMs === 0) this.#ask();
    else this.#wait(Math.max(1, Math.floor(Math.random() * initialJitterMs)));
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#options.probe.close();
    const { stats } = this.#options;
    if (!this.#flags.has(hostFlags.failedActiveCheck)) stats.add("healthy", -1);
    if (this.#flags.has(hostFlags.degradedActiveCheck)) stats.add("degraded", -1);
  }

  /** The host has said itself, in an answer to somebody, that it wants no requests. */
  failPassively(): void {
    this.#setUnhealthy("passive", false);
  }

  #ask(): void {
    const { probe, stats, config } = this.#options;
    this.#isAsking = true;
    stats.add("attempt");
    this.#timer = setTimeout(() => {
      this.#isAsking = false;
      probe.giveUp();
      this.#failed("networkTimeout", false);
    }, config.timeoutMs).unref();
    probe.ask((outcome) => this.#answered(outcome));
  }

  #wait(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), ms).unref();
  }

  #answered(outcome: ProbeOutcome): void {
    if (!this.#isAsking || this.#isClosed) return;
    this.#isAsking = false;
    switch (outcome.kind) {
      case "passed":
        this.#passed(outcome.isDegraded);
        return;
      case "failed":
        if (outcome.wantsExclusion) this.#flags.set(hostFlags.excludedByImmediateFail);
        this.#failed("active", outcome.isRetriable);
        return;
      case "unreachable":
        this.#failed("network", false);
        return;
      default:
        outcome satisfies never;
    }
  }

  #passed(isDegraded: boolean): void {
    const { host } = this;
    const flags = this.#flags;
    const { stats, events, config, onResult } = this.#options;
    this.#failures = 0;
    let transition: Transition = "unchanged";
    if (flags.has(hostFlags.failedActiveCheck)) {
      this.#passes++;
      if (this.#isFirst || this.#passes === config.healthyThreshold) {
        flags.clear(hostFlags.activeCheckTimeout | hostFlags.excludedByImmediateFail | hostFlags.failedActiveCheck);
        stats.add("healthy");
        transition = "changed";
        events?.added(host, this.#isFirst);
      } else transition = "pending";
    }
    if (transition !== "changed" && config.alwaysLogsSuccesses) events?.passed(host);
    if (this.#clearPending()) transition = "changed";
    if (isDegraded !== flags.has(hostFlags.degradedActiveCheck)) {
      if (isDegraded) flags.set(hostFlags.degradedActiveCheck);
      else flags.clear(hostFlags.degradedActiveCheck);
      stats.add("degraded", isDegraded ? 1 : -1);
      events?.degraded(host, isDegraded);
      if (transition === "unchanged") transition = "changed";
    }
    stats.add("success");
    const isFirst = this.#isFirst;
    this.#isFirst = false;
    onResult(host, { transition, hasPassed: true, isFirst });
    this.#plan(true, transition);
  }

  #failed(type: FailureType, isRetriable: boolean): void {
    this.#plan(false, this.#setUnhealthy(type, isRetriable));
  }

  #setUnhealthy(type: FailureType, isRetriable: boolean): Transition {
    const { host } = this;
    const flags = this.#flags;
    const { stats, events, config, onResult } = this.#options;
    const isNetwork = type === "network" || type === "networkTimeout";
    this.#passes = 0;
    let transition: Transition = "unchanged";
    if (!flags.has(hostFlags.failedActiveCheck)) {
      if ((!isNetwork && !isRetriable) || ++this.#failures === config.unhealthyThreshold) {
        flags.set(hostFlags.failedActiveCheck);
        stats.add("healthy", -1);
        transition = "changed";
        events?.ejected(host, type);
      } else transition = "pending";
    }
    if (type === "networkTimeout" && flags.has(hostFlags.failedActiveCheck)) flags.set(hostFlags.activeCheckTimeout);
    else flags.clear(hostFlags.activeCheckTimeout);
    if (this.#clearPending()) transition = "changed";
    if (this.#isFirst || config.alwaysLogsFailures) events?.failed(host, type, this.#isFirst);
    stats.add("failure");
    if (isNetwork) stats.add("network_failure");
    else if (type === "passive") stats.add("passive_failure");
    const isFirst = this.#isFirst;
    this.#isFirst = false;
    onResult(host, { transition, hasPassed: false, isFirst });
    return transition;
  }

  /** The host was left out of account until now. */
  #clearPending(): boolean {
    if (!this.#flags.has(hostFlags.pendingActiveCheck)) return false;
    this.#flags.clear(hostFlags.pendingActiveCheck);
    return true;
  }

  #plan(isWell: boolean, transition: Transition): void {
    if (this.#isClosed) return;
    const { config, hasTraffic } = this.#options;
    let ms: number;
    if (!hasTraffic()) ms = isWell && transition !== "pending" ? config.noTrafficHealthyIntervalMs : config.noTrafficIntervalMs;
    else if (isWell) ms = transition === "pending" ? config.healthyEdgeIntervalMs : config.intervalMs;
    else ms = transition === "pending" ? config.unhealthyEdgeIntervalMs : config.unhealthyIntervalMs;
    ms += Math.floor(Math.random() * Math.floor((config.jitterPercent * ms) / 100)) + Math.floor(Math.random() * config.jitterMs);
    this.#wait(Math.max(1, ms));
  }
}
