/**
 * A DestinationRule's traffic policy applied to a cluster: connection pool, load balancing, outlier detection.
 * Source: Istio pilot/pkg/networking/core/cluster_traffic_policy.go.
 */
import { create } from "@bufbuild/protobuf";
import { CircuitBreakers_ThresholdsSchema, CircuitBreakersSchema } from "../../api/gen/envoy/config/cluster/v3/circuit_breaker_pb.js";
import {
  type Cluster,
  Cluster_CommonLbConfig_LocalityWeightedLbConfigSchema,
  Cluster_CommonLbConfigSchema,
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  Cluster_LeastRequestLbConfigSchema,
  Cluster_MaglevLbConfigSchema,
  Cluster_RingHashLbConfigSchema,
  Cluster_RoundRobinLbConfigSchema,
  Cluster_SlowStartConfigSchema,
} from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { OutlierDetectionSchema } from "../../api/gen/envoy/config/cluster/v3/outlier_detection_pb.js";
import {
  HttpHeadersMatchSchema,
  MatchPredicate_MatchSetSchema,
  MatchPredicateSchema,
} from "../../api/gen/envoy/config/common/matcher/v3/matcher_pb.js";
import {
  HttpProtocolOptionsSchema as CommonHttpOptionsSchema,
  Http1ProtocolOptionsSchema,
  Http2ProtocolOptionsSchema,
  UpstreamHttpProtocolOptionsSchema,
} from "../../api/gen/envoy/config/core/v3/protocol_pb.js";
import {
  HttpProtocolOptions_ExplicitHttpConfigSchema,
  HttpProtocolOptions_UseDownstreamHttpConfigSchema,
  HttpProtocolOptionsSchema,
} from "../../api/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import type {
  ConnectionPoolSettings,
  LoadBalancerSettings,
  OutlierDetection,
  RetryBudget,
  TcpKeepalive,
  TrafficPolicy,
} from "../../api/kinds/destination-rule.ts";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import { isHttp, isHttp2, type Protocol } from "../../registry/protocol.ts";
import { any, duration } from "./messages.ts";
import type { NamesByRequest } from "./upstream-tls.ts";

/** Istio leaves no limit of Envoy's in force that the user did not set. */
const unlimited = 4_294_967_295;

export interface TrafficPolicyContext {
  readonly mesh: MeshConfig;
  readonly protocol: Protocol;
  readonly direction: "outbound" | "inbound";
  /** Sniffed ports speak upstream what the client speaks. */
  readonly sniffs: boolean;
  readonly namesByRequest?: NamesByRequest | undefined;
}

/** Whether the cluster speaks HTTP/2, whatever the client does. */
export function speaksHttp2(policy: TrafficPolicy | undefined, context: TrafficPolicyContext): boolean {
  const { protocol, mesh } = context;
  if (isHttp2(protocol)) return true;
  if (!isHttp(protocol) || context.direction === "inbound") return false;
  const asked = (policy?.connectionPool ?? mesh.defaultTrafficPolicy?.connectionPool)?.http?.h2UpgradePolicy;
  return (asked && asked !== "DEFAULT" ? asked : mesh.h2UpgradePolicy) === "UPGRADE";
}

export function applyTrafficPolicy(cluster: Cluster, policy: TrafficPolicy | undefined, context: TrafficPolicyContext): void {
  const defaults = context.mesh.defaultTrafficPolicy;
  const pool = policy?.connectionPool ?? defaults?.connectionPool;
  applyConnectionPool(cluster, pool, policy?.retryBudget, context);
  const isInbound = context.direction === "inbound";
  const outlier = isInbound ? undefined : (policy?.outlierDetection ?? defaults?.outlierDetection);
  applyHttpProtocol(cluster, pool, speaksHttp2(policy, context), outlier?.outlierDetectionHttpErrorCodes ?? [], context);
  if (isInbound) return;
  applyLoadBalancer(cluster, policy?.loadBalancer);
  applyOutlierDetection(cluster, outlier);
}

function applyConnectionPool(
  cluster: Cluster,
  pool: ConnectionPoolSettings | undefined,
  budget: RetryBudget | undefined,
  { mesh }: TrafficPolicyContext,
): void {
  const orUnlimited = (value: number | undefined) => (value && value > 0 ? value : unlimited);
  cluster.circuitBreakers = create(CircuitBreakersSchema, {
    thresholds: [
      create(CircuitBreakers_ThresholdsSchema, {
        maxConnections: orUnlimited(pool?.tcp?.maxConnections),
        maxPendingRequests: orUnlimited(pool?.http?.http1MaxPendingRequests),
        maxRequests: orUnlimited(pool?.http?.http2MaxRequests),
        maxRetries: orUnlimited(pool?.http?.maxRetries),
        ...(budget && { retryBudget: retryBudget(budget) }),
      }),
    ],
  });
  cluster.connectTimeout = duration(pool?.tcp?.connectTimeout ?? mesh.connectTimeout ?? 10_000);
  const keepalive = pool?.tcp?.tcpKeepalive ?? mesh.tcpKeepalive;
  if (keepalive)
    cluster.upstreamConnectionOptions = {
      $typeName: "envoy.config.cluster.v3.UpstreamConnectionOptions",
      tcpKeepalive: tcpKeepalive(keepalive),
      setLocalInterfaceNameOnUpstreamConnections: false,
    };
}

