/** Filter chains that pass bytes. Source: Istio pilot/pkg/networking/core/networkfilter.go. */
import { create } from "@bufbuild/protobuf";
import { type Filter, FilterSchema } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { TcpProxySchema } from "../../api/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { HashPolicySchema } from "../../api/gen/envoy/type/v3/hash_policy_pb.js";
import type { ConsistentHashLB } from "../../api/kinds/destination-rule.ts";
import type { RouteDestination } from "../../api/kinds/virtual-service.ts";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import { accessLogs } from "./access-log.ts";
import { consistentHash, destinationCluster, type RouteContext } from "./http-routes.ts";
import { any, statName } from "./messages.ts";
import type { Tunnel } from "./tunnel.ts";

export interface WeightedTarget {
  readonly cluster: string;
  readonly weight: number;
}

/** What the DestinationRule of the targets says of how they get the bytes. */
export interface TcpForwarding {
  /** Of a connection there is only the client's address to go by. */
  readonly hash?: ConsistentHashLB | undefined;
  readonly tunnel?: Tunnel | undefined;
}

export function tcpProxy(
  statPrefix: string,
  targets: readonly WeightedTarget[],
  mesh: MeshConfig,
  { hash, tunnel }: TcpForwarding = {},
): Filter {
  const [only] = targets;
  return create(FilterSchema, {
    name: "envoy.filters.network.tcp_proxy",
    configType: {
      case: "typedConfig",
      value: any(TcpProxySchema, {
        statPrefix: statName(statPrefix),
        clusterSpecifier:
          targets.length === 1 && only
            ? { case: "cluster", value: only.cluster }
            : { case: "weightedClusters", value: { clusters: targets.map(({ cluster, weight }) => ({ name: cluster, weight })) } },
        accessLog: accessLogs(mesh),
        hashPolicy: hash?.useSourceIp ? [create(HashPolicySchema, { policySpecifier: { case: "sourceIp", value: {} } })] : [],
        ...(tunnel ? { tunnelingConfig: { ...tunnel } } : {}),
      }),
    },
  });
}

/** Of a VirtualService's tcp or tls rule; destinations of weight 0 among several get nothing. */
export function routeTargets(routes: readonly RouteDestination[], namespace: string, context: RouteContext): WeightedTarget[] {
  const list = routes.length > 1 ? routes.filter((entry) => entry.weight > 0) : routes;
  return list.map((entry) => ({ cluster: destinationCluster(entry.destination, namespace, context), weight: entry.weight || 1 }));
}

/** Of such a rule: several destinations share the first one's, without its subset. */
export function routeHash(routes: readonly RouteDestination[], namespace: string, context: RouteContext): ConsistentHashLB | undefined {
  const destination = routes[0]?.destination;
  return consistentHash(destination && routes.length > 1 ? { ...destination, subset: "" } : destination, namespace, context);
}
