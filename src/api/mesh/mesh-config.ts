import {
  clientTLSSettingsSchema,
  connectionPoolSettingsSchema,
  localityLoadBalancerSettingSchema,
  outlierDetectionSchema,
  tcpKeepaliveSchema,
  zoneAwareLoadBalancerSettingSchema,
} from "../kinds/destination-rule.ts";
import { httpRetrySchema } from "../kinds/virtual-service.ts";
import {
  bool,
  duration,
  enumeration,
  type Infer,
  int32,
  int64,
  list,
  map,
  message,
  numberedEnumeration,
  optional,
  string,
  struct,
  uint32,
} from "../schema/schema.ts";
import { proxyConfigSchema } from "./proxy-config.ts";

const ingressControllerModeSchema = enumeration("UNSPECIFIED", "OFF", "DEFAULT", "STRICT");
export type IngressControllerMode = Infer<typeof ingressControllerModeSchema>;

const accessLogEncodingSchema = enumeration("TEXT", "JSON");
export type AccessLogEncoding = Infer<typeof accessLogEncodingSchema>;

const meshConfigOutboundTrafficPolicyModeSchema = numberedEnumeration({ REGISTRY_ONLY: 0, ALLOW_ANY: 1, ALLOW_ANY_DYNAMIC_DNS: 3 });
export type MeshConfigOutboundTrafficPolicyMode = Infer<typeof meshConfigOutboundTrafficPolicyModeSchema>;

const meshConfigOutboundTrafficPolicySchema = message("OutboundTrafficPolicy", {
  mode: meshConfigOutboundTrafficPolicyModeSchema,
  tls: clientTLSSettingsSchema,
});
export type MeshConfigOutboundTrafficPolicy = Infer<typeof meshConfigOutboundTrafficPolicySchema>;

const inboundTrafficPolicyModeSchema = enumeration("PASSTHROUGH", "LOCALHOST");
export type InboundTrafficPolicyMode = Infer<typeof inboundTrafficPolicyModeSchema>;

const inboundTrafficPolicySchema = message("InboundTrafficPolicy", {
  mode: inboundTrafficPolicyModeSchema,
});
export type InboundTrafficPolicy = Infer<typeof inboundTrafficPolicySchema>;

const resourceSchema = enumeration("SERVICE_REGISTRY");
export type Resource = Infer<typeof resourceSchema>;

const configSourceSchema = message("ConfigSource", {
  address: string(),
  tlsSettings: clientTLSSettingsSchema,
  subscribedResources: list(resourceSchema),
});
export type ConfigSource = Infer<typeof configSourceSchema>;

const certificateDataSchema = message(
  "CertificateData",
  {
    pem: optional(string()),
    spiffeBundleUrl: optional(string()),
    certSigners: list(string()),
    trustDomains: list(string()),
  },
  { oneofs: [["pem", "spiffeBundleUrl"]] },
);
export type CertificateData = Infer<typeof certificateDataSchema>;

export const meshConfigH2UpgradePolicySchema = enumeration("DO_NOT_UPGRADE", "UPGRADE");
export type MeshConfigH2UpgradePolicy = Infer<typeof meshConfigH2UpgradePolicySchema>;

const certificateSchema = message("Certificate", {
  secretName: string(),
  dnsNames: list(string()),
});
export type Certificate = Infer<typeof certificateSchema>;

const serviceSettingsSettingsSchema = message("Settings", {
  clusterLocal: bool(),
});
export type ServiceSettingsSettings = Infer<typeof serviceSettingsSettingsSchema>;

const serviceSettingsSchema = message("ServiceSettings", {
  settings: serviceSettingsSettingsSchema,
  hosts: list(string()),
});
export type ServiceSettings = Infer<typeof serviceSettingsSchema>;

const labelSelectorRequirementSchema = message("LabelSelectorRequirement", {
  key: string(),
  operator: string(),
  values: list(string()),
});
export type LabelSelectorRequirement = Infer<typeof labelSelectorRequirementSchema>;

const labelSelectorSchema = message("LabelSelector", {
  matchLabels: map(string()),
  matchExpressions: list(labelSelectorRequirementSchema),
});
export type LabelSelector = Infer<typeof labelSelectorSchema>;

const serviceScopeConfigsScopeSchema = enumeration("LOCAL", "GLOBAL");
export type ServiceScopeConfigsScope = Infer<typeof serviceScopeConfigsScopeSchema>;

