/** envoy.config.cluster.v3.OutlierDetection, checked and with Envoy's defaults filled in. */
import { ConfigError } from "../../api/config-error.ts";
import type { OutlierDetection } from "../../api/gen/envoy/config/cluster/v3/outlier_detection_pb.js";
import { durationMs } from "../duration.ts";
import type { ErrorMatcher } from "./error-matcher.ts";

/** Why a host is taken for an outlier; Envoy's `OutlierEjectionType`. */
export type OutlierKind =
  | "consecutive5xx"
  | "consecutiveGatewayFailure"
  | "consecutiveLocalOriginFailure"
  | "successRate"
  | "localOriginSuccessRate"
  | "failurePercentage"
  | "localOriginFailurePercentage";

export type ConsecutiveKind = Extract<OutlierKind, `consecutive${string}`>;

export interface OutlierConfig {
  /** So many in a row; 0: never. */
  readonly consecutive: Readonly<Record<ConsecutiveKind, number>>;
  /** Chance that an outlier of this kind is ejected, in percent. */
  readonly enforcing: Readonly<Record<OutlierKind, number>>;
  readonly intervalMs: number;
  readonly baseEjectionMs: number;
  readonly maxEjectionMs: number;
  readonly maxJitterMs: number;
  readonly maxEjectionPercent: number;
  readonly alwaysEjectsOneHost: boolean;
  readonly successRate: { readonly minHosts: number; readonly minRequests: number; readonly stdevFactor: number };
  readonly failurePercentage: { readonly minHosts: number; readonly minRequests: number; readonly threshold: number };
  /** What the proxy itself finds out (no connection, no answer in time) is counted apart from what hosts answer. */
  readonly splitsOrigins: boolean;
  /** A health check that passes ends an ejection. */
  readonly passedCheckUnejects: boolean;
  /** Which answers are errors; null: those with a status of 5xx. */
  readonly isError: ErrorMatcher | null;
}

export function compileOutlierDetection(message: OutlierDetection | undefined, isError: ErrorMatcher | null): OutlierConfig | null {
  if (message === undefined) return null;
  const [monitor] = message.monitors;
  if (monitor !== undefined) {
    const typeName = monitor.typedConfig?.typeUrl.replace(/^.*\//, "") ?? "";
    throw new ConfigError(`Didn't find a registered implementation for '${monitor.name}' with type URL: '${typeName}'`);
  }
  const baseEjectionMs = durationMs(message.baseEjectionTime, 30_000);
  const maxEjectionMs = durationMs(message.maxEjectionTime, Math.max(300_000, baseEjectionMs));
  if (maxEjectionMs < baseEjectionMs) {
    throw new ConfigError("outlier detector's max_ejection_time cannot be smaller than base_ejection_time");
  }
  return {
    consecutive: {
      consecutive5xx: message.consecutive5xx ?? 5,
      consecutiveGatewayFailure: message.consecutiveGatewayFailure ?? 5,
      consecutiveLocalOriginFailure: message.consecutiveLocalOriginFailure ?? 5,
    },
    enforcing: {
      consecutive5xx: message.enforcingConsecutive5xx ?? 100,
      consecutiveGatewayFailure: message.enforcingConsecutiveGatewayFailure ?? 0,
      consecutiveLocalOriginFailure: message.enforcingConsecutiveLocalOriginFailure ?? 100,
      successRate: message.enforcingSuccessRate ?? 100,
      localOriginSuccessRate: message.enforcingLocalOriginSuccessRate ?? 100,
      failurePercentage: message.enforcingFailurePercentage ?? 0,
      localOriginFailurePercentage: message.enforcingFailurePercentageLocalOrigin ?? 0,
    },
    intervalMs: durationMs(message.interval, 10_000),
    baseEjectionMs,
    maxEjectionMs,
    maxJitterMs: durationMs(message.maxEjectionTimeJitter, 0),
    maxEjectionPercent: Math.min(100, message.maxEjectionPercent ?? 10),
    alwaysEjectsOneHost: message.alwaysEjectOneHost ?? false,
    successRate: {
      minHosts: message.successRateMinimumHosts ?? 5,
      minRequests: message.successRateRequestVolume ?? 100,
      stdevFactor: (message.successRateStdevFactor ?? 1900) / 1000,
    },
    failurePercentage: {
      minHosts: message.failurePercentageMinimumHosts ?? 5,
      minRequests: message.failurePercentageRequestVolume ?? 50,
      threshold: message.failurePercentageThreshold ?? 85,
    },
    splitsOrigins: message.splitExternalLocalOriginErrors,
    isError,
    passedCheckUnejects: message.successfulActiveHealthCheckUnejectHost ?? true,
  };
}
