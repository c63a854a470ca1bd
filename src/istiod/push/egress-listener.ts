/**
 * One egress listener of a Sidecar, or the implicit one that imports everything: what it makes visible, and where it listens.
 *
 * With a port it stands for that port alone: services that have it, trimmed to it. A port that is an HTTP proxy (`HTTP_PROXY`) or a Unix
 * socket stands for all ports instead. Without a port it stands for all that earlier listeners left over.
 * Source: Istio pilot/pkg/model/sidecar.go (IstioEgressListenerWrapper).
 */
import { hostCovers } from "../../api/hostname.ts";
import type { IstioEgressListener } from "../../api/kinds/sidecar.ts";
import { parseProtocol } from "../../registry/protocol.ts";
import { type Service, type ServicePort, trimmedTo } from "../../registry/service.ts";
import { EgressHosts } from "./egress-hosts.ts";
import type { ResolvedVirtualService } from "./virtual-services.ts";

export class EgressListener {
  /** Undefined: the services' own ports. Number 0: a Unix socket. */
  readonly port: ServicePort | undefined;
  /** An address or `unix:///path`; "" when the Sidecar doesn't say. */
  readonly bind: string;
  /** Traffic is not redirected here: the listener takes its port itself. */
  readonly capturesNothing: boolean;
  /** One a host, oldest first. */
  readonly services: readonly Service[];
  /** Oldest first. */
  readonly virtualServices: readonly ResolvedVirtualService[];
  readonly #exact = new Map<string, ResolvedVirtualService>();
  /** Longest first, of those with the same host the oldest. */
  readonly #wild: { readonly host: string; readonly virtualService: ResolvedVirtualService }[] = [];

  /** `visible`: services that the namespace may see; `applying`: VirtualServices of sidecars in it. Both oldest first. */
  constructor(
    listener: IstioEgressListener | undefined,
    namespace: string,
    visible: readonly Service[],
    applying: readonly ResolvedVirtualService[],
  ) {
    const { port } = listener ?? {};
    this.port = port && { name: port.name, number: port.number, targetPort: port.number, protocol: parseProtocol(port.protocol) };
    this.bind = listener?.bind ?? "";
    this.capturesNothing = listener?.captureMode === "NONE" || this.bind.startsWith("unix://");
    const hosts = listener && new EgressHosts(listener.hosts, namespace);
    const imported = visible.flatMap((service) =>
      !hosts || hosts.importsService(service.host, service.namespace) ? (this.#onPort(service) ?? []) : [],
    );
    this.services = onePerHost(imported, namespace);
    this.virtualServices = hosts ? applying.filter((one) => hosts.importsVirtualService(one.hosts, one.namespace)) : applying;
    for (const virtualService of this.virtualServices) {
      for (const host of virtualService.hosts) {
        if (host.startsWith("*")) this.#wild.push({ host, virtualService });
        else if (!this.#exact.has(host)) this.#exact.set(host, virtualService);
      }
    }
    this.#wild.sort((a, b) => b.host.length - a.host.length);
  }

  /** Stands for all ports of its services, which requests tell apart by their Host. */
  get takesAnyPort(): boolean {
    return this.port !== undefined && (this.port.number === 0 || this.port.protocol === "HTTP_PROXY");
  }

  /** The VirtualService in force for a host: that of its exact name, else of the most specific wildcard; of several the oldest. */
  virtualServiceFor(host: string): ResolvedVirtualService | undefined {
    return this.#exact.get(host) ?? this.#wild.find((entry) => hostCovers(entry.host, host))?.virtualService;
  }

  /**
   * Services that its VirtualServices lead to, imported or not, trimmed to the ports that they name. `lookUp` chooses among the
   * services of a host.
   */
  destinations(lookUp: (host: string) => Service | undefined, namespace: string): Service[] {
    return this.virtualServices.flatMap((virtualService) =>
      [...destinationPorts(virtualService, namespace)].flatMap(([host, ports]) => {
        const service = lookUp(host);
        if (!service) return [];
        if (this.port && !this.takesAnyPort) return this.#onPort(service) ?? [];
        return (ports.has(0) ? service : trimmedTo(service, (port) => ports.has(port.number))) ?? [];
      }),
    );
  }

  #onPort(service: Service): Service | undefined {
    const { port } = this;
    if (!port || this.takesAnyPort) return service;
    return trimmedTo(service, (candidate) => candidate.number === port.number);
  }
}

/** Of a host that several namespaces have: the own namespace's, else Kubernetes' registry's, else the oldest. */
function onePerHost(services: readonly Service[], namespace: string): Service[] {
  const rank = (service: Service) => (service.namespace === namespace ? 0 : service.registry === "Kubernetes" ? 1 : 2);
  const chosen = new Map<string, Service>();
  for (const service of services) {
    const present = chosen.get(service.host);
    if (!present || rank(service) < rank(present)) chosen.set(service.host, service);
  }
  return chosen.size === services.length ? [...services] : services.filter((service) => chosen.get(service.host) === service);
}

/** Host to ports that routes of the VirtualService name; 0 stands for a destination without port. */
function destinationPorts({ spec }: ResolvedVirtualService, namespace: string): Map<string, Set<number>> {
  const http = spec.http.filter(
    ({ match }) =>
      match.every(({ sourceNamespace }) => sourceNamespace === "") || match.some(({ sourceNamespace }) => sourceNamespace === namespace),
  );
  const destinations = [
    ...http.flatMap(({ route, mirror, mirrors }) => [
      ...route.map(({ destination }) => destination),
      mirror,
      ...mirrors.map(({ destination }) => destination),
    ]),
    ...[...spec.tcp, ...spec.tls].flatMap(({ route }) => route.map(({ destination }) => destination)),
  ];
  const ports = new Map<string, Set<number>>();
  for (const destination of destinations) {
    if (!destination?.host) continue;
    const known = ports.get(destination.host) ?? new Set();
    ports.set(destination.host, known.add(destination.port?.number ?? 0));
  }
  return ports;
}
