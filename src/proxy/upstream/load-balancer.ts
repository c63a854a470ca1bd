/**
 * Choosing an endpoint of a list, rebuilt when the list changes: Envoy's ROUND_ROBIN, LEAST_REQUEST, RANDOM, RING_HASH and MAGLEV.
 * Priorities, panic and localities are decided above this (priority-set.ts).
 */
import type { Hash64 } from "../../lib/hash64.ts";
import { BoundedLoad } from "./bounded-load.ts";
import { EdfScheduler } from "./edf-scheduler.ts";
import { HashRing } from "./hash-ring.ts";
import type { Host } from "./host.ts";
import { hostWeights } from "./host-weights.ts";
import type { LoadBalancerPolicy } from "./load-balancer-policy.ts";
import { MaglevTable } from "./maglev-table.ts";
import { isStarting, type SlowStart, startingShare } from "./slow-start.ts";

export interface LoadBalancer {
  /** null when there are no hosts. `hash` is there where the policy chooses by it; `attempt` counts the hosts that were not wanted. Hot. */
  choose(hash: Hash64 | null, attempt: number): Host | null;
}

/** Numbers of a table that was made: its size, and the fewest and the most places that a host has in it. */
export type TableReport = (size: number, least: number, most: number) => void;

export function isHashing(policy: LoadBalancerPolicy): boolean {
  return policy.kind === "ringHash" || policy.kind === "maglev";
}

type HashingPolicy = Extract<LoadBalancerPolicy, { kind: "ringHash" | "maglev" }>;
type SpreadingPolicy = Exclude<LoadBalancerPolicy, HashingPolicy>;

export interface HashBalancerOptions {
  readonly weighsLocalities: boolean;
  /** Requests under way to the whole cluster. */
  readonly activeRequests: () => number;
  readonly onTable: TableReport;
}

/** `all`: of the same priority, those that may not be used included. */
export function createHashBalancer(
  policy: HashingPolicy,
  all: readonly Host[],
  usable: readonly Host[],
  options: HashBalancerOptions,
): LoadBalancer {
  const weights = hostWeights(all, usable, options.weighsLocalities);
  if (weights.length === 0) return none;
  let table: HashRing | MaglevTable;
  if (policy.kind === "ringHash") {
    table = new HashRing(weights, policy);
    options.onTable(table.size, table.minPerHost, table.maxPerHost);
  } else {
    table = new MaglevTable(weights, policy);
    options.onTable(policy.tableSize, table.minPerHost, table.maxPerHost);
  }
  const chosen = policy.balanceFactor === 0 ? table : new BoundedLoad(table, weights, policy.balanceFactor, options.activeRequests);
  return { choose: (hash, attempt) => chosen.choose(hash!, attempt) };
}

export function createLoadBalancer(policy: SpreadingPolicy, hosts: readonly Host[]): LoadBalancer {
  if (hosts.length === 0) return none;
  if (hosts.length === 1) {
    const only = hosts[0]!;
    return { choose: () => only };
  }
  // Weights are nothing to it, as in Envoy.
  if (policy.kind === "random") return { choose: () => hosts[Math.floor(Math.random() * hosts.length)]! };
  const isWeighted = hosts.some((host) => host.description.weight !== hosts[0]!.description.weight);
  const { slowStart } = policy;
  const isScheduled = isWeighted || (slowStart !== null && hosts.some((host) => isStarting(slowStart, host, performance.now())));
  switch (policy.kind) {
    case "roundRobin":
      return isScheduled ? new WeightedRotation(hosts, started(weightOf, slowStart)) : new Rotation(hosts);
    case "leastRequest": {
      if (!isScheduled) return policy.choices < Number.POSITIVE_INFINITY ? new LeastOfSome(hosts, policy.choices) : new LeastOfAll(hosts);
      const bias = policy.activeRequestBias;
      return new WeightedRotation(
        hosts,
        started((host) => host.description.weight / (host.activeRequests + 1) ** bias, slowStart),
      );
    }
    default:
      return policy satisfies never;
  }
}

export const none: LoadBalancer = { choose: () => null };

type Weigh = (host: Host) => number;

const weightOf: Weigh = (host) => host.description.weight;

function started(weigh: Weigh, slowStart: SlowStart | null): Weigh {
  return slowStart === null ? weigh : (host) => weigh(host) * startingShare(slowStart, host, performance.now());
}

class Rotation implements LoadBalancer {
  readonly #hosts: readonly Host[];
  #next: number;

  constructor(hosts: readonly Host[]) {
    this.#hosts = hosts;
    this.#next = Math.floor(Math.random() * hosts.length);
  }

  choose(): Host {
    const host = this.#hosts[this.#next]!;
    this.#next = this.#next + 1 === this.#hosts.length ? 0 : this.#next + 1;
    return host;
  }
}

class WeightedRotation implements LoadBalancer {
  readonly #scheduler = new EdfScheduler<Host>();
  readonly #weight: Weigh;

  constructor(hosts: readonly Host[], weight: Weigh) {
    this.#weight = weight;
    for (const host of hosts) this.#scheduler.add(host, weight(host));
    // Workers must not all begin with the same host.
    for (let skip = Math.floor(Math.random() * hosts.length); skip > 0; skip--) this.choose();
  }

  choose(): Host | null {
    return this.#scheduler.pick(this.#weight);
  }
}

class LeastOfSome implements LoadBalancer {
  readonly #hosts: readonly Host[];
  readonly #choices: number;

  constructor(hosts: readonly Host[], choices: number) {
    this.#hosts = hosts;
    this.#choices = choices;
  }

  choose(): Host {
    const hosts = this.#hosts;
    let best = hosts[Math.floor(Math.random() * hosts.length)]!;
    for (let i = 1; i < this.#choices; i++) {
      const other = hosts[Math.floor(Math.random() * hosts.length)]!;
      if (other.activeRequests < best.activeRequests) best = other;
    }
    return best;
  }
}

class LeastOfAll implements LoadBalancer {
  readonly #hosts: readonly Host[];

  constructor(hosts: readonly Host[]) {
    this.#hosts = hosts;
  }

  /** Of those that have equally few, each has the same chance. */
  choose(): Host {
    const hosts = this.#hosts;
    let best = hosts[0]!;
    let alike = 1;
    for (let i = 1; i < hosts.length; i++) {
      const other = hosts[i]!;
      if (other.activeRequests > best.activeRequests) continue;
      if (other.activeRequests < best.activeRequests) alike = 0;
      alike++;
      if (Math.random() * alike < 1) best = other;
    }
    return best;
  }
}
