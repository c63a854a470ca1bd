/**
 * What one sidecar can see: the services it may call and the VirtualServices that apply to it, as its Sidecar resource limits them.
 * Selection: a Sidecar whose selector matches (oldest), the namespace's own without selector, the root namespace's, else everything.
 * All proxies of a namespace with the same Sidecar have one scope. Source: Istio pilot/pkg/model/sidecar.go.
 */
import { blackHoleCluster, outboundCluster, passthroughCluster } from "../../api/cluster-name.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { Sidecar } from "../../api/kinds/sidecar.ts";
import type { Destination } from "../../api/kinds/virtual-service.ts";
import type { ProxyNode } from "../../api/node.ts";
import type { Registry } from "../../registry/registry.ts";
import { isVisible, type Service, type ServicePort, selectorMatches } from "../../registry/service.ts";
import { EgressListener } from "./egress-listener.ts";
import { meshGateway, type ResolvedVirtualService, type VirtualServiceIndex } from "./virtual-services.ts";

export type OutboundMode = "ALLOW_ANY" | "REGISTRY_ONLY";

export interface SidecarScope {
  /** Undefined: the implicit scope of everything. */
  readonly object: ConfigObject<Sidecar> | undefined;
  /** In the Sidecar's order; the last may be one without port. */
  readonly egress: readonly EgressListener[];
  /** One service a host, with the ports that any of the listeners needs. */
  readonly services: readonly Service[];
  readonly outboundMode: OutboundMode;
  /** Where goes what nobody knows. */
  readonly catchAllCluster: string;
  serviceByHost(host: string): Service | undefined;
  virtualServiceFor(host: string): ResolvedVirtualService | undefined;
}

/** Sidecars by namespace, oldest first. */
export class SidecarIndex {
  readonly #byNamespace = new Map<string, ConfigObject<Sidecar>[]>();
  readonly #rootNamespace: string;

  constructor(objects: readonly ConfigObject<Sidecar>[], rootNamespace: string) {
    this.#rootNamespace = rootNamespace;
    for (const object of objects) {
      const list = this.#byNamespace.get(object.metadata.namespace);
      if (list) list.push(object);
      else this.#byNamespace.set(object.metadata.namespace, [object]);
    }
  }

  select(proxy: ProxyNode): ConfigObject<Sidecar> | undefined {
    const labelsOf = (object: ConfigObject<Sidecar>) => object.spec.workloadSelector?.labels ?? {};
    const isDefault = (object: ConfigObject<Sidecar>) => Object.keys(labelsOf(object)).length === 0;
    const own = this.#byNamespace.get(proxy.namespace) ?? [];
    return (
      own.find((object) => !isDefault(object) && selectorMatches(labelsOf(object), proxy.labels)) ??
      own.find(isDefault) ??
      this.#byNamespace.get(this.#rootNamespace)?.find(isDefault)
    );
  }
}

export function buildSidecarScope(
  object: ConfigObject<Sidecar> | undefined,
  namespace: string,
  registry: Registry,
  virtualServices: VirtualServiceIndex,
  meshOutboundMode: OutboundMode,
): SidecarScope {
  const visible = registry.services.filter((service) => isVisible(service.visibility, namespace));
  const applying = virtualServices.forGateway(meshGateway, namespace);
  const written = object && object.spec.egress.length > 0 ? object.spec.egress : [undefined];
  const egress = written.map((listener) => new EgressListener(listener, namespace, visible, applying));
  const merged = new MergedServices();
  const lookUp = (host: string) => registry.get(host, namespace) ?? bestOf(registry.byHost(host), namespace);
  for (const [index, listener] of egress.entries()) {
    for (const service of listener.services) merged.add(service);
    // Who sees everything sees the destinations too.
    if (written[index]) for (const service of listener.destinations(lookUp, namespace)) merged.add(service);
  }
  const policy = object?.spec.outboundTrafficPolicy;
  const outboundMode = policy ? (policy.mode === "REGISTRY_ONLY" ? "REGISTRY_ONLY" : "ALLOW_ANY") : meshOutboundMode;
  return {
    object,
    egress,
    services: merged.list,
    outboundMode,
    catchAllCluster: outboundMode === "ALLOW_ANY" ? egressCluster(policy?.egressProxy) : blackHoleCluster,
    serviceByHost: (host) => merged.get(host),
    virtualServiceFor(host) {
      for (const listener of egress) {
        const found = listener.virtualServiceFor(host);
        if (found) return found;
      }
      return undefined;
    },
  };
}

/** Of the proxy that all else leaves the mesh by, which the Sidecar has to see as it has to see any other service. */
function egressCluster(egressProxy: Destination | undefined): string {
  return egressProxy ? outboundCluster(egressProxy.host, egressProxy.port?.number ?? 0, egressProxy.subset) : passthroughCluster;
}

/** Of a host that is not in the proxy's namespace: a visible one of Kubernetes' registry, else the oldest visible. */
function bestOf(candidates: readonly Service[], namespace: string): Service | undefined {
  const visible = candidates.filter((service) => isVisible(service.visibility, namespace));
  return visible.find((service) => service.registry === "Kubernetes") ?? visible[0];
}

/** The services of all listeners, by host. What listeners trimmed to different ports of one service is put together again. */
class MergedServices {
  readonly #byHost = new Map<string, Service>();

  get list(): Service[] {
    return [...this.#byHost.values()];
  }

  get(host: string): Service | undefined {
    return this.#byHost.get(host);
  }

  add(service: Service): void {
    const present = this.#byHost.get(service.host);
    if (present === service) return;
    if (!present || (present.registry !== "Kubernetes" && service.registry === "Kubernetes")) this.#byHost.set(service.host, service);
    else if (present.namespace === service.namespace) this.#byHost.set(service.host, withPortsOf(present, service.ports));
  }
}

function withPortsOf(service: Service, ports: readonly ServicePort[]): Service {
  const missing = ports.filter((port) => !service.ports.some((own) => own.number === port.number));
  return missing.length === 0 ? service : { ...service, ports: [...service.ports, ...missing] };
}
