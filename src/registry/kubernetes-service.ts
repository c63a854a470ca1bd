/**
 * Services and endpoints of Kubernetes' objects, which here are records without a cluster behind them: a Service's endpoints
 * are its EndpointSlices, else its Endpoints, else the Pods that it selects; WorkloadEntries that it selects always join.
 */

import type { SliceEndpoint } from "../api/kinds/endpoint-slice.ts";
import type { ConfigObject } from "../api/kinds/object.ts";
import type { Service as KubernetesService } from "../api/kinds/service.ts";
import { parseLocality } from "../api/node.ts";
import type { AllocatedAddresses } from "./allocated-addresses.ts";
import type { ListedEndpoints } from "./listed-endpoints.ts";
import { protocolOfServicePort } from "./protocol.ts";
import type { RegistryOptions } from "./registry.ts";
import { type Endpoint, type HealthStatus, kubernetesHost, type Service, type ServicePort, visibilityOf } from "./service.ts";
import type { Workload, WorkloadIndex } from "./workloads.ts";

export function kubernetesService(
  object: ConfigObject<KubernetesService>,
  options: RegistryOptions,
  allocated: AllocatedAddresses,
): Service {
  const { spec, metadata } = object;
  const exportTo = (metadata.annotations["networking.istio.io/exportTo"] ?? "")
    .split(",")
    .map((entry) => entry.trim())
    .filter(Boolean);
  const hasNoAddress = spec.clusterIP === "None" || spec.clusterIP === "";
  const isAlias = spec.type === "ExternalName";
  const host = kubernetesHost(metadata, options.domain);
  return {
    host,
    namespace: metadata.namespace,
    name: metadata.name,
    registry: "Kubernetes",
    ports: spec.ports.map((port) => ({
      name: port.name || defaultPortName(spec),
      number: port.port,
      protocol: protocolOfServicePort(port),
      targetPort: typeof port.targetPort === "number" ? port.targetPort : port.port,
    })),
    addresses: hasNoAddress || isAlias ? [] : [...new Set([spec.clusterIP, ...spec.clusterIPs])],
    allocatedAddresses: spec.clusterIP === "None" || isAlias ? [] : allocated.of(metadata.namespace, host),
    resolution: isAlias ? "DNS" : spec.clusterIP === "None" ? "NONE" : "STATIC",
    isHeadless: spec.clusterIP === "None",
    publishesNotReady: spec.publishNotReadyAddresses,
    aliasOf: isAlias ? spec.externalName.toLowerCase().replace(/\.$/, "") : "",
    isExternal: isAlias,
    visibility: visibilityOf(exportTo, metadata.namespace, options.defaultServiceExportTo),
    creationTimestamp: metadata.creationTimestamp,
    labels: metadata.labels,
    subjectAltNames: [],
    selector: spec.selector,
  };
}

/** A Service with a single port may leave its name away; endpoints are matched by name, so it needs one here. */
function defaultPortName(spec: KubernetesService): string {
  return spec.ports.length === 1 ? "default" : "";
}

export function kubernetesEndpoints(
  object: ConfigObject<KubernetesService>,
  service: Service,
  endpoints: ListedEndpoints,
  workloads: WorkloadIndex,
): Endpoint[] {
  const { spec, metadata } = object;
  if (spec.type === "ExternalName") {
    return service.ports.map((port) => plainEndpoint(spec.externalName, port.number, port.name, metadata.namespace, metadata.name));
  }
  const selected = workloads.select(metadata.namespace, spec.selector);
  const entries = selected.filter((workload) => workload.kind === "entry");
  const listed = listedEndpoints(object, service, endpoints, workloads);
  const pods = listed ? [] : selected.filter((workload) => workload.kind === "pod");
  return [
    ...(listed ?? []),
    ...service.ports.flatMap((port, index) =>
      [...pods, ...entries].map((workload) => workloadEndpoint(workload, port, spec.ports[index]?.targetPort)),
    ),
  ];
}

