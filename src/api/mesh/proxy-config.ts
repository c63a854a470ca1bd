import { clientTLSSettingsSchema, tcpKeepaliveSchema } from "../kinds/destination-rule.ts";
import { proxyImageSchema } from "../kinds/proxy-config.ts";
import { readinessProbeSchema } from "../kinds/workload-group.ts";
import {
  bool,
  double,
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
  uint32,
} from "../schema/schema.ts";

const authenticationPolicySchema = numberedEnumeration({ NONE: 0, MUTUAL_TLS: 1, INHERIT: 1000 });
export type AuthenticationPolicy = Infer<typeof authenticationPolicySchema>;

const tracingZipkinSchema = message("Zipkin", {
  address: string(),
});
export type TracingZipkin = Infer<typeof tracingZipkinSchema>;

const tracingLightstepSchema = message("Lightstep", {
  address: string(),
  accessToken: string(),
});
export type TracingLightstep = Infer<typeof tracingLightstepSchema>;

const tracingDatadogSchema = message("Datadog", {
  address: string(),
});
export type TracingDatadog = Infer<typeof tracingDatadogSchema>;

const tracingStackdriverSchema = message("Stackdriver", {
  debug: bool(),
  maxNumberOfAttributes: optional(int64()),
  maxNumberOfAnnotations: optional(int64()),
  maxNumberOfMessageEvents: optional(int64()),
});
export type TracingStackdriver = Infer<typeof tracingStackdriverSchema>;

const tracingOpenCensusAgentTraceContextSchema = enumeration("UNSPECIFIED", "W3C_TRACE_CONTEXT", "GRPC_BIN", "CLOUD_TRACE_CONTEXT", "B3");
export type TracingOpenCensusAgentTraceContext = Infer<typeof tracingOpenCensusAgentTraceContextSchema>;

const tracingOpenCensusAgentSchema = message("OpenCensusAgent", {
  address: string(),
  context: list(tracingOpenCensusAgentTraceContextSchema),
});
export type TracingOpenCensusAgent = Infer<typeof tracingOpenCensusAgentSchema>;

const tracingLiteralSchema = message("Literal", {
  value: string(),
});
export type TracingLiteral = Infer<typeof tracingLiteralSchema>;

const tracingEnvironmentSchema = message("Environment", {
  name: string(),
  defaultValue: string(),
});
export type TracingEnvironment = Infer<typeof tracingEnvironmentSchema>;

const tracingRequestHeaderSchema = message("RequestHeader", {
  name: string(),
  defaultValue: string(),
});
export type TracingRequestHeader = Infer<typeof tracingRequestHeaderSchema>;

const tracingCustomTagSchema = message(
  "CustomTag",
  {
    literal: tracingLiteralSchema,
    environment: tracingEnvironmentSchema,
    header: tracingRequestHeaderSchema,
  },
  { oneofs: [["literal", "environment", "header"]] },
);
export type TracingCustomTag = Infer<typeof tracingCustomTagSchema>;

const tracingSchema = message(
  "Tracing",
  {
    zipkin: tracingZipkinSchema,
    lightstep: tracingLightstepSchema,
    datadog: tracingDatadogSchema,
    stackdriver: tracingStackdriverSchema,
    openCensusAgent: tracingOpenCensusAgentSchema,
    customTags: map(tracingCustomTagSchema),
    maxPathTagLength: uint32(),
    sampling: double(),
    tlsSettings: clientTLSSettingsSchema,
    enableIstioTags: optional(bool()),
  },
  { oneofs: [["zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent"]] },
);
export type Tracing = Infer<typeof tracingSchema>;

const sdsSchema = message("SDS", {
  enabled: bool(),
  k8sSaJwtPath: string(),
});
export type SDS = Infer<typeof sdsSchema>;

const forwardClientCertDetailsSchema = enumeration(
  "UNDEFINED",
  "SANITIZE",
  "FORWARD_ONLY",
  "APPEND_FORWARD",
  "SANITIZE_SET",
  "ALWAYS_FORWARD_ONLY",
);
export type ForwardClientCertDetails = Infer<typeof forwardClientCertDetailsSchema>;

const proxyProtocolConfigurationSchema = message("ProxyProtocolConfiguration", {});
export type ProxyProtocolConfiguration = Infer<typeof proxyProtocolConfigurationSchema>;

