/**
 * Locality load balancing: which localities a proxy prefers, as priorities or as weights.
 *
 * Priorities are given only where outlier detection is on, since without it nothing would ever fail over. `distribute` sets weights and
 * works without. Source: Istio pilot/pkg/networking/core/loadbalancer/loadbalancer.go.
 */
import type { LocalityLbEndpoints } from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import type { LocalityLoadBalancerSetting, TrafficPolicy } from "../../api/kinds/destination-rule.ts";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import { formatLocality, type Locality, type ProxyNode } from "../../api/node.ts";
import type { Endpoint } from "../../registry/service.ts";
import { type LocalityGroup, localityMessage } from "./endpoints.ts";

export interface LocalitySettings {
  readonly setting: LocalityLoadBalancerSetting | undefined;
  readonly hasFailover: boolean;
}

/** Undefined: all localities alike. */
export function localitySettings(policy: TrafficPolicy | undefined, mesh: MeshConfig): LocalitySettings | undefined {
  const setting = policy?.loadBalancer?.localityLbSetting ?? mesh.localityLbSetting;
  if (setting?.enabled === false) return undefined;
  const hasFailover = policy?.outlierDetection !== undefined;
  if (!hasFailover && !setting?.distribute.length) return undefined;
  return { setting, hasFailover };
}

/** Whether Envoy must be told to weigh localities. */
export function needsLocalityWeights(settings: LocalitySettings | undefined): boolean {
  if (!settings) return false;
  const { setting, hasFailover } = settings;
  return (
    (setting?.distribute.length ?? 0) > 0 ||
    (hasFailover && ((setting?.failover.length ?? 0) > 0 || (setting?.failoverPriority.length ?? 0) > 0))
  );
}

export function prioritize(
  groups: readonly LocalityGroup[],
  { setting, hasFailover }: LocalitySettings,
  proxy: ProxyNode,
): LocalityLbEndpoints[] {
  if (setting && setting.distribute.length > 0) return distribute(groups, setting, proxy);
  if (!hasFailover) return groups.map(({ message }) => message);
  const labels = setting?.failoverPriority ?? [];
  const ranked = groups.flatMap(({ endpoints }) => {
    const byPriority = new Map<number, Endpoint[]>();
    for (const endpoint of endpoints) {
      const base = localityPriority(endpoint.locality, setting, proxy);
      const priority = labels.length > 0 ? labelPriority(endpoint, labels, proxy) * 5 + base : base;
      const list = byPriority.get(priority);
      if (list) list.push(endpoint);
      else byPriority.set(priority, [endpoint]);
    }
    return [...byPriority].map(([priority, members]) => ({ priority, members }));
  });
  // Envoy wants priorities without gaps.
  const distinct = [...new Set(ranked.map(({ priority }) => priority))].sort((a, b) => a - b);
  return ranked.map(({ priority, members }) => localityMessage(members, distinct.indexOf(priority)));
}

/** 0 for the proxy's own sub-zone, 1 its zone, 2 its region, 3 elsewhere; with a failover rule, other regions than its target 4. */
function localityPriority(locality: Locality, setting: LocalityLoadBalancerSetting | undefined, { locality: own }: ProxyNode): number {
  if (locality.region === own.region) {
    if (locality.zone !== own.zone) return 2;
    return locality.subZone === own.subZone ? 0 : 1;
  }
  const rule = setting?.failover.find((candidate) => candidate.from === own.region);
  return rule && rule.to !== locality.region ? 4 : 3;
}

/** Number of labels that are left when the first one differs: 0 when all agree. */
function labelPriority(endpoint: Endpoint, labels: readonly string[], proxy: ProxyNode): number {
  for (const [index, entry] of labels.entries()) {
    const [key = "", override] = entry.split("=", 2);
    const wanted = override ?? labelOf(key, proxy.labels, proxy.locality, proxy.network);
    const actual = labelOf(key, endpoint.labels, endpoint.locality, endpoint.network);
    if (wanted !== actual) return labels.length - index;
  }
  return 0;
}

/** Locality and network count as labels although they may be known from elsewhere. */
function labelOf(key: string, labels: Readonly<Record<string, string>>, locality: Locality, network: string): string {
  switch (key) {
    case "topology.kubernetes.io/region":
      return locality.region;
    case "topology.kubernetes.io/zone":
      return locality.zone;
    case "topology.istio.io/subzone":
      return locality.subZone;
    case "topology.istio.io/network":
      return network;
    default:
      return labels[key] ?? "";
  }
}

/** The first rule whose `from` is the proxy's locality shares the load out; localities that it does not name get nothing. */
function distribute(groups: readonly LocalityGroup[], setting: LocalityLoadBalancerSetting, proxy: ProxyNode): LocalityLbEndpoints[] {
  const rule = setting.distribute.find((candidate) => localityMatches(candidate.from, proxy.locality));
  if (!rule) return groups.map(({ message }) => message);
  const result: LocalityLbEndpoints[] = [];
  const taken = new Set<LocalityGroup>();
  // Exact localities before wildcards, so that `region/zone` is not swallowed by `region/*`.
  for (const [pattern, weight] of Object.entries(rule.to).sort(([a], [b]) => b.length - a.length)) {
    const members = groups.filter((group) => !taken.has(group) && localityMatches(pattern, group.endpoints[0]!.locality));
    for (const member of members) taken.add(member);
    const total = members.reduce((sum, { message }) => sum + (message.loadBalancingWeight ?? 0), 0);
    for (const { message } of members) {
      if (total > 0) result.push({ ...message, loadBalancingWeight: Math.ceil(((message.loadBalancingWeight ?? 0) * weight) / total) });
    }
  }
  return result;
}

/** `region/*`, `region/zone/*`, `*`, or a locality spelled out as far as it goes. */
function localityMatches(pattern: string, locality: Locality): boolean {
  const text = formatLocality(locality);
  if (pattern === "*") return true;
  if (pattern.endsWith("/*")) {
    const prefix = pattern.slice(0, -2);
    return text === prefix || text.startsWith(`${prefix}/`);
  }
  return text === pattern || text.startsWith(`${pattern}/`);
}
