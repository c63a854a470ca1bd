/**
 * One consistent view of the whole configuration, made once a push and shared by all proxies: services, endpoints, and the
 * indices that the generators look things up in. Never changed after it was made; everything that is derived for one
 * proxy (its merged gateway, its sidecar scope) is derived on first use and kept as long as the context.
 */

import type { EncodedResource } from "../../ads/resource.ts";
import type { DestinationRule } from "../../api/kinds/destination-rule.ts";
import type { Gateway } from "../../api/kinds/gateway.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { PeerAuthentication } from "../../api/kinds/peer-authentication.ts";
import type { Secret } from "../../api/kinds/secret.ts";
import type { Sidecar } from "../../api/kinds/sidecar.ts";
import type { VirtualService } from "../../api/kinds/virtual-service.ts";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import type { ProxyNode } from "../../api/node.ts";
import { type ObjectsOf, Registry } from "../../registry/registry.ts";
import { isVisible, type Service, selectorMatches, serviceKey } from "../../registry/service.ts";
import { DestinationRuleIndex } from "./destination-rules.ts";
import { type MergedGateway, mergeGateways } from "./merged-gateway.ts";
import { PeerAuthenticationIndex } from "./peer-authentication.ts";
import { serviceIdentities } from "./service-identities.ts";
import { buildSidecarScope, type SidecarScope, selectSidecar } from "./sidecar-scope.ts";
import { VirtualServiceIndex } from "./virtual-services.ts";

export interface PushContextInput {
  /** `2026-11-24T15:04:05Z/12`: what responses call this state. */
  readonly version: string;
  readonly mesh: MeshConfig;
  readonly objects: ObjectsOf;
  /** `cluster.local` */
  readonly domain: string;
}

export class PushContext {
  readonly version: string;
  readonly mesh: MeshConfig;
  readonly domain: string;
  readonly registry: Registry;
  readonly virtualServices: VirtualServiceIndex;
  readonly destinationRules: DestinationRuleIndex;
  readonly peerAuthentications: PeerAuthenticationIndex;
  readonly objects: ObjectsOf;
  /** Encoded resources that several proxies share, by a key that names all they were made from. */
  readonly encoded = new Map<string, EncodedResource>();
  readonly #merged = new Map<ProxyNode, MergedGateway>();
  readonly #scopes = new Map<ProxyNode, SidecarScope>();
  readonly #identities = new Map<string, readonly string[]>();
  readonly #secrets: ReadonlyMap<string, ConfigObject<Secret>>;

  constructor(input: PushContextInput) {
    this.version = input.version;
    this.mesh = input.mesh;
    this.domain = input.domain;
    this.objects = input.objects;
    this.registry = new Registry(input.objects, { domain: input.domain, defaultServiceExportTo: input.mesh.defaultServiceExportTo });
    this.virtualServices = new VirtualServiceIndex(
      input.objects("VirtualService") as ConfigObject<VirtualService>[],
      input.domain,
      input.mesh.defaultVirtualServiceExportTo,
    );
    this.destinationRules = new DestinationRuleIndex(
      input.objects("DestinationRule") as ConfigObject<DestinationRule>[],
      input.domain,
      input.mesh.rootNamespace,
      input.mesh.defaultDestinationRuleExportTo,
    );
    this.peerAuthentications = new PeerAuthenticationIndex(
      input.objects("PeerAuthentication") as ConfigObject<PeerAuthentication>[],
      input.mesh.rootNamespace,
    );
    this.#secrets = new Map(
      (input.objects("Secret") as ConfigObject<Secret>[]).map((object) => [`${object.metadata.namespace}/${object.metadata.name}`, object]),
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
    const known = this.#scopes.get(proxy);
    if (known) return known;
    const sidecar =
      proxy.type === "sidecar"
        ? selectSidecar(this.objects("Sidecar") as ConfigObject<Sidecar>[], proxy, this.mesh.rootNamespace)
        : undefined;
    const mode = this.mesh.outboundTrafficPolicy?.mode === "REGISTRY_ONLY" ? "REGISTRY_ONLY" : "ALLOW_ANY";
    const scope = buildSidecarScope(sidecar, proxy, this.registry.services, this.virtualServices, mode);
    this.#scopes.set(proxy, scope);
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
    return [...new Set(this.registry.servicesAt(proxy.ipAddresses, proxy.namespace).map(({ service }) => service))];
  }
}
