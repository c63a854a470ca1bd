/** `slow_start_config`: a host that has just come gets less at first, and more and more for the time of the window. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { RuntimeDouble } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import type { Percent } from "../../api/gen/envoy/type/v3/percent_pb.js";
import { durationMs } from "../duration.ts";
import type { Host } from "./host.ts";

export interface SlowStart {
  readonly windowMs: number;
  /** 1 by default: the weight grows evenly; more: faster at first. */
  readonly aggression: number;
  /** Share of its weight that a host has at least; 0.1 by default. */
  readonly leastShare: number;
}

interface SlowStartMessage {
  readonly slowStartWindow?: Duration | undefined;
  readonly aggression?: RuntimeDouble | undefined;
  readonly minWeightPercent?: Percent | undefined;
}

/** null: hosts have their whole weight at once. */
export function compileSlowStart(message: SlowStartMessage | undefined): SlowStart | null {
  const windowMs = durationMs(message?.slowStartWindow, 0);
  if (message === undefined || windowMs <= 0) return null;
  const aggression = message.aggression?.defaultValue ?? 1;
  return { windowMs, aggression: aggression > 0 ? aggression : 1, leastShare: (message.minWeightPercent?.value ?? 10) / 100 };
}

/** `now` on the clock of performance.now(). */
export function isStarting({ windowMs }: SlowStart, host: Host, now: number): boolean {
  return host.healthySince >= 0 && host.health === "healthy" && now - host.healthySince < windowMs;
}

/** What the host's weight is multiplied by. */
export function startingShare(slowStart: SlowStart, host: Host, now: number): number {
  if (!isStarting(slowStart, host, now)) return 1;
  const passed = Math.max(1, now - host.healthySince) / slowStart.windowMs;
  return Math.max(passed ** (1 / slowStart.aggression), slowStart.leastShare);
}
