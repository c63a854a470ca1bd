/**
 * Whether a route configuration, or a part of it, is one that a patch means. What is above the part has been matched already.
 * Source: Istio pilot/pkg/networking/core/envoyfilter/rc_patch.go; pilot/pkg/model/gateway.go (ParseGatewayRDSRouteName).
 */
import { parseClusterName } from "../../../api/cluster-name.ts";
import type { Route, VirtualHost } from "../../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { perObject } from "../../../lib/per-object.ts";
import type { Patch, PatchContext } from "../../push/envoy-filter-patches.ts";
import type { MergedGateway } from "../../push/merged-gateway.ts";

/** Ports of a gateway's servers by the port on which they are served. */
export type ServerPorts = ReadonlyMap<number, ReadonlySet<number>>;

export const noServerPorts: ServerPorts = new Map();

export const serverPorts = perObject(({ serversByRoute }: MergedGateway): ServerPorts => {
  const ports = new Map<number, Set<number>>();
  for (const [name, servers] of serversByRoute) {
    const { port } = parseGatewayRoutes(name);
    const known = ports.get(port) ?? new Set();
    ports.set(port, known);
    for (const { server } of servers) if (server.port) known.add(server.port.number);
  }
  return ports;
});

export function matchesRouteConfiguration(name: string, context: PatchContext, { match }: Patch, serverPorts: ServerPorts): boolean {
  const wanted = match?.routeConfiguration;
  if (!wanted) return true;
  if (wanted.name !== "" && wanted.name !== name) return false;
  if (context !== "GATEWAY") return wanted.portNumber === 0 || wanted.portNumber === portOfSidecarRoutes(name);
  const { port, portName, gateway } = parseGatewayRoutes(name);
  return (
    (wanted.portName === "" || wanted.portName === portName) &&
    (wanted.gateway === "" || wanted.gateway === gateway) &&
    (wanted.portNumber === 0 || (serverPorts.get(port)?.has(wanted.portNumber) ?? port === wanted.portNumber))
  );
}

/** 0 where the name is no port: the listener of a sniffed service has routes by `host:port`, which no port number finds. */
function portOfSidecarRoutes(name: string): number {
  if (name.startsWith("inbound")) return parseClusterName(name)?.port ?? 0;
  return /^\d+$/.test(name) ? Number(name) : 0;
}

/** Of `http.80` or `https.443.https.my-gateway.namespace`; what comes behind, for a server with an address, makes it neither. */
function parseGatewayRoutes(name: string): { port: number; portName: string; gateway: string } {
  const [scheme, port = "", portName = "", gateway = "", namespace = "", ...more] = name.split(".");
  const number = /^\d+$/.test(port) ? Number(port) : 0;
  if (scheme === "https" && namespace !== "" && more.length === 0) return { port: number, portName, gateway: `${namespace}/${gateway}` };
  return { port: scheme === "http" && portName === "" ? number : 0, portName: "", gateway: "" };
}

export function matchesVirtualHost({ name, domains }: VirtualHost, { match }: Patch): boolean {
  const wanted = match?.routeConfiguration?.vhost;
  if (!wanted) return true;
  return (wanted.name === "" || wanted.name === name) && (wanted.domainName === "" || domains.includes(wanted.domainName));
}

/** Whether it asks for a route at all, be it any. */
export function namesRoute({ match }: Patch): boolean {
  return match?.routeConfiguration?.vhost?.route !== undefined;
}

export function matchesRoute({ name, action }: Route, { match }: Patch): boolean {
  const wanted = match?.routeConfiguration?.vhost?.route;
  if (!wanted) return true;
  if (wanted.name !== "" && wanted.name !== name) return false;
  if (wanted.action === "ANY") return true;
  switch (action.case) {
    case "route":
      return wanted.action === "ROUTE";
    case "redirect":
      return wanted.action === "REDIRECT";
    case "directResponse":
      return wanted.action === "DIRECT_RESPONSE";
    default:
      return true;
  }
}
