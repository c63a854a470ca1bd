/**
 * xDS for gRPC clients that are their own proxy (node metadata GENERATOR=grpc): a listener is asked for by `host:port`, carries no
 * address, and leads to a route configuration, a cluster and its endpoints. gRPC knows EDS clusters and round robin.
 * Source: Istio pilot/pkg/networking/grpcgen; gRFC A27, A28.
 */
import { create } from "@bufbuild/protobuf";
import { encodeResource } from "../../ads/resource.ts";
import { outboundCluster, parseClusterName } from "../../api/cluster-name.ts";
import { type Cluster, Cluster_DiscoveryType, Cluster_LbPolicy, ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteSchema, VirtualHostSchema } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import { RouterSchema } from "../../api/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import { HttpConnectionManagerSchema } from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import { typeUrls } from "../../api/type-urls.ts";
import type { Service } from "../../registry/service.ts";
import type { PushContext } from "../push/push-context.ts";
import { meshGateway } from "../push/virtual-services.ts";
import { adsSource } from "./clusters.ts";
import { loadAssignment } from "./endpoints.ts";
import type { Generator } from "./generators.ts";
import { virtualServiceRoutes } from "./http-routes.ts";
import { any, duration, httpFilter } from "./messages.ts";
import { serviceDomains } from "./service-domains.ts";

export const proxylessGenerators: Partial<Record<string, Generator>> = {
  [typeUrls.lds]: ({ proxy, push }, watch, names) =>
    [...(names ?? watch.names)].flatMap((name) => {
      const target = findTarget(name, proxy, push);
      return target ? [encodeResource(name, ListenerSchema, apiListener(name, outboundCluster(target.service.host, target.port)))] : [];
    }),
  [typeUrls.rds]: ({ proxy, push }, watch, names) =>
    [...(names ?? watch.names)].flatMap((name) => {
      const table = routes(name, proxy, push);
      return table ? [encodeResource(name, RouteConfigurationSchema, table)] : [];
    }),
  [typeUrls.cds]: ({ proxy, push }, watch, names) =>
    [...(names ?? watch.names)].flatMap((name) =>
      isKnownCluster(name, proxy, push) ? [encodeResource(name, ClusterSchema, edsCluster(name))] : [],
    ),
  [typeUrls.eds]: ({ proxy, push }, watch, names) => [...(names ?? watch.names)].map((name) => loadAssignment(name, proxy, push)),
};

/** `greeter.default.svc.cluster.local:7070`, or any of the service's shorter names. */
function findTarget(name: string, proxy: ProxyNode, push: PushContext): { service: Service; port: number } | undefined {
  const colon = name.lastIndexOf(":");
  const host = name.slice(0, colon);
  const port = Number(name.slice(colon + 1));
  if (colon <= 0 || !Number.isInteger(port)) return undefined;
  const service = push
    .servicesFor(proxy)
    .find((candidate) => candidate.host === host || serviceDomains(candidate, proxy, push.registry).includes(host));
  return service?.ports.some((candidate) => candidate.number === port) ? { service, port } : undefined;
}

function apiListener(name: string, routeConfigName: string): Listener {
  return create(ListenerSchema, {
    name,
    apiListener: {
      apiListener: any(HttpConnectionManagerSchema, {
        statPrefix: name,
        routeSpecifier: { case: "rds", value: { configSource: adsSource(), routeConfigName } },
        httpFilters: [httpFilter("envoy.filters.http.router", RouterSchema, {})],
      }),
    },
  });
}

function routes(name: string, proxy: ProxyNode, push: PushContext): RouteConfiguration | undefined {
  const cluster = parseClusterName(name);
  const service = cluster && push.sidecarScope(proxy).serviceByHost(cluster.host);
  if (!cluster || !service) return undefined;
  const virtualService = push.sidecarScope(proxy).virtualServiceFor(service.host);
  const context = { proxy, push, port: cluster.port, gateways: new Set([meshGateway]), isTls: false };
  const own = virtualService ? virtualServiceRoutes(virtualService, context) : [];
  const fallback = create(RouteSchema, {
    name: "default",
    match: { pathSpecifier: { case: "prefix", value: "" } },
    action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: name }, timeout: duration(0) } },
  });
  const domains = serviceDomains(service, proxy, push.registry);
  return create(RouteConfigurationSchema, {
    name,
    validateClusters: false,
    virtualHosts: [
      create(VirtualHostSchema, {
        name: `${service.host}:${cluster.port}`,
        // gRPC compares the authority with its port.
        domains: domains.flatMap((domain) => [domain, `${domain}:${cluster.port}`]),
        routes: own.length > 0 ? own : [fallback],
      }),
    ],
  });
}

function isKnownCluster(name: string, proxy: ProxyNode, push: PushContext): boolean {
  const cluster = parseClusterName(name);
  const service = cluster && push.sidecarScope(proxy).serviceByHost(cluster.host);
  return service?.ports.some((port) => port.number === cluster?.port) ?? false;
}

function edsCluster(name: string): Cluster {
  return create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { edsConfig: adsSource(), serviceName: name },
    lbPolicy: Cluster_LbPolicy.ROUND_ROBIN,
    connectTimeout: duration(10_000),
  });
}
