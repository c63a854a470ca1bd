/**
 * The hosts of a cluster by priority, and which of them a request may use.
 *
 * A priority's health is 1.4 times its share of healthy hosts, at most 100 %. Traffic goes to the priorities in order, as
 * much as their health allows, first to healthy hosts, then to degraded ones. A priority below the panic threshold is used
 * whole, ill hosts included. All of this is worked out when hosts change; with one healthy priority a request is one call.
 */

import { EdfScheduler } from "./edf-scheduler.ts";
import type { Host } from "./host.ts";
import { createLoadBalancer, type LoadBalancer, type LoadBalancerPolicy } from "./load-balancer.ts";

export interface PriorityOptions {
  readonly policy: LoadBalancerPolicy;
  /** Percent of healthy hosts below which all hosts are used; 50 by default, 0 turns panic off. */
  readonly panicThresholdPercent: number;
  readonly failsOnPanic: boolean;
  readonly weighsLocalities: boolean;
  /** 140 by default. */
  readonly overprovisioningPercent: number;
}

interface Share {
  /** Upper bound of this share on [0, 100). */
  readonly upTo: number;
  readonly balancer: LoadBalancer;
  readonly isPanic: boolean;
}

export class PrioritySet {
  /** All hosts, of all priorities. */
  readonly hosts: readonly Host[];
  readonly #shares: readonly Share[];
  readonly #onPanic: () => void;

  constructor(hosts: readonly Host[], options: PriorityOptions, onPanic: () => void) {
    this.hosts = hosts;
    this.#onPanic = onPanic;
    this.#shares = shares(hosts, options);
  }

  /** null when no host may be used. Hot. */
  choose(): Host | null {
    const all = this.#shares;
    let share = all[0];
    if (share === undefined) return null;
    if (all.length > 1) {
      const at = Math.random() * 100;
      for (let i = 0; i < all.length; i++) {
        share = all[i]!;
        if (at < share.upTo) break;
      }
    }
    if (share.isPanic) this.#onPanic();
    return share.balancer.choose();
  }
}

interface Level {
  readonly all: Host[];
  readonly healthy: Host[];
  readonly degraded: Host[];
  /** Of those that count at all. */
  eligible: number;
}

function shares(hosts: readonly Host[], options: PriorityOptions): Share[] {
  const levels: Level[] = [];
  for (const host of hosts) {
    const priority = host.description.priority;
    while (levels.length <= priority) levels.push({ all: [], healthy: [], degraded: [], eligible: 0 });
    const level = levels[priority]!;
    level.all.push(host);
    if (!host.isExcluded) level.eligible++;
    if (host.health === "healthy") level.healthy.push(host);
    else if (host.health === "degraded") level.degraded.push(host);
  }
  const factor = options.overprovisioningPercent;
  const health = (part: number, whole: number) => (whole === 0 ? 0 : Math.min(100, Math.floor((factor * part) / whole)));
  const healthy = levels.map((level) => health(level.healthy.length, level.eligible));
  const degraded = levels.map((level) => health(level.degraded.length, level.eligible));
  const total = Math.min(
    100,
    [...healthy, ...degraded].reduce((sum, part) => sum + part, 0),
  );
  const inPanic = levels.map((level) => total < 100 && level.all.length > 0 && isBelow(level, options.panicThresholdPercent));
  const made: Share[] = [];
  let upTo = 0;
  const add = (percent: number, makeBalancer: () => LoadBalancer, isPanic: boolean) => {
    if (percent <= 0) return;
    upTo += percent;
    made.push({ upTo, balancer: makeBalancer(), isPanic });
  };
  // In panic a locality's weight counts for nothing.
  const whole = (level: Level) => () => createLoadBalancer(options.policy, level.all);
  if (total === 0) {
    // Nothing is usable: in panic every level gets its share by size, else nobody gets anything.
    const inPanicHosts = levels.filter((_, index) => inPanic[index]).reduce((sum, level) => sum + level.all.length, 0);
    if (inPanicHosts === 0 || options.failsOnPanic) return [];
    for (const [index, level] of levels.entries()) {
      if (inPanic[index]) add((100 * level.all.length) / inPanicHosts, whole(level), true);
    }
    return made;
  }
  let left = 100;
  for (const kind of ["healthy", "degraded"] as const) {
    for (const [index, level] of levels.entries()) {
      const percent = Math.min(left, Math.round(((kind === "healthy" ? healthy : degraded)[index]! * 100) / total));
      left -= percent;
      if (inPanic[index]) {
        if (!options.failsOnPanic) add(percent, whole(level), true);
      } else add(percent, () => balance(level[kind], level, options), false);
    }
  }
  return made;
}

function isBelow(level: Level, thresholdPercent: number): boolean {
  const usable = level.healthy.length + level.degraded.length;
  return (level.eligible === 0 ? 0 : (usable * 100) / level.eligible) < thresholdPercent;
}

/** By locality where those have weights: what is left of a locality's weight when too few of its hosts are usable. */
function balance(usable: readonly Host[], level: Level, options: PriorityOptions): LoadBalancer {
  if (!options.weighsLocalities) return createLoadBalancer(options.policy, usable);
  const byLocality = new Map<string, Host[]>();
  for (const host of usable) {
    const group = byLocality.get(host.description.locality);
    if (group) group.push(host);
    else byLocality.set(host.description.locality, [host]);
  }
  if (byLocality.size < 2) return createLoadBalancer(options.policy, usable);
  const scheduler = new EdfScheduler<LoadBalancer & { weight: number }>();
  for (const [locality, group] of byLocality) {
    const eligible = level.all.filter((host) => host.description.locality === locality && !host.isExcluded).length;
    const available = eligible === 0 ? 0 : Math.min(1, ((options.overprovisioningPercent / 100) * group.length) / eligible);
    const weight = group[0]!.description.localityWeight * available;
    if (weight <= 0) continue;
    const balancer = createLoadBalancer(options.policy, group);
    scheduler.add({ weight, choose: () => balancer.choose() }, weight);
  }
  return { choose: () => scheduler.pick((locality) => locality.weight)?.choose() ?? null };
}
