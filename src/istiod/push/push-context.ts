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
import type { ConfigObject } from "../../api/kinds/object.ts";
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
import type { AddressAllocation } from "../../registry/allocated-addresses.ts";
import { Networks } from "../../registry/networks.ts";
import { type ObjectsOf, Registry } from "../../registry/registry.ts";
import { isVisible, type Service, selectorMatches, serviceKey } from "../../registry/service.ts";
import { type JwksFetchMode, type JwksSnapshot, noJwks } from "../jwks/jwks-source.ts";
import { AudienceKeys } from "./audience.ts";
import { DestinationRuleIndex } from "./destination-rules.ts";
import { EnvoyFilterIndex } from "./envoy-filter-index.ts";
import { withIngresses } from "./ingress/with-ingresses.ts";
import { type MergedGateway, mergeGateways } from "./merged-gateway.ts";
import { nobodyHears, type PatchOutcomes } from "./patch-status.ts";
import { PeerAuthenticationIndex } from "./peer-authentication.ts";
import { SecretReaders } from "./secret-readers.ts";
import { SecurityPolicies } from "./security-policies.ts";
import { serviceIdentities } from "./service-identities.ts";
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
  readonly resources: Map<string, readonly EncodedResource[]>;
  readonly assignments: Map<string, EncodedResource>;
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
  /** Encoded resources that several proxies share, by a key that names all they were made from. */
  readonly encoded = new Map<string, EncodedResource>();
  readonly #merged = new Map<ProxyNode, MergedGateway>();
  readonly #sidecars: SidecarIndex;
  readonly #scopes = new Map<string, SidecarScope>();
  readonly #audienceKeys: AudienceKeys;
  readonly #audiences = new Map<string, Audience>();
  readonly #audienceOf = new Map<ProxyNode, Audience>();
  readonly #identities = new Map<string, readonly string[]>();
  readonly #secrets: ReadonlyMap<string, ConfigObject<Secret>>;

  constructor(input: PushContextInput) {
    const objects = withIngresses(input.objects, input.mesh, input.domain);
    this.version = input.version;
    this.mesh = input.mesh;
    this.domain = input.domain;
    this.objects = objects;
    this.trust = input.trust ?? { roots: [], revocations: undefined };
    this.jwks = input.jwks ?? noJwks;
    this.jwksFetchMode = input.jwksFetchMode ?? "istiod";
    this.securityPolicies = new SecurityPolicies(
      objects("AuthorizationPolicy") as ConfigObject<AuthorizationPolicy>[],
      objects("RequestAuthentication") as ConfigObject<RequestAuthentication>[],
      input.mesh.rootNamespace,
    );
    this.secretReaders = new SecretReaders(objects("ServiceAccount") as ConfigObject<ServiceAccount>[]);
    this.networks = new Networks(objects, input.networks, input.mesh.rootNamespace);
    this.registry = new Registry(objects, {
      domain: input.domain,
      defaultServiceExportTo: input.mesh.defaultServiceExportTo,
      ...(input.allocation ? { allocation: input.allocation } : {}),
    });
    this.virtualServices = new VirtualServiceIndex(
      objects("VirtualService") as ConfigObject<VirtualService>[],
      input.domain,
      input.mesh.defaultVirtualServiceExportTo,
    );
    this.destinationRules = new DestinationRuleIndex(
      objects("DestinationRule") as ConfigObject<DestinationRule>[],
      input.domain,
      input.mesh.rootNamespace,
      input.mesh.defaultDestinationRuleExportTo,
    );
    this.peerAuthentications = new PeerAuthenticationIndex(
      objects("PeerAuthentication") as ConfigObject<PeerAuthentication>[],
      input.mesh.rootNamespace,
    );
    this.envoyFilters = new EnvoyFilterIndex(objects("EnvoyFilter") as ConfigObject<EnvoyFilter>[], input.mesh.rootNamespace);
    this.patchOutcomes = input.patchOutcomes ?? nobodyHears;
    this.#sidecars = new SidecarIndex(objects("Sidecar") as ConfigObject<Sidecar>[], input.mesh.rootNamespace);
    this.#audienceKeys = new AudienceKeys(
      objects("VirtualService") as ConfigObject<VirtualService>[],
      objects("DestinationRule") as ConfigObject<DestinationRule>[],
    );
    this.#secrets = new Map(
      (objects("Secret") as ConfigObject<Secret>[]).map((object) => [`${object.metadata.namespace}/${object.metadata.name}`, object]),
    );
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
    const merged = mergeGateways(selected, this.ownServices(proxy));
    this.#merged.set(proxy, merged);
    return merged;
  }

  sidecarScope(proxy: ProxyNode): SidecarScope {
    return this.#audience(proxy).scope;
  }

  /** Resources that are the same for all of the proxy's audience, made for the first who asks. `name`: which. */
  shared(name: string, proxy: ProxyNode, make: () => readonly EncodedResource[]): readonly EncodedResource[] {
    const { resources } = this.#audience(proxy);
    const known = resources.get(name);
    if (known) return known;
    const made = make();
    resources.set(name, made);
    return made;
  }

  /** ClusterLoadAssignments of the proxy's audience that don't depend on where a proxy is. */
  sharedAssignments(proxy: ProxyNode): Map<string, EncodedResource> {
    return this.#audience(proxy).assignments;
  }

  #audience(proxy: ProxyNode): Audience {
    const known = this.#audienceOf.get(proxy);
    if (known) return known;
    const sidecar = proxy.type === "sidecar" ? this.#sidecars.select(proxy) : undefined;
    const scopeKey = `${proxy.namespace}|${sidecar ? `${sidecar.metadata.namespace}/${sidecar.metadata.name}` : ""}`;
    const patches = this.envoyFilters.forProxy(proxy).key;
    const key = this.#audienceKeys.keyOf(proxy, scopeKey, patches, this.registry.usesAllocated(proxy));
    const audience = this.#audiences.get(key) ?? {
      scope: this.#scope(scopeKey, sidecar, proxy.namespace),
      resources: new Map(),
      assignments: new Map(),
    };
    this.#audiences.set(key, audience);
    this.#audienceOf.set(proxy, audience);
    return audience;
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
