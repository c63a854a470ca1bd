/** Services and endpoints of a ServiceEntry. Source: Istio pilot/pkg/serviceregistry/serviceentry/conversion.go. */
import type { ConfigObject } from "../api/kinds/object.ts";
import type { ServiceEntry } from "../api/kinds/service-entry.ts";
import { type AllocatedAddresses, hostsWithoutAddress } from "./allocated-addresses.ts";
import { parseProtocol } from "./protocol.ts";
import type { RegistryOptions } from "./registry.ts";
import { type Endpoint, type Service, type ServicePort, visibilityOf } from "./service.ts";
import { type Workload, type WorkloadIndex, workloadOfEntry } from "./workloads.ts";

/** One service for each host of the entry. */
export function serviceEntryServices(
  object: ConfigObject<ServiceEntry>,
  options: RegistryOptions,
  allocated: AllocatedAddresses,
): Service[] {
  const { spec, metadata } = object;
  const ports: ServicePort[] = spec.ports.map((port) => ({
    name: port.name,
    number: port.number,
    protocol: parseProtocol(port.protocol),
    targetPort: port.targetPort || port.number,
  }));
  const addresses = spec.addresses.map((address) =>
    address.replace(/\/(32|128)$/, (suffix) => (address.includes(":") === (suffix === "/128") ? "" : suffix)),
  );
  return spec.hosts.map((host) => ({
    host: host.toLowerCase(),
    namespace: metadata.namespace,
    name: metadata.name,
    registry: "External",
    ports,
    addresses,
    allocatedAddresses: hostsWithoutAddress(object).includes(host.toLowerCase())
      ? allocated.of(metadata.namespace, host.toLowerCase())
      : [],
    resolution: spec.resolution,
    isHeadless: false,
    publishesNotReady: false,
    aliasOf: "",
    isExternal: spec.location === "MESH_EXTERNAL",
    visibility: visibilityOf(spec.exportTo, metadata.namespace, options.defaultServiceExportTo),
    creationTimestamp: metadata.creationTimestamp,
    labels: metadata.labels,
    subjectAltNames: spec.subjectAltNames,
    selector: spec.workloadSelector?.labels ?? {},
  }));
}

export function serviceEntryEndpoints(object: ConfigObject<ServiceEntry>, service: Service, workloads: WorkloadIndex): Endpoint[] {
  const { spec } = object;
  if (spec.resolution === "DYNAMIC_DNS") return [];
  const members = spec.workloadSelector
    ? workloads.select(object.metadata.namespace, spec.workloadSelector.labels)
    : spec.endpoints.map((endpoint, index) => workloadOfEntry(endpoint, object, index));
  const isDns = spec.resolution === "DNS" || spec.resolution === "DNS_ROUND_ROBIN";
  // A DNS service that lists no endpoints is its own endpoint.
  if (members.length === 0 && isDns && !spec.workloadSelector) {
    return service.ports.map((port) => endpointAt(service.host, port, port.targetPort, undefined, object));
  }
  return service.ports.flatMap((port) =>
    members
      .filter((member) => member.address !== "")
      .map((member) => endpointAt(member.address, port, endpointPort(member, port), member, object)),
  );
}

/** unix path 0, then the workload's own port of that name, then the entry's targetPort, then the port itself. */
function endpointPort(member: Workload, port: ServicePort): number {
  if (member.address.startsWith("unix://")) return 0;
  return member.ports[port.name] ?? port.targetPort;
}

function endpointAt(address: string, port: ServicePort, number: number, member: Workload | undefined, object: ConfigObject): Endpoint {
  return {
    address,
    port: number,
    portName: port.name,
    labels: member?.labels ?? {},
    locality: member?.locality ?? { region: "", zone: "", subZone: "" },
    network: member?.network ?? "",
    weight: member?.weight ?? 1,
    serviceAccount: member?.serviceAccount ?? "",
    namespace: object.metadata.namespace,
    workloadName: member?.workloadName ?? object.metadata.name,
    health: member?.health ?? "healthy",
    tlsMode: member?.tlsMode ?? "disabled",
  };
}
