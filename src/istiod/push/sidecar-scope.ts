/**
 * What one sidecar can see: the services it may call and the VirtualServices that apply to it, as its Sidecar resource limits them.
 * Selection: a Sidecar whose selector matches (oldest), the namespace's own without selector, the root namespace's, else everything.
 * Source: Istio pilot/pkg/model/sidecar.go.
 */
import { hostCovers, hostsMatch } from "../../api/hostname.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { Sidecar } from "../../api/kinds/sidecar.ts";
import type { ProxyNode } from "../../api/node.ts";
import { isVisible, type Service, selectorMatches } from "../../registry/service.ts";
import { meshGateway, type ResolvedVirtualService, type VirtualServiceIndex } from "./virtual-services.ts";

export interface SidecarScope {
  /** Undefined: the implicit scope of everything. */
  readonly object: ConfigObject<Sidecar> | undefined;
  /** One service a host: the proxy's own namespace first, then Kubernetes' registry, then the oldest. */
  readonly services: readonly Service[];
  readonly virtualServices: readonly ResolvedVirtualService[];
  readonly outboundMode: "ALLOW_ANY" | "REGISTRY_ONLY";
  serviceByHost(host: string): Service | undefined;
}

export function selectSidecar(
  objects: readonly ConfigObject<Sidecar>[],
  proxy: ProxyNode,
  rootNamespace: string,
): ConfigObject<Sidecar> | undefined {
  const inNamespace = (namespace: string) => objects.filter((object) => object.metadata.namespace === namespace);
  const selects = (object: ConfigObject<Sidecar>) => {
    const labels = object.spec.workloadSelector?.labels ?? {};
    return Object.keys(labels).length > 0 && selectorMatches(labels, proxy.labels);
  };
  const isDefault = (object: ConfigObject<Sidecar>) => Object.keys(object.spec.workloadSelector?.labels ?? {}).length === 0;
  const own = inNamespace(proxy.namespace);
  return own.find(selects) ?? own.find(isDefault) ?? inNamespace(rootNamespace).find(isDefault);
}

interface EgressHost {
  readonly namespace: string;
  readonly host: string;
}

export function buildSidecarScope(
  object: ConfigObject<Sidecar> | undefined,
  proxy: ProxyNode,
  services: readonly Service[],
  virtualServices: VirtualServiceIndex,
  meshOutboundMode: "ALLOW_ANY" | "REGISTRY_ONLY",
): SidecarScope {
  const egress =
    object && object.spec.egress.length > 0 ? object.spec.egress.flatMap((listener) => listener.hosts.map(parseEgressHost)) : undefined;
  const imports = (namespace: string, host: string) =>
    !egress ||
    egress.some(
      (entry) =>
        entry.namespace !== "~" &&
        (entry.namespace === "*" || entry.namespace === namespace || (entry.namespace === "." && namespace === proxy.namespace)) &&
        (entry.host === "*" || hostCovers(entry.host, host) || hostCovers(host, entry.host)),
    );

  const applying = virtualServices
    .forGateway(meshGateway, proxy.namespace)
    .filter((candidate) => candidate.hosts.some((host) => imports(candidate.namespace, host)));

  const chosen = new Map<string, Service>();
  const offer = (service: Service) => {
    const present = chosen.get(service.host);
    if (!present || rank(service, proxy) < rank(present, proxy)) chosen.set(service.host, service);
  };
  const visible = services.filter((service) => isVisible(service.visibility, proxy.namespace));
  for (const service of visible) if (imports(service.namespace, service.host)) offer(service);
  // A VirtualService that applies brings its destinations along, imported or not.
  if (egress) {
    const wanted = new Set(applying.flatMap(destinationHosts));
    for (const service of visible) if (wanted.has(service.host)) offer(service);
  }
  const list = services.filter((service) => chosen.get(service.host) === service);
  return {
    object,
    services: list,
    virtualServices: applying,
    outboundMode:
      object?.spec.outboundTrafficPolicy?.mode === "REGISTRY_ONLY"
        ? "REGISTRY_ONLY"
        : object?.spec.outboundTrafficPolicy
          ? "ALLOW_ANY"
          : meshOutboundMode,
    serviceByHost: (host) => chosen.get(host),
  };
}

function rank(service: Service, proxy: ProxyNode): number {
  if (service.namespace === proxy.namespace) return 0;
  return service.registry === "Kubernetes" ? 1 : 2;
}

function parseEgressHost(text: string): EgressHost {
  const slash = text.indexOf("/");
  return slash < 0 ? { namespace: "*", host: text } : { namespace: text.slice(0, slash), host: text.slice(slash + 1).toLowerCase() };
}

function destinationHosts({ spec }: ResolvedVirtualService): string[] {
  return [
    ...spec.http.flatMap((route) => [
      ...route.route.map((entry) => entry.destination?.host),
      route.mirror?.host,
      ...route.mirrors.map((mirror) => mirror.destination?.host),
    ]),
    ...spec.tcp.flatMap((route) => route.route.map((entry) => entry.destination?.host)),
    ...spec.tls.flatMap((route) => route.route.map((entry) => entry.destination?.host)),
  ].filter((host): host is string => host !== undefined && host !== "");
}

/** The VirtualService in force for a host: an exact one first, else the most specific wildcard; of several the oldest. */
export function virtualServiceFor(host: string, candidates: readonly ResolvedVirtualService[]): ResolvedVirtualService | undefined {
  let best: { readonly candidate: ResolvedVirtualService; readonly length: number } | undefined;
  for (const candidate of candidates) {
    for (const own of candidate.hosts) {
      if (own === host) return candidate;
      if (own.startsWith("*") && hostsMatch(own, host) && hostCovers(own, host) && (!best || own.length > best.length))
        best = { candidate, length: own.length };
    }
  }
  return best?.candidate;
}
