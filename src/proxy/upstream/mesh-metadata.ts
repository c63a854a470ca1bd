/** What the control plane of a mesh says of a cluster, in its metadata `istio`. Source: Istio pilot/pkg/networking/core/cluster_builder.go. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { ServiceLabels } from "../telemetry/service-labels.ts";

export interface MeshMetadata {
  /** Its own name where it takes whatever has no other destination; else "". */
  readonly catchAll: string;
  /** The service that it leads to; the first where there are several. */
  readonly service: ServiceLabels | null;
  /** Its endpoints are none of the mesh. */
  readonly isExternal: boolean;
  readonly refusesExchange: boolean;
  /** ALPN is not to be changed for it. */
  readonly keepsAlpn: boolean;
}

const catchAllClusters = new Set([
  "BlackHoleCluster",
  "PassthroughCluster",
  "InboundPassthroughCluster",
  "InboundPassthroughClusterIpv4",
  "InboundPassthroughClusterIpv6",
]);

export function compileMeshMetadata({ name, metadata }: Pick<Cluster, "name" | "metadata">): MeshMetadata {
  const fields: JsonObject = metadata?.filterMetadata.istio ?? {};
  return {
    catchAll: catchAllClusters.has(name) ? name : "",
    service: serviceOf(fields.services),
    isExternal: fields.external === true,
    refusesExchange: fields.disable_mx === true,
    keepsAlpn: fields.alpn_override === "false",
  };
}

function serviceOf(services: JsonValue | undefined): ServiceLabels | null {
  const [first] = Array.isArray(services) ? services : [];
  if (typeof first !== "object" || first === null || Array.isArray(first)) return null;
  const host = text(first.host);
  return { host, name: first.name === undefined ? host.split(".", 1)[0]! : text(first.name), namespace: text(first.namespace) };
}

function text(value: JsonValue | undefined): string {
  return typeof value === "string" ? value : "";
}
