import { fromJson } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { hostFlags } from "../health/host-flags.ts";
import type { MonitoredHost } from "../health/monitored-host.ts";
import { membershipOf, noMembers } from "./membership.ts";

function assignment(...hosts: readonly [port: number, health: string, weight?: number][]) {
  const lb_endpoints = hosts.map(([port, health_status, load_balancing_weight]) => ({
    endpoint: { address: { socket_address: { address: "10.0.0.1", port_value: port } } },
    health_status,
    ...(load_balancing_weight && { load_balancing_weight }),
  }));
  return fromJson(ClusterLoadAssignmentSchema, { cluster_name: "c", endpoints: [{ lb_endpoints }] });
}

describe("membershipOf", () => {
  it("counts hosts as discovery says they are", () => {
    const hosts = assignment([1, "HEALTHY", 3], [2, "UNKNOWN"], [3, "DEGRADED"], [4, "UNHEALTHY"], [5, "DRAINING"]);
    expect(membershipOf(hosts)).toEqual({ total: 5, healthy: 2, degraded: 1, excluded: 1, maxWeight: 3 });
    expect(membershipOf(assignment())).toEqual(noMembers);
  });

  it("counts an address that is named twice once, as it was named last", () => {
    expect(membershipOf(assignment([1, "HEALTHY", 9], [1, "UNHEALTHY", 2]))).toMatchObject({ total: 1, healthy: 0, maxWeight: 2 });
  });

  it("adds what else is known of hosts", () => {
    const ejected = { flags: hostFlags.failedOutlierCheck } as MonitoredHost;
    const hosts = assignment([1, "HEALTHY"], [2, "HEALTHY"]);
    expect(membershipOf(hosts, new Map([["10.0.0.1:2", ejected]]))).toMatchObject({ total: 2, healthy: 1 });
  });
});
