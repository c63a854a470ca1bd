/**
 * From what changed to what must be pushed: which resource types may differ, and within EDS which clusters.
 *
 * What is sent is decided by comparing bytes (ads/server); this decides what is worth generating at all. So a kind that is
 * missing in the table costs nothing but pushes, and a kind that says too much costs nothing but time.
 * Source: Istio pilot/pkg/xds/{cds,eds,lds,rds,sds}.go, pilot/pkg/xds/proxy_dependencies.go.
 */

import { isDeepStrictEqual } from "node:util";
import type { PushScope } from "../../ads/server.ts";
import { outboundCluster, sniCluster } from "../../api/cluster-name.ts";
import { hostCovers } from "../../api/hostname.ts";
import type { ConfigObject, KindName } from "../../api/kinds/object.ts";
import type { Secret } from "../../api/kinds/secret.ts";
import type { ProxyNode } from "../../api/node.ts";
import { type TypeUrl, typeUrls } from "../../api/type-urls.ts";
import { sameElements } from "../../lib/same-elements.ts";
import type { Registry } from "../../registry/registry.ts";
import { isNamedByEndpoints, type Service, serviceKey } from "../../registry/service.ts";
import { changedRuleHosts } from "./destination-rules.ts";
import { endpointKinds } from "./endpoint-events.ts";
import { changedPatchTypes } from "./envoy-filter-index.ts";
import { passesByServerName } from "./merged-gateway.ts";
import { changedPeerAuthentications, type PeerAuthenticationChanges } from "./peer-authentication.ts";
import type { PushContext } from "./push-context.ts";
import { isSameKeys, isSameSelection } from "./security-policies.ts";

const { cds, eds, lds, rds, sds, ecds, nds, pcds } = typeUrls;

/** Types that a change of the kind can alter. Kinds that are not listed alter nothing that a proxy gets. */
const affectedTypes: Partial<Record<ChangedKind, readonly TypeUrl[]>> = {
  MeshConfig: [cds, eds, lds, rds, nds, ecds],
  Gateway: [lds, rds],
  VirtualService: [lds, rds],
  // Gateways and VirtualServices are made of them.
  Ingress: [lds, rds],
  IngressClass: [lds, rds],
  // Connections are hashed, and server names passed on, as chains of listeners say.
  DestinationRule: [cds, eds, lds, rds],
  Sidecar: [cds, eds, lds, rds, nds],
  ServiceEntry: [cds, eds, lds, rds, nds],
  Service: [cds, eds, lds, rds, nds],
  AuthorizationPolicy: [lds],
  RequestAuthentication: [lds],
  Jwks: [lds],
  Secret: [sds],
  TrustBundle: [pcds],
  // Certificates of CAs, which `configmap://` names.
  ConfigMap: [sds],
  // Who may read which secret.
  ServiceAccount: [sds],
};

/** What concerns a proxy only where its own policies differ. */
const policyKinds: ReadonlySet<string> = new Set<ChangedKind>(["AuthorizationPolicy", "RequestAuthentication", "Jwks"]);

/** What concerns gateways alone. */
const gatewayKinds: ReadonlySet<string> = new Set<KindName>(["Gateway", "Ingress", "IngressClass"]);

/** Objects by their kind, and what changes without being an object. */
export type ChangedKind = KindName | "MeshConfig" | "TrustBundle" | "Jwks";

export interface PushRequest {
  readonly kinds: ReadonlySet<ChangedKind>;
  /** Reason for metrics: `endpoint` when nothing but endpoints changed. */
  readonly reason: "endpoint" | "config" | "secret" | "global";
  /** Services that differ, or whose endpoints or rules do, by `namespace/host`. */
  readonly changedServices: ReadonlySet<string>;
  /** Types to generate for everybody; further ones by proxy, see `scopeFor`. */
  readonly typeUrls: ReadonlySet<TypeUrl>;
  /** Of CDS and EDS; undefined: all. */
  readonly clusters: ReadonlySet<string> | undefined;
  /** Namespaces of whose sidecars the inbound listeners may differ, where nothing else says that listeners do. */
  readonly inboundNamespaces: ReadonlySet<string>;
  /** Of Secrets that changed: only proxies of the same namespace may read them. Undefined: it is not known which. */
  readonly secretNamespaces: ReadonlySet<string> | undefined;
}

const noChanges: PeerAuthenticationChanges = { servers: new Set(), clients: new Set() };