function retryBudget({ percent = 20, minRetryConcurrency, budgetInterval }: RetryBudget) {
  return {
    budgetPercent: { value: percent },
    minRetryConcurrency: minRetryConcurrency || 3,
    ...(budgetInterval !== undefined && { budgetInterval: duration(budgetInterval) }),
  };
}

function tcpKeepalive({ probes, time, interval }: TcpKeepalive) {
  return {
    $typeName: "envoy.config.core.v3.TcpKeepalive" as const,
    ...(probes ? { keepaliveProbes: probes } : {}),
    ...(time ? { keepaliveTime: Math.floor(time / 1000) } : {}),
    ...(interval ? { keepaliveInterval: Math.floor(interval / 1000) } : {}),
  };
}

const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/** Which HTTP version goes upstream, and the limits that all versions share; nothing for a cluster that needs neither. */
function applyHttpProtocol(
  cluster: Cluster,
  pool: ConnectionPoolSettings | undefined,
  isHttp2Cluster: boolean,
  errorCodes: readonly number[],
  context: TrafficPolicyContext,
): void {
  const http = pool?.http;
  const { protocol, namesByRequest } = context;
  const followsClient = !isHttp2Cluster && (context.sniffs || http?.useClientProtocol === true);
  const idleTimeoutMs = http?.idleTimeout ?? (isHttp(protocol) ? pool?.tcp?.idleTimeout : undefined);
  const common = {
    ...(idleTimeoutMs === undefined ? {} : { idleTimeout: duration(idleTimeoutMs) }),
    ...(http?.maxRequestsPerConnection ? { maxRequestsPerConnection: http.maxRequestsPerConnection } : {}),
    ...(pool?.tcp?.maxConnectionDuration === undefined ? {} : { maxConnectionDuration: duration(pool.tcp.maxConnectionDuration) }),
  };
  const hasCommon = Object.keys(common).length > 0;
  if (!isHttp2Cluster && !followsClient && !hasCommon && !namesByRequest && errorCodes.length === 0) return;
  const http2ProtocolOptions = {
    ...(http?.maxConcurrentStreams ? { maxConcurrentStreams: http.maxConcurrentStreams } : {}),
    ...(http?.http2KeepAlive?.interval && http.http2KeepAlive.timeout
      ? { connectionKeepalive: { interval: duration(http.http2KeepAlive.interval), timeout: duration(http.http2KeepAlive.timeout) } }
      : {}),
  };
  cluster.typedExtensionProtocolOptions[httpOptionsKey] = any(HttpProtocolOptionsSchema, {
    ...(errorCodes.length > 0 ? { outlierDetection: { errorMatcher: errorMatcher(errorCodes) } } : {}),
    ...(hasCommon ? { commonHttpProtocolOptions: create(CommonHttpOptionsSchema, common) } : {}),
    ...(namesByRequest ? { upstreamHttpProtocolOptions: create(UpstreamHttpProtocolOptionsSchema, { ...namesByRequest }) } : {}),
    upstreamProtocolOptions: followsClient
      ? {
          case: "useDownstreamProtocolConfig",
          value: create(HttpProtocolOptions_UseDownstreamHttpConfigSchema, { httpProtocolOptions: {}, http2ProtocolOptions: {} }),
        }
      : {
          case: "explicitHttpConfig",
          value: create(HttpProtocolOptions_ExplicitHttpConfigSchema, {
            protocolConfig: isHttp2Cluster
              ? { case: "http2ProtocolOptions", value: create(Http2ProtocolOptionsSchema, http2ProtocolOptions) }
              : { case: "httpProtocolOptions", value: create(Http1ProtocolOptionsSchema) },
          }),
        },
  });
}

function applyLoadBalancer(cluster: Cluster, settings: LoadBalancerSettings | undefined): void {
  const isDiscoveredElsewhere =
    cluster.clusterDiscoveryType.case === "type" && cluster.clusterDiscoveryType.value === Cluster_DiscoveryType.ORIGINAL_DST;
  if (isDiscoveredElsewhere) {
    cluster.lbPolicy = Cluster_LbPolicy.CLUSTER_PROVIDED;
    return;
  }
  if (settings?.consistentHash) {
    const { ringHash, maglev, minimumRingSize } = settings.consistentHash;
    if (maglev) {
      cluster.lbPolicy = Cluster_LbPolicy.MAGLEV;
      if (maglev.tableSize) {
        cluster.lbConfig = { case: "maglevLbConfig", value: create(Cluster_MaglevLbConfigSchema, { tableSize: BigInt(maglev.tableSize) }) };
      }
      return;
    }
    cluster.lbPolicy = Cluster_LbPolicy.RING_HASH;
    const size = ringHash ? ringHash.minimumRingSize : minimumRingSize || 1024;
    if (size) {
      cluster.lbConfig = { case: "ringHashLbConfig", value: create(Cluster_RingHashLbConfigSchema, { minimumRingSize: BigInt(size) }) };
    }
    return;
  }
  switch (settings?.simple) {
    case "RANDOM":
      cluster.lbPolicy = Cluster_LbPolicy.RANDOM;
      break;
    case "ROUND_ROBIN":
      cluster.lbPolicy = Cluster_LbPolicy.ROUND_ROBIN;
      break;
    case "PASSTHROUGH":
      cluster.lbPolicy = Cluster_LbPolicy.CLUSTER_PROVIDED;
      cluster.clusterDiscoveryType = { case: "type", value: Cluster_DiscoveryType.ORIGINAL_DST };
      delete cluster.loadAssignment;
      delete cluster.edsClusterConfig;
      break;
    case "LEAST_CONN":
    case "LEAST_REQUEST":
    case "UNSPECIFIED":
    case undefined:
      cluster.lbPolicy = Cluster_LbPolicy.LEAST_REQUEST;
      break;
  }
  applySlowStart(cluster, settings);
}

