/**
 * Limits on what one cluster may hold open in this worker, per priority, and what it holds now.
 * Envoy `CircuitBreakers.Thresholds`. Counters are per worker: with N workers a cluster may reach N times a limit.
 */
import type {
  CircuitBreakers_Thresholds,
  CircuitBreakers as CircuitBreakersMessage,
} from "../../api/gen/envoy/config/cluster/v3/circuit_breaker_pb.js";
import { RoutingPriority } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { durationMs } from "../duration.ts";
import type { ClusterStats } from "./cluster-stats.ts";
import { RequestWindow } from "./request-window.ts";

export type Priority = "default" | "high";

export interface Thresholds {
  /** Default 1024 each, 3 retries. Istio sends 2^32-1 where nothing is configured. */
  readonly maxConnections: number;
  readonly maxPendingRequests: number;
  readonly maxRequests: number;
  readonly maxRetries: number;
  /** Percent of active and pending requests that may be retries; null where `maxRetries` counts. */
  readonly retryBudgetPercent: number | null;
  readonly minRetryConcurrency: number;
  /** The budget is a share of the requests that began within the interval; 0: of those that are under way. */
  readonly retryBudgetIntervalMs: number;
}

export function compileThresholds(breakers: CircuitBreakersMessage | undefined, priority: Priority): Thresholds {
  const wanted = priority === "high" ? RoutingPriority.HIGH : RoutingPriority.DEFAULT;
  const found: CircuitBreakers_Thresholds | undefined = breakers?.thresholds.find((entry) => entry.priority === wanted);
  return {
    maxConnections: found?.maxConnections ?? 1024,
    maxPendingRequests: found?.maxPendingRequests ?? 1024,
    maxRequests: found?.maxRequests ?? 1024,
    maxRetries: found?.maxRetries ?? 3,
    retryBudgetPercent: found?.retryBudget === undefined ? null : (found.retryBudget.budgetPercent?.value ?? 20),
    minRetryConcurrency: found?.retryBudget?.minRetryConcurrency ?? 3,
    retryBudgetIntervalMs: durationMs(found?.retryBudget?.budgetInterval, 0),
  };
}

export class Resources {
  readonly limits: Thresholds;
  connections = 0;
  pending = 0;
  requests = 0;
  retries = 0;
  readonly #stats: ClusterStats;
  readonly #priority: Priority;
  readonly #begun: RequestWindow | null;

  constructor(limits: Thresholds, stats: ClusterStats, priority: Priority) {
    this.limits = limits;
    this.#begun = limits.retryBudgetIntervalMs > 0 ? new RequestWindow(limits.retryBudgetIntervalMs) : null;
    this.#stats = stats;
    this.#priority = priority;
  }

  canConnect(): boolean {
    return this.connections < this.limits.maxConnections;
  }

  canWait(): boolean {
    return this.pending < this.limits.maxPendingRequests;
  }

  canRequest(): boolean {
    return this.requests < this.limits.maxRequests;
  }

  canRetry(): boolean {
    const { retryBudgetPercent, minRetryConcurrency, maxRetries } = this.limits;
    if (retryBudgetPercent === null) return this.retries < maxRetries;
    const counted = this.#begun === null ? this.requests + this.pending : this.#begun.total;
    return this.retries < Math.max(minRetryConcurrency, Math.floor((counted * retryBudgetPercent) / 100));
  }

  addConnection(amount: 1 | -1): void {
    this.connections += amount;
    this.#show("cx_open", this.connections, this.limits.maxConnections);
  }

  addPending(amount: 1 | -1): void {
    this.pending += amount;
    this.#show("rq_pending_open", this.pending, this.limits.maxPendingRequests);
  }

  /** Hot. */
  addRequest(amount: 1 | -1): void {
    this.requests += amount;
    if (this.#begun !== null && amount > 0) this.#begun.count();
    this.#show("rq_open", this.requests, this.limits.maxRequests);
  }

  addRetry(amount: 1 | -1): void {
    this.retries += amount;
    if (this.limits.retryBudgetPercent === null) this.#show("rq_retry_open", this.retries, this.limits.maxRetries);
  }

  /** The gauge is 1 while the breaker is open; written only around the limit. */
  #show(name: "cx_open" | "rq_open" | "rq_pending_open" | "rq_retry_open", used: number, limit: number): void {
    if (used < limit - 1) return;
    this.#stats.store.set(this.#stats.breakers[this.#priority][name], used >= limit ? 1 : 0);
  }
}
