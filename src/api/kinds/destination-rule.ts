import {
  bool,
  double,
  duration,
  enumeration,
  type Infer,
  int32,
  list,
  map,
  message,
  optional,
  string,
  uint32,
  uint64,
} from "../schema/schema.ts";
import { ageColumn, defineIstioKind } from "./kind.ts";
import { workloadSelectorSchema } from "./selectors.ts";
import { portSelectorSchema } from "./virtual-service.ts";

const simpleLBSchema = enumeration("UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST");
export type SimpleLB = Infer<typeof simpleLBSchema>;

const httpCookieAttributeSchema = message("Attribute", {
  name: string(),
  value: string(),
});
export type HTTPCookieAttribute = Infer<typeof httpCookieAttributeSchema>;

const httpCookieSchema = message("HTTPCookie", {
  name: string(),
  path: string(),
  ttl: duration(),
  attributes: list(httpCookieAttributeSchema),
});
export type HTTPCookie = Infer<typeof httpCookieSchema>;

const ringHashSchema = message("RingHash", {
  minimumRingSize: uint64(),
});
export type RingHash = Infer<typeof ringHashSchema>;

const magLevSchema = message("MagLev", {
  tableSize: uint64(),
});
export type MagLev = Infer<typeof magLevSchema>;

const consistentHashLBSchema = message(
  "ConsistentHashLB",
  {
    httpHeaderName: optional(string()),
    httpCookie: httpCookieSchema,
    useSourceIp: optional(bool()),
    httpQueryParameterName: optional(string()),
    ringHash: ringHashSchema,
    maglev: magLevSchema,
    minimumRingSize: uint64(),
  },
  {
    oneofs: [
      ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"],
      ["ringHash", "maglev"],
    ],
  },
);
export type ConsistentHashLB = Infer<typeof consistentHashLBSchema>;

const localityLoadBalancerSettingDistributeSchema = message("Distribute", {
  from: string(),
  to: map(uint32()),
});
export type LocalityLoadBalancerSettingDistribute = Infer<typeof localityLoadBalancerSettingDistributeSchema>;

const localityLoadBalancerSettingFailoverSchema = message("Failover", {
  from: string(),
  to: string(),
});
export type LocalityLoadBalancerSettingFailover = Infer<typeof localityLoadBalancerSettingFailoverSchema>;

export const localityLoadBalancerSettingSchema = message("LocalityLoadBalancerSetting", {
  distribute: list(localityLoadBalancerSettingDistributeSchema),
  failover: list(localityLoadBalancerSettingFailoverSchema),
  failoverPriority: list(string()),
  enabled: optional(bool()),
});
export type LocalityLoadBalancerSetting = Infer<typeof localityLoadBalancerSettingSchema>;

const zoneAwareLoadBalancerSettingFailoverSchema = message("Failover", {
  from: string(),
  to: string(),
});
export type ZoneAwareLoadBalancerSettingFailover = Infer<typeof zoneAwareLoadBalancerSettingFailoverSchema>;

export const zoneAwareLoadBalancerSettingSchema = message("ZoneAwareLoadBalancerSetting", {
  enabled: optional(bool()),
  failover: list(zoneAwareLoadBalancerSettingFailoverSchema),
  failoverPriority: list(string()),
  minClusterSize: optional(uint64()),
});
export type ZoneAwareLoadBalancerSetting = Infer<typeof zoneAwareLoadBalancerSettingSchema>;

const warmupConfigurationSchema = message("WarmupConfiguration", {
  duration: duration(),
  minimumPercent: optional(double()),
  aggression: optional(double()),
});
export type WarmupConfiguration = Infer<typeof warmupConfigurationSchema>;

/** Weights from the load that backends report themselves (ORCA). */
const backendUtilizationSchema = message("BackendUtilization", {
  errorUtilizationPenaltyPercent: optional(uint32()),
  metricNamesForComputingUtilization: list(string()),
  weightExpirationPeriod: duration(),
  weightStabilizationPeriod: duration(),
  weightUpdatePeriod: duration(),
});
export type BackendUtilization = Infer<typeof backendUtilizationSchema>;

const loadBalancerSettingsSchema = message(
  "LoadBalancerSettings",
  {
    simple: optional(simpleLBSchema),
    consistentHash: consistentHashLBSchema,
    backendUtilization: backendUtilizationSchema,
    localityLbSetting: localityLoadBalancerSettingSchema,
    zoneAwareLbSetting: zoneAwareLoadBalancerSettingSchema,
    warmupDurationSecs: duration(),
    warmup: warmupConfigurationSchema,
  },
  { oneofs: [["simple", "consistentHash", "backendUtilization"]] },
);
export type LoadBalancerSettings = Infer<typeof loadBalancerSettingsSchema>;

export const tcpKeepaliveSchema = message("TcpKeepalive", {
  probes: uint32(),
  time: duration(),
  interval: duration(),
});
export type TcpKeepalive = Infer<typeof tcpKeepaliveSchema>;

const tcpSettingsSchema = message("TCPSettings", {
  maxConnections: int32(),
  connectTimeout: duration(),
  tcpKeepalive: tcpKeepaliveSchema,
  maxConnectionDuration: duration(),
  idleTimeout: duration(),
});
export type TCPSettings = Infer<typeof tcpSettingsSchema>;

