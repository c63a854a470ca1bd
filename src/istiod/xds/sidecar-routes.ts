/**
 * RDS of a sidecar: a virtual host for each service on the port, and what becomes of unknown hosts.
 * Source: Istio pilot/pkg/networking/core/httproute.go.
 */
import { create } from "@bufbuild/protobuf";
import { outboundCluster } from "../../api/cluster-name.ts";
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
import { hostsMatch } from "../../api/hostname.ts";
import type { ConsistentHashLB } from "../../api/kinds/destination-rule.ts";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import type { ProxyNode } from "../../api/node.ts";
import { isHttp } from "../../registry/protocol.ts";
import { type Service, trimmedTo } from "../../registry/service.ts";
import type { EgressListener } from "../push/egress-listener.ts";
import type { PushContext } from "../push/push-context.ts";
import type { SidecarScope } from "../push/sidecar-scope.ts";
import { meshGateway, type ResolvedVirtualService } from "../push/virtual-services.ts";
import { maxDirectResponseBodyBytes } from "./gateway-routes.ts";
import { hashPolicy, type RouteContext, serviceHash } from "./http-routes.ts";
import { duration } from "./messages.ts";
import { retryPolicy } from "./retry-policy.ts";
import { DomainTable } from "./service-domains.ts";
import { sharedDefaultRoutes, sharedRoutes, sharedVirtualHost } from "./shared-routes.ts";

/**
 * `name` is a port, the path of an egress listener's Unix socket, or `host:port` for the listener of a single sniffed service.
 * Other names get an empty table.
 */
export function sidecarRoutes(name: string, proxy: ProxyNode, push: PushContext): RouteConfiguration {
  const asked = parseRouteName(name);
  if (!asked) return create(RouteConfigurationSchema, { name, validateClusters: false });
  const scope = push.sidecarScope(proxy);
  const listener = scope.egress.find(({ port, bind }) => !port || (port.number === asked.port && (asked.port > 0 || bind === name)));
  const tables = listener ? virtualHosts(listener, asked, proxy, push) : [];
  return create(RouteConfigurationSchema, {
    name,
    virtualHosts: asked.onlyHost === undefined ? [...tables, catchAll(scope)] : tables,
    validateClusters: false,
    // Where the Host's port tells services apart it must count. Istio ignores it there as well, and never finds its own domains (istio#47682).
    ignorePortInHostMatching: listener?.takesAnyPort !== true,
    maxDirectResponseBodySizeBytes: maxDirectResponseBodyBytes,
  });
}

interface AskedRoutes {
  /** 0 for a Unix socket. */
  readonly port: number;
  readonly onlyHost: string | undefined;
}

function parseRouteName(name: string): AskedRoutes | undefined {
  if (name.startsWith("unix://")) return { port: 0, onlyHost: undefined };
  const colon = name.lastIndexOf(":");
  const port = Number(name.slice(colon + 1));
  if (!Number.isInteger(port) || port <= 0) return undefined;
  return { port, onlyHost: colon > 0 ? name.slice(0, colon) : undefined };
}

/** What one VirtualService, or a service without one, adds to a table. */
interface HostGroup {
  readonly port: number;
  /** Hosts of the VirtualService that no service has. */
  readonly hosts: readonly string[];
  readonly services: readonly Service[];
  readonly routes: readonly Route[];
}

function virtualHosts(listener: EgressListener, asked: AskedRoutes, proxy: ProxyNode, push: PushContext): VirtualHost[] {
  const port = listener.takesAnyPort ? 0 : asked.port;
  const services = new Map<string, Service>();
  for (const service of listener.services) {
    const trimmed = port === 0 ? service : trimmedTo(service, (candidate) => candidate.number === port);
    if (trimmed) services.set(service.host, trimmed);
  }
  const groups = hostGroups(listener, services, { proxy, push, port, gateways: new Set([meshGateway]), isTls: false, services });
  const domains = new DomainTable(services.values(), push.registry);
  // A proxy for all ports knows them by the Host's; without one, port 80 is meant.
  const counting = (group: HostGroup, all: string[]) =>
    port === 0 && group.port !== 80 ? all.filter((domain) => domain.includes(":")) : all;
  const hosts = groups.flatMap((group) => [
    ...group.hosts.map((host) => virtualHost(host, group, counting(group, domains.takeHost(host) ? [host] : []))),
    ...group.services.map((service) => {
      const own = domains.take(service, proxy, port === 0 ? group.port : undefined);
      return virtualHost(service.host, group, counting(group, own));
    }),
  ]);
  if (asked.onlyHost !== undefined) {
    return hosts.filter(({ name }) => name === `${asked.onlyHost}:${asked.port}`).map((host) => ({ ...host, domains: ["*"] }));
  }
  return hosts.filter((host) => host.domains.length > 0).sort((a, b) => (a.name < b.name ? -1 : 1));
}

