/**
 * The hosts of a cluster by priority, and which of them a request may use: a priority by its share of the traffic (priority-load.ts),
 * then a locality where they are weighted, then a host. All of this is worked out when hosts change; with one healthy priority a request
 * is one call.
 */
import { Hash64, modulo } from "../../lib/hash64.ts";
import { EdfScheduler } from "./edf-scheduler.ts";
import type { Host } from "./host.ts";
import { localitiesOf } from "./host-weights.ts";
import { createHashBalancer, createLoadBalancer, type HashBalancerOptions, isHashing, type LoadBalancer, none } from "./load-balancer.ts";
import type { LoadBalancerPolicy } from "./load-balancer-policy.ts";
import { availabilityOf, type Level, type LoadOptions, levelsOf, loadOf, type PriorityLoad } from "./priority-load.ts";

export interface PriorityOptions extends LoadOptions, HashBalancerOptions {
  readonly policy: LoadBalancerPolicy;
  readonly failsOnPanic: boolean;
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
  /** What each priority could take. */
  readonly availability: PriorityLoad;
  readonly #levels: readonly Level[];
  readonly #inPanic: readonly boolean[];
  readonly #options: PriorityOptions;
  readonly #hashes: boolean;
  readonly #balancers: Record<keyof Level, LoadBalancer | undefined>[];
  readonly #shares: readonly Share[];
  readonly #onPanic: () => void;

  constructor(hosts: readonly Host[], options: PriorityOptions, onPanic: () => void) {
    this.hosts = hosts;
    this.#options = options;
    this.#onPanic = onPanic;
    this.#hashes = isHashing(options.policy);
    this.#levels = levelsOf(hosts);
    this.#balancers = this.#levels.map(() => ({ all: undefined, healthy: undefined, degraded: undefined, eligible: undefined }));
    this.availability = availabilityOf(this.#levels, options);
    const { load, inPanic } = loadOf(this.#levels, options);
    this.#inPanic = inPanic;
    // Tables are made for every priority, as their statistics are of the last one.
    if (this.#hashes) for (const index of this.#levels.keys()) this.#balancer(index, "healthy");
    this.#shares = this.sharesOf(load);
  }

  /** null when no host may be used. Without a hash, policies that go by one choose at random. Hot. */
  choose(hash: Hash64 | null = null, attempt = 0): Host | null {
    return this.chooseFrom(this.#shares, hash, attempt);
  }

  /** The same with other shares of the priorities. */
  chooseFrom(all: readonly Share[], hash: Hash64 | null, attempt: number): Host | null {
    let share = all[0]!;
    const by = this.#hashes ? (hash ?? anyHash()) : null;
    if (all.length > 1) {
      const at = by === null ? Math.random() * 100 : modulo(by, 100);
      for (let i = 0; i < all.length; i++) {
        share = all[i]!;
        if (at < share.upTo) break;
      }
    }
    if (share.isPanic) this.#onPanic();
    return share.balancer.choose(by, attempt);
  }

  sharesOf({ healthy, degraded }: PriorityLoad): Share[] {
    const made: Share[] = [];
    let upTo = 0;
    const add = (percent: number, index: number, kind: "healthy" | "degraded") => {
      if (percent <= 0) return;
      upTo += percent;
      made.push({ upTo, balancer: this.#balancer(index, kind), isPanic: this.#inPanic[index]! });
    };
    for (const [index, percent] of healthy.entries()) add(percent, index, "healthy");
    for (const [index, percent] of degraded.entries()) add(percent, index, "degraded");
    return made;
  }

  /** One table serves a priority's healthy and degraded share: Envoy's has no degraded hosts in it, whoever asks. */
  #balancer(index: number, kind: "healthy" | "degraded"): LoadBalancer {
    const isPanic = this.#inPanic[index]!;
    if (isPanic && this.#options.failsOnPanic && !this.#hashes) return none;
    const used = isPanic ? "all" : this.#hashes ? "healthy" : kind;
    const made = this.#balancers[index]!;
    made[used] ??= this.#createBalancer(this.#levels[index]!, used);
    return made[used];
  }

  #createBalancer(level: Level, kind: keyof Level): LoadBalancer {
    const options = this.#options;
    const { policy } = options;
    if (policy.kind === "ringHash" || policy.kind === "maglev") return createHashBalancer(policy, level.all, level[kind], options);
    const create = (hosts: readonly Host[]) => createLoadBalancer(policy, hosts);
    // In panic the weights of localities don't count.
    if (!options.weighsLocalities || kind === "all") return create(level[kind]);
    return byLocality(level.eligible, level[kind], options.overprovisioningPercent, create);
  }
}

const anyHashScratch = new Hash64();

function anyHash(): Hash64 {
  anyHashScratch.high = Math.random() * 2 ** 32;
  anyHashScratch.low = Math.random() * 2 ** 32;
  return anyHashScratch;
}

/** A locality's weight counts as far as its health goes, which is 1.4 times its share of usable hosts. */
function byLocality(
  eligible: readonly Host[],
  usable: readonly Host[],
  overprovisioningPercent: number,
  create: (hosts: readonly Host[]) => LoadBalancer,
): LoadBalancer {
  const scheduler = new EdfScheduler<LoadBalancer & { weight: number }>();
  let isEmpty = true;
  for (const { hosts, weight, size } of localitiesOf(eligible, usable)) {
    const effective = weight * Math.min(1, (overprovisioningPercent / 100) * (hosts.length / size));
    if (effective <= 0) continue;
    const balancer = create(hosts);
    isEmpty = false;
    scheduler.add({ weight: effective, choose: (hash, attempt) => balancer.choose(hash, attempt) }, effective);
  }
  if (isEmpty) return create(usable);
  return { choose: (hash, attempt) => scheduler.pick((locality) => locality.weight)?.choose(hash, attempt) ?? null };
}