const serviceScopeConfigsSchema = message("ServiceScopeConfigs", {
  namespaceSelector: labelSelectorSchema,
  servicesSelector: labelSelectorSchema,
  scope: serviceScopeConfigsScopeSchema,
});
export type ServiceScopeConfigs = Infer<typeof serviceScopeConfigsSchema>;

const meshConfigCASchema = message("CA", {
  address: string(),
  tlsSettings: clientTLSSettingsSchema,
  requestTimeout: duration(),
  istiodSide: bool(),
});
export type MeshConfigCA = Infer<typeof meshConfigCASchema>;

const envoyExternalAuthorizationRequestBodySchema = message("EnvoyExternalAuthorizationRequestBody", {
  maxRequestBytes: uint32(),
  allowPartialMessage: bool(),
  packAsBytes: bool(),
});
export type EnvoyExternalAuthorizationRequestBody = Infer<typeof envoyExternalAuthorizationRequestBodySchema>;

const envoyExternalAuthorizationHttpProviderSchema = message("EnvoyExternalAuthorizationHttpProvider", {
  service: string(),
  port: uint32(),
  timeout: duration(),
  pathPrefix: string(),
  failOpen: bool(),
  clearRouteCache: bool(),
  statusOnError: string(),
  includeHeadersInCheck: list(string()),
  includeRequestHeadersInCheck: list(string()),
  includeAdditionalHeadersInCheck: map(string()),
  includeRequestBodyInCheck: envoyExternalAuthorizationRequestBodySchema,
  headersToUpstreamOnAllow: list(string()),
  headersToDownstreamOnDeny: list(string()),
  headersToDownstreamOnAllow: list(string()),
});
export type EnvoyExternalAuthorizationHttpProvider = Infer<typeof envoyExternalAuthorizationHttpProviderSchema>;

const envoyExternalAuthorizationGrpcProviderSchema = message("EnvoyExternalAuthorizationGrpcProvider", {
  service: string(),
  port: uint32(),
  timeout: duration(),
  failOpen: bool(),
  clearRouteCache: bool(),
  statusOnError: string(),
  includeRequestBodyInCheck: envoyExternalAuthorizationRequestBodySchema,
});
export type EnvoyExternalAuthorizationGrpcProvider = Infer<typeof envoyExternalAuthorizationGrpcProviderSchema>;

const zipkinTracingProviderTraceContextOptionSchema = enumeration("USE_B3", "USE_B3_WITH_W3C_PROPAGATION");
export type ZipkinTracingProviderTraceContextOption = Infer<typeof zipkinTracingProviderTraceContextOptionSchema>;

const httpHeaderSchema = message(
  "HttpHeader",
  {
    name: string(),
    value: optional(string()),
    envName: optional(string()),
  },
  { oneofs: [["value", "envName"]] },
);
export type HttpHeader = Infer<typeof httpHeaderSchema>;

const zipkinTracingProviderSchema = message("ZipkinTracingProvider", {
  service: string(),
  port: uint32(),
  maxTagLength: uint32(),
  enable64bitTraceId: bool(),
  path: string(),
  traceContextOption: zipkinTracingProviderTraceContextOptionSchema,
  timeout: duration(),
  headers: list(httpHeaderSchema),
});
export type ZipkinTracingProvider = Infer<typeof zipkinTracingProviderSchema>;

const lightstepTracingProviderSchema = message("LightstepTracingProvider", {
  service: string(),
  port: uint32(),
  accessToken: string(),
  maxTagLength: uint32(),
});
export type LightstepTracingProvider = Infer<typeof lightstepTracingProviderSchema>;

const datadogTracingProviderSchema = message("DatadogTracingProvider", {
  service: string(),
  port: uint32(),
  maxTagLength: uint32(),
});
export type DatadogTracingProvider = Infer<typeof datadogTracingProviderSchema>;

const stackdriverProviderLoggingSchema = message("Logging", {
  labels: map(string()),
});
export type StackdriverProviderLogging = Infer<typeof stackdriverProviderLoggingSchema>;