/** Undefined: nothing that any proxy gets can have changed. `proxyNamespaces`: those of the connected proxies. */
export function planPush(
  kinds: ReadonlySet<ChangedKind>,
  before: PushContext,
  after: PushContext,
  proxyNamespaces: Iterable<string> = [],
): PushRequest | undefined {
  const types = new Set<TypeUrl>();
  const touchesEndpoints = [...kinds].some((kind) => endpointKinds.has(kind)) || kinds.has("ServiceEntry") || kinds.has("Service");
  const changed = touchesEndpoints ? after.registry.changedEndpoints(before.registry) : [];
  const services = before.registry.services === after.registry.services ? [] : differingServices(before, after);
  for (const kind of kinds) {
    // A ServiceEntry or Service of which only the endpoints changed is an endpoint change.
    if (services.length === 0 && (kind === "ServiceEntry" || kind === "Service")) continue;
    for (const typeUrl of affectedTypes[kind] ?? []) types.add(typeUrl);
  }
  if (before.networks.fingerprint !== after.networks.fingerprint) types.add(eds);
  const onlyEndpoints = types.size === 0 && changed.length > 0;
  const altersAllClusters =
    before.networks.fingerprint !== after.networks.fingerprint || [...kinds].some((kind) => kind === "MeshConfig" || kind === "Sidecar");
  const shaped = [...services, ...(kinds.has("DestinationRule") ? ruledServices(before, after) : [])];
  if (changed.length > 0) {
    types.add(eds);
    if (changed.some((key) => changesClusters(key, before, after))) types.add(cds);
    if (changed.some((key) => isNamedByEndpoints(after.registry.byKey(key)!))) types.add(nds);
  }
  const { servers, clients } = kinds.has("PeerAuthentication")
    ? changedPeerAuthentications(
        before.peerAuthentications,
        after.peerAuthentications,
        new Set([...proxyNamespaces, ...after.registry.services.map(({ namespace }) => namespace)]),
      )
    : noChanges;
  if (clients.size > 0) types.add(cds).add(eds);
  if (servers.size > 0) types.add(lds);
  if (types.size === 0 && !(kinds.has("EnvoyFilter") && !samePatches(before, after))) return undefined;
  const concerned = () => [
    ...shaped,
    ...changed.flatMap((key) => after.registry.byKey(key) ?? []),
    ...after.registry.services.filter(({ namespace }) => clients.has(namespace)),
  ];
  return {
    kinds,
    reason: onlyEndpoints ? "endpoint" : kinds.has("MeshConfig") ? "global" : types.size === 1 && types.has(sds) ? "secret" : "config",
    changedServices: new Set([...changed, ...shaped.map(({ host, namespace }) => serviceKey(host, namespace))]),
    typeUrls: types,
    clusters: altersAllClusters ? undefined : clustersOf(concerned(), [before, after]),
    inboundNamespaces: servers,
    secretNamespaces:
      kinds.has("Secret") && !kinds.has("ConfigMap") && !kinds.has("ServiceAccount") ? changedSecretNamespaces(before, after) : undefined,
  };
}

/** What of a push concerns one proxy; undefined: nothing. */
export function scopeFor(request: PushRequest, proxy: ProxyNode, before: PushContext, after: PushContext): PushScope | undefined {
  const relevant = [...request.kinds].filter(
    (kind) => !(kind === "Sidecar" && proxy.type === "router") && !(gatewayKinds.has(kind) && proxy.type === "sidecar"),
  );
  if (relevant.length === 0) return undefined;
  // A proxy's own services shape its inbound listeners and clusters, and a gateway's ports.
  if (request.changedServices.size > 0 && changesOwnServices(request, proxy, before, after)) return {};
  const typeUrls = new Set(request.typeUrls);
  let { clusters } = request;
  const addAllClusters = (...added: TypeUrl[]) => {
    for (const typeUrl of added) typeUrls.add(typeUrl);
    clusters = undefined;
  };
  const needsListeners =
    relevant.some((kind) => !policyKinds.has(kind) && affectedTypes[kind]?.includes(lds)) ||
    (proxy.type !== "router" && request.inboundNamespaces.has(proxy.namespace)) ||
    (relevant.some((kind) => policyKinds.has(kind)) && !samePolicies(proxy, before, after));
  if (!needsListeners) typeUrls.delete(lds);
  // A Sidecar lets its workloads see what the routes that they use lead to.
  if (request.kinds.has("VirtualService") && !sameElements(before.servicesFor(proxy), after.servicesFor(proxy))) addAllClusters(cds, eds);
  // The clusters that chains by server name lead to are there for nothing else.
  if (proxy.type === "router" && request.kinds.has("Gateway")) {
    if (passesByServerName(after.mergedGateway(proxy)) !== passesByServerName(before.mergedGateway(proxy))) addAllClusters(cds);
  }
  if (request.secretNamespaces && !request.secretNamespaces.has(proxy.namespace)) typeUrls.delete(sds);
  if (request.kinds.has("EnvoyFilter")) {
    const [older, newer] = [before, after].map(({ envoyFilters }) => envoyFilters.forProxy(proxy));
    for (const typeUrl of changedPatchTypes(proxy, older!, newer!)) {
      if (typeUrl === cds) addAllClusters(cds);
      else typeUrls.add(typeUrl);
    }
  }
  if (typeUrls.size === 0) return undefined;
  return clusters ? { typeUrls, clusters } : { typeUrls };
}

