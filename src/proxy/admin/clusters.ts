/** Clusters and their endpoints, with what the workers count of each endpoint. */

import { type JsonObject, toJson } from "@bufbuild/protobuf";
import { RE2JS } from "re2js";
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { AddressSchema } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import { RoutingPriority } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { HealthStatus } from "../../api/gen/envoy/config/core/v3/health_check_pb.js";
import type { LbEndpoint, LocalityLbEndpoints } from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import { type ClusterView as AssignedCluster, decodeCluster } from "../config/cluster-record.ts";
import type { ClusterHealth } from "../health/cluster-health.ts";
import { endpointAddress } from "../health/endpoint-address.ts";
import { edsFlags, flagsText, hostFlags } from "../health/host-flags.ts";
import type { MonitoredHost } from "../health/monitored-host.ts";
import type { SuccessRates } from "../health/outlier-detector.ts";
import type { ProxyServer } from "../server.ts";
import { hostKey } from "../upstream/host.ts";
import type { AdminHandler } from "./admin-handler.ts";
import { jsonPieces, LazyList, LazyObject } from "./json-pieces.ts";
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
    const assigned = server.clusters.assignments().filter(({ record }) => passes(record.name));
    if (query.get("format") === "json") {
      const statuses = mapped(assigned, (each) => clusterJson(server, viewOf(each)));
      return { type: "json", body: jsonPieces(new LazyObject({ cluster_statuses: new LazyList(statuses) })) };
    }
    return { body: mapped(assigned, (each) => clusterText(server, viewOf(each))) };
  },
};

/** One is decoded when it is written. */
function* mapped<T>(assigned: readonly AssignedCluster[], map: (each: AssignedCluster) => T): Generator<T, void> {
  for (const each of assigned) yield map(each);
}

function viewOf({ record, assignment, health }: AssignedCluster): ClusterView {
  const hosts = hostsOf(assignment().endpoints, health?.hosts);
  return { cluster: decodeCluster(record), isStatic: record.isStatic, hosts, rates: health?.rates ?? null };
}

interface ClusterView {
  readonly cluster: Cluster;
  readonly isStatic: boolean;
  readonly hosts: readonly HostView[];
  /** null without outlier detection. */
  readonly rates: ClusterHealth["rates"];
}

interface HostView {
  readonly key: string;
  /** In a cluster that watches its hosts. */
  readonly monitored: MonitoredHost | undefined;
  readonly endpoint: LbEndpoint;
  readonly locality: LocalityLbEndpoints;
}

const counters = ["cx_connect_fail", "cx_total", "rq_error", "rq_success", "rq_timeout", "rq_total"];
const gauges = ["cx_active", "rq_active", "rq_pending_active"];
const sortedStats = [...counters, ...gauges].sort();

/** Envoy prints six significant digits. */
const rounded = (percent: number) => String(Number(percent.toPrecision(6)));

function clusterText(server: ProxyServer, { cluster, isStatic, hosts, rates }: ClusterView): string {
  const { name } = cluster;
  let out = `${name}::observability_name::${cluster.altStatName || name}\n`;
  if (rates !== null) {
    for (const [scope, { average, ejectionThreshold }] of [
      ["", rates.external],
      ["local_origin_", rates.localOrigin],
    ] as const) {
      out += `${name}::outlier::${scope}success_rate_average::${rounded(average)}\n`;
      out += `${name}::outlier::${scope}success_rate_ejection_threshold::${rounded(ejectionThreshold)}\n`;
    }
  }
  for (const { title, limits } of thresholds(cluster)) {
    for (const [limit, value] of Object.entries(limits)) out += `${name}::${title}::${limit}::${value}\n`;
  }
  out += `${name}::added_via_api::${!isStatic}\n`;
  for (const { key, endpoint, locality, monitored } of hosts) {
    const line = (field: string, value: unknown) => {
      out += `${name}::${key}::${field}::${String(value)}\n`;
    };
    const counted = server.stats.ofHost(`host|${statName(cluster)}|${key}|`);
    for (const stat of sortedStats) line(stat, counted?.value(stat) ?? 0);
    line("hostname", hostnameOf(endpoint));
    line("health_flags", flagsText(monitored?.flags ?? edsFlags(endpoint.healthStatus)));
    line("weight", endpoint.loadBalancingWeight ?? 1);
    line("region", locality.locality?.region ?? "");
    line("zone", locality.locality?.zone ?? "");
    line("sub_zone", locality.locality?.subZone ?? "");
    line("canary", false);
    line("priority", locality.priority);
    line("success_rate", monitored?.outlier.successRate ?? -1);
    line("local_origin_success_rate", monitored?.outlier.localOriginSuccessRate ?? -1);
  }
  return out;
}

