/** RDS of a gateway. Source: Istio pilot/pkg/networking/core/gateway.go (buildGatewayHTTPRouteConfig). */
import { create } from "@bufbuild/protobuf";
import {
  type Route,
  type VirtualHost,
  VirtualHost_TlsRequirementType,
  VirtualHostSchema,
} from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import type { GatewayServer } from "../push/merged-gateway.ts";
import type { PushContext } from "../push/push-context.ts";
import { boundHosts } from "./gateway-listeners.ts";
import { virtualServiceRoutes } from "./http-routes.ts";
import { isCatchAll } from "./route-match.ts";

/** Bodies of direct responses may be this large, Istio's limit. */
export const maxDirectResponseBodyBytes = 1024 * 1024;

/** A name that no server has is answered by an empty table: listeners that drain still ask for it. */
export function gatewayRoutes(name: string, proxy: ProxyNode, push: PushContext): RouteConfiguration {
  const servers = push.mergedGateway(proxy).serversByRoute.get(name);
  if (!servers) return create(RouteConfigurationSchema, { name, validateClusters: false });
  const byHost = new Map<string, VirtualHost>();
  for (const entry of servers) addVirtualHosts(byHost, entry, proxy, push);

  const port = servers[0]!.server.port?.number ?? servers[0]!.port;
  const hosts = [...byHost.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const host of hosts) host.routes = catchAllsLast(host.routes);
  return create(RouteConfigurationSchema, {
    name,
    // Without a host every request is a 404 of the virtual host that has no routes.
    virtualHosts: hosts.length > 0 ? collapse(hosts) : [create(VirtualHostSchema, { name: `blackhole:${port}`, domains: ["*"] })],
    validateClusters: false,
    ignorePortInHostMatching: true,
    maxDirectResponseBodySizeBytes: maxDirectResponseBodyBytes,
  });
}

function addVirtualHosts(byHost: Map<string, VirtualHost>, entry: GatewayServer, proxy: ProxyNode, push: PushContext): void {
  const port = entry.server.port?.number ?? entry.port;
  const redirects = entry.server.tls?.httpsRedirect === true;
  for (const virtualService of push.virtualServices.forGateway(entry.gateway, proxy.namespace)) {
    const hosts = boundHosts(entry, virtualService.namespace, virtualService.hosts);
    if (hosts.length === 0) continue;
    const context = { proxy, push, port, gateways: new Set([entry.gateway]), isTls: entry.server.tls !== undefined };
    const routes = virtualServiceRoutes(virtualService, context);
    if (routes.length === 0) continue;
    for (const host of hosts) {
      const known = byHost.get(host);
      if (known) known.routes.push(...routes);
      else byHost.set(host, virtualHost(host, port, [...routes]));
      if (redirects) byHost.get(host)!.requireTls = VirtualHost_TlsRequirementType.ALL;
    }
  }
  // A host that redirects to https does so before anybody has bound a route to it.
  if (!redirects) return;
  for (const { host } of entry.hosts) {
    const known = byHost.get(host) ?? virtualHost(host, port, []);
    known.requireTls = VirtualHost_TlsRequirementType.ALL;
    byHost.set(host, known);
  }
}

function virtualHost(host: string, port: number, routes: Route[]): VirtualHost {
  return create(VirtualHostSchema, { name: `${host}:${port}`, domains: [host], routes, includeRequestAttemptCount: true });
}

/** Routes that take everything go to the end, so that those of another VirtualService for the host are reached. */
function catchAllsLast(routes: readonly Route[]): Route[] {
  return [...routes.filter((route) => !isCatchAll(route.match)), ...routes.filter((route) => isCatchAll(route.match))];
}

/** Hosts with the very same routes become one virtual host, named by the first. */
function collapse(hosts: readonly VirtualHost[]): VirtualHost[] {
  const result: VirtualHost[] = [];
  for (const host of hosts) {
    const same = result.find(
      (other) =>
        other.requireTls === host.requireTls &&
        other.routes.length === host.routes.length &&
        other.routes.every((route, index) => route === host.routes[index]),
    );
    if (same) same.domains.push(...host.domains);
    else result.push(host);
  }
  return result;
}