function applySlowStart(cluster: Cluster, settings: LoadBalancerSettings | undefined): void {
  const window = settings?.warmup?.duration ?? settings?.warmupDurationSecs;
  if (window === undefined) return;
  const slowStartConfig = create(Cluster_SlowStartConfigSchema, {
    slowStartWindow: duration(window),
    ...(settings?.warmup
      ? {
          minWeightPercent: { value: settings.warmup.minimumPercent ?? 10 },
          aggression: { defaultValue: settings.warmup.aggression ?? 1, runtimeKey: "(" },
        }
      : {}),
  });
  if (cluster.lbPolicy === Cluster_LbPolicy.ROUND_ROBIN) {
    cluster.lbConfig = { case: "roundRobinLbConfig", value: create(Cluster_RoundRobinLbConfigSchema, { slowStartConfig }) };
  } else if (cluster.lbPolicy === Cluster_LbPolicy.LEAST_REQUEST) {
    cluster.lbConfig = { case: "leastRequestLbConfig", value: create(Cluster_LeastRequestLbConfigSchema, { slowStartConfig }) };
  }
}

function applyOutlierDetection(cluster: Cluster, outlier: OutlierDetection | undefined): void {
  if (!outlier) return;
  const { consecutive5xxErrors: errors, consecutiveGatewayErrors: gatewayErrors, consecutiveLocalOriginFailures: failures } = outlier;
  const ifAny = (count: number) => (count > 0 ? 100 : 0);
  cluster.outlierDetection = create(OutlierDetectionSchema, {
    // Success rates need more traffic than a mesh can promise; Istio never enforces them.
    enforcingSuccessRate: 0,
    ...(errors !== undefined && { consecutive5xx: errors, enforcingConsecutive5xx: ifAny(errors) }),
    ...(gatewayErrors !== undefined && {
      consecutiveGatewayFailure: gatewayErrors,
      enforcingConsecutiveGatewayFailure: ifAny(gatewayErrors),
    }),
    ...(outlier.interval !== undefined && { interval: duration(outlier.interval) }),
    ...(outlier.baseEjectionTime !== undefined && { baseEjectionTime: duration(outlier.baseEjectionTime) }),
    ...(outlier.maxEjectionPercent > 0 && { maxEjectionPercent: outlier.maxEjectionPercent }),
    ...(outlier.splitExternalLocalOriginErrors && {
      splitExternalLocalOriginErrors: true,
      enforcingLocalOriginSuccessRate: 0,
      ...(failures && { consecutiveLocalOriginFailure: failures, enforcingConsecutiveLocalOriginFailure: 100 }),
    }),
  });
  cluster.commonLbConfig ??= create(Cluster_CommonLbConfigSchema);
  cluster.commonLbConfig.healthyPanicThreshold = { $typeName: "envoy.type.v3.Percent", value: outlier.minHealthPercent };
}

/** `outlierDetectionHttpErrorCodes`: these statuses are errors, and no others. */
function errorMatcher(codes: readonly number[]) {
  const [first, ...others] = codes.map((code) =>
    create(MatchPredicateSchema, {
      rule: {
        case: "httpResponseHeadersMatch",
        value: create(HttpHeadersMatchSchema, {
          headers: [
            {
              name: ":status",
              headerMatchSpecifier: { case: "stringMatch", value: { matchPattern: { case: "exact", value: String(code) } } },
            },
          ],
        }),
      },
    }),
  );
  if (others.length === 0) return first!;
  return create(MatchPredicateSchema, {
    rule: { case: "orMatch", value: create(MatchPredicate_MatchSetSchema, { rules: [first!, ...others] }) },
  });
}

/** Weights between localities count only when the cluster asks for it. */
export function enableLocalityWeights(cluster: Cluster): void {
  cluster.commonLbConfig ??= create(Cluster_CommonLbConfigSchema);
  cluster.commonLbConfig.localityConfigSpecifier = {
    case: "localityWeightedLbConfig",
    value: create(Cluster_CommonLbConfig_LocalityWeightedLbConfigSchema),
  };
}