function virtualHost(host: string, { port, routes }: HostGroup, domains: readonly string[]): VirtualHost {
  return sharedVirtualHost(`${host}:${port}`, domains, routes);
}

function hostGroups(listener: EgressListener, services: ReadonlyMap<string, Service>, context: RouteContext): HostGroup[] {
  const groups: HostGroup[] = [];
  const covered = new Set<string>();
  const wildServices = [...services.keys()].filter((host) => host.startsWith("*"));
  for (const virtualService of listener.virtualServices) {
    const { hosts, own } = splitHosts(virtualService, listener, services);
    // Only on port 80 does a VirtualService stand for hosts without any service.
    const concerns = own.length > 0 || virtualService.hosts.some((host) => wildServices.some((wild) => hostsMatch(wild, host)));
    if (!concerns && context.port !== 80) continue;
    const ports = new Set(own.flatMap((service) => httpPorts(service)));
    if (ports.size === 0 && context.port === 80) ports.add(80);
    for (const port of ports) {
      // Through a proxy for all ports it is the service's that is meant; Istio's rules for a port never hold there.
      const routes = sharedRoutes(virtualService, context.port === 0 ? { ...context, port } : context);
      // One of tcp rules alone, or of matches that can't fit here, leaves the service as it is.
      if (routes.length === 0) continue;
      const served = own.filter((service) => httpPorts(service).includes(port));
      for (const service of served) covered.add(service.host);
      groups.push({ port, hosts, services: served, routes });
    }
  }
  for (const service of services.values()) {
    if (covered.has(service.host)) continue;
    for (const port of httpPorts(service)) {
      const hash = serviceHash(service, "", port, context);
      const { mesh } = context.push;
      const make = () => [defaultRoute(service, port, hash, mesh)];
      groups.push({ port, hosts: [], services: [service], routes: hash ? make() : sharedDefaultRoutes(service, port, mesh, make) });
    }
  }
  return groups;
}

/** The services that are the VirtualService's to serve, and its hosts that are none. */
function splitHosts(
  virtualService: ResolvedVirtualService,
  listener: EgressListener,
  services: ReadonlyMap<string, Service>,
): { hosts: string[]; own: Service[] } {
  const hosts: string[] = [];
  const own = new Set<Service>();
  for (const host of virtualService.hosts) {
    const exact = services.get(host);
    const matching = host.startsWith("*")
      ? [...services.values()].filter((service) => hostsMatch(host, service.host))
      : exact
        ? [exact]
        : [];
    if (matching.length === 0) hosts.push(host);
    // Another VirtualService may be in force for the service: an older one, or one that names it.
    for (const service of matching) if (listener.virtualServiceFor(service.host) === virtualService) own.add(service);
  }
  return { hosts, own: [...own] };
}

/** Ports whose traffic an HTTP listener may see: HTTP, and what is found out by looking. */
function httpPorts(service: Service): number[] {
  return service.ports.filter(({ protocol }) => isHttp(protocol) || protocol === "unsupported").map(({ number }) => number);
}

function defaultRoute(service: Service, port: number, hash: ConsistentHashLB | undefined, mesh: MeshConfig): Route {
  const policy = hash && hashPolicy(hash);
  return clusterRoute("default", outboundCluster(service.host, port), `${service.host}:${port}/*`, {
    // Here Istio's retries avoid previous hosts although there is a hash.
    retryPolicy: retryPolicy(mesh.defaultHttpRetryPolicy, false),
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
function catchAll({ outboundMode, catchAllCluster }: SidecarScope): VirtualHost {
  if (outboundMode === "ALLOW_ANY") {
    return create(VirtualHostSchema, {
      name: "allow_any",
      domains: ["*"],
      routes: [clusterRoute("allow_any", catchAllCluster, "")],
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
