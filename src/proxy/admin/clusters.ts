/** Clusters and their endpoints, with what the workers count of each endpoint. */

import { type JsonObject, toJson } from "@bufbuild/protobuf";
import { RE2JS } from "re2js";
import { jsonText } from "../../api/envoy/write-json.ts";
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { AddressSchema, type SocketAddress } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import { RoutingPriority } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { HealthStatus } from "../../api/gen/envoy/config/core/v3/health_check_pb.js";
import type { LbEndpoint, LocalityLbEndpoints } from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import type { ProxyServer } from "../server.ts";
import { hostKey } from "../upstream/host.ts";
import type { AdminHandler } from "./admin-handler.ts";
import { regexReason } from "./stats.ts";

export const clusters: AdminHandler = {
  path: "/clusters",
  help: "upstream cluster status",
  params: [
    ["filter", "Regular expression (Google re2) for filtering clusters by name"],
    ["format", "Format to use; One of (text, json)"],
  ],
  handle(server, { query }) {
    let passes = (_name: string) => true;
    const filter = query.get("filter");
    if (filter) {
      try {
        const regex = RE2JS.compile(filter);
        passes = (name) => regex.matcher(name).find();
      } catch (error) {
        return { status: 400, body: `Invalid re2 regex: ${regexReason(error)}` };
      }
    }
    const views = server.clusters
      .assignments()
      .flatMap(({ record, assignment }) =>
        passes(record.name) ? [{ cluster: record.message, isStatic: record.isStatic, hosts: hostsOf(assignment.endpoints) }] : [],
      );
    if (query.get("format") === "json") {
      return { type: "json", body: jsonText(views.length > 0 ? { cluster_statuses: views.map((view) => clusterJson(server, view)) } : {}) };
    }
    return { body: views.map((view) => clusterText(server, view)).join("") };
  },
};

interface ClusterView {
  readonly cluster: Cluster;
  readonly isStatic: boolean;
  readonly hosts: readonly HostView[];
}

interface HostView {
  readonly key: string;
  readonly endpoint: LbEndpoint;
  readonly locality: LocalityLbEndpoints;
}

const counters = ["cx_connect_fail", "cx_total", "rq_error", "rq_success", "rq_timeout", "rq_total"];
const gauges = ["cx_active", "rq_active", "rq_pending_active"];
const sortedStats = [...counters, ...gauges].sort();

const healthFlags: Partial<Record<HealthStatus, string>> = {
  [HealthStatus.UNHEALTHY]: "/failed_eds_health",
  [HealthStatus.TIMEOUT]: "/failed_eds_health",
  [HealthStatus.DRAINING]: "/eds_status_draining",
  [HealthStatus.DEGRADED]: "/degraded_eds_health",
};

function clusterText(server: ProxyServer, { cluster, isStatic, hosts }: ClusterView): string {
  const { name } = cluster;
  let out = `${name}::observability_name::${cluster.altStatName || name}\n`;
  if (cluster.outlierDetection) {
    for (const scope of ["", "local_origin_"]) {
      out += `${name}::outlier::${scope}success_rate_average::-1\n${name}::outlier::${scope}success_rate_ejection_threshold::-1\n`;
    }
  }
  for (const { title, limits } of thresholds(cluster)) {
    for (const [limit, value] of Object.entries(limits)) out += `${name}::${title}::${limit}::${value}\n`;
  }
  out += `${name}::added_via_api::${!isStatic}\n`;
  for (const { key, endpoint, locality } of hosts) {
    const line = (field: string, value: unknown) => {
      out += `${name}::${key}::${field}::${String(value)}\n`;
    };
    for (const stat of sortedStats) line(stat, server.stats.value(`host|${statName(cluster)}|${key}|${stat}`));
    line("hostname", hostnameOf(endpoint));
    line("health_flags", healthFlags[endpoint.healthStatus] ?? "healthy");
    line("weight", endpoint.loadBalancingWeight ?? 1);
    line("region", locality.locality?.region ?? "");
    line("zone", locality.locality?.zone ?? "");
    line("sub_zone", locality.locality?.subZone ?? "");
    line("canary", false);
    line("priority", locality.priority);
    line("success_rate", -1);
    line("local_origin_success_rate", -1);
  }
  return out;
}