/** Whether it serves other ports than before, or what is said of the services behind them has changed. */
function changesOwnServices({ changedServices, kinds }: PushRequest, proxy: ProxyNode, before: PushContext, after: PushContext): boolean {
  if (ownServiceKeys(proxy, before) !== ownServiceKeys(proxy, after)) return true;
  if (!["Service", "ServiceEntry", "DestinationRule"].some((kind) => kinds.has(kind as ChangedKind))) return false;
  return after.ownServices(proxy).some(({ host, namespace }) => changedServices.has(serviceKey(host, namespace)));
}

/** Of all EnvoyFilters; whom a difference concerns is a matter of each proxy. */
function samePatches(before: PushContext, after: PushContext): boolean {
  const [older, newer] = [before, after].map(({ envoyFilters }) =>
    envoyFilters.objects.map(({ metadata, spec }) => [metadata.namespace, metadata.name, metadata.creationTimestamp, spec]),
  );
  return JSON.stringify(older) === JSON.stringify(newer);
}

function samePolicies(proxy: ProxyNode, before: PushContext, after: PushContext): boolean {
  const older = before.securityPolicies.forWorkload(proxy);
  const newer = after.securityPolicies.forWorkload(proxy);
  return isSameSelection(older, newer) && isSameKeys(newer, before.jwks, after.jwks);
}

function ownServiceKeys(proxy: ProxyNode, push: PushContext): string {
  return push.registry
    .servicesAt(proxy)
    .map(({ service, endpoint }) => `${service.host}:${endpoint.port}`)
    .sort()
    .join(",");
}

/** Services that only one of the contexts knows, or that are not the same in both: of those that differ, both forms. */
function differingServices(before: PushContext, after: PushContext): Service[] {
  const missingIn = (registry: Registry) => (service: Service) => {
    const other = registry.get(service.host, service.namespace);
    return other !== service && !isDeepStrictEqual(other, service);
  };
  return [...before.registry.services.filter(missingIn(after.registry)), ...after.registry.services.filter(missingIn(before.registry))];
}

/** Services for which a DestinationRule says something else than before. */
function ruledServices(before: PushContext, after: PushContext): Service[] {
  const hosts = changedRuleHosts(before.destinationRules, after.destinationRules);
  return after.registry.services.filter(({ host }) => hosts.some((rule) => hostCovers(rule, host)));
}

/** Whether a change of the service's endpoints alters its clusters, too. */
function changesClusters(key: string, before: PushContext, after: PushContext): boolean {
  const [older, newer] = [before, after].map((push) => {
    const service = push.registry.byKey(key);
    if (!service) return undefined;
    const endpoints = push.registry.endpoints(service);
    // Clusters name who may be behind them, and those that choose no endpoint themselves whether all of a port take mutual TLS.
    return {
      service,
      names: JSON.stringify(push.identitiesOf(service)),
      tls: [...new Set(endpoints.map(({ portName, tlsMode }) => `${portName} ${tlsMode}`))].sort().join(),
    };
  });
  if (!older || !newer) return true;
  // DNS clusters carry their endpoints themselves.
  const hasInlineEndpoints = newer.service.resolution === "DNS" || newer.service.resolution === "DNS_ROUND_ROBIN";
  return hasInlineEndpoints || older.names !== newer.names || older.tls !== newer.tls;
}

function changedSecretNamespaces(before: PushContext, after: PushContext): ReadonlySet<string> {
  const describe = (push: PushContext) =>
    new Map(
      (push.objects("Secret") as ConfigObject<Secret>[]).map((object) => [`${object.metadata.namespace}/${object.metadata.name}`, object]),
    );
  const [older, newer] = [describe(before), describe(after)];
  const changed = [...new Set([...older.keys(), ...newer.keys()])].filter((key) => !sameSecret(older.get(key)?.spec, newer.get(key)?.spec));
  return new Set(changed.map((key) => key.slice(0, key.indexOf("/"))));
}

function sameSecret(a: Secret | undefined, b: Secret | undefined): boolean {
  if (a === b) return true;
  if (!a || !b) return false;
  const keys = Object.keys(a.data);
  return (
    keys.length === Object.keys(b.data).length &&
    keys.every((key) => {
      const [one, other] = [a.data[key], b.data[key]];
      return one !== undefined && other !== undefined && Buffer.compare(one, other) === 0;
    })
  );
}

/**
 * Names of all clusters, subsets of any rule included, of the services' hosts. Of all services of a host: who saw one of them may see another
 * instead.
 */
function clustersOf(services: Iterable<Service>, contexts: readonly PushContext[]): Set<string> {
  const names = new Set<string>();
  for (const host of new Set([...services].map((service) => service.host))) {
    const subsets = new Set(["", ...contexts.flatMap(({ destinationRules }) => destinationRules.subsetNames(host))]);
    const ports = new Set(contexts.flatMap(({ registry }) => registry.byHost(host).flatMap((service) => service.ports)));
    for (const { number } of ports) {
      for (const subset of subsets) {
        names.add(outboundCluster(host, number, subset));
        names.add(sniCluster(host, number, subset));
      }
    }
  }
  return names;
}
