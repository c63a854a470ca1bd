/** X-RateLimit-* of draft-polli-ratelimit-headers-03: of the limit that is nearest, with the policy of all. */
import {
  type RateLimitResponse_DescriptorStatus as DescriptorStatus,
  RateLimitResponse_RateLimit_Unit as Unit,
} from "../../../../api/gen/envoy/service/ratelimit/v3/rls_pb.js";
import type { HeaderList } from "../../../stream-info.ts";

const day = 24 * 3600;

/** Seconds; 0 for a unit that is none. */
const windows: Readonly<Record<Unit, number>> = {
  [Unit.UNKNOWN]: 0,
  [Unit.SECOND]: 1,
  [Unit.MINUTE]: 60,
  [Unit.HOUR]: 3600,
  [Unit.DAY]: day,
  [Unit.MONTH]: 30 * day,
  [Unit.YEAR]: 365 * day,
};

export function limitHeaders(statuses: readonly DescriptorStatus[]): HeaderList {
  let nearest: DescriptorStatus | null = null;
  let policy = "";
  for (const status of statuses) {
    const limit = status.currentLimit;
    if (limit === undefined) continue;
    if (nearest === null || status.limitRemaining < nearest.limitRemaining) nearest = status;
    const window = windows[limit.unit] ?? 0;
    if (window > 0) policy += `, ${limit.requestsPerUnit};w=${window}${limit.name === "" ? "" : `;name="${limit.name}"`}`;
  }
  if (nearest === null) return [];
  return [
    "x-ratelimit-limit",
    `${nearest.currentLimit!.requestsPerUnit}${policy}`,
    "x-ratelimit-remaining",
    String(nearest.limitRemaining),
    "x-ratelimit-reset",
    String(nearest.durationUntilReset?.seconds ?? 0n),
  ];
}