const stackdriverProviderSchema = message("StackdriverProvider", {
  debug: bool(),
  maxNumberOfAttributes: optional(int64()),
  maxNumberOfAnnotations: optional(int64()),
  maxNumberOfMessageEvents: optional(int64()),
  maxTagLength: uint32(),
  logging: stackdriverProviderLoggingSchema,
});
export type StackdriverProvider = Infer<typeof stackdriverProviderSchema>;

const openCensusAgentTracingProviderTraceContextSchema = enumeration(
  "UNSPECIFIED",
  "W3C_TRACE_CONTEXT",
  "GRPC_BIN",
  "CLOUD_TRACE_CONTEXT",
  "B3",
);
export type OpenCensusAgentTracingProviderTraceContext = Infer<typeof openCensusAgentTracingProviderTraceContextSchema>;

const openCensusAgentTracingProviderSchema = message("OpenCensusAgentTracingProvider", {
  service: string(),
  port: uint32(),
  context: list(openCensusAgentTracingProviderTraceContextSchema),
  maxTagLength: uint32(),
});
export type OpenCensusAgentTracingProvider = Infer<typeof openCensusAgentTracingProviderSchema>;

const skyWalkingTracingProviderSchema = message("SkyWalkingTracingProvider", {
  service: string(),
  port: uint32(),
  accessToken: string(),
});
export type SkyWalkingTracingProvider = Infer<typeof skyWalkingTracingProviderSchema>;

const httpServiceSchema = message("HttpService", {
  path: string(),
  timeout: duration(),
  headers: list(httpHeaderSchema),
});
export type HttpService = Infer<typeof httpServiceSchema>;

const grpcServiceSchema = message("GrpcService", {
  timeout: duration(),
  initialMetadata: list(httpHeaderSchema),
});
export type GrpcService = Infer<typeof grpcServiceSchema>;

const environmentResourceDetectorSchema = message("EnvironmentResourceDetector", {});
export type EnvironmentResourceDetector = Infer<typeof environmentResourceDetectorSchema>;

const dynatraceResourceDetectorSchema = message("DynatraceResourceDetector", {});
export type DynatraceResourceDetector = Infer<typeof dynatraceResourceDetectorSchema>;

const resourceDetectorsSchema = message("ResourceDetectors", {
  environment: environmentResourceDetectorSchema,
  dynatrace: dynatraceResourceDetectorSchema,
});
export type ResourceDetectors = Infer<typeof resourceDetectorsSchema>;

const serviceAttributeEnrichmentSchema = enumeration("ISTIO_CANONICAL", "OTEL_SEMANTIC_CONVENTIONS");
export type ServiceAttributeEnrichment = Infer<typeof serviceAttributeEnrichmentSchema>;

const dynatraceApiSchema = message("DynatraceApi", {
  service: string(),
  port: uint32(),
  http: httpServiceSchema,
});
export type DynatraceApi = Infer<typeof dynatraceApiSchema>;

const dynatraceSamplerSchema = message("DynatraceSampler", {
  tenant: string(),
  clusterId: int32(),
  rootSpansPerMinute: uint32(),
  httpService: dynatraceApiSchema,
});
export type DynatraceSampler = Infer<typeof dynatraceSamplerSchema>;

const openTelemetryTracingProviderSchema = message("OpenTelemetryTracingProvider", {
  service: string(),
  port: uint32(),
  maxTagLength: uint32(),
  http: httpServiceSchema,
  grpc: grpcServiceSchema,
  resourceDetectors: resourceDetectorsSchema,
  serviceAttributeEnrichment: serviceAttributeEnrichmentSchema,
  dynatraceSampler: dynatraceSamplerSchema,
});
export type OpenTelemetryTracingProvider = Infer<typeof openTelemetryTracingProviderSchema>;

const prometheusMetricsProviderSchema = message("PrometheusMetricsProvider", {});
export type PrometheusMetricsProvider = Infer<typeof prometheusMetricsProviderSchema>;

const envoyFileAccessLogProviderLogFormatSchema = message(
  "LogFormat",
  {
    text: optional(string()),
    labels: struct(),
  },
  { oneofs: [["text", "labels"]] },
);
export type EnvoyFileAccessLogProviderLogFormat = Infer<typeof envoyFileAccessLogProviderLogFormatSchema>;

const envoyFileAccessLogProviderSchema = message("EnvoyFileAccessLogProvider", {
  path: string(),
  logFormat: envoyFileAccessLogProviderLogFormatSchema,
  omitEmptyValues: bool(),
});
export type EnvoyFileAccessLogProvider = Infer<typeof envoyFileAccessLogProviderSchema>;

