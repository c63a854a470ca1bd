/**
 * One consistent view of the whole configuration, made once a push and shared by all proxies: services, endpoints, and the
 * indices that the generators look things up in. Never changed after it was made; everything that is derived for one
 * proxy (its merged gateway, its sidecar scope) is derived on first use and kept as long as the context.
 */

import type { EncodedResource } from "../../ads/resource.ts";
import type { AuthorizationPolicy } from "../../api/kinds/authorization-policy.ts";
import type { ConfigMap } from "../../api/kinds/config-map.ts";
import type { DestinationRule } from "../../api/kinds/destination-rule.ts";
import type { EnvoyFilter } from "../../api/kinds/envoy-filter.ts";
import type { Gateway } from "../../api/kinds/gateway.ts";
import type { ConfigObject, KindName } from "../../api/kinds/object.ts";
import type { PeerAuthentication } from "../../api/kinds/peer-authentication.ts";
import type { RequestAuthentication } from "../../api/kinds/request-authentication.ts";
import type { Secret } from "../../api/kinds/secret.ts";
import type { ServiceAccount } from "../../api/kinds/service-account.ts";
import type { Sidecar } from "../../api/kinds/sidecar.ts";
import type { VirtualService } from "../../api/kinds/virtual-service.ts";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import type { MeshNetworks } from "../../api/mesh/mesh-networks.ts";
import type { ProxyNode } from "../../api/node.ts";
import type { TrustUpdate } from "../../api/trust-update.ts";
import type { TypeUrl } from "../../api/type-urls.ts";
import { sameElements } from "../../lib/same-elements.ts";
import type { AddressAllocation } from "../../registry/allocated-addresses.ts";
import { Networks } from "../../registry/networks.ts";
import { type ObjectsOf, Registry } from "../../registry/registry.ts";
import { isVisible, type Service, selectorMatches, serviceKey } from "../../registry/service.ts";
import { type JwksFetchMode, type JwksSnapshot, noJwks } from "../jwks/jwks-source.ts";
import { AudienceKeys } from "./audience.ts";
import { DestinationRuleIndex } from "./destination-rules.ts";
import { EnvoyFilterIndex } from "./envoy-filter-index.ts";
import { withIngresses } from "./ingress/with-ingresses.ts";
import { type MergedGateway, mergeGateways, translatesPorts } from "./merged-gateway.ts";
import { nobodyHears, type PatchOutcomes } from "./patch-status.ts";
import { PeerAuthenticationIndex } from "./peer-authentication.ts";
import { SecretReaders } from "./secret-readers.ts";
import { SecurityPolicies } from "./security-policies.ts";
import { serviceIdentities } from "./service-identities.ts";
import { type Altered, EncodedClusters, SharedResources } from "./shared-resources.ts";
import { buildSidecarScope, SidecarIndex, type SidecarScope } from "./sidecar-scope.ts";
import { VirtualServiceIndex } from "./virtual-services.ts";

export interface PushContextInput {
  /** `2026-11-24T15:04:05Z/12`: what responses call this state. */
  readonly version: string;
  readonly mesh: MeshConfig;
  readonly objects: ObjectsOf;
  /** `cluster.local` */
  readonly domain: string;
  /** How services without address get one; default hashed. */
  readonly allocation?: AddressAllocation;
  /** PEM of the roots that workloads are to trust, each by itself. */
  readonly trust?: TrustUpdate;
  /** Keys of token issuers. */
  readonly jwks?: JwksSnapshot;
  /** Default `istiod`. */
  readonly jwksFetchMode?: JwksFetchMode;
  /** Hears what becomes of the patches of EnvoyFilters; default nobody. */
  readonly patchOutcomes?: PatchOutcomes;
  /** Networks as the operator lists them. */
  readonly networks?: MeshNetworks;
}

/** What is the same for all proxies that see and are the same, see audience.ts. */
interface Audience {
  readonly scope: SidecarScope;
  readonly resources: SharedResources;
}

export class PushContext {
  readonly version: string;
  readonly mesh: MeshConfig;
  readonly domain: string;
  readonly registry: Registry;
  readonly networks: Networks;
  readonly virtualServices: VirtualServiceIndex;
  readonly destinationRules: DestinationRuleIndex;
  readonly peerAuthentications: PeerAuthenticationIndex;
  readonly envoyFilters: EnvoyFilterIndex;
  readonly patchOutcomes: PatchOutcomes;
  readonly objects: ObjectsOf;
  readonly trust: TrustUpdate;
  readonly jwks: JwksSnapshot;
  readonly jwksFetchMode: JwksFetchMode;
  readonly securityPolicies: SecurityPolicies;
  readonly secretReaders: SecretReaders;
  /** Clusters and their endpoints, for all who get the same. */
  readonly encoded = new EncodedClusters();
  readonly #merged = new Map<ProxyNode, MergedGateway>();
  readonly #sidecars: SidecarIndex;
  readonly #scopes: Map<string, SidecarScope>;
  readonly #audienceKeys: AudienceKeys;
  readonly #audiences = new Map<string, Audience>();
  readonly #audienceOf = new Map<ProxyNode, Audience>();
  /** Of the context before, by the key of an audience that nobody of has asked here yet. */
  readonly #kept = new Map<string, Audience>();
  readonly #identities = new Map<string, readonly string[]>();
  readonly #secrets: ReadonlyMap<string, ConfigObject<Secret>>;