const topologySchema = message("Topology", {
  numTrustedProxies: uint32(),
  forwardClientCertDetails: forwardClientCertDetailsSchema,
  proxyProtocol: proxyProtocolConfigurationSchema,
});
export type Topology = Infer<typeof topologySchema>;

const cryptoMbSchema = message("CryptoMb", {
  pollDelay: duration(),
  fallback: optional(bool()),
});
export type CryptoMb = Infer<typeof cryptoMbSchema>;

const privateKeyProviderQATSchema = message("QAT", {
  pollDelay: duration(),
  fallback: optional(bool()),
});
export type PrivateKeyProviderQAT = Infer<typeof privateKeyProviderQATSchema>;

const privateKeyProviderSchema = message(
  "PrivateKeyProvider",
  {
    cryptomb: cryptoMbSchema,
    qat: privateKeyProviderQATSchema,
  },
  { oneofs: [["cryptomb", "qat"]] },
);
export type PrivateKeyProvider = Infer<typeof privateKeyProviderSchema>;

const tracingServiceNameSchema = enumeration("APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE");
export type TracingServiceName = Infer<typeof tracingServiceNameSchema>;

const inboundInterceptionModeSchema = enumeration("REDIRECT", "TPROXY", "NONE");
export type InboundInterceptionMode = Infer<typeof inboundInterceptionModeSchema>;

const remoteServiceSchema = message("RemoteService", {
  address: string(),
  tlsSettings: clientTLSSettingsSchema,
  tcpKeepalive: tcpKeepaliveSchema,
});
export type RemoteService = Infer<typeof remoteServiceSchema>;

const proxyStatsMatcherSchema = message("ProxyStatsMatcher", {
  inclusionPrefixes: list(string()),
  inclusionSuffixes: list(string()),
  inclusionRegexps: list(string()),
});
export type ProxyStatsMatcher = Infer<typeof proxyStatsMatcherSchema>;

const setCurrentClientCertDetailsSchema = message("SetCurrentClientCertDetails", {
  subject: optional(bool()),
  cert: optional(bool()),
  chain: optional(bool()),
  dns: optional(bool()),
  uri: optional(bool()),
});
export type SetCurrentClientCertDetails = Infer<typeof setCurrentClientCertDetailsSchema>;

const proxyHeadersRequestIdSchema = message("RequestId", {
  disabled: optional(bool()),
});
export type ProxyHeadersRequestId = Infer<typeof proxyHeadersRequestIdSchema>;

const proxyHeadersServerSchema = message("Server", {
  disabled: optional(bool()),
  value: string(),
});
export type ProxyHeadersServer = Infer<typeof proxyHeadersServerSchema>;

const proxyHeadersAttemptCountSchema = message("AttemptCount", {
  disabled: optional(bool()),
});
export type ProxyHeadersAttemptCount = Infer<typeof proxyHeadersAttemptCountSchema>;

const envoyDebugHeadersSchema = message("EnvoyDebugHeaders", {
  disabled: optional(bool()),
});
export type EnvoyDebugHeaders = Infer<typeof envoyDebugHeadersSchema>;

const metadataExchangeModeSchema = enumeration("UNDEFINED", "IN_MESH");
export type MetadataExchangeMode = Infer<typeof metadataExchangeModeSchema>;

const metadataExchangeHeadersSchema = message("MetadataExchangeHeaders", {
  mode: metadataExchangeModeSchema,
});
export type MetadataExchangeHeaders = Infer<typeof metadataExchangeHeadersSchema>;

const xForwardedHostSchema = message("XForwardedHost", {
  enabled: optional(bool()),
});
export type XForwardedHost = Infer<typeof xForwardedHostSchema>;

const xForwardedPortSchema = message("XForwardedPort", {
  enabled: optional(bool()),
});
export type XForwardedPort = Infer<typeof xForwardedPortSchema>;

const proxyHeadersSchema = message("ProxyHeaders", {
  forwardedClientCert: forwardClientCertDetailsSchema,
  setCurrentClientCertDetails: setCurrentClientCertDetailsSchema,
  requestId: proxyHeadersRequestIdSchema,
  server: proxyHeadersServerSchema,
  attemptCount: proxyHeadersAttemptCountSchema,
  envoyDebugHeaders: envoyDebugHeadersSchema,
  metadataExchangeHeaders: metadataExchangeHeadersSchema,
  preserveHttp1HeaderCase: optional(bool()),
  xForwardedHost: xForwardedHostSchema,
  xForwardedPort: xForwardedPortSchema,
});
export type ProxyHeaders = Infer<typeof proxyHeadersSchema>;

