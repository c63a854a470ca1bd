/**
 * From what changed to what must be pushed: which resource types may differ, and within EDS which clusters.
 *
 * What is sent is decided by comparing bytes (ads/server); this decides what is worth generating at all. So a kind that is
 * missing in the table costs nothing but pushes, and a kind that says too much costs nothing but time.
 * Source: Istio pilot/pkg/xds/{cds,eds,lds,rds,sds}.go, pilot/pkg/xds/proxy_dependencies.go.
 */

import type { PushScope } from "../../ads/server.ts";
import { outboundCluster } from "../../api/cluster-name.ts";
import type { KindName } from "../../api/kinds/object.ts";
import type { ProxyNode } from "../../api/node.ts";
import { type TypeUrl, typeUrls } from "../../api/type-urls.ts";
import type { PushContext } from "./push-context.ts";
import { isSameKeys, isSameSelection } from "./security-policies.ts";

const { cds, eds, lds, rds, sds, pcds } = typeUrls;

/** Types that a change of the kind can alter. Kinds that are not listed alter nothing that a proxy gets. */
const affectedTypes: Partial<Record<ChangedKind, readonly TypeUrl[]>> = {
  MeshConfig: [cds, eds, lds, rds],
  Gateway: [lds, rds],
  VirtualService: [lds, rds],
  DestinationRule: [cds, eds, rds],
  Sidecar: [cds, eds, lds, rds],
  ServiceEntry: [cds, eds, lds, rds],
  Service: [cds, eds, lds, rds],
  AuthorizationPolicy: [lds],
  RequestAuthentication: [lds],
  Jwks: [lds],
  Secret: [sds],
  TrustBundle: [pcds],
};

/** Kinds that only say where endpoints are. */
const endpointKinds: ReadonlySet<string> = new Set<KindName>(["WorkloadEntry", "Endpoints", "EndpointSlice", "Pod"]);

/** What concerns a proxy only where its own policies differ. */
const policyKinds: ReadonlySet<string> = new Set<ChangedKind>(["AuthorizationPolicy", "RequestAuthentication", "Jwks"]);

/** Objects by their kind, and what changes without being an object. */
export type ChangedKind = KindName | "MeshConfig" | "TrustBundle" | "Jwks";

export interface PushRequest {
  readonly kinds: ReadonlySet<ChangedKind>;
  /** Reason for metrics: `endpoint` when nothing but endpoints changed. */
  readonly reason: "endpoint" | "config" | "secret" | "global";
  /** Services whose endpoints differ, by `namespace/host`. */
  readonly changedServices: ReadonlySet<string>;
  /** Types to generate for everybody; further ones by proxy, see `scopeFor`. */
  readonly typeUrls: ReadonlySet<TypeUrl>;
  readonly clusters: ReadonlySet<string> | undefined;
  /** Nothing but policies may have changed listeners. */
  readonly listenersByPolicies: boolean;
}

/** Undefined: nothing that any proxy gets can have changed. */
export function planPush(kinds: ReadonlySet<ChangedKind>, before: PushContext, after: PushContext): PushRequest | undefined {
  const types = new Set<TypeUrl>();
  const touchesEndpoints = [...kinds].some((kind) => endpointKinds.has(kind)) || kinds.has("ServiceEntry") || kinds.has("Service");
  const changed = touchesEndpoints ? after.registry.changedEndpoints(before.registry) : [];
  // A ServiceEntry or Service of which only the endpoints changed is an endpoint change.
  const servicesChanged = (kinds.has("ServiceEntry") || kinds.has("Service")) && !sameServices(before, after);
  let listenersByPolicies = true;
  for (const kind of kinds) {
    if (!servicesChanged && (kind === "ServiceEntry" || kind === "Service")) continue;
    for (const typeUrl of affectedTypes[kind] ?? []) {
      types.add(typeUrl);
      if (typeUrl === lds && !policyKinds.has(kind)) listenersByPolicies = false;
    }
  }
  const onlyEndpoints = types.size === 0 && changed.length > 0;
  if (changed.length > 0) {
    types.add(eds);
    // DNS clusters carry their endpoints themselves.
    if (changed.some((key) => hasInlineEndpoints(after, key))) types.add(cds);
  }
  if (types.size === 0) return undefined;
  return {
    kinds,
    reason: onlyEndpoints ? "endpoint" : kinds.has("MeshConfig") ? "global" : types.size === 1 && types.has(sds) ? "secret" : "config",
    changedServices: new Set(changed),
    typeUrls: types,
    clusters: onlyEndpoints ? clustersOf(changed, after) : undefined,
    listenersByPolicies,
  };
}

/** What of a push concerns one proxy; undefined: nothing. */
export function scopeFor(request: PushRequest, proxy: ProxyNode, before: PushContext, after: PushContext): PushScope | undefined {
  const relevant = [...request.kinds].filter(
    (kind) => !(kind === "Sidecar" && proxy.type === "router") && !(kind === "Gateway" && proxy.type === "sidecar"),
  );
  if (relevant.length === 0) return undefined;
  // A proxy's own services shape its inbound listeners, and a gateway's ports.
  if (request.changedServices.size > 0 && ownServiceKeys(proxy, before) !== ownServiceKeys(proxy, after)) return {};
  if (request.clusters) return { typeUrls: request.typeUrls, clusters: request.clusters };
  if (!request.listenersByPolicies || !request.typeUrls.has(lds) || !samePolicies(proxy, before, after)) {
    return { typeUrls: request.typeUrls };
  }
  const others = new Set([...request.typeUrls].filter((typeUrl) => typeUrl !== lds));
  return others.size > 0 ? { typeUrls: others } : undefined;
}

function samePolicies(proxy: ProxyNode, before: PushContext, after: PushContext): boolean {
  const older = before.securityPolicies.forWorkload(proxy);
  const newer = after.securityPolicies.forWorkload(proxy);
  return isSameSelection(older, newer) && isSameKeys(newer, before.jwks, after.jwks);
}

function ownServiceKeys(proxy: ProxyNode, push: PushContext): string {
  return push.registry
    .servicesAt(proxy.ipAddresses, proxy.namespace)
    .map(({ service, endpoint }) => `${service.host}:${endpoint.port}`)
    .sort()
    .join(",");
}

function sameServices(before: PushContext, after: PushContext): boolean {
  const a = before.registry.services;
  const b = after.registry.services;
  return a.length === b.length && a.every((service, index) => sameService(service, b[index]!));
}

function sameService(a: PushContext["registry"]["services"][number], b: typeof a): boolean {
  const comparable = (service: typeof a) =>
    JSON.stringify({
      ...service,
      visibility: service.visibility.kind === "namespaces" ? [...service.visibility.namespaces].sort() : service.visibility.kind,
    });
  return comparable(a) === comparable(b);
}

function hasInlineEndpoints(push: PushContext, key: string): boolean {
  const service = push.registry.byKey(key);
  return service?.resolution === "DNS" || service?.resolution === "DNS_ROUND_ROBIN";
}

/** Names of all clusters, subsets of any rule included, that the services' endpoints are part of. */
function clustersOf(keys: readonly string[], push: PushContext): Set<string> {
  const names = new Set<string>();
  for (const key of keys) {
    const service = push.registry.byKey(key);
    if (!service) continue;
    const subsets = push.destinationRules.subsetNames(service.host);
    for (const port of service.ports) {
      for (const subset of ["", ...subsets]) names.add(outboundCluster(service.host, port.number, subset));
    }
  }
  return names;
}
