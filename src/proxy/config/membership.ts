/** How many hosts a cluster has, and how they are: what /stats shows of its endpoints. */
import type { ClusterLoadAssignment } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { endpointsOf } from "../health/cluster-health.ts";
import { endpointAddress } from "../health/endpoint-address.ts";
import { edsFlags, healthOf, isExcluded } from "../health/host-flags.ts";
import type { MonitoredHost } from "../health/monitored-host.ts";
import { hostKey } from "../upstream/host.ts";

export interface Membership {
  readonly total: number;
  readonly healthy: number;
  readonly degraded: number;
  readonly excluded: number;
  /** 0 without hosts. */
  readonly maxWeight: number;
}

export const noMembers: Membership = { total: 0, healthy: 0, degraded: 0, excluded: 0, maxWeight: 0 };

/** `monitored`: what else is known of hosts than discovery says. An address that is named twice is one host, as it was named last. */
export function membershipOf(assignment: ClusterLoadAssignment, monitored?: ReadonlyMap<string, MonitoredHost>): Membership {
  const hosts = new Map<string, { readonly flags: number; readonly weight: number }>();
  for (const locality of assignment.endpoints) {
    for (const endpoint of endpointsOf(locality)) {
      const place = endpointAddress(endpoint);
      if (place === undefined) continue;
      const key = hostKey(place.address, place.port);
      const flags = edsFlags(endpoint.healthStatus) | (monitored?.get(key)?.flags ?? 0);
      hosts.set(key, { flags, weight: endpoint.loadBalancingWeight || 1 });
    }
  }
  let [healthy, degraded, excluded, maxWeight] = [0, 0, 0, 0];
  for (const { flags, weight } of hosts.values()) {
    const health = healthOf(flags);
    if (health === "healthy") healthy++;
    else if (health === "degraded") degraded++;
    if (isExcluded(flags)) excluded++;
    maxWeight = Math.max(maxWeight, weight);
  }
  return { total: hosts.size, healthy, degraded, excluded, maxWeight };
}
