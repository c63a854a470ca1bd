/** What is counted of decisions: `PREFIX.rbac.[RULES PREFIX.]allowed` and so on, per policy where that is asked for. */
import type { StatIndex, StatsStore } from "../../stats/store.ts";

export interface RbacStatPrefixes {
  /** Each with or without a dot at its end. */
  readonly stat: string;
  readonly rules: string;
  readonly shadowRules: string;
}

/** Of enforced rules or of shadow rules. */
export class DecisionStats {
  readonly #stats: StatsStore;
  readonly #allowed: StatIndex;
  readonly #denied: StatIndex;
  readonly #policyPrefix: string;
  readonly #names: { readonly allowed: string; readonly denied: string };
  readonly #ofPolicies = new Map<string, StatIndex>();

  constructor(stats: StatsStore, prefix: string, kind: "" | "shadow_") {
    this.#stats = stats;
    this.#names = { allowed: `${kind}allowed`, denied: `${kind}denied` };
    this.#allowed = stats.counter(prefix + this.#names.allowed);
    this.#denied = stats.counter(prefix + this.#names.denied);
    this.#policyPrefix = `${prefix}policy.`;
  }

  /** Hot. */
  count(isAllowed: boolean): void {
    this.#stats.add(isAllowed ? this.#allowed : this.#denied, 1);
  }

  /** A policy's counter comes with its first decision, as in Envoy. */
  countPolicy(policy: string, isAllowed: boolean): void {
    const name = `${policy}.${isAllowed ? this.#names.allowed : this.#names.denied}`;
    let index = this.#ofPolicies.get(name);
    if (index === undefined) {
      index = this.#stats.counter(this.#policyPrefix + name);
      this.#ofPolicies.set(name, index);
    }
    this.#stats.add(index, 1);
  }
}

export interface RbacStats {
  readonly enforced: DecisionStats;
  readonly shadow: DecisionStats;
}

export function createRbacStats(stats: StatsStore, { stat, rules, shadowRules }: RbacStatPrefixes): RbacStats {
  const prefix = `${withDot(stat)}rbac.`;
  return {
    enforced: new DecisionStats(stats, prefix + withDot(rules), ""),
    shadow: new DecisionStats(stats, prefix + withDot(shadowRules), "shadow_"),
  };
}

function withDot(prefix: string): string {
  return prefix === "" || prefix.endsWith(".") ? prefix : `${prefix}.`;
}
