/**
 * The labels of Istio's metrics that are the same for all traffic between two workloads for one service, in the order in which Istio's
 * proxy has them. Each side knows itself by its node, and the other by metadata exchange, by its certificate, or, a client, by what the
 * control plane says of the endpoint. Source: Istio's proxy, source/extensions/filters/http/istio_stats/istio_stats.cc.
 */
import type { JsonObject } from "@bufbuild/protobuf";
import { namespaceOf, type Principals } from "./principals.ts";
import type { ServiceLabels } from "./service-labels.ts";
import type { WorkloadPeer } from "./workload-peer.ts";

export type Reporter = "source" | "destination";

/** The proxy's own workload. Here "" is what the metric says. */
export interface OwnWorkload {
  readonly workload: string;
  readonly namespace: string;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  readonly app: string;
  readonly version: string;
  readonly cluster: string;
}

export function ownWorkload(metadata: JsonObject): OwnWorkload {
  const labels = (metadata.LABELS ?? {}) as JsonObject;
  const text = (value: unknown) => (typeof value === "string" ? value : "");
  return {
    workload: text(metadata.WORKLOAD_NAME),
    namespace: text(metadata.NAMESPACE),
    canonicalName: text(labels["service.istio.io/canonical-name"]),
    canonicalRevision: text(labels["service.istio.io/canonical-revision"]),
    app: text(labels.app),
    version: text(labels.version),
    cluster: text(metadata.CLUSTER_ID),
  };
}

export interface TrafficParties {
  readonly service: ServiceLabels;
  readonly peer: WorkloadPeer | null;
  readonly principals: Principals;
}

const unknown = "unknown";
/** What outsiders name is cut there. */
const maxValueLength = 256;

function or(value: string | undefined, otherwise: string): string {
  if (!value) return otherwise;
  return value.length > maxValueLength ? value.slice(0, maxValueLength) : value;
}

/** Name, value, name, value ... */
export function trafficLabels(reporter: Reporter, own: OwnWorkload, parties: TrafficParties): string[] {
  return ["reporter", reporter, ...(reporter === "source" ? ofClient(own, parties) : ofServer(own, parties))];
}

function ofClient(own: OwnWorkload, { service, peer, principals }: TrafficParties): string[] {
  const peerPrincipal = principals.peer || peer?.identity || "";
  const peerNamespace = namespaceOf(peerPrincipal) || (peer?.namespace ?? "");
  return [
    ...["source_workload", own.workload],
    ...["source_canonical_service", own.canonicalName],
    ...["source_canonical_revision", own.canonicalRevision],
    ...["source_workload_namespace", own.namespace],
    ...["source_principal", or(principals.local, unknown)],
    ...["source_app", own.app],
    ...["source_version", own.version],
    ...["source_cluster", own.cluster],
    ...["destination_workload", or(peer?.workload, unknown)],
    ...["destination_workload_namespace", or(peerNamespace, unknown)],
    ...["destination_principal", or(peerPrincipal, unknown)],
    ...["destination_app", or(peer?.app, unknown)],
    ...["destination_version", or(peer?.version, unknown)],
    ...["destination_service", or(service.host, unknown)],
    ...["destination_canonical_service", or(peer?.canonicalName, unknown)],
    ...["destination_canonical_revision", or(peer?.canonicalRevision, "latest")],
    ...["destination_service_name", or(service.name, unknown)],
    ...["destination_service_namespace", or(service.namespace || peerNamespace, unknown)],
    ...["destination_cluster", or(peer?.cluster, unknown)],
  ];
}

function ofServer(own: OwnWorkload, { service, peer, principals }: TrafficParties): string[] {
  return [
    ...["source_workload", or(peer?.workload, unknown)],
    ...["source_canonical_service", or(peer?.canonicalName, unknown)],
    ...["source_canonical_revision", or(peer?.canonicalRevision, "latest")],
    ...["source_workload_namespace", or(namespaceOf(principals.peer) || peer?.namespace, unknown)],
    ...["source_principal", or(principals.peer, unknown)],
    ...["source_app", or(peer?.app, unknown)],
    ...["source_version", or(peer?.version, unknown)],
    ...["source_cluster", or(peer?.cluster, unknown)],
    ...["destination_workload", own.workload],
    ...["destination_workload_namespace", own.namespace],
    ...["destination_principal", or(principals.local, unknown)],
    ...["destination_app", own.app],
    ...["destination_version", own.version],
    ...["destination_service", or(service.host, own.canonicalName)],
    ...["destination_canonical_service", own.canonicalName],
    ...["destination_canonical_revision", own.canonicalRevision],
    ...["destination_service_name", or(service.name, own.canonicalName)],
    ...["destination_service_namespace", own.namespace],
    ...["destination_cluster", own.cluster],
  ];
}

/** Of the connection's security as the reporter can know it: a client can't. */
export function securityPolicyOf(reporter: Reporter, { peer, local }: Principals): string {
  if (reporter === "source") return unknown;
  return peer !== "" && local !== "" ? "mutual_tls" : "none";
}
