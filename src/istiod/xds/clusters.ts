/**
 * CDS: a cluster for each port of each service that the proxy can see, one more for each subset, and the special ones.
 * Source: Istio pilot/pkg/networking/core/cluster.go, cluster_builder.go.
 */
import { create } from "@bufbuild/protobuf";
import { type EncodedResource, encodeResource } from "../../ads/resource.ts";
import {
  blackHoleCluster,
  inboundCluster,
  inboundPassthroughCluster,
  outboundCluster,
  passthroughCluster,
} from "../../api/cluster-name.ts";
import {
  type Cluster,
  Cluster_DiscoveryType,
  Cluster_DnsLookupFamily,
  Cluster_LbPolicy,
  ClusterSchema,
} from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { AggregatedConfigSourceSchema, ApiVersion, ConfigSourceSchema } from "../../api/gen/envoy/config/core/v3/config_source_pb.js";
import type { TrafficPolicy } from "../../api/kinds/destination-rule.ts";
import type { ProxyNode } from "../../api/node.ts";
import { isHttp2 } from "../../registry/protocol.ts";
import type { Service, ServicePort } from "../../registry/service.ts";
import { mergeTrafficPolicy, policyForPort, type ResolvedDestinationRule } from "../push/destination-rules.ts";
import type { PushContext } from "../push/push-context.ts";
import { inlineLoadAssignment } from "./endpoints.ts";
import { localitySettings, needsLocalityWeights } from "./locality.ts";
import { configPath, duration, istioMetadata, statName } from "./messages.ts";
import { applyTrafficPolicy, enableLocalityWeights } from "./traffic-policy.ts";
import { upstreamTls } from "./upstream-tls.ts";

export function clusters(proxy: ProxyNode, push: PushContext): EncodedResource[] {
  const shared = push.shared("cds", proxy, () => {
    const special = [blackHoleCluster, ...(proxy.type === "sidecar" ? [passthroughCluster, inboundPassthroughCluster] : [])];
    const outbound = push.servicesFor(proxy).flatMap((service) => outboundClusters(service, proxy, push));
    return [...outbound, ...special.map((name) => encode(specialCluster(name)))];
  });
  return proxy.type === "sidecar" ? [...shared, ...inboundClusters(proxy, push).map(encode)] : [...shared];
}

/** Clusters of one service; the same bytes for all proxies of a type that see the same DestinationRule. */
function outboundClusters(service: Service, proxy: ProxyNode, push: PushContext): EncodedResource[] {
  const rule = push.destinationRules.forService(proxy, service);
  return service.ports
    .filter((port) => port.protocol !== "UDP")
    .flatMap((port) => {
      const subsets = ["", ...(rule?.spec.subsets.map((subset) => subset.name) ?? [])];
      return subsets.flatMap((subset) => {
        const key = `cds|${proxy.type}|${lookupFamily(proxy)}|${service.namespace}|${outboundCluster(service.host, port.number, subset)}|${rule ? `${rule.namespace}/${rule.name}/${rule.exportKey}` : ""}`;
        const known = push.encoded.get(key);
        if (known) return [known];
        const cluster = outboundServiceCluster(service, port, subset, rule, proxy, push);
        if (!cluster) return [];
        const encoded = encode(cluster);
        push.encoded.set(key, encoded);
        return [encoded];
      });
    });
}

/** Undefined for a DNS service without endpoints: Envoy has nothing to resolve. */
function outboundServiceCluster(
  service: Service,
  port: ServicePort,
  subsetName: string,
  rule: ResolvedDestinationRule | undefined,
  proxy: ProxyNode,
  push: PushContext,
): Cluster | undefined {
  const subset = rule?.spec.subsets.find((candidate) => candidate.name === subsetName);
  const policy = policyForPort(mergeTrafficPolicy(rule?.spec.trafficPolicy, subset?.trafficPolicy), port.number);
  const name = outboundCluster(service.host, port.number, subsetName);
  const cluster = create(ClusterSchema, {
    name,
    altStatName: statName(name),
    metadata: istioMetadata({
      services: [{ host: service.host, name: service.name, namespace: service.namespace }],
      ...(rule ? { config: configPath("networking.istio.io/v1", "DestinationRule", rule.namespace, rule.name) } : {}),
      ...(subsetName ? { subset: subsetName } : {}),
      ...(service.isExternal ? { external: true } : {}),
    }),
  });
  if (!discover(cluster, service, port, subset?.labels ?? {}, proxy, push)) return undefined;
  applyTrafficPolicy(cluster, policy, {
    mesh: push.mesh,
    protocol: port.protocol,
    direction: "outbound",
    sniffs: port.protocol === "unsupported" && proxy.type === "sidecar",
  });
  if (cluster.lbPolicy !== Cluster_LbPolicy.CLUSTER_PROVIDED && needsLocalityWeights(localitySettings(policy, push.mesh)))
    enableLocalityWeights(cluster);
  applyTls(cluster, policy, service, port);
  return cluster;
}

