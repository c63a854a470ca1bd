/**
 * DestinationRules by host: which one is in force for a service as a proxy sees it.
 * Looked up in the proxy's namespace, then the service's, then the root namespace; there the most specific host wins.
 * Source: Istio pilot/pkg/model/destination_rule.go, push_context.go (destinationRule).
 */
import { isDeepStrictEqual } from "node:util";
import { compareSpecificity, expandShortHost, hostCovers } from "../../api/hostname.ts";
import type { ClientTLSSettings, DestinationRule, TrafficPolicy } from "../../api/kinds/destination-rule.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { ProxyNode } from "../../api/node.ts";
import { isVisible, type Service, selectorMatches, type Visibility, visibilityOf } from "../../registry/service.ts";

export interface ResolvedDestinationRule {
  readonly host: string;
  readonly namespace: string;
  /** Of the first object; later ones for the same host and visibility add their subsets. */
  readonly name: string;
  readonly spec: DestinationRule;
  readonly visibility: Visibility;
  readonly exportKey: string;
}

export class DestinationRuleIndex {
  readonly #byNamespace = new Map<string, ResolvedDestinationRule[]>();
  readonly #rootNamespace: string;

  /** `objects` in creation order. */
  constructor(
    objects: readonly ConfigObject<DestinationRule>[],
    domain: string,
    rootNamespace: string,
    defaultExportTo: readonly string[],
  ) {
    this.#rootNamespace = rootNamespace;
    for (const object of objects) {
      const { namespace, name } = object.metadata;
      const rule: ResolvedDestinationRule = {
        host: expandShortHost(object.spec.host, namespace, domain).toLowerCase(),
        namespace,
        name,
        spec: object.spec,
        visibility: visibilityOf(object.spec.exportTo, namespace, defaultExportTo),
        exportKey: [...object.spec.exportTo].sort().join(","),
      };
      const list = this.#byNamespace.get(namespace) ?? [];
      this.#byNamespace.set(namespace, list);
      const same = list.findIndex(
        (known) =>
          known.host === rule.host && known.exportKey === rule.exportKey && !known.spec.workloadSelector && !rule.spec.workloadSelector,
      );
      if (same >= 0) list[same] = mergeRules(list[same]!, rule);
      else list.push(rule);
    }
    for (const list of this.#byNamespace.values()) list.sort((a, b) => compareSpecificity(a.host, b.host));
  }

  /** All, in no particular order; those of one host and visibility as the one that they are together. */
  get rules(): ResolvedDestinationRule[] {
    return [...this.#byNamespace.values()].flat();
  }

  forService(proxy: ProxyNode, service: Service): ResolvedDestinationRule | undefined {
    if (proxy.namespace !== this.#rootNamespace) {
      const own = this.#find(proxy.namespace, service.host, proxy, () => true);
      if (own) return own;
    }
    const exported = (rule: ResolvedDestinationRule) => isVisible(rule.visibility, proxy.namespace);
    return this.#find(service.namespace, service.host, proxy, exported) ?? this.#find(this.#rootNamespace, service.host, proxy, exported);
  }

  /** Names of all subsets that any rule defines for the host, whoever may see it. */
  subsetNames(host: string): string[] {
    const names = new Set<string>();
    for (const rules of this.#byNamespace.values()) {
      for (const rule of rules) if (hostCovers(rule.host, host)) for (const subset of rule.spec.subsets) names.add(subset.name);
    }
    return [...names];
  }

  #find(
    namespace: string,
    host: string,
    proxy: ProxyNode,
    accepts: (rule: ResolvedDestinationRule) => boolean,
  ): ResolvedDestinationRule | undefined {
    return this.#byNamespace.get(namespace)?.find((rule) => {
      if (!hostCovers(rule.host, host) || !accepts(rule)) return false;
      // A rule for chosen workloads acts in its own namespace only.
      const selector = rule.spec.workloadSelector?.matchLabels;
      return !selector || (namespace === proxy.namespace && selectorMatches(selector, proxy.labels));
    });
  }
}

/** Hosts of rules that only one of two indices has, or that say different things in the two. May be wildcards. */
export function changedRuleHosts(older: DestinationRuleIndex, newer: DestinationRuleIndex): string[] {
  if (older === newer) return [];
  const saying = (rules: readonly ResolvedDestinationRule[]) => Map.groupBy(rules, ({ host, namespace }) => `${namespace}/${host}`);
  const [then, now] = [saying(older.rules), saying(newer.rules)];
  const hosts = new Set<string>();
  for (const key of new Set([...then.keys(), ...now.keys()])) {
    const [before, after] = [then.get(key), now.get(key)];
    if (!isDeepStrictEqual(before, after)) hosts.add((before ?? after)![0]!.host);
  }
  return [...hosts];
}

/** The older rule's policy stands; subsets add up, a name already taken is passed over. */
function mergeRules(older: ResolvedDestinationRule, newer: ResolvedDestinationRule): ResolvedDestinationRule {
  const names = new Set(older.spec.subsets.map((subset) => subset.name));
  const subsets = [...older.spec.subsets, ...newer.spec.subsets.filter((subset) => !names.has(subset.name))];
  return { ...older, spec: { ...older.spec, subsets, trafficPolicy: older.spec.trafficPolicy ?? newer.spec.trafficPolicy } };
}

/** The policy for one port: its own entry replaces the four settings that an entry can hold; nothing is inherited from above. */
export function policyForPort(policy: TrafficPolicy | undefined, port: number): TrafficPolicy | undefined {
  const entry = policy?.portLevelSettings.find((candidate) => candidate.port?.number === port);
  if (!policy || !entry) return policy;
  return {
    ...policy,
    connectionPool: entry.connectionPool,
    loadBalancer: entry.loadBalancer,
    outlierDetection: entry.outlierDetection,
    tls: entry.tls,
  };
}

/**
 * The policy of a subset for one port: of the rule's for that port each field is replaced that the subset's has; an entry of the subset
 * for the port replaces the four settings that an entry can hold, whether it has them or not.
 * Source: Istio pilot/pkg/networking/util/util.go (MergeSubsetTrafficPolicy).
 */
export function policyForSubset(
  rule: TrafficPolicy | undefined,
  subset: TrafficPolicy | undefined,
  port: number,
): TrafficPolicy | undefined {
  const base = policyForPort(rule, port);
  const override = policyForPort(subset, port);
  if (!base || !override) return override ?? base;
  const isWhole = override !== subset;
  return {
    ...base,
    connectionPool: override.connectionPool ?? (isWhole ? undefined : base.connectionPool),
    loadBalancer: override.loadBalancer ?? (isWhole ? undefined : base.loadBalancer),
    outlierDetection: override.outlierDetection ?? (isWhole ? undefined : base.outlierDetection),
    tls: override.tls ?? (isWhole ? undefined : base.tls),
    tunnel: override.tunnel ?? base.tunnel,
    proxyProtocol: override.proxyProtocol ?? base.proxyProtocol,
    retryBudget: override.retryBudget ?? base.retryBudget,
  };
}

/**
 * Whether certificates come from a Secret, which only the proxies of its namespace may read. A rule for all sidecars would have all of
 * them ask for it, most in vain; so sidecars act on such a rule only when it is for chosen workloads, and else send plaintext, as in Istio.
 */
export function namesPrivateSecret({ mode, credentialName }: ClientTLSSettings): boolean {
  return (mode === "SIMPLE" || mode === "MUTUAL") && credentialName !== "" && !credentialName.startsWith("configmap://");
}
