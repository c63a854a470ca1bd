/**
 * Choosing an endpoint: Envoy's ROUND_ROBIN, LEAST_REQUEST and RANDOM over a list of hosts, rebuilt when the list changes.
 * Priorities, panic and localities are decided above this (priority-set.ts).
 */
import { EdfScheduler } from "./edf-scheduler.ts";
import type { Host } from "./host.ts";

export interface LoadBalancer {
  /** null when there are no hosts. Hot. */
  choose(): Host | null;
}

export type LoadBalancerPolicy =
  | { readonly kind: "roundRobin" }
  | { readonly kind: "leastRequest"; readonly choices: number; readonly activeRequestBias: number }
  | { readonly kind: "random" };

export function createLoadBalancer(policy: LoadBalancerPolicy, hosts: readonly Host[]): LoadBalancer {
  if (hosts.length === 0) return none;
  if (hosts.length === 1) {
    const only = hosts[0]!;
    return { choose: () => only };
  }
  const isWeighted = hosts.some((host) => host.description.weight !== hosts[0]!.description.weight);
  switch (policy.kind) {
    case "roundRobin":
      return isWeighted ? new WeightedRotation(hosts, weightOf) : new Rotation(hosts);
    case "leastRequest": {
      const bias = policy.activeRequestBias;
      if (!isWeighted) return new LeastOfSome(hosts, policy.choices);
      return new WeightedRotation(hosts, (host) => host.description.weight / (host.activeRequests + 1) ** bias);
    }
    case "random":
      return isWeighted ? new WeightedRandom(hosts) : { choose: () => hosts[Math.floor(Math.random() * hosts.length)]! };
    default:
      return policy satisfies never;
  }
}

const none: LoadBalancer = { choose: () => null };

const weightOf = (host: Host) => host.description.weight;

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
  readonly #weight: (host: Host) => number;

  constructor(hosts: readonly Host[], weight: (host: Host) => number) {
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

class WeightedRandom implements LoadBalancer {
  readonly #hosts: readonly Host[];
  readonly #total: number;

  constructor(hosts: readonly Host[]) {
    this.#hosts = hosts;
    this.#total = hosts.reduce((sum, host) => sum + host.description.weight, 0);
  }

  choose(): Host {
    let at = Math.random() * this.#total;
    for (const host of this.#hosts) {
      at -= host.description.weight;
      if (at < 0) return host;
    }
    return this.#hosts[this.#hosts.length - 1]!;
  }
}
