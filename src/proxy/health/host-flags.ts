/** What is known against a host, as bits. Envoy's `Host::HealthFlag`, with its values. */
import { HealthStatus } from "../../api/gen/envoy/config/core/v3/health_check_pb.js";

export const hostFlags = {
  failedActiveCheck: 1 << 0,
  failedOutlierCheck: 1 << 1,
  failedEdsHealth: 1 << 2,
  degradedActiveCheck: 1 << 3,
  degradedEdsHealth: 1 << 4,
  /** Discovery does not name it any more; it stays until a health check fails. */
  pendingRemoval: 1 << 5,
  /** New, and not checked yet: left out of what a priority's health is measured by. */
  pendingActiveCheck: 1 << 6,
  /** It asked by a header to be left alone. */
  excludedByImmediateFail: 1 << 7,
  activeCheckTimeout: 1 << 8,
  drainingByEds: 1 << 9,
} as const;

export type HostHealth = "healthy" | "degraded" | "unhealthy";

const unhealthyFlags = hostFlags.failedActiveCheck | hostFlags.failedOutlierCheck | hostFlags.failedEdsHealth | hostFlags.drainingByEds;
const degradedFlags = hostFlags.degradedActiveCheck | hostFlags.degradedEdsHealth;
const excludedFlags = hostFlags.pendingActiveCheck | hostFlags.excludedByImmediateFail | hostFlags.drainingByEds;

export function healthOf(flags: number): HostHealth {
  if ((flags & unhealthyFlags) !== 0) return "unhealthy";
  return (flags & degradedFlags) !== 0 ? "degraded" : "healthy";
}

/** It does not count among the hosts of which a share must be healthy. */
export function isExcluded(flags: number): boolean {
  return (flags & excludedFlags) !== 0;
}

const flagsOfStatus: Record<HealthStatus, number> = {
  [HealthStatus.UNKNOWN]: 0,
  [HealthStatus.HEALTHY]: 0,
  [HealthStatus.DEGRADED]: hostFlags.degradedEdsHealth,
  [HealthStatus.UNHEALTHY]: hostFlags.failedEdsHealth,
  [HealthStatus.TIMEOUT]: hostFlags.failedEdsHealth,
  [HealthStatus.DRAINING]: hostFlags.drainingByEds,
};

/** What discovery says. */
export function edsFlags(status: HealthStatus): number {
  return flagsOfStatus[status] ?? 0;
}

/** In Envoy's order, which is that of the bits. */
const names: readonly (readonly [flag: number, text: string])[] = [
  [hostFlags.failedActiveCheck, "/failed_active_hc"],
  [hostFlags.failedOutlierCheck, "/failed_outlier_check"],
  [hostFlags.failedEdsHealth, "/failed_eds_health"],
  [hostFlags.degradedActiveCheck, "/degraded_active_hc"],
  [hostFlags.degradedEdsHealth, "/degraded_eds_health"],
  [hostFlags.pendingRemoval, "/pending_dynamic_removal"],
  [hostFlags.pendingActiveCheck, "/pending_active_hc"],
  [hostFlags.excludedByImmediateFail, "/excluded_via_immediate_hc_fail"],
  [hostFlags.activeCheckTimeout, "/active_hc_timeout"],
  [hostFlags.drainingByEds, "/eds_status_draining"],
];

/** `/failed_active_hc/active_hc_timeout`, or `healthy`. */
export function flagsText(flags: number): string {
  let text = "";
  for (const [flag, name] of names) if ((flags & flag) !== 0) text += name;
  return text === "" ? "healthy" : text;
}
