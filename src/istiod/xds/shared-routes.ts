/**
 * Routes and virtual hosts of sidecars' tables, one for all who would have the same: most tables of a mesh are alike, and so are most of what a
 * table was before and what it is after a change. By identity of all that they are made from, so that what is kept can't be wrong.
 * Whoever gets one must not change it.
 */
import { create } from "@bufbuild/protobuf";
import { type Route, type VirtualHost, VirtualHostSchema } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import { sameElements } from "../../lib/same-elements.ts";
import type { Service } from "../../registry/service.ts";
import type { ResolvedVirtualService } from "../push/virtual-services.ts";
import { consistentHash, type RouteContext, virtualServiceRoutes } from "./http-routes.ts";
import { appliesTo } from "./route-match.ts";

interface MadeRoutes {
  readonly inputs: readonly unknown[];
  readonly routes: readonly Route[];
}

const ofVirtualServices = new WeakMap<ResolvedVirtualService, MadeRoutes[]>();

/** A VirtualService looks so different to so many kinds of proxies; of more, those that were made first are made anew. */
const maxVariants = 16;

/** `virtualServiceRoutes` of a sidecar. */
export function sharedRoutes(virtualService: ResolvedVirtualService, context: RouteContext): readonly Route[] {
  const known = ofVirtualServices.get(virtualService) ?? [];
  const inputs = inputsOf(virtualService, context);
  const before = known.find((made) => sameElements(made.inputs, inputs));
  if (before) return before.routes;
  const made = { inputs, routes: virtualServiceRoutes(virtualService, context) };
  ofVirtualServices.set(virtualService, [made, ...known.slice(0, maxVariants - 1)]);
  return made.routes;
}

/** All that http-routes.ts looks at beside the VirtualService itself. */
function inputsOf({ spec, namespace }: ResolvedVirtualService, context: RouteContext): unknown[] {
  const { proxy, push, port, gateways, isTls, services } = context;
  const inputs: unknown[] = [push.mesh, port, isTls];
  for (const { match, route, mirror, mirrors } of spec.http) {
    for (const one of match) inputs.push(appliesTo(one, proxy, gateways, port));
    for (const { destination } of [...route, { destination: mirror }, ...mirrors]) {
      if (!destination) continue;
      inputs.push(services ? services.get(destination.host) : push.destinationService(proxy, destination.host, namespace));
      inputs.push(consistentHash(destination, namespace, context));
    }
  }
  return inputs;
}

interface DefaultRoutes {
  /** Whose retry policy they have. */
  readonly mesh: MeshConfig;
  readonly byPort: Map<number, readonly Route[]>;
}

const ofServices = new WeakMap<Service, DefaultRoutes>();

/** Of a service that nothing is said of: they follow from it and the mesh's settings. */
export function sharedDefaultRoutes(service: Service, port: number, mesh: MeshConfig, make: () => readonly Route[]): readonly Route[] {
  let known = ofServices.get(service);
  if (known?.mesh !== mesh) {
    known = { mesh, byPort: new Map() };
    ofServices.set(service, known);
  }
  const routes = known.byPort.get(port) ?? make();
  known.byPort.set(port, routes);
  return routes;
}

const ofRoutes = new WeakMap<readonly Route[], Map<string, VirtualHost>>();

export function sharedVirtualHost(name: string, domains: readonly string[], routes: readonly Route[]): VirtualHost {
  const key = [name, ...domains].join(" ");
  const byName = ofRoutes.get(routes) ?? new Map<string, VirtualHost>();
  ofRoutes.set(routes, byName);
  const host =
    byName.get(key) ?? create(VirtualHostSchema, { name, domains: [...domains], routes: [...routes], includeRequestAttemptCount: true });
  byName.set(key, host);
  return host;
}