const connectionSettingsProfileSchema = enumeration("SIDECAR", "EDGE");
export type ConnectionSettingsProfile = Infer<typeof connectionSettingsProfileSchema>;

const headersWithUnderscoresActionSchema = enumeration(
  "HEADERS_WITH_UNDERSCORES_UNSPECIFIED",
  "HEADERS_WITH_UNDERSCORES_ALLOW",
  "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
  "HEADERS_WITH_UNDERSCORES_DROP_HEADER",
);
export type HeadersWithUnderscoresAction = Infer<typeof headersWithUnderscoresActionSchema>;

const pathWithEscapedSlashesActionSchema = enumeration(
  "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED",
  "KEEP_UNCHANGED",
  "REJECT_REQUEST",
  "UNESCAPE_AND_REDIRECT",
  "UNESCAPE_AND_FORWARD",
);
export type PathWithEscapedSlashesAction = Infer<typeof pathWithEscapedSlashesActionSchema>;

const connectionSettingsSchema = message("ConnectionSettings", {
  profile: connectionSettingsProfileSchema,
  listenerPerConnectionBufferLimitBytes: optional(int32()),
  clusterPerConnectionBufferLimitBytes: optional(int32()),
  httpIdleTimeout: duration(),
  httpMaxConnectionDuration: duration(),
  httpDrainTimeout: duration(),
  httpRequestTimeout: duration(),
  httpRequestHeadersTimeout: duration(),
  httpStreamIdleTimeout: duration(),
  httpMaxStreamDuration: duration(),
  httpMaxConcurrentStreams: optional(int32()),
  http2InitialStreamWindowSize: optional(int32()),
  http2InitialConnectionWindowSize: optional(int32()),
  httpHeadersWithUnderscoresAction: headersWithUnderscoresActionSchema,
  httpMergeSlashes: optional(bool()),
  httpPathWithEscapedSlashesAction: pathWithEscapedSlashesActionSchema,
  listenerConnectionLimit: optional(int32()),
  globalDownstreamConnectionLimit: optional(int32()),
});
export type ConnectionSettings = Infer<typeof connectionSettingsSchema>;

export const proxyConfigSchema = message(
  "ProxyConfig",
  {
    configPath: string(),
    binaryPath: string(),
    serviceCluster: optional(string()),
    tracingServiceName: optional(tracingServiceNameSchema),
    drainDuration: duration(),
    discoveryAddress: string(),
    discoveryRefreshDelay: duration(),
    zipkinAddress: string(),
    statsdUdpAddress: string(),
    envoyMetricsServiceAddress: string(),
    proxyAdminPort: int32(),
    availabilityZone: string(),
    controlPlaneAuthPolicy: authenticationPolicySchema,
    customConfigFile: string(),
    statNameLength: int32(),
    concurrency: optional(int32()),
    proxyBootstrapTemplatePath: string(),
    interceptionMode: inboundInterceptionModeSchema,
    tracing: tracingSchema,
    sds: sdsSchema,
    envoyAccessLogService: remoteServiceSchema,
    envoyMetricsService: remoteServiceSchema,
    proxyMetadata: map(string()),
    runtimeValues: map(string()),
    statusPort: int32(),
    extraStatTags: list(string()),
    gatewayTopology: topologySchema,
    terminationDrainDuration: duration(),
    meshId: string(),
    readinessProbe: readinessProbeSchema,
    proxyStatsMatcher: proxyStatsMatcherSchema,
    holdApplicationUntilProxyStarts: optional(bool()),
    caCertificatesPem: list(string()),
    image: proxyImageSchema,
    privateKeyProvider: privateKeyProviderSchema,
    proxyHeaders: proxyHeadersSchema,
    fileFlushInterval: duration(),
    fileFlushMinSizeKb: uint32(),
    statsCompression: optional(bool()),
    connectionSettings: connectionSettingsSchema,
  },
  { oneofs: [["serviceCluster", "tracingServiceName"]] },
);
export type ProxyConfig = Infer<typeof proxyConfigSchema>;