function clusterJson(server: ProxyServer, { cluster, isStatic, hosts }: ClusterView): JsonObject {
  return {
    name: cluster.name,
    ...(!isStatic && { added_via_api: true }),
    ...(hosts.length > 0 && { host_statuses: hosts.map((host) => hostJson(server, cluster, host)) }),
    circuit_breakers: {
      thresholds: thresholds(cluster).map(({ title, limits }) => ({ ...(title === "high_priority" && { priority: "HIGH" }), ...limits })),
    },
    observability_name: cluster.altStatName || cluster.name,
    ...(cluster.edsClusterConfig?.serviceName && { eds_service_name: cluster.edsClusterConfig.serviceName }),
  };
}

function hostJson(server: ProxyServer, cluster: Cluster, { key, endpoint, locality }: HostView): JsonObject {
  const stat = (name: string, isGauge: boolean): JsonObject => {
    const value = server.stats.value(`host|${statName(cluster)}|${key}|${name}`);
    return { ...(isGauge && { type: "GAUGE" }), ...(value !== 0 && { value: String(value) }), name };
  };
  const address = endpoint.hostIdentifier.case === "endpoint" ? endpoint.hostIdentifier.value.address : undefined;
  const hostname = hostnameOf(endpoint);
  const { region = "", zone = "", subZone = "" } = locality.locality ?? {};
  return {
    ...(address && { address: toJson(AddressSchema, address, { useProtoFieldName: true }) as JsonObject }),
    stats: [...counters.map((name) => stat(name, false)), ...gauges.map((name) => stat(name, true))],
    health_status: {
      eds_health_status: HealthStatus[endpoint.healthStatus === HealthStatus.UNKNOWN ? HealthStatus.HEALTHY : endpoint.healthStatus]!,
    },
    weight: endpoint.loadBalancingWeight ?? 1,
    ...(hostname !== "" && { hostname }),
    ...(locality.priority > 0 && { priority: locality.priority }),
    locality: { ...(region !== "" && { region }), ...(zone !== "" && { zone }), ...(subZone !== "" && { sub_zone: subZone }) },
  };
}

function hostsOf(localities: readonly LocalityLbEndpoints[]): HostView[] {
  return [...localities]
    .sort((a, b) => a.priority - b.priority)
    .flatMap((locality) => locality.lbEndpoints.map((endpoint) => ({ key: keyOf(endpoint), endpoint, locality })));
}

function keyOf({ hostIdentifier }: LbEndpoint): string {
  const address = hostIdentifier.case === "endpoint" ? hostIdentifier.value.address?.address : undefined;
  if (address?.case === "socketAddress") return hostKey(address.value.address, portOf(address.value));
  return address?.case === "pipe" ? address.value.path : "";
}

function portOf({ portSpecifier }: SocketAddress): number {
  return portSpecifier.case === "portValue" ? portSpecifier.value : 0;
}

function hostnameOf({ hostIdentifier }: LbEndpoint): string {
  return hostIdentifier.case === "endpoint" ? hostIdentifier.value.hostname : "";
}

/** Name under which the workers count; see upstream/cluster-stats.ts. */
function statName(cluster: Cluster): string {
  return cluster.name;
}

interface ShownThresholds {
  readonly title: "default_priority" | "high_priority";
  readonly limits: { max_connections: number; max_pending_requests: number; max_requests: number; max_retries: number };
}

function thresholds(cluster: Cluster): ShownThresholds[] {
  return (["default_priority", "high_priority"] as const).map((title) => {
    const priority = title === "default_priority" ? RoutingPriority.DEFAULT : RoutingPriority.HIGH;
    const set = cluster.circuitBreakers?.thresholds.find((candidate) => candidate.priority === priority);
    return {
      title,
      limits: {
        max_connections: set?.maxConnections ?? 1024,
        max_pending_requests: set?.maxPendingRequests ?? 1024,
        max_requests: set?.maxRequests ?? 1024,
        max_retries: set?.maxRetries ?? 3,
      },
    };
  });
}
