/**
 * CDS: a cluster for each port of each service that the proxy can see, one more for each subset, and the special ones.
 * Source: Istio pilot/pkg/networking/core/cluster.go, cluster_builder.go.
 */
import { create } from "@bufbuild/protobuf";
import { type EncodedResource, encodeResource } from "../../ads/resource.ts";
import {
  blackHoleCluster,
  inboundPassthroughCluster,
  outboundCluster,
  parseClusterName,
  passthroughCluster,
  sniCluster,
} from "../../api/cluster-name.ts";
import {
  type Cluster,
  Cluster_DiscoveryType,
  Cluster_DnsLookupFamily,
  Cluster_LbPolicy,
  ClusterSchema,
} from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { AggregatedConfigSourceSchema, ApiVersion, ConfigSourceSchema } from "../../api/gen/envoy/config/core/v3/config_source_pb.js";
import type { ClientTLSSettingsMode, Subset, TrafficPolicy } from "../../api/kinds/destination-rule.ts";
import type { ProxyNode } from "../../api/node.ts";
import { typeUrls } from "../../api/type-urls.ts";
import type { Service, ServicePort } from "../../registry/service.ts";
import { policyForSubset, type ResolvedDestinationRule } from "../push/destination-rules.ts";
import { passesByServerName } from "../push/merged-gateway.ts";
import type { PushContext } from "../push/push-context.ts";
import { usesAutoMutualTls } from "../push/service-mutual-tls.ts";
import { inlineLoadAssignment } from "./endpoints.ts";
import { addedClusters, patchCluster } from "./envoy-filter/patch-clusters.ts";
import { inboundSide, outboundSide } from "./envoy-filter/patched-side.ts";
import { externalSdsCluster } from "./external-sds.ts";
import { firstOfEachName, withOthers } from "./first-of-each-name.ts";
import { inboundClusters, inboundSource } from "./inbound-clusters.ts";
import { clusterExchange } from "./istio-filters.ts";
import { localitySettings, needsLocalityWeights } from "./locality.ts";
import { configPath, duration, istioMetadata, statName } from "./messages.ts";
import { hasExternalSecrets, servesFiles } from "./sds-secrets.ts";
import { applyTrafficPolicy, enableLocalityWeights, speaksHttp2, type TrafficPolicyContext } from "./traffic-policy.ts";
import { applyUpstreamProxyProtocol } from "./upstream-proxy-protocol.ts";
import { applyUpstreamTls, namesByRequest, settingsWithFiles, type UpstreamTlsContextOf } from "./upstream-tls.ts";

/** Proxies that were told of a name at once don't all ask again at once. Istio's PILOT_DNS_JITTER_DURATION. */
const dnsJitterMs = 100;

/** All of a proxy, or those of `names` that it has. */
export function clusters(proxy: ProxyNode, push: PushContext, names?: ReadonlySet<string>): readonly EncodedResource[] {
  if (names) return named(names, proxy, push);
  const shared = push.shared(typeUrls.cds, "", proxy, () =>
    firstOfEachName([
      ...push.servicesFor(proxy).flatMap((service) => outboundClusters(service, "outbound", proxy, push)),
      ...specialClusters(proxy)
        .flatMap((name) => {
          const side = name === inboundPassthroughCluster ? inboundSide(proxy, push) : outboundSide(proxy, push);
          return patchCluster(specialCluster(name, proxy), side) ?? [];
        })
        .map(encode),
      ...addedClusters(outboundSide(proxy, push)).map(encode),
      ...(hasExternalSecrets(proxy) ? [encode(externalSdsCluster(push.mesh))] : []),
    ]),
  );
  if (proxy.type === "sidecar") return withOthers(shared, firstOfEachName(patchedInboundClusters(proxy, push).map(encode)));
  return passesByServerName(push.mergedGateway(proxy)) ? withOthers(shared, serverNameClusters(proxy, push)) : shared;
}

