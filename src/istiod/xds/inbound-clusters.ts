/**
 * Inbound half of a sidecar's CDS: a cluster for each port that it serves, `inbound|<workload port>||`, which leads to the application.
 * Source: Istio pilot/pkg/networking/core/cluster.go, cluster_builder.go (buildInboundCluster).
 */
import { create } from "@bufbuild/protobuf";
import { inboundCluster } from "../../api/cluster-name.ts";
import { type Cluster, Cluster_DiscoveryType, Cluster_LbPolicy, ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { type BindConfig, BindConfigSchema, SocketAddressSchema } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import { ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { ConnectionPoolSettings, TrafficPolicy } from "../../api/kinds/destination-rule.ts";
import type { ProxyNode } from "../../api/node.ts";
import type { Wildcard } from "../../lib/wildcard-address.ts";
import { policyForPort } from "../push/destination-rules.ts";
import type { PushContext } from "../push/push-context.ts";
import { captureAddresses, loopbackAddress } from "./bind-address.ts";
import { type InboundTarget, inboundTargets } from "./inbound-targets.ts";
import { endpointAddress, istioMetadata, statName } from "./messages.ts";
import { applyTrafficPolicy } from "./traffic-policy.ts";

export interface InboundCluster {
  readonly cluster: Cluster;
  /** Services that it leads to. */
  readonly hosts: readonly string[];
}

export function inboundClusters(proxy: ProxyNode, push: PushContext): InboundCluster[] {
  return inboundTargets(proxy, push).map((target) => {
    const name = inboundCluster(target.port);
    const application = applicationOf(target, proxy, push);
    const services = servicesOf(target, push, proxy);
    const cluster = create(ClusterSchema, {
      name,
      altStatName: statName(name),
      metadata: istioMetadata({ services }),
      clusterDiscoveryType: { case: "type", value: application ? Cluster_DiscoveryType.STATIC : Cluster_DiscoveryType.ORIGINAL_DST },
    });
    if (application) {
      cluster.loadAssignment = create(ClusterLoadAssignmentSchema, {
        clusterName: name,
        endpoints: [
          {
            lbEndpoints: [
              { hostIdentifier: { case: "endpoint", value: { address: endpointAddress(application.address, application.port) } } },
            ],
          },
        ],
      });
    } else cluster.lbPolicy = Cluster_LbPolicy.CLUSTER_PROVIDED;
    if (!application || isOwnAddress(application.address)) cluster.upstreamBindConfig = inboundSource(proxy);
    applyTrafficPolicy(cluster, policyOf(target, proxy, push), {
      mesh: push.mesh,
      protocol: target.protocol,
      direction: "inbound",
      sniffs: target.protocol === "unsupported",
    });
    return { cluster, hosts: services.map(({ host }) => host) };
  });
}

const passthroughSources: Readonly<Record<Wildcard, string>> = { "0.0.0.0": "127.0.0.6", "::": "::6" };

/** The proxy's own traffic to the application comes from an address that its redirect rules let pass. */
export function inboundSource(proxy: ProxyNode): BindConfig {
  const [first, ...others] = captureAddresses(proxy).map((captured) =>
    create(SocketAddressSchema, { address: passthroughSources[captured], portSpecifier: { case: "portValue", value: 0 } }),
  );
  return create(BindConfigSchema, { sourceAddress: first!, extraSourceAddresses: others.map((address) => ({ address })) });
}

/** What comes from loopback to loopback or to a socket is not redirected. */
function isOwnAddress(address: string): boolean {
  return address !== "127.0.0.1" && address !== "::1" && !address.startsWith("unix://");
}

/** Where the application listens when that is not where the client wanted to go. */
function applicationOf(
  { port, ingress }: InboundTarget,
  proxy: ProxyNode,
  push: PushContext,
): { address: string; port: number } | undefined {
  if (!ingress) {
    return push.mesh.inboundTrafficPolicy?.mode === "LOCALHOST" ? { address: loopbackAddress(proxy), port } : undefined;
  }
  const endpoint = ingress.defaultEndpoint;
  if (endpoint === "") return undefined;
  if (endpoint.startsWith("unix://")) return { address: endpoint, port: 0 };
  const match = /^\[?([^\]]*?)\]?:(\d+)$/.exec(endpoint);
  if (!match) return undefined;
  return { address: workloadAddress(match[1]!, proxy), port: Number(match[2]) };
}

/** The wildcard stands for the workload's own address of that family; loopback for the loopback that the workload has. */
function workloadAddress(given: string, proxy: ProxyNode): string {
  const isV6 = (address: string) => address.includes(":");
  switch (given) {
    case "0.0.0.0":
      return proxy.ipAddresses.find((address) => !isV6(address)) ?? "127.0.0.1";
    case "":
    case "::":
      return proxy.ipAddresses.find(isV6) ?? "::1";
    default:
      return proxy.ipAddresses.some((address) => isV6(address) === isV6(given)) ? given : loopbackAddress(proxy);
  }
}

function servicesOf({ services, host }: InboundTarget, push: PushContext, proxy: ProxyNode) {
  if (services.length > 0) return services.map((service) => ({ host: service.host, name: service.name, namespace: service.namespace }));
  const sidecar = push.sidecarScope(proxy).object?.metadata;
  return [{ host, name: sidecar?.name ?? "", namespace: sidecar?.namespace ?? "" }];
}

/** Limits that a DestinationRule sets for clients hold for what serves them as well; those of the Sidecar come before it. */
function policyOf({ servicePort, services, ingress }: InboundTarget, proxy: ProxyNode, push: PushContext): TrafficPolicy | undefined {
  const [oldest] = services;
  const policy = oldest && policyForPort(push.destinationRules.forService(proxy, oldest)?.spec.trafficPolicy, servicePort);
  const pool = connectionPoolOf(ingress, push, proxy);
  return pool ? { ...(policy ?? emptyPolicy), connectionPool: pool } : policy;
}

function connectionPoolOf(ingress: InboundTarget["ingress"], push: PushContext, proxy: ProxyNode): ConnectionPoolSettings | undefined {
  return ingress?.connectionPool ?? push.sidecarScope(proxy).object?.spec.inboundConnectionPool;
}

const emptyPolicy: TrafficPolicy = {
  loadBalancer: undefined,
  connectionPool: undefined,
  outlierDetection: undefined,
  tls: undefined,
  portLevelSettings: [],
  tunnel: undefined,
  proxyProtocol: undefined,
  retryBudget: undefined,
};
