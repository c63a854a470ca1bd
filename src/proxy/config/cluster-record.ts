/** What is kept of clusters, and shown of them. */
import { fromBinary } from "@bufbuild/protobuf";
import { type Cluster, Cluster_DiscoveryType, ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { ClusterLoadAssignment } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { ClusterHealth } from "../health/cluster-health.ts";

/** What is kept of a cluster: its bytes, which all threads can read. As a message it takes ten times the memory. */
export interface ClusterRecord {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly version: string;
  readonly updatedAt: Date;
  readonly isStatic: boolean;
}

export function decodeCluster({ bytes }: ClusterRecord): Cluster {
  return fromBinary(ClusterSchema, bytes);
}

export interface RejectedRecord {
  readonly name: string;
  readonly details: string;
  readonly version: string;
  readonly attemptedAt: Date;
}

/** An active cluster with the endpoints in force. */
export interface ClusterView {
  readonly record: ClusterRecord;
  readonly version: string;
  readonly health: ClusterHealth | undefined;
  readonly assignment: () => ClusterLoadAssignment;
}

export function isEds(cluster: Cluster): boolean {
  return cluster.clusterDiscoveryType.case === "type" && cluster.clusterDiscoveryType.value === Cluster_DiscoveryType.EDS;
}

export function isDns(cluster: Cluster): boolean {
  const type = cluster.clusterDiscoveryType;
  return type.case === "type" && (type.value === Cluster_DiscoveryType.STRICT_DNS || type.value === Cluster_DiscoveryType.LOGICAL_DNS);
}