export const envoyHttpGrpcV3LogProviderSchema = message("EnvoyHttpGrpcV3LogProvider", {
  service: string(),
  port: uint32(),
  logName: string(),
  filterStateObjectsToLog: list(string()),
  additionalRequestHeadersToLog: list(string()),
  additionalResponseHeadersToLog: list(string()),
  additionalResponseTrailersToLog: list(string()),
});
export type EnvoyHttpGrpcV3LogProvider = Infer<typeof envoyHttpGrpcV3LogProviderSchema>;

export const envoyTcpGrpcV3LogProviderSchema = message("EnvoyTcpGrpcV3LogProvider", {
  service: string(),
  port: uint32(),
  logName: string(),
  filterStateObjectsToLog: list(string()),
});
export type EnvoyTcpGrpcV3LogProvider = Infer<typeof envoyTcpGrpcV3LogProviderSchema>;

const envoyOpenTelemetryLogProviderLogFormatSchema = message("LogFormat", {
  text: string(),
  labels: struct(),
});
export type EnvoyOpenTelemetryLogProviderLogFormat = Infer<typeof envoyOpenTelemetryLogProviderLogFormatSchema>;

const envoyOpenTelemetryLogProviderSchema = message("EnvoyOpenTelemetryLogProvider", {
  service: string(),
  port: uint32(),
  logName: string(),
  logFormat: envoyOpenTelemetryLogProviderLogFormatSchema,
});
export type EnvoyOpenTelemetryLogProvider = Infer<typeof envoyOpenTelemetryLogProviderSchema>;

const sdsProviderSchema = message("SDSProvider", {
  name: string(),
  service: string(),
  port: uint32(),
});
export type SDSProvider = Infer<typeof sdsProviderSchema>;

const meshConfigExtensionProviderSchema = message(
  "ExtensionProvider",
  {
    name: string(),
    envoyExtAuthzHttp: envoyExternalAuthorizationHttpProviderSchema,
    envoyExtAuthzGrpc: envoyExternalAuthorizationGrpcProviderSchema,
    zipkin: zipkinTracingProviderSchema,
    lightstep: lightstepTracingProviderSchema,
    datadog: datadogTracingProviderSchema,
    stackdriver: stackdriverProviderSchema,
    opencensus: openCensusAgentTracingProviderSchema,
    skywalking: skyWalkingTracingProviderSchema,
    opentelemetry: openTelemetryTracingProviderSchema,
    prometheus: prometheusMetricsProviderSchema,
    envoyFileAccessLog: envoyFileAccessLogProviderSchema,
    envoyHttpAls: envoyHttpGrpcV3LogProviderSchema,
    envoyTcpAls: envoyTcpGrpcV3LogProviderSchema,
    envoyOtelAls: envoyOpenTelemetryLogProviderSchema,
    sds: sdsProviderSchema,
  },
  {
    oneofs: [
      [
        "envoyExtAuthzHttp",
        "envoyExtAuthzGrpc",
        "zipkin",
        "lightstep",
        "datadog",
        "stackdriver",
        "opencensus",
        "skywalking",
        "opentelemetry",
        "prometheus",
        "envoyFileAccessLog",
        "envoyHttpAls",
        "envoyTcpAls",
        "envoyOtelAls",
        "sds",
      ],
    ],
  },
);
export type MeshConfigExtensionProvider = Infer<typeof meshConfigExtensionProviderSchema>;

const defaultProvidersSchema = message("DefaultProviders", {
  tracing: list(string()),
  metrics: list(string()),
  accessLogging: list(string()),
});
export type DefaultProviders = Infer<typeof defaultProvidersSchema>;

const normalizationTypeSchema = enumeration("DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES");
export type NormalizationType = Infer<typeof normalizationTypeSchema>;

const proxyPathNormalizationSchema = message("ProxyPathNormalization", {
  normalization: normalizationTypeSchema,
});
export type ProxyPathNormalization = Infer<typeof proxyPathNormalizationSchema>;

const tlsConfigTLSProtocolSchema = enumeration("TLS_AUTO", "TLSV1_2", "TLSV1_3");
export type TLSConfigTLSProtocol = Infer<typeof tlsConfigTLSProtocolSchema>;