  /** `older`: the context of before. What was made of objects that are still the same is taken over from it, by identity. */
  constructor(input: PushContextInput, older?: PushContext) {
    const objects = withIngresses(input.objects, input.mesh, input.domain);
    const { mesh, domain } = input;
    this.version = input.version;
    this.mesh = mesh;
    this.domain = domain;
    this.objects = objects;
    this.trust = input.trust ?? { roots: [], revocations: undefined };
    this.jwks = input.jwks ?? noJwks;
    this.jwksFetchMode = input.jwksFetchMode ?? "istiod";
    const same = older?.mesh === mesh && older.domain === domain ? older : undefined;
    /** The older context's own, unless an object of one of the kinds differs. */
    const unlessChanged = <Part>(kinds: readonly KindName[], part: (context: PushContext) => Part, make: () => Part): Part =>
      same && kinds.every((kind) => sameElements(objects(kind), same.objects(kind))) ? part(same) : make();
    this.securityPolicies = unlessChanged(
      ["AuthorizationPolicy", "RequestAuthentication"],
      (context) => context.securityPolicies,
      () =>
        new SecurityPolicies(
          objects("AuthorizationPolicy") as ConfigObject<AuthorizationPolicy>[],
          objects("RequestAuthentication") as ConfigObject<RequestAuthentication>[],
          mesh.rootNamespace,
        ),
    );
    this.secretReaders = new SecretReaders(objects("ServiceAccount") as ConfigObject<ServiceAccount>[]);
    this.networks = new Networks(objects, input.networks, mesh.rootNamespace);
    this.registry = new Registry(
      objects,
      {
        domain,
        defaultServiceExportTo: mesh.defaultServiceExportTo,
        ...(input.allocation ? { allocation: input.allocation } : {}),
      },
      older?.registry,
    );
    this.virtualServices = unlessChanged(
      ["VirtualService"],
      (context) => context.virtualServices,
      () =>
        new VirtualServiceIndex(
          objects("VirtualService") as ConfigObject<VirtualService>[],
          domain,
          mesh.defaultVirtualServiceExportTo,
          same?.virtualServices,
        ),
    );
    this.destinationRules = unlessChanged(
      ["DestinationRule"],
      (context) => context.destinationRules,
      () =>
        new DestinationRuleIndex(
          objects("DestinationRule") as ConfigObject<DestinationRule>[],
          domain,
          mesh.rootNamespace,
          mesh.defaultDestinationRuleExportTo,
        ),
    );
    this.peerAuthentications = unlessChanged(
      ["PeerAuthentication"],
      (context) => context.peerAuthentications,
      () => new PeerAuthenticationIndex(objects("PeerAuthentication") as ConfigObject<PeerAuthentication>[], mesh.rootNamespace),
    );
    this.envoyFilters = unlessChanged(
      ["EnvoyFilter"],
      (context) => context.envoyFilters,
      () => new EnvoyFilterIndex(objects("EnvoyFilter") as ConfigObject<EnvoyFilter>[], mesh.rootNamespace),
    );
    this.patchOutcomes = input.patchOutcomes ?? nobodyHears;
    this.#sidecars = unlessChanged(
      ["Sidecar"],
      (context) => context.#sidecars,
      () => new SidecarIndex(objects("Sidecar") as ConfigObject<Sidecar>[], mesh.rootNamespace),
    );
    this.#audienceKeys = unlessChanged(
      ["VirtualService", "DestinationRule"],
      (context) => context.#audienceKeys,
      () =>
        new AudienceKeys(
          objects("VirtualService") as ConfigObject<VirtualService>[],
          objects("DestinationRule") as ConfigObject<DestinationRule>[],
        ),
    );
    const seesTheSame =
      same?.registry.services === this.registry.services &&
      same.virtualServices === this.virtualServices &&
      same.#sidecars === this.#sidecars;
    this.#scopes = seesTheSame ? same.#scopes : new Map();
    this.#secrets = new Map(
      (objects("Secret") as ConfigObject<Secret>[]).map((object) => [`${object.metadata.namespace}/${object.metadata.name}`, object]),
    );
  }

  /** Takes over what is encoded in `older` and `altered` does not touch. Before anybody asks this context for anything. */
  keepUnaltered(older: PushContext, altered: Altered): void {
    // Keys of patches count within one index.
    if (older.mesh !== this.mesh || older.envoyFilters !== this.envoyFilters) return;
    this.encoded.keepFrom(older.encoded, altered);
    for (const [key, { scope, resources }] of older.#audiences) {
      this.#kept.set(key, { scope, resources: resources.unaltered(altered) });
    }
  }

  configMap(namespace: string, name: string): ConfigObject<ConfigMap> | undefined {
    return (this.objects("ConfigMap") as ConfigObject<ConfigMap>[]).find(
      ({ metadata }) => metadata.namespace === namespace && metadata.name === name,
    );
  }

  secret(namespace: string, name: string): ConfigObject<Secret> | undefined {
    return this.#secrets.get(`${namespace}/${name}`);
  }

  /** Who may be behind a service; empty: nobody knows. */
  identitiesOf(service: Service): readonly string[] {
    const key = serviceKey(service.host, service.namespace);
    const known = this.#identities.get(key);
    if (known) return known;
    const identities = serviceIdentities(service, this.registry.endpoints(service), this.mesh);
    this.#identities.set(key, identities);
    return identities;
  }

  mergedGateway(proxy: ProxyNode): MergedGateway {
    const known = this.#merged.get(proxy);
    if (known) return known;
    const selected = (this.objects("Gateway") as ConfigObject<Gateway>[]).filter((gateway) =>
      selectorMatches(gateway.spec.selector, proxy.labels),
    );
    const merged = mergeGateways(
      selected,
      this.ownServices(proxy).filter((service) => translatesPorts(service, proxy)),
    );
    this.#merged.set(proxy, merged);
    return merged;
  }

  sidecarScope(proxy: ProxyNode): SidecarScope {
    return this.#audience(proxy).scope;
  }

  /** Resources that are the same for all of the proxy's audience, made for the first who asks. `name`: which of the type. */
  shared(typeUrl: TypeUrl, name: string, proxy: ProxyNode, make: () => readonly EncodedResource[]): readonly EncodedResource[] {
    return this.#audience(proxy).resources.get(typeUrl, name, make);
  }

  /** ClusterLoadAssignments of the proxy's audience that don't depend on where a proxy is. */
  sharedAssignments(proxy: ProxyNode): Map<string, EncodedResource> {
    return this.#audience(proxy).resources.assignments;
  }

  #audience(proxy: ProxyNode): Audience {
    const known = this.#audienceOf.get(proxy);
    if (known) return known;
    const sidecar = proxy.type === "sidecar" ? this.#sidecars.select(proxy) : undefined;
    const scopeKey = `${proxy.namespace}|${sidecar ? `${sidecar.metadata.namespace}/${sidecar.metadata.name}` : ""}`;
    const patches = this.envoyFilters.forProxy(proxy).key;
    const key = this.#audienceKeys.keyOf(proxy, scopeKey, patches, this.registry.usesAllocated(proxy));
    const audience = this.#audiences.get(key) ?? this.#newAudience(key, this.#scope(scopeKey, sidecar, proxy.namespace));
    this.#audiences.set(key, audience);
    this.#audienceOf.set(proxy, audience);
    return audience;
  }

  #newAudience(key: string, scope: SidecarScope): Audience {
    const kept = this.#kept.get(key);
    // Who sees other services may do so for reasons that no type of the push tells.
    const seesTheSame = kept && sameElements(kept.scope.services, scope.services);
    return { scope, resources: seesTheSame ? kept.resources : new SharedResources() };
  }

  #scope(key: string, sidecar: ConfigObject<Sidecar> | undefined, namespace: string): SidecarScope {
    const known = this.#scopes.get(key);
    if (known) return known;
    const mode = this.mesh.outboundTrafficPolicy?.mode === "REGISTRY_ONLY" ? "REGISTRY_ONLY" : "ALLOW_ANY";
    const scope = buildSidecarScope(sidecar, namespace, this.registry, this.virtualServices, mode);
    this.#scopes.set(key, scope);
    return scope;
  }

  /** Services that the proxy may call, one a host. */
  servicesFor(proxy: ProxyNode): readonly Service[] {
    return this.sidecarScope(proxy).services;
  }

  /** The service that a destination host means to a proxy: in the namespace of the rule that names it if it is there and visible. */
  destinationService(proxy: ProxyNode, host: string, ruleNamespace: string): Service | undefined {
    const same = this.registry.get(host, ruleNamespace);
    if (same && isVisible(same.visibility, proxy.namespace)) return same;
    return this.sidecarScope(proxy).serviceByHost(host);
  }

  /** Services of which the proxy is an endpoint. */
  ownServices(proxy: ProxyNode): readonly Service[] {
    return [...new Set(this.registry.servicesAt(proxy).map(({ service }) => service))];
  }
}