export const httpSettingsH2UpgradePolicySchema = enumeration("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE");
export type HTTPSettingsH2UpgradePolicy = Infer<typeof httpSettingsH2UpgradePolicySchema>;

const connectionKeepaliveSchema = message("ConnectionKeepalive", {
  interval: duration(),
  timeout: duration(),
});
export type ConnectionKeepalive = Infer<typeof connectionKeepaliveSchema>;

const httpSettingsSchema = message("HTTPSettings", {
  http1MaxPendingRequests: int32(),
  http2MaxRequests: int32(),
  maxRequestsPerConnection: int32(),
  maxRetries: int32(),
  idleTimeout: duration(),
  h2UpgradePolicy: httpSettingsH2UpgradePolicySchema,
  useClientProtocol: bool(),
  maxConcurrentStreams: int32(),
  http2KeepAlive: connectionKeepaliveSchema,
});
export type HTTPSettings = Infer<typeof httpSettingsSchema>;

export const connectionPoolSettingsSchema = message("ConnectionPoolSettings", {
  tcp: tcpSettingsSchema,
  http: httpSettingsSchema,
});
export type ConnectionPoolSettings = Infer<typeof connectionPoolSettingsSchema>;

export const outlierDetectionSchema = message("OutlierDetection", {
  consecutiveErrors: int32(),
  splitExternalLocalOriginErrors: bool(),
  consecutiveLocalOriginFailures: optional(uint32()),
  consecutiveGatewayErrors: optional(uint32()),
  consecutive5xxErrors: optional(uint32()),
  interval: duration(),
  baseEjectionTime: duration(),
  maxEjectionPercent: int32(),
  minHealthPercent: int32(),
  outlierDetectionHttpErrorCodes: list(uint32()),
});
export type OutlierDetection = Infer<typeof outlierDetectionSchema>;

const clientTLSSettingsModeSchema = enumeration("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL");
export type ClientTLSSettingsMode = Infer<typeof clientTLSSettingsModeSchema>;

export const clientTLSSettingsSchema = message("ClientTLSSettings", {
  mode: clientTLSSettingsModeSchema,
  clientCertificate: string(),
  privateKey: string(),
  caCertificates: string(),
  credentialName: string(),
  subjectAltNames: list(string()),
  sni: string(),
  insecureSkipVerify: optional(bool()),
  caCrl: string(),
});
export type ClientTLSSettings = Infer<typeof clientTLSSettingsSchema>;

const portTrafficPolicySchema = message("PortTrafficPolicy", {
  port: portSelectorSchema,
  loadBalancer: loadBalancerSettingsSchema,
  connectionPool: connectionPoolSettingsSchema,
  outlierDetection: outlierDetectionSchema,
  tls: clientTLSSettingsSchema,
});
export type PortTrafficPolicy = Infer<typeof portTrafficPolicySchema>;

const tunnelSettingsSchema = message("TunnelSettings", {
  protocol: string(),
  targetHost: string(),
  targetPort: uint32(),
});
export type TunnelSettings = Infer<typeof tunnelSettingsSchema>;

const proxyProtocolVersionSchema = enumeration("V1", "V2");
export type ProxyProtocolVersion = Infer<typeof proxyProtocolVersionSchema>;

const proxyProtocolSchema = message("ProxyProtocol", {
  version: proxyProtocolVersionSchema,
});
export type ProxyProtocol = Infer<typeof proxyProtocolSchema>;

const retryBudgetSchema = message("RetryBudget", {
  percent: optional(double()),
  minRetryConcurrency: uint32(),
  budgetInterval: duration(),
});
export type RetryBudget = Infer<typeof retryBudgetSchema>;

const trafficPolicySchema = message("TrafficPolicy", {
  loadBalancer: loadBalancerSettingsSchema,
  connectionPool: connectionPoolSettingsSchema,
  outlierDetection: outlierDetectionSchema,
  tls: clientTLSSettingsSchema,
  portLevelSettings: list(portTrafficPolicySchema),
  tunnel: tunnelSettingsSchema,
  proxyProtocol: proxyProtocolSchema,
  retryBudget: retryBudgetSchema,
});
export type TrafficPolicy = Infer<typeof trafficPolicySchema>;

const subsetSchema = message("Subset", {
  name: string(),
  labels: map(string()),
  trafficPolicy: trafficPolicySchema,
});
export type Subset = Infer<typeof subsetSchema>;

const destinationRuleSchema = message("DestinationRule", {
  host: string(),
  trafficPolicy: trafficPolicySchema,
  subsets: list(subsetSchema),
  exportTo: list(string()),
  workloadSelector: workloadSelectorSchema,
});
export type DestinationRule = Infer<typeof destinationRuleSchema>;

export const destinationRule = defineIstioKind({
  kind: "DestinationRule",
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  plural: "destinationrules",
  shortNames: ["dr"],
  columns: [{ name: "Host", type: "string", jsonPath: ".spec.host", description: "The service that the rule is for" }, ageColumn],
  schema: destinationRuleSchema,
});