function applyTls(cluster: Cluster, policy: TrafficPolicy | undefined, service: Service, port: ServicePort): void {
  const socket = upstreamTls(policy?.tls, service, isHttp2(port.protocol));
  if (socket) cluster.transportSocket = socket;
}

/** Where the endpoints come from. False: from nowhere. */
function discover(
  cluster: Cluster,
  service: Service,
  port: ServicePort,
  labels: Readonly<Record<string, string>>,
  proxy: ProxyNode,
  push: PushContext,
): boolean {
  switch (service.resolution) {
    case "DNS":
    case "DNS_ROUND_ROBIN": {
      const assignment = inlineLoadAssignment(cluster.name, service, port.name, labels, push);
      if (!assignment) return false;
      cluster.loadAssignment = assignment;
      const type = service.resolution === "DNS" ? Cluster_DiscoveryType.STRICT_DNS : Cluster_DiscoveryType.LOGICAL_DNS;
      cluster.clusterDiscoveryType = { case: "type", value: type };
      cluster.respectDnsTtl = true;
      cluster.dnsRefreshRate = duration(push.mesh.dnsRefreshRate ?? 60_000);
      cluster.dnsLookupFamily = lookupFamily(proxy);
      return true;
    }
    case "NONE":
      // A gateway knows no original destination; its traffic to such a service needs a table.
      if (proxy.type === "router") return useEds(cluster);
      cluster.clusterDiscoveryType = { case: "type", value: Cluster_DiscoveryType.ORIGINAL_DST };
      cluster.lbPolicy = Cluster_LbPolicy.CLUSTER_PROVIDED;
      return true;
    case "STATIC":
      return useEds(cluster);
    case "DYNAMIC_DNS":
      return false;
    default:
      return service.resolution satisfies never;
  }
}

function useEds(cluster: Cluster): true {
  cluster.clusterDiscoveryType = { case: "type", value: Cluster_DiscoveryType.EDS };
  cluster.edsClusterConfig = {
    $typeName: "envoy.config.cluster.v3.Cluster.EdsClusterConfig",
    edsConfig: adsSource(),
    serviceName: cluster.name,
  };
  return true;
}

/** From the same ADS stream, without a limit on the wait. */
export function adsSource() {
  return create(ConfigSourceSchema, {
    configSourceSpecifier: { case: "ads", value: create(AggregatedConfigSourceSchema) },
    initialFetchTimeout: duration(0),
    resourceApiVersion: ApiVersion.V3,
  });
}

function lookupFamily(proxy: ProxyNode): Cluster_DnsLookupFamily {
  const hasV4 = proxy.ipAddresses.some((address) => !address.includes(":"));
  const hasV6 = proxy.ipAddresses.some((address) => address.includes(":"));
  return hasV4 && hasV6 ? Cluster_DnsLookupFamily.ALL : hasV6 ? Cluster_DnsLookupFamily.V6_ONLY : Cluster_DnsLookupFamily.V4_ONLY;
}

/** A cluster for each port on which a service of the workload is served. */
function inboundClusters(proxy: ProxyNode, push: PushContext): Cluster[] {
  const seen = new Set<number>();
  return push.registry.servicesAt(proxy.ipAddresses, proxy.namespace).flatMap(({ service, endpoint }) => {
    const port = service.ports.find((candidate) => candidate.name === endpoint.portName);
    if (!port || port.protocol === "UDP" || seen.has(endpoint.port)) return [];
    seen.add(endpoint.port);
    const name = inboundCluster(endpoint.port);
    const cluster = create(ClusterSchema, {
      name,
      altStatName: statName(name),
      clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.ORIGINAL_DST },
      lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED,
      upstreamBindConfig: { sourceAddress: inboundSource },
      metadata: istioMetadata({ services: [{ host: service.host, name: service.name, namespace: service.namespace }] }),
    });
    const policy = policyForPort(push.destinationRules.forService(proxy, service)?.spec.trafficPolicy, port.number);
    applyTrafficPolicy(cluster, policy, {
      mesh: push.mesh,
      protocol: port.protocol,
      direction: "inbound",
      sniffs: port.protocol === "unsupported",
    });
    return [cluster];
  });
}

/** The proxy's own traffic to the application comes from an address that its redirect rules let pass. */
const inboundSource = { address: "127.0.0.6", portSpecifier: { case: "portValue" as const, value: 0 } };

function specialCluster(name: string): Cluster {
  const isBlackHole = name === blackHoleCluster;
  return create(ClusterSchema, {
    name,
    altStatName: statName(name),
    connectTimeout: duration(10_000),
    clusterDiscoveryType: { case: "type", value: isBlackHole ? Cluster_DiscoveryType.STATIC : Cluster_DiscoveryType.ORIGINAL_DST },
    ...(isBlackHole ? {} : { lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED }),
    ...(name === inboundPassthroughCluster ? { upstreamBindConfig: { sourceAddress: inboundSource } } : {}),
  });
}

function encode(cluster: Cluster): EncodedResource {
  return encodeResource(cluster.name, ClusterSchema, cluster);
}