function clusterJson(server: ProxyServer, { cluster, isStatic, hosts, rates }: ClusterView): JsonObject {
  return {
    name: cluster.name,
    ...(!isStatic && { added_via_api: true }),
    ...thresholdJson("", rates?.external),
    ...(hosts.length > 0 && { host_statuses: hosts.map((host) => hostJson(server, cluster, host)) }),
    ...thresholdJson("local_origin_", rates?.localOrigin),
    circuit_breakers: {
      thresholds: thresholds(cluster).map(({ title, limits }) => ({ ...(title === "high_priority" && { priority: "HIGH" }), ...limits })),
    },
    observability_name: cluster.altStatName || cluster.name,
    ...(cluster.edsClusterConfig?.serviceName && { eds_service_name: cluster.edsClusterConfig.serviceName }),
  };
}

function thresholdJson(scope: "" | "local_origin_", rates: SuccessRates | undefined): JsonObject {
  return rates && rates.ejectionThreshold >= 0 ? { [`${scope}success_rate_ejection_threshold`]: { value: rates.ejectionThreshold } } : {};
}

function rateJson(name: "success_rate" | "local_origin_success_rate", rate: number | undefined): JsonObject {
  return rate !== undefined && rate >= 0 ? { [name]: { value: rate } } : {};
}

/** As `health_status` names what is known against a host. */
const flagFields: readonly (readonly [flag: number, field: string])[] = [
  [hostFlags.failedActiveCheck, "failed_active_health_check"],
  [hostFlags.failedOutlierCheck, "failed_outlier_check"],
  [hostFlags.degradedActiveCheck, "failed_active_degraded_check"],
  [hostFlags.pendingRemoval, "pending_dynamic_removal"],
  [hostFlags.pendingActiveCheck, "pending_active_hc"],
  [hostFlags.excludedByImmediateFail, "excluded_via_immediate_hc_fail"],
  [hostFlags.activeCheckTimeout, "active_hc_timeout"],
];

function hostJson(server: ProxyServer, cluster: Cluster, { key, endpoint, locality, monitored }: HostView): JsonObject {
  const counted = server.stats.ofHost(`host|${statName(cluster)}|${key}|`);
  const stat = (name: string, isGauge: boolean): JsonObject => {
    const value = counted?.value(name) ?? 0;
    return { ...(isGauge && { type: "GAUGE" }), ...(value !== 0 && { value: String(value) }), name };
  };
  const address = endpoint.hostIdentifier.case === "endpoint" ? endpoint.hostIdentifier.value.address : undefined;
  const hostname = hostnameOf(endpoint);
  const { region = "", zone = "", subZone = "" } = locality.locality ?? {};
  return {
    ...(address && { address: toJson(AddressSchema, address, { useProtoFieldName: true }) as JsonObject }),
    stats: [...counters.map((name) => stat(name, false)), ...gauges.map((name) => stat(name, true))],
    health_status: {
      ...Object.fromEntries(flagFields.flatMap(([flag, field]) => (monitored?.has(flag) ? [[field, true]] : []))),
      eds_health_status: HealthStatus[endpoint.healthStatus === HealthStatus.UNKNOWN ? HealthStatus.HEALTHY : endpoint.healthStatus]!,
    },
    ...rateJson("success_rate", monitored?.outlier.successRate),
    weight: endpoint.loadBalancingWeight ?? 1,
    ...(hostname !== "" && { hostname }),
    ...(locality.priority > 0 && { priority: locality.priority }),
    ...rateJson("local_origin_success_rate", monitored?.outlier.localOriginSuccessRate),
    locality: { ...(region !== "" && { region }), ...(zone !== "" && { zone }), ...(subZone !== "" && { sub_zone: subZone }) },
  };
}

function hostsOf(localities: readonly LocalityLbEndpoints[], monitored: ReadonlyMap<string, MonitoredHost> | undefined): HostView[] {
  return [...localities]
    .sort((a, b) => a.priority - b.priority)
    .flatMap((locality) =>
      locality.lbEndpoints.map((endpoint) => {
        const key = keyOf(endpoint);
        return { key, endpoint, locality, monitored: monitored?.get(key) };
      }),
    );
}

function keyOf(endpoint: LbEndpoint): string {
  const place = endpointAddress(endpoint);
  return place ? hostKey(place.address, place.port) : "";
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
