/** A cluster's endpoints as discovery has said them, encoded: all threads can read them, and nobody has to until somebody asks. */
import { isIP } from "node:net";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ConfigError } from "../../api/config-error.ts";
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { isDns } from "./cluster-record.ts";
import { checkDnsCluster } from "./dns-endpoints.ts";
import { type Membership, membershipOf, noMembers } from "./membership.ts";
import type { NamedResource } from "./named-resources.ts";

export interface KnownEndpoints {
  readonly bytes: Uint8Array;
  readonly membership: Membership;
}

export function knownEndpoints(assignment: ClusterLoadAssignment): KnownEndpoints {
  return { bytes: toBinary(ClusterLoadAssignmentSchema, assignment), membership: membershipOf(assignment) };
}

export function endpointsOfResource(resource: NamedResource<ClusterLoadAssignment, Membership> | undefined): KnownEndpoints | undefined {
  return resource && { bytes: resource.bytes, membership: resource.kept ?? noMembers };
}

export function decodeAssignment({ bytes }: KnownEndpoints): ClusterLoadAssignment {
  return fromBinary(ClusterLoadAssignmentSchema, bytes);
}

export function emptyAssignment(name: string): ClusterLoadAssignment {
  return create(ClusterLoadAssignmentSchema, { clusterName: name });
}

/** Throws ConfigError for a host name where an address is needed, and for what can't be resolved. */
export function checkStaticAssignment(cluster: Cluster): void {
  if (isDns(cluster)) checkDnsCluster(cluster);
  else if (cluster.loadAssignment) validateAssignment(cluster.loadAssignment);
}

/** Only clusters of a DNS type may name hosts; everything else needs addresses. */
export function validateAssignment(assignment: ClusterLoadAssignment): void {
  for (const { lbEndpoints } of assignment.endpoints) {
    for (const { hostIdentifier } of lbEndpoints) {
      const address = hostIdentifier.case === "endpoint" ? hostIdentifier.value.address?.address : undefined;
      if (address?.case === "socketAddress" && isIP(address.value.address) === 0) {
        throw new ConfigError(
          `malformed IP address: ${address.value.address}. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'`,
        );
      }
    }
  }
}
