/**
 * ClusterLoadAssignments: the endpoints of a cluster by locality, with weights, health and, where failover is on, priorities.
 * Source: Istio pilot/pkg/xds/endpoints/endpoint_builder.go, pilot/pkg/networking/core/loadbalancer.
 */
import { create } from "@bufbuild/protobuf";
import { type EncodedResource, encodeResource } from "../../ads/resource.ts";
import { isSniCluster, parseClusterName } from "../../api/cluster-name.ts";
import { HealthStatus } from "../../api/gen/envoy/config/core/v3/health_check_pb.js";
import {
  type LbEndpoint,
  LbEndpointSchema,
  type LocalityLbEndpoints,
  LocalityLbEndpointsSchema,
} from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { ClientTLSSettingsMode } from "../../api/kinds/destination-rule.ts";
import { formatLocality, type ProxyNode } from "../../api/node.ts";
import { typeUrls } from "../../api/type-urls.ts";
import { type Endpoint, type Service, selectorMatches } from "../../registry/service.ts";
import { policyForSubset } from "../push/destination-rules.ts";
import type { PushContext } from "../push/push-context.ts";
import { takesMutualTls } from "../push/service-mutual-tls.ts";
import { localitySettings, prioritize } from "./locality.ts";
import { endpointAddress, istioMetadata } from "./messages.ts";
import { networkViewKey, splitHorizon } from "./split-horizon.ts";
import { mutualTlsMatch, socketMatchNamespace } from "./upstream-tls.ts";

/** Of an EDS cluster by name. A cluster that no longer exists has no endpoints, and says so. */
export function loadAssignment(clusterName: string, proxy: ProxyNode, push: PushContext): EncodedResource {
  const shared = push.sharedAssignments(proxy);
  const ready = shared.get(clusterName);
  if (ready) return ready;
  const { assignment, dependsOnPlace } = makeAssignment(clusterName, proxy, push);
  if (!dependsOnPlace) shared.set(clusterName, assignment);
  return assignment;
}

interface MadeAssignment {
  readonly assignment: EncodedResource;
  /** Priorities and weights are the proxy's own. */
  readonly dependsOnPlace: boolean;
}

function makeAssignment(clusterName: string, proxy: ProxyNode, push: PushContext): MadeAssignment {
  const name = parseClusterName(clusterName);
  const service = name && push.sidecarScope(proxy).serviceByHost(name.host);
  const port = name && service?.ports.find((candidate) => candidate.number === name.port);
  if (!name || !service || !port)
    return {
      assignment: encodeResource(clusterName, ClusterLoadAssignmentSchema, create(ClusterLoadAssignmentSchema, { clusterName })),
      dependsOnPlace: false,
    };

  const rule = push.destinationRules.forService(proxy, service);
  const subset = rule?.spec.subsets.find((candidate) => candidate.name === name.subset);
  const policy = policyForSubset(rule?.spec.trafficPolicy, subset?.trafficPolicy, name.port);
  const locality = localitySettings(policy, push.mesh);
  // All that the bytes depend on: proxies that agree in it share them.
  const network = networkViewKey(proxy, push);
  const variant = `${service.namespace}|${network}|${rule ? `${rule.namespace}/${rule.name}` : ""}|${locality ? `${formatLocality(proxy.locality)}|${JSON.stringify(proxy.labels)}` : ""}`;
  const known = push.encoded.get(typeUrls.eds, clusterName, variant);
  const dependsOnPlace = locality !== undefined || network !== "";
  if (known) return { assignment: known, dependsOnPlace };

  const isKnownSubset = name.subset === "" || subset !== undefined;
  const chosen = { service, portName: port.name, labels: subset?.labels ?? {}, tlsMode: policy?.tls?.mode };
  const all = isKnownSubset ? chooseEndpoints({ ...chosen, onlyMutualTls: isSniCluster(clusterName) }, push) : [];
  const endpoints = splitHorizon(all, proxy, push);
  const groups = localityGroups(
    // A name can't be an EDS address.
    endpoints.filter((endpoint) => isAddress(endpoint.address)),
    policy?.outlierDetection?.minHealthPercent ? "healthyOnly" : "all",
  );
  const message = create(ClusterLoadAssignmentSchema, {
    clusterName,
    endpoints: locality ? prioritize(groups, locality, proxy) : groups.map(({ message }) => message),
  });
  const encoded = encodeResource(clusterName, ClusterLoadAssignmentSchema, message);
  push.encoded.set(encoded, variant);
  return { assignment: encoded, dependsOnPlace };
}