/** From EndpointSlices or Endpoints; undefined when there is neither. */
function listedEndpoints(
  object: ConfigObject<KubernetesService>,
  service: Service,
  endpoints: ListedEndpoints,
  workloads: WorkloadIndex,
): Endpoint[] | undefined {
  const { name, namespace } = object.metadata;
  const slices = endpoints.slices(namespace, name);
  const portName = (listedName: string) => (listedName === "" && service.ports.length === 1 ? (service.ports[0]?.name ?? "") : listedName);
  if (slices.length > 0) {
    return slices.flatMap(({ spec }) =>
      spec.ports.flatMap((port) =>
        spec.endpoints.flatMap((endpoint) =>
          endpoint.addresses.map((address) => ({
            ...describeTarget(endpoint.targetRef?.name, namespace, workloads),
            ...namedBy(endpoint.hostname, name),
            address,
            port: port.port,
            portName: portName(port.name),
            locality: parseLocality(endpoint.zone ? `/${endpoint.zone}` : ""),
            health: healthOfConditions(endpoint),
          })),
        ),
      ),
    );
  }
  const table = endpoints.table(namespace, name);
  if (!table) return undefined;
  return table.spec.subsets.flatMap((subset) =>
    subset.ports.flatMap((port) => [
      ...subset.addresses.map((address) => ({
        ...describeTarget(address.targetRef?.name, namespace, workloads),
        ...namedBy(address.hostname, name),
        address: address.ip,
        port: port.port,
        portName: portName(port.name),
      })),
      ...subset.notReadyAddresses.map((address) => ({
        ...describeTarget(address.targetRef?.name, namespace, workloads),
        ...namedBy(address.hostname, name),
        address: address.ip,
        port: port.port,
        portName: portName(port.name),
        health: "unhealthy" as const,
      })),
    ]),
  );
}

/** An endpoint that is listed with a name is called by it below its service. */
function namedBy(hostname: string, serviceName: string): Pick<Endpoint, "podHost"> {
  return hostname === "" ? {} : { podHost: `${hostname}.${serviceName}` };
}

function healthOfConditions({ conditions }: SliceEndpoint): HealthStatus {
  if (conditions?.terminating) return "draining";
  return conditions?.ready === false ? "unhealthy" : "healthy";
}

/** What a listed address is known to be by the pod that it names. */
function describeTarget(
  podName: string | undefined,
  namespace: string,
  workloads: WorkloadIndex,
): Omit<Endpoint, "address" | "port" | "portName"> {
  const pod = podName ? workloads.pod(namespace, podName) : undefined;
  return {
    labels: pod?.labels ?? {},
    locality: pod?.locality ?? { region: "", zone: "", subZone: "" },
    network: pod?.network ?? "",
    weight: 1,
    serviceAccount: pod?.serviceAccount ?? "",
    namespace,
    workloadName: pod?.workloadName ?? podName ?? "",
    health: "healthy",
    tlsMode: pod?.tlsMode ?? "disabled",
    ...(pod?.podHost ? { podHost: pod.podHost } : {}),
  };
}

function workloadEndpoint(workload: Workload, port: ServicePort, targetPort: number | string | undefined): Endpoint {
  const named = typeof targetPort === "string" && targetPort !== "" ? workload.ports[targetPort] : undefined;
  const number = workload.kind === "entry" ? (workload.ports[port.name] ?? named ?? port.targetPort) : (named ?? port.targetPort);
  return {
    ...plainEndpoint(workload.address, number, port.name, workload.namespace, workload.workloadName),
    labels: workload.labels,
    locality: workload.locality,
    network: workload.network,
    weight: workload.weight,
    serviceAccount: workload.serviceAccount,
    health: workload.health,
    tlsMode: workload.tlsMode,
    ...(workload.podHost ? { podHost: workload.podHost } : {}),
  };
}

function plainEndpoint(address: string, port: number, portName: string, namespace: string, workloadName: string): Endpoint {
  return {
    address,
    port,
    portName,
    labels: {},
    locality: { region: "", zone: "", subZone: "" },
    network: "",
    weight: 1,
    serviceAccount: "",
    namespace,
    workloadName,
    health: "healthy",
    tlsMode: "disabled",
  };
}