const tlsConfigSchema = message("TLSConfig", {
  minProtocolVersion: tlsConfigTLSProtocolSchema,
  ecdhCurves: list(string()),
  cipherSuites: list(string()),
});
export type TLSConfig = Infer<typeof tlsConfigSchema>;

const defaultTrafficPolicySchema = message("DefaultTrafficPolicy", {
  connectionPool: connectionPoolSettingsSchema,
  outlierDetection: outlierDetectionSchema,
});
export type DefaultTrafficPolicy = Infer<typeof defaultTrafficPolicySchema>;

const serviceEntryVisibilityVisibilitySchema = enumeration("VISIBILITY_UNSPECIFIED", "NONE", "NAMESPACE", "PUBLIC");
export type ServiceEntryVisibilityVisibility = Infer<typeof serviceEntryVisibilityVisibilitySchema>;

const matchRuleSchema = message("MatchRule", {
  namespaceSelector: labelSelectorSchema,
});
export type MatchRule = Infer<typeof matchRuleSchema>;

const serviceEntryVisibilityPolicySchema = message("Policy", {
  visibility: serviceEntryVisibilityVisibilitySchema,
  matchingRules: list(matchRuleSchema),
});
export type ServiceEntryVisibilityPolicy = Infer<typeof serviceEntryVisibilityPolicySchema>;

const serviceEntryVisibilitySchema = message("ServiceEntryVisibility", {
  defaultVisibility: serviceEntryVisibilityVisibilitySchema,
  applyToSidecars: bool(),
  policies: list(serviceEntryVisibilityPolicySchema),
});
export type ServiceEntryVisibility = Infer<typeof serviceEntryVisibilitySchema>;

export const meshConfigSchema = message("MeshConfig", {
  proxyListenPort: int32(),
  proxyInboundListenPort: int32(),
  proxyHttpPort: int32(),
  connectTimeout: duration(),
  hboneIdleTimeout: duration(),
  protocolDetectionTimeout: duration(),
  tcpKeepalive: tcpKeepaliveSchema,
  ingressClass: string(),
  ingressService: string(),
  ingressControllerMode: ingressControllerModeSchema,
  ingressSelector: string(),
  enableTracing: bool(),
  accessLogFile: string(),
  accessLogFormat: string(),
  accessLogEncoding: accessLogEncodingSchema,
  enableEnvoyAccessLogService: bool(),
  disableEnvoyListenerLog: bool(),
  defaultConfig: proxyConfigSchema,
  outboundTrafficPolicy: meshConfigOutboundTrafficPolicySchema,
  inboundTrafficPolicy: inboundTrafficPolicySchema,
  configSources: list(configSourceSchema),
  enableAutoMtls: optional(bool()),
  trustDomain: string(),
  trustDomainAliases: list(string()),
  caCertificates: list(certificateDataSchema),
  defaultServiceExportTo: list(string()),
  defaultVirtualServiceExportTo: list(string()),
  defaultDestinationRuleExportTo: list(string()),
  rootNamespace: string(),
  localityLbSetting: localityLoadBalancerSettingSchema,
  zoneAwareLbSetting: zoneAwareLoadBalancerSettingSchema,
  dnsRefreshRate: duration(),
  h2UpgradePolicy: meshConfigH2UpgradePolicySchema,
  inboundClusterStatName: string(),
  outboundClusterStatName: string(),
  certificates: list(certificateSchema),
  serviceSettings: list(serviceSettingsSchema),
  serviceScopeConfigs: list(serviceScopeConfigsSchema),
  enablePrometheusMerge: optional(bool()),
  verifyCertificateAtClient: optional(bool()),
  ca: meshConfigCASchema,
  extensionProviders: list(meshConfigExtensionProviderSchema),
  defaultProviders: defaultProvidersSchema,
  discoverySelectors: list(labelSelectorSchema),
  pathNormalization: proxyPathNormalizationSchema,
  defaultHttpRetryPolicy: httpRetrySchema,
  defaultInboundHttpRetryPolicy: httpRetrySchema,
  meshMTLS: tlsConfigSchema,
  tlsDefaults: tlsConfigSchema,
  defaultTrafficPolicy: defaultTrafficPolicySchema,
  serviceEntryVisibility: serviceEntryVisibilitySchema,
});
export type MeshConfig = Infer<typeof meshConfigSchema>;