export interface EndpointChoice {
  readonly service: Service;
  readonly portName: string;
  /** Of the subset. */
  readonly labels: Readonly<Record<string, string>>;
  /** What a DestinationRule says of TLS; undefined: nothing. */
  readonly tlsMode: ClientTLSSettingsMode | undefined;
  /** Of a gateway that can't look into what it passes on: whatever it leads to has to ask for a certificate itself. */
  readonly onlyMutualTls: boolean;
}

/** `tlsMode` of the chosen ones says whether this client uses mutual TLS. */
function chooseEndpoints({ service, portName, labels, tlsMode, onlyMutualTls }: EndpointChoice, push: PushContext): readonly Endpoint[] {
  const chosen = push.registry
    .endpoints(service)
    .filter((endpoint) => endpoint.portName === portName && selectorMatches(labels, endpoint.labels))
    .map((endpoint): Endpoint => {
      const used = takesMutualTls(endpoint, tlsMode, push) ? "istio" : "disabled";
      return used === endpoint.tlsMode ? endpoint : { ...endpoint, tlsMode: used };
    });
  return onlyMutualTls ? chosen.filter((endpoint) => endpoint.tlsMode === "istio") : chosen;
}

/** Inline, for DNS clusters; undefined when there is nobody. */
export function inlineLoadAssignment(clusterName: string, choice: EndpointChoice, push: PushContext): ClusterLoadAssignment | undefined {
  let endpoints = chooseEndpoints(choice, push);
  if (choice.service.resolution === "DNS_ROUND_ROBIN") endpoints = endpoints.slice(0, 1);
  if (endpoints.length === 0) return undefined;
  return create(ClusterLoadAssignmentSchema, { clusterName, endpoints: localityGroups(endpoints, "all").map(({ message }) => message) });
}

export interface LocalityGroup {
  readonly endpoints: readonly Endpoint[];
  readonly message: LocalityLbEndpoints;
}

/** One group a locality, sorted by its name; the weight of a locality is the sum of its members'. */
function localityGroups(endpoints: readonly Endpoint[], health: "all" | "healthyOnly"): LocalityGroup[] {
  const byLocality = new Map<string, Endpoint[]>();
  for (const endpoint of endpoints) {
    if (endpoint.health === "draining" || endpoint.health === "withheld") continue;
    if (endpoint.health === "unhealthy" && health === "healthyOnly") continue;
    const key = formatLocality(endpoint.locality);
    const list = byLocality.get(key);
    if (list) list.push(endpoint);
    else byLocality.set(key, [endpoint]);
  }
  return [...byLocality.keys()].sort().map((key) => {
    const members = byLocality.get(key)!;
    return { endpoints: members, message: localityMessage(members) };
  });
}

export function localityMessage(members: readonly Endpoint[], priority = 0): LocalityLbEndpoints {
  const { region, zone, subZone } = members[0]!.locality;
  return create(LocalityLbEndpointsSchema, {
    locality: { region, zone, subZone },
    lbEndpoints: members.map(lbEndpoint),
    loadBalancingWeight: members.reduce((sum, member) => sum + member.weight, 0),
    priority,
  });
}

function lbEndpoint(endpoint: Endpoint): LbEndpoint {
  const canonicalName =
    endpoint.labels["service.istio.io/canonical-name"] ??
    endpoint.labels["app.kubernetes.io/name"] ??
    endpoint.labels.app ??
    endpoint.workloadName;
  const revision =
    endpoint.labels["service.istio.io/canonical-revision"] ?? endpoint.labels["app.kubernetes.io/version"] ?? endpoint.labels.version ?? "";
  const workload = [endpoint.workloadName, endpoint.namespace, canonicalName, revision === "latest" ? "" : revision, "Kubernetes"].join(
    ";",
  );
  const metadata = istioMetadata({ workload });
  if (endpoint.tlsMode === "istio") metadata.filterMetadata[socketMatchNamespace] = mutualTlsMatch;
  return create(LbEndpointSchema, {
    hostIdentifier: {
      case: "endpoint",
      value: {
        $typeName: "envoy.config.endpoint.v3.Endpoint",
        address: endpointAddress(endpoint.address, endpoint.port),
        hostname: "",
        additionalAddresses: [],
      },
    },
    healthStatus: endpoint.health === "unhealthy" ? HealthStatus.UNHEALTHY : HealthStatus.UNKNOWN,
    metadata,
    loadBalancingWeight: endpoint.weight,
  });
}

function isAddress(text: string): boolean {
  return text.startsWith("unix://") || /^[\d.]+$/.test(text) || text.includes(":");
}