/** Made alone where services say them all; who asks for others, the special ones or a workload's own, has all of them made. */
function named(names: ReadonlySet<string>, proxy: ProxyNode, push: PushContext): readonly EncodedResource[] {
  const parsed = [...names].map((name) => parseClusterName(name));
  const areServices = parsed.every((name) => name?.direction === "outbound");
  // What an EnvoyFilter adds stands behind what services have of the same name.
  if (!areServices || addedClusters(outboundSide(proxy, push)).length > 0) {
    return clusters(proxy, push).filter(({ name }) => names.has(name));
  }
  const passesOn = proxy.type === "router" && passesByServerName(push.mergedGateway(proxy));
  const scope = push.sidecarScope(proxy);
  const hosts = new Set(parsed.map((name) => name!.host));
  return [...hosts].flatMap((host) => {
    const service = scope.serviceByHost(host);
    if (!service) return [];
    const own = outboundClusters(service, "outbound", proxy, push);
    const all = passesOn ? [...own, ...byServerName(service, proxy, push)] : own;
    return all.filter(({ name }) => names.has(name));
  });
}

function patchedInboundClusters(proxy: ProxyNode, push: PushContext): Cluster[] {
  const side = inboundSide(proxy, push);
  const own = inboundClusters(proxy, push).flatMap(({ cluster, hosts }) => patchCluster(cluster, side, hosts) ?? []);
  return [...own, ...addedClusters(side)];
}

/**
 * `serverName`: for gateways that pass mutual TLS on by its server name, which is the name of the cluster (AUTO_PASSTHROUGH). The
 * connection is encrypted already, and no cluster of that kind adds TLS of its own.
 */
type ClusterKind = "outbound" | "serverName";

/** Which gateway needs them is a matter of the Gateways that select it, not of its audience. */
function serverNameClusters(proxy: ProxyNode, push: PushContext): readonly EncodedResource[] {
  return push.shared(typeUrls.cds, "serverName", proxy, () =>
    push.servicesFor(proxy).flatMap((service) => byServerName(service, proxy, push)),
  );
}

function byServerName(service: Service, proxy: ProxyNode, push: PushContext): EncodedResource[] {
  return service.isExternal ? [] : outboundClusters(service, "serverName", proxy, push);
}

/** Clusters of one service; the same bytes for all proxies of a type that see the same DestinationRule. */
function outboundClusters(service: Service, kind: ClusterKind, proxy: ProxyNode, push: PushContext): EncodedResource[] {
  const nameOf = kind === "outbound" ? outboundCluster : sniCluster;
  const secrets = `${proxy.hasIdentity ? "" : "none"}${servesFiles(proxy) ? "files" : ""}${hasExternalSecrets(proxy) ? "external" : ""}${proxy.clientFiles ? JSON.stringify(proxy.clientFiles) : ""}`;
  const rule = push.destinationRules.forService(proxy, service);
  const side = outboundSide(proxy, push);
  return service.ports
    .filter((port) => port.protocol !== "UDP")
    .flatMap((port) => {
      const subsets = ["", ...(rule?.spec.subsets.map((subset) => subset.name) ?? [])];
      return subsets.flatMap((subset) => {
        const name = nameOf(service.host, port.number, subset);
        const variant = `${proxy.type}|${proxy.hasIstioFilters}|${lookupFamily(proxy)}|${secrets}|${side.patches.clusterKey}|${service.namespace}|${rule ? `${rule.namespace}/${rule.name}/${rule.exportKey}` : ""}`;
        const known = push.encoded.get(typeUrls.cds, name, variant);
        if (known) return [known];
        const cluster = serviceCluster(
          name,
          { kind, service, port, subset: rule?.spec.subsets.find((one) => one.name === subset), rule },
          proxy,
          push,
        );
        const patched = cluster && patchCluster(cluster, side);
        if (!patched) return [];
        const encoded = encode(patched);
        push.encoded.set(encoded, variant);
        return [encoded];
      });
    });
}

interface Destination {
  readonly kind: ClusterKind;
  readonly service: Service;
  readonly port: ServicePort;
  readonly subset: Subset | undefined;
  readonly rule: ResolvedDestinationRule | undefined;
}

