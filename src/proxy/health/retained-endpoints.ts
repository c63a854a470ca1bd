/** Endpoints that discovery does not name any more, in the places that they had. */
import { clone, create } from "@bufbuild/protobuf";
import { type LocalityLbEndpoints, LocalityLbEndpointsSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { MonitoredHost } from "./monitored-host.ts";

/** The assignment itself where there are none. */
export function withRetained(assignment: ClusterLoadAssignment, retained: readonly MonitoredHost[]): ClusterLoadAssignment {
  if (retained.length === 0) return assignment;
  const whole = clone(ClusterLoadAssignmentSchema, assignment);
  for (const { endpoint, locality } of retained) {
    let group = whole.endpoints.find((candidate) => placeOf(candidate) === placeOf(locality));
    if (group === undefined) {
      group = create(LocalityLbEndpointsSchema, {
        priority: locality.priority,
        ...(locality.locality && { locality: locality.locality }),
        ...(locality.loadBalancingWeight !== undefined && { loadBalancingWeight: locality.loadBalancingWeight }),
      });
      whole.endpoints.push(group);
    }
    (group.lbConfig.case === "loadBalancerEndpoints" ? group.lbConfig.value.lbEndpoints : group.lbEndpoints).push(endpoint);
  }
  return whole;
}

function placeOf({ priority, locality }: LocalityLbEndpoints): string {
  return [priority, locality?.region, locality?.zone, locality?.subZone].join("/");
}
