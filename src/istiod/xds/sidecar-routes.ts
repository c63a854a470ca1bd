/**
 * RDS of a sidecar: a virtual host for each service on the port, and what becomes of unknown hosts.
 * Source: Istio pilot/pkg/networking/core/httproute.go.
 */
import { create } from "@bufbuild/protobuf";
import { outboundCluster, passthroughCluster } from "../../api/cluster-name.ts";
import {
  type RetryPolicy,
  type Route,
  type RouteAction_HashPolicy,
  RouteActionSchema,
  RouteSchema,
  type VirtualHost,
  VirtualHostSchema,
} from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import { isHttp } from "../../registry/protocol.ts";
import type { Service } from "../../registry/service.ts";
import { policyForPort } from "../push/destination-rules.ts";
import type { PushContext } from "../push/push-context.ts";
import { type SidecarScope, virtualServiceFor } from "../push/sidecar-scope.ts";
import { meshGateway } from "../push/virtual-services.ts";
import { maxDirectResponseBodyBytes } from "./gateway-routes.ts";
import { hashPolicy, type RouteContext, virtualServiceRoutes } from "./http-routes.ts";
import { duration } from "./messages.ts";
import { retryPolicy } from "./retry-policy.ts";

/** `name` is a port, or `host:port` for the listener of a single sniffed service. Other names get an empty table. */
export function sidecarRoutes(name: string, proxy: ProxyNode, push: PushContext): RouteConfiguration {
  const colon = name.lastIndexOf(":");
  const onlyHost = colon > 0 ? name.slice(0, colon) : undefined;
  const port = Number(colon > 0 ? name.slice(colon + 1) : name);
  if (!Number.isInteger(port) || port <= 0) return create(RouteConfigurationSchema, { name, validateClusters: false });

  const scope = push.sidecarScope(proxy);
  const context: RouteContext = { proxy, push, port, gateways: new Set([meshGateway]), isTls: false };
  const services = scope.services.filter(
    (service) =>
      (onlyHost === undefined || service.host === onlyHost) &&
      service.ports.some((candidate) => candidate.number === port && carriesHttp(candidate.protocol)),
  );
  const domains = new DomainTable(services);
  const virtualHosts: VirtualHost[] = [];
  for (const service of services) {
    const virtualService = virtualServiceFor(service.host, scope.virtualServices);
    const routes = virtualService ? virtualServiceRoutes(virtualService, context) : [];
    // A VirtualService of tcp rules alone, or one that no match of which fits, leaves the service as it is.
    virtualHosts.push(
      create(VirtualHostSchema, {
        name: `${service.host}:${port}`,
        domains: onlyHost === undefined ? domains.take(service, proxy) : ["*"],
        routes: routes.length > 0 ? routes : [defaultRoute(service, port, proxy, push)],
        includeRequestAttemptCount: true,
      }),
    );
  }
  if (onlyHost === undefined) virtualHosts.push(...hostsWithoutService(scope, services, domains, context), catchAll(scope));
  return create(RouteConfigurationSchema, {
    name,
    virtualHosts: virtualHosts.filter((host) => host.domains.length > 0),
    validateClusters: false,
    ignorePortInHostMatching: true,
    maxDirectResponseBodySizeBytes: maxDirectResponseBodyBytes,
  });
}

/** Ports whose traffic an HTTP listener may see: HTTP, and what is found out by looking. */
function carriesHttp(protocol: Parameters<typeof isHttp>[0]): boolean {
  return isHttp(protocol) || protocol === "unsupported";
}

/** VirtualServices for hosts that no service has are served on port 80 alone. */
function hostsWithoutService(
  scope: SidecarScope,
  services: readonly Service[],
  domains: DomainTable,
  context: RouteContext,
): VirtualHost[] {
  if (context.port !== 80) return [];
  const known = new Set(services.map((service) => service.host));
  return scope.virtualServices.flatMap((virtualService) =>
    virtualService.hosts
      .filter((host) => !known.has(host) && !scope.serviceByHost(host))
      .flatMap((host) => {
        const routes = virtualServiceRoutes(virtualService, context);
        const taken = domains.takeHost(host);
        if (routes.length === 0 || taken.length === 0) return [];
        return [create(VirtualHostSchema, { name: `${host}:${context.port}`, domains: taken, routes, includeRequestAttemptCount: true })];
      }),
  );
}

