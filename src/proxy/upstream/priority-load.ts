/**
 * How traffic is shared among a cluster's priorities, in whole percents. Source: Envoy load_balancer_impl.cc.
 *
 * A priority's health is 1.4 times its share of healthy hosts, at most 100 %. Traffic goes to the priorities in order, as much as their
 * health allows, first to healthy hosts, then to degraded ones. A priority with too few of both is in panic: it is used whole, ill
 * hosts included.
 */
import type { Host } from "./host.ts";

export interface Level {
  readonly all: Host[];
  readonly healthy: Host[];
  readonly degraded: Host[];
  /** Those of which a share must be healthy. */
  readonly eligible: Host[];
}

export interface LoadOptions {
  /** Percent of healthy hosts below which all hosts are used; 50 by default, 0 turns panic off. */
  readonly panicThresholdPercent: number;
  /** 140 by default. */
  readonly overprovisioningPercent: number;
  /** A priority's health is that of its hosts' weights, not of their number. */
  readonly weighsHealth: boolean;
}

/** Percent by priority; healthy and degraded together are 100 where anything can be used at all. */
export interface PriorityLoad {
  readonly healthy: readonly number[];
  readonly degraded: readonly number[];
}

/** By priority; the first is there even without hosts. */
export function levelsOf(hosts: readonly Host[]): Level[] {
  const levels: Level[] = [newLevel()];
  for (const host of hosts) {
    const { health } = host;
    while (levels.length <= host.description.priority) levels.push(newLevel());
    const level = levels[host.description.priority]!;
    level.all.push(host);
    if (!host.isExcluded) level.eligible.push(host);
    if (health === "healthy") level.healthy.push(host);
    else if (health === "degraded") level.degraded.push(host);
  }
  return levels;
}

function newLevel(): Level {
  return { all: [], healthy: [], degraded: [], eligible: [] };
}

/** What each priority could take, in percent of the traffic. */
export function availabilityOf(levels: readonly Level[], options: LoadOptions): PriorityLoad {
  const size = (hosts: readonly Host[]) =>
    options.weighsHealth ? hosts.reduce((sum, { description }) => sum + description.weight, 0) : hosts.length;
  const part = (hosts: readonly Host[], { eligible }: Level) =>
    eligible.length === 0 ? 0 : Math.min(100, Math.floor((options.overprovisioningPercent * size(hosts)) / size(eligible)));
  return {
    healthy: levels.map((level) => part(level.healthy, level)),
    degraded: levels.map((level) => part(level.degraded, level)),
  };
}

export function totalOf({ healthy, degraded }: PriorityLoad): number {
  return Math.min(
    100,
    [...healthy, ...degraded].reduce((sum, part) => sum + part, 0),
  );
}

/** In order of priority until everything has gone; what rounding leaves goes to the first that can take any. */
export function distribute(availability: PriorityLoad): PriorityLoad {
  const total = totalOf(availability);
  let left = 100;
  const take = (part: number) => {
    const taken = Math.min(left, Math.floor((part * 100) / total));
    left -= taken;
    return taken;
  };
  const healthy = availability.healthy.map(take);
  const degraded = availability.degraded.map(take);
  const first = availability.healthy.findIndex((part) => part > 0);
  if (first >= 0) healthy[first]! += left;
  else degraded[availability.degraded.findIndex((part) => part > 0)]! += left;
  return { healthy, degraded };
}

export function loadOf(
  levels: readonly Level[],
  options: LoadOptions,
): { readonly load: PriorityLoad; readonly inPanic: readonly boolean[] } {
  const availability = availabilityOf(levels, options);
  const total = totalOf(availability);
  const inPanic = levels.map((level) => total < 100 && isInPanic(level, options.panicThresholdPercent));
  if (inPanic.every(Boolean)) return { load: loadInPanic(levels), inPanic };
  if (total > 0) return { load: distribute(availability), inPanic };
  return { load: { healthy: levels.map((_, index) => (index === 0 ? 100 : 0)), degraded: levels.map(() => 0) }, inPanic };
}

function isInPanic({ eligible, healthy, degraded }: Level, thresholdPercent: number): boolean {
  const percent = eligible.length === 0 ? 0 : (100 * (healthy.length + degraded.length)) / eligible.length;
  return percent < Math.min(100, Math.round(thresholdPercent));
}

/** All priorities are in panic: each has its share by the number of hosts, whatever their health. */
function loadInPanic(levels: readonly Level[]): PriorityLoad {
  const total = levels.reduce((sum, { all }) => sum + all.length, 0);
  const healthy = levels.map(({ all }) => (total === 0 ? 0 : Math.floor((100 * all.length) / total)));
  const first = Math.max(
    0,
    levels.findIndex(({ all }) => all.length > 0),
  );
  healthy[first]! += 100 - healthy.reduce((sum, part) => sum + part, 0);
  return { healthy, degraded: levels.map(() => 0) };
}
