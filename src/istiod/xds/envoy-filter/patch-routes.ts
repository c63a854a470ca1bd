/**
 * Patches of a route configuration, its virtual hosts and their routes.
 * Source: Istio pilot/pkg/networking/core/envoyfilter/rc_patch.go.
 */
import { clone } from "@bufbuild/protobuf";
import {
  type Route,
  RouteSchema,
  type VirtualHost,
  VirtualHostSchema,
} from "../../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../../api/gen/envoy/config/route/v3/route_pb.js";
import type { Patch } from "../../push/envoy-filter-patches.ts";
import type { PatchOutcomes } from "../../push/patch-status.ts";
import { mergePatch } from "./apply-patch.ts";
import { matchesRoute, matchesRouteConfiguration, matchesVirtualHost, namesRoute, noServerPorts, type ServerPorts } from "./match-route.ts";
import type { PatchedSide } from "./patched-side.ts";

const targets = ["ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"] as const;

/** What is given stays as it is: routes may be shared between virtual hosts. */
export function patchRoutes(routes: RouteConfiguration, side: PatchedSide, serverPorts: ServerPorts = noServerPorts): RouteConfiguration {
  const { patches, context, outcomes } = side;
  if (!patches.hasAny(targets, context)) return routes;
  const patched = clone(RouteConfigurationSchema, routes);
  // A merge may rename it, and with that decide what those behind it match.
  const concerning = (patch: Patch) => matchesRouteConfiguration(patched.name, context, patch, serverPorts);
  for (const patch of patches.of("ROUTE_CONFIGURATION", context)) {
    if (!concerning(patch) || !isMerge(patch)) continue;
    mergePatch(RouteConfigurationSchema, patched, patch, outcomes);
  }
  const ofHosts = patches.of("VIRTUAL_HOST", context).filter(concerning);
  const ofRoutes = patches.of("HTTP_ROUTE", context).filter(concerning);
  const removed = new Set<string>();
  const hosts = patched.virtualHosts.map((host) => {
    const result = patchVirtualHost(host, ofHosts, ofRoutes, outcomes);
    if (!result) removed.add(host.name);
    return result ?? host;
  });
  for (const patch of ofHosts) {
    if (patch.operation !== "ADD") continue;
    hosts.push(clone(VirtualHostSchema, patch.value as VirtualHost));
    outcomes.applied(patch);
  }
  // By name, which takes an added one along that has the name of one that is removed, as in Istio.
  patched.virtualHosts = hosts.filter(({ name }) => !removed.has(name));
  return patched;
}

function isMerge({ operation }: Patch): boolean {
  return operation === "MERGE" || operation === "MERGE_AND_REPLACE_LIST";
}

/** Undefined: it is removed. */
function patchVirtualHost(
  host: VirtualHost,
  ofHosts: readonly Patch[],
  ofRoutes: readonly Patch[],
  outcomes: PatchOutcomes,
): VirtualHost | undefined {
  let patched = host;
  for (const patch of ofHosts) {
    if (!matchesVirtualHost(patched, patch)) continue;
    switch (patch.operation) {
      case "REMOVE":
        outcomes.applied(patch);
        return undefined;
      case "REPLACE":
        patched = clone(VirtualHostSchema, patch.value as VirtualHost);
        outcomes.applied(patch);
        break;
      case "MERGE":
      case "MERGE_AND_REPLACE_LIST":
        mergePatch(VirtualHostSchema, patched, patch, outcomes);
        break;
    }
  }
  const concerning = ofRoutes.filter((patch) => matchesVirtualHost(patched, patch));
  patched.routes = patched.routes.filter((route) => patchRoute(route, concerning, outcomes));
  for (const patch of concerning) insertRoute(patched.routes, patch, outcomes);
  return patched;
}

/** False: it is removed. */
function patchRoute(route: Route, patches: readonly Patch[], outcomes: PatchOutcomes): boolean {
  for (const patch of patches) {
    if (!matchesRoute(route, patch)) continue;
    switch (patch.operation) {
      case "REMOVE":
        outcomes.applied(patch);
        return false;
      case "MERGE":
      case "MERGE_AND_REPLACE_LIST":
        mergePatch(RouteSchema, route, patch, outcomes);
        break;
    }
  }
  return true;
}

/** A patch that asks for a route which is not there inserts nothing; INSERT_FIRST inserts before all where it is there. */
function insertRoute(routes: Route[], patch: Patch, outcomes: PatchOutcomes): void {
  const hasTarget = namesRoute(patch);
  const at = routes.findIndex((route) => matchesRoute(route, patch));
  if (hasTarget && at < 0 && patch.operation !== "ADD") return;
  const insert = (index: number) => {
    routes.splice(index, 0, clone(RouteSchema, patch.value as Route));
    outcomes.applied(patch);
  };
  switch (patch.operation) {
    case "ADD":
      insert(routes.length);
      return;
    case "INSERT_FIRST":
      insert(0);
      return;
    case "INSERT_BEFORE":
      insert(hasTarget ? at : 0);
      return;
    case "INSERT_AFTER":
      insert(hasTarget ? at + 1 : routes.length);
      return;
  }
}