function defaultRoute(service: Service, port: number, proxy: ProxyNode, push: PushContext): Route {
  const rule = push.destinationRules.forService(proxy, service);
  const hash = policyForPort(rule?.spec.trafficPolicy, port)?.loadBalancer?.consistentHash;
  const policy = hash && hashPolicy(hash);
  return clusterRoute("default", outboundCluster(service.host, port), `${service.host}:${port}/*`, {
    retryPolicy: retryPolicy(push.mesh.defaultHttpRetryPolicy, hash !== undefined),
    hashPolicy: policy ? [policy] : [],
  });
}

function clusterRoute(
  name: string,
  cluster: string,
  operation: string,
  action: { retryPolicy?: RetryPolicy | undefined; hashPolicy?: RouteAction_HashPolicy[] } = {},
): Route {
  return create(RouteSchema, {
    name,
    match: { pathSpecifier: { case: "prefix", value: "/" } },
    ...(operation ? { decorator: { operation } } : {}),
    action: {
      case: "route",
      value: create(RouteActionSchema, {
        clusterSpecifier: { case: "cluster", value: cluster },
        timeout: duration(0),
        maxGrpcTimeout: duration(0),
        ...(action.retryPolicy ? { retryPolicy: action.retryPolicy } : {}),
        hashPolicy: action.hashPolicy ?? [],
      }),
    },
  });
}

/** Hosts that the mesh does not know: let through, or refused with 502. */
function catchAll({ outboundMode }: SidecarScope): VirtualHost {
  if (outboundMode === "ALLOW_ANY") {
    return create(VirtualHostSchema, {
      name: "allow_any",
      domains: ["*"],
      routes: [clusterRoute("allow_any", passthroughCluster, "")],
      includeRequestAttemptCount: true,
    });
  }
  return create(VirtualHostSchema, {
    name: "block_all",
    domains: ["*"],
    routes: [
      create(RouteSchema, {
        name: "block_all",
        match: { pathSpecifier: { case: "prefix", value: "/" } },
        action: { case: "directResponse", value: { $typeName: "envoy.config.route.v3.DirectResponseAction", status: 502 } },
      }),
    ],
    includeRequestAttemptCount: true,
  });
}

/** The route table of an inbound chain: everything to the workload. */
export function inboundRoutes(cluster: string, servicePort: number, operation: string): RouteConfiguration {
  return create(RouteConfigurationSchema, {
    name: cluster,
    virtualHosts: [
      create(VirtualHostSchema, {
        name: `inbound|http|${servicePort}`,
        domains: ["*"],
        routes: [clusterRoute("default", cluster, operation)],
      }),
    ],
    validateClusters: false,
  });
}

/** Of one route configuration: each domain belongs to one virtual host, full names before short ones. */
class DomainTable {
  readonly #taken = new Set<string>();
  /** Full names win over the short forms of any other service. */
  readonly #owners: ReadonlyMap<string, Service>;

  constructor(services: readonly Service[]) {
    this.#owners = new Map(services.map((service) => [service.host, service]));
  }

  take(service: Service, proxy: ProxyNode): string[] {
    return serviceDomains(service, proxy).filter((domain) => {
      const owner = this.#owners.get(domain);
      if (this.#taken.has(domain) || (owner && owner !== service)) return false;
      this.#taken.add(domain);
      return true;
    });
  }

  takeHost(host: string): string[] {
    if (this.#taken.has(host)) return [];
    this.#taken.add(host);
    return [host];
  }
}

/** The full name, with and without the root's dot, the short forms that resolve for this proxy, and the addresses. */
export function serviceDomains(service: Service, proxy: ProxyNode): string[] {
  const { host } = service;
  const names = [host, ...(host.startsWith("*") ? [] : [`${host}.`])];
  const svc = proxy.dnsDomain.indexOf("svc.");
  const suffix = svc >= 0 ? `.${proxy.dnsDomain.slice(svc)}` : undefined;
  if (suffix && host.endsWith(suffix)) {
    const [name, namespace] = host.slice(0, -suffix.length).split(".");
    if (name && namespace) {
      const isOwn = namespace === proxy.namespace;
      names.push(
        ...(isOwn ? [name, `${name}.${namespace}.svc`, `${name}.${namespace}`] : [`${name}.${namespace}`, `${name}.${namespace}.svc`]),
      );
    }
  }
  if (service.isHeadless) names.push(...names.map((name) => `*.${name}`));
  return [
    ...names,
    ...service.addresses.filter((address) => !address.includes("/")).map((address) => (address.includes(":") ? `[${address}]` : address)),
  ];
}
