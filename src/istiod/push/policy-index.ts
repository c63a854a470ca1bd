/**
 * Which policies are in force for a workload, of a kind that is attached by selector or by targetRefs. Those of the root namespace hold
 * everywhere and come first, then those of the workload's namespace; in each the oldest first.
 *
 * Proxies that no selector can tell apart share one answer, which is found by the labels that selectors ask for and not by trying all.
 * Source: Istio pilot/pkg/model/policyattachment.go.
 */
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { PolicyTargetReference, WorkloadSelector } from "../../api/kinds/selectors.ts";
import { selectorMatches } from "../../registry/service.ts";

export interface AttachedSpec {
  readonly selector?: WorkloadSelector | undefined;
  readonly targetRef?: PolicyTargetReference | undefined;
  readonly targetRefs: readonly PolicyTargetReference[];
}

export interface PolicyTarget {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Says of a workload that it is a gateway of the Kubernetes Gateway API, and which. */
const gatewayNameLabel = "gateway.networking.k8s.io/gateway-name";

export function targetsOf({ targetRef, targetRefs }: AttachedSpec): readonly PolicyTargetReference[] {
  return targetRefs.length === 0 && targetRef ? [targetRef] : targetRefs;
}

/** Of the Gateway API. Services and ServiceEntries are targets of waypoints, of which there are none here. */
export function isGatewayTarget({ group, kind }: PolicyTargetReference): boolean {
  return group === "gateway.networking.k8s.io" && kind === "Gateway";
}

export class PolicyIndex<Spec extends AttachedSpec> {
  readonly #rootNamespace: string;
  readonly #byNamespace = new Map<string, NamespacePolicies<Spec>>();
  readonly #answers = new Map<string, readonly ConfigObject<Spec>[]>();

  /** `policies`: oldest first. */
  constructor(policies: readonly ConfigObject<Spec>[], rootNamespace: string) {
    this.#rootNamespace = rootNamespace;
    for (const policy of policies) {
      const { namespace } = policy.metadata;
      const list = this.#byNamespace.get(namespace) ?? new NamespacePolicies();
      this.#byNamespace.set(namespace, list);
      list.add(policy);
    }
  }

  /** The same list for all workloads of whom the same is true. */
  forWorkload(workload: PolicyTarget): readonly ConfigObject<Spec>[] {
    const root = this.#byNamespace.get(this.#rootNamespace);
    const own = workload.namespace === this.#rootNamespace ? undefined : this.#byNamespace.get(workload.namespace);
    const asked = [gatewayNameLabel, ...(root?.labels ?? []), ...(own?.labels ?? [])];
    const key = JSON.stringify([workload.namespace, ...asked.map((label) => workload.labels[label])]);
    const known = this.#answers.get(key);
    if (known) return known;
    const answer = [...(root?.of(workload) ?? []), ...(own?.of(workload) ?? [])];
    this.#answers.set(key, answer);
    return answer;
  }
}

interface Entry<Spec> {
  readonly policy: ConfigObject<Spec>;
  readonly age: number;
  readonly selector: Readonly<Record<string, string>>;
}

/** The policies of one namespace. */
class NamespacePolicies<Spec extends AttachedSpec> {
  /** That selectors ask for. */
  readonly labels = new Set<string>();
  readonly #unselective: Entry<Spec>[] = [];
  /** By the first pair of the selector, as `label=value`. */
  readonly #byPair = new Map<string, Entry<Spec>[]>();
  readonly #pairLabels = new Set<string>();
  readonly #byGateway = new Map<string, Entry<Spec>[]>();
  #count = 0;

  add(policy: ConfigObject<Spec>): void {
    const selector = policy.spec.selector?.matchLabels ?? {};
    const entry: Entry<Spec> = { policy, age: this.#count++, selector };
    const targets = targetsOf(policy.spec);
    if (targets.length > 0) {
      const { namespace } = policy.metadata;
      const names = targets.filter((target) => isGatewayTarget(target) && (target.namespace === "" || target.namespace === namespace));
      for (const name of new Set(names.map((target) => target.name))) append(this.#byGateway, name, entry);
      return;
    }
    const [first] = Object.entries(selector);
    if (!first) {
      this.#unselective.push(entry);
      return;
    }
    for (const label of Object.keys(selector)) this.labels.add(label);
    this.#pairLabels.add(first[0]);
    append(this.#byPair, `${first[0]}=${first[1]}`, entry);
  }

  of({ namespace, labels }: PolicyTarget): ConfigObject<Spec>[] {
    const entries = [...this.#unselective];
    for (const label of this.#pairLabels) {
      const value = labels[label];
      if (value === undefined) continue;
      for (const entry of this.#byPair.get(`${label}=${value}`) ?? []) if (selectorMatches(entry.selector, labels)) entries.push(entry);
    }
    const gateway = labels[gatewayNameLabel];
    if (gateway !== undefined) {
      for (const entry of this.#byGateway.get(gateway) ?? []) if (entry.policy.metadata.namespace === namespace) entries.push(entry);
    }
    return entries.sort((a, b) => a.age - b.age).map(({ policy }) => policy);
  }
}

function append<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key);
  if (list) list.push(item);
  else lists.set(key, [item]);
}
