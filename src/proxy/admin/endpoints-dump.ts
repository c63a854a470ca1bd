/** The endpoints in force, as /config_dump?include_eds shows them: with their health, and weights where none was given. */
import type { JsonObject } from "@bufbuild/protobuf";
import { writeJson } from "../../api/envoy/write-json.ts";
import { HealthStatus } from "../../api/gen/envoy/config/core/v3/health_check_pb.js";
import {
  type LbEndpoint,
  LbEndpointSchema,
  type LocalityLbEndpoints,
} from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { decodeCluster } from "../config/cluster-record.ts";
import type { ProxyServer } from "../server.ts";
import { LazyList } from "./json-pieces.ts";

export function endpointsDump(server: ProxyServer, passes: (name: string) => boolean) {
  return {
    "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump",
    static_endpoint_configs: new LazyList(endpointConfigs(server, passes, false)),
    dynamic_endpoint_configs: new LazyList(endpointConfigs(server, passes, true)),
  };
}

/** Of clusters by EDS, or of all others. */
function* endpointConfigs(server: ProxyServer, passes: (name: string) => boolean, ofEds: boolean): Generator<JsonObject, void> {
  for (const { record, assignment } of server.clusters.assignments()) {
    const { edsClusterConfig } = decodeCluster(record);
    const isEds = edsClusterConfig !== undefined;
    const name = (isEds && edsClusterConfig.serviceName) || record.name;
    if (isEds === ofEds && passes(name)) yield { endpoint_config: assignmentJson(name, assignment()) };
  }
}

function assignmentJson(name: string, assignment: ClusterLoadAssignment): JsonObject {
  const localities = assignment.endpoints.filter(({ lbEndpoints }) => lbEndpoints.length > 0);
  return {
    "@type": `type.googleapis.com/${ClusterLoadAssignmentSchema.typeName}`,
    cluster_name: name,
    ...(localities.length > 0 && { endpoints: localities.map(localityJson) }),
    policy: { overprovisioning_factor: assignment.policy?.overprovisioningFactor ?? 140 },
  };
}

function localityJson(locality: LocalityLbEndpoints): JsonObject {
  const { region = "", zone = "", subZone = "" } = locality.locality ?? {};
  return {
    locality: { ...(region !== "" && { region }), ...(zone !== "" && { zone }), ...(subZone !== "" && { sub_zone: subZone }) },
    lb_endpoints: locality.lbEndpoints.map(endpointJson),
    load_balancing_weight: locality.loadBalancingWeight ?? 0,
    ...(locality.priority > 0 && { priority: locality.priority }),
  };
}

function endpointJson(lbEndpoint: LbEndpoint): JsonObject {
  const { endpoint, metadata } = writeJson(LbEndpointSchema, lbEndpoint);
  const { address, hostname } = (endpoint ?? {}) as JsonObject;
  const health = lbEndpoint.healthStatus === HealthStatus.UNKNOWN ? HealthStatus.HEALTHY : lbEndpoint.healthStatus;
  return {
    endpoint: { ...(address !== undefined && { address }), health_check_config: {}, ...(hostname !== undefined && { hostname }) },
    health_status: HealthStatus[health]!,
    ...(metadata !== undefined && { metadata }),
    load_balancing_weight: lbEndpoint.loadBalancingWeight ?? 1,
  };
}