/** Undefined for a DNS service without endpoints: Envoy has nothing to resolve. */
function serviceCluster(name: string, destination: Destination, proxy: ProxyNode, push: PushContext): Cluster | undefined {
  const { service, port, subset, rule } = destination;
  const policy = policyForSubset(rule?.spec.trafficPolicy, subset?.trafficPolicy, port.number);
  const mode = policy?.tls?.mode;
  const cluster = create(ClusterSchema, {
    name,
    altStatName: statName(name),
    filters: clusterExchange(proxy),
    metadata: istioMetadata({
      services: [{ host: service.host, name: service.name, namespace: service.namespace }],
      ...(rule ? { config: configPath("networking.istio.io/v1", "DestinationRule", rule.namespace, rule.name) } : {}),
      ...(subset ? { subset: subset.name } : {}),
      ...(service.isExternal ? { external: true } : {}),
      // The server is none of the mesh: what it is offered is not to be changed to the mesh's names of protocols.
      ...(mode === "SIMPLE" || mode === "MUTUAL" ? { alpn_override: "false" } : {}),
    }),
  });
  if (!discover(cluster, destination, mode, proxy, push)) return undefined;
  const traffic: TrafficPolicyContext = {
    mesh: push.mesh,
    protocol: port.protocol,
    direction: "outbound",
    sniffs: port.protocol === "unsupported" && proxy.type === "sidecar",
  };
  const tls = destination.kind === "outbound" ? upstreamTlsOf(destination, policy, speaksHttp2(policy, traffic), proxy, push) : undefined;
  applyTrafficPolicy(cluster, policy, { ...traffic, namesByRequest: namesByRequest(tls?.tls) });
  if (cluster.lbPolicy !== Cluster_LbPolicy.CLUSTER_PROVIDED && needsLocalityWeights(localitySettings(policy, push.mesh)))
    enableLocalityWeights(cluster);
  if (tls) {
    applyUpstreamTls(cluster, tls);
    applyUpstreamProxyProtocol(cluster, policy?.proxyProtocol);
  }
  return cluster;
}

function upstreamTlsOf(
  { service, port, subset, rule }: Destination,
  policy: TrafficPolicy | undefined,
  isHttp2: boolean,
  proxy: ProxyNode,
  push: PushContext,
): UpstreamTlsContextOf {
  const context: UpstreamTlsContextOf = {
    tls: policy?.tls,
    isAutomatic: (proxy.hasIdentity || proxy.clientFiles !== undefined) && usesAutoMutualTls(service, port, policy, push),
    service,
    identities: push.identitiesOf(service),
    sni: sniCluster(service.host, port.number, subset?.name),
    speaksHttp2: isHttp2,
    isForChosenWorkloads: rule?.spec.workloadSelector !== undefined,
    proxy,
    mesh: push.mesh,
  };
  return { ...context, tls: settingsWithFiles(context) };
}

/** Where the endpoints come from. False: from nowhere. */
function discover(
  cluster: Cluster,
  { kind, service, port, subset }: Destination,
  tlsMode: ClientTLSSettingsMode | undefined,
  proxy: ProxyNode,
  push: PushContext,
): boolean {
  switch (service.resolution) {
    case "DNS":
    case "DNS_ROUND_ROBIN": {
      const assignment = inlineLoadAssignment(
        cluster.name,
        { service, portName: port.name, labels: subset?.labels ?? {}, tlsMode, onlyMutualTls: kind === "serverName" },
        push,
      );
      if (!assignment) return false;
      cluster.loadAssignment = assignment;
      const type = service.resolution === "DNS" ? Cluster_DiscoveryType.STRICT_DNS : Cluster_DiscoveryType.LOGICAL_DNS;
      cluster.clusterDiscoveryType = { case: "type", value: type };
      cluster.respectDnsTtl = true;
      cluster.dnsRefreshRate = duration(push.mesh.dnsRefreshRate ?? 60_000);
      cluster.dnsJitter = duration(dnsJitterMs);
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

function specialClusters(proxy: ProxyNode): string[] {
  return proxy.type === "sidecar" ? [blackHoleCluster, passthroughCluster, inboundPassthroughCluster] : [blackHoleCluster];
}

function specialCluster(name: string, proxy: ProxyNode): Cluster {
  const isBlackHole = name === blackHoleCluster;
  return create(ClusterSchema, {
    name,
    altStatName: statName(name),
    connectTimeout: duration(10_000),
    clusterDiscoveryType: { case: "type", value: isBlackHole ? Cluster_DiscoveryType.STATIC : Cluster_DiscoveryType.ORIGINAL_DST },
    ...(isBlackHole ? {} : { lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED }),
    ...(name === inboundPassthroughCluster ? { upstreamBindConfig: inboundSource(proxy) } : {}),
    ...(isBlackHole ? {} : { filters: clusterExchange(proxy) }),
  });
}

function encode(cluster: Cluster): EncodedResource {
  return encodeResource(cluster.name, ClusterSchema, cluster);
}
