import { bool, double, duration, enumeration, type Infer, list, map, message, optional, string } from "../schema/schema.ts";
import { defineIstioKind } from "./kind.ts";
import { policyTargetReferenceSchema, workloadSelectorSchema } from "./selectors.ts";

const workloadModeSchema = enumeration("CLIENT_AND_SERVER", "CLIENT", "SERVER");
export type WorkloadMode = Infer<typeof workloadModeSchema>;

const tracingTracingSelectorSchema = message("TracingSelector", {
  mode: workloadModeSchema,
});
export type TracingTracingSelector = Infer<typeof tracingTracingSelectorSchema>;

const providerRefSchema = message("ProviderRef", {
  name: string(),
});
export type ProviderRef = Infer<typeof providerRefSchema>;

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

const tracingFormatterSchema = message("Formatter", {
  value: string(),
});
export type TracingFormatter = Infer<typeof tracingFormatterSchema>;

const tracingCustomTagSchema = message(
  "CustomTag",
  {
    literal: tracingLiteralSchema,
    environment: tracingEnvironmentSchema,
    header: tracingRequestHeaderSchema,
    formatter: tracingFormatterSchema,
  },
  { oneofs: [["literal", "environment", "header", "formatter"]] },
);
export type TracingCustomTag = Infer<typeof tracingCustomTagSchema>;

const tracingSchema = message("Tracing", {
  match: tracingTracingSelectorSchema,
  providers: list(providerRefSchema),
  randomSamplingPercentage: optional(double()),
  disableSpanReporting: optional(bool()),
  customTags: map(tracingCustomTagSchema),
  useRequestIdForTraceSampling: optional(bool()),
  enableIstioTags: optional(bool()),
  disableContextPropagation: optional(bool()),
});
export type Tracing = Infer<typeof tracingSchema>;

const istioMetricSchema = enumeration(
  "ALL_METRICS",
  "REQUEST_COUNT",
  "REQUEST_DURATION",
  "REQUEST_SIZE",
  "RESPONSE_SIZE",
  "TCP_OPENED_CONNECTIONS",
  "TCP_CLOSED_CONNECTIONS",
  "TCP_SENT_BYTES",
  "TCP_RECEIVED_BYTES",
  "GRPC_REQUEST_MESSAGES",
  "GRPC_RESPONSE_MESSAGES",
);
export type IstioMetric = Infer<typeof istioMetricSchema>;

const metricSelectorSchema = message(
  "MetricSelector",
  {
    metric: optional(istioMetricSchema),
    customMetric: optional(string()),
    mode: workloadModeSchema,
  },
  { oneofs: [["metric", "customMetric"]] },
);
export type MetricSelector = Infer<typeof metricSelectorSchema>;

const tagOverrideOperationSchema = enumeration("UPSERT", "REMOVE");
export type TagOverrideOperation = Infer<typeof tagOverrideOperationSchema>;

const tagOverrideSchema = message("TagOverride", {
  operation: tagOverrideOperationSchema,
  value: string(),
});
export type TagOverride = Infer<typeof tagOverrideSchema>;

const metricsOverridesSchema = message("MetricsOverrides", {
  match: metricSelectorSchema,
  disabled: optional(bool()),
  tagOverrides: map(tagOverrideSchema),
});
export type MetricsOverrides = Infer<typeof metricsOverridesSchema>;

const metricsSchema = message("Metrics", {
  providers: list(providerRefSchema),
  overrides: list(metricsOverridesSchema),
  reportingInterval: duration(),
});
export type Metrics = Infer<typeof metricsSchema>;

const accessLoggingLogSelectorSchema = message("LogSelector", {
  mode: workloadModeSchema,
});
export type AccessLoggingLogSelector = Infer<typeof accessLoggingLogSelectorSchema>;

const accessLoggingFilterSchema = message("Filter", {
  expression: string(),
});
export type AccessLoggingFilter = Infer<typeof accessLoggingFilterSchema>;

const accessLoggingSchema = message("AccessLogging", {
  match: accessLoggingLogSelectorSchema,
  providers: list(providerRefSchema),
  disabled: optional(bool()),
  filter: accessLoggingFilterSchema,
});
export type AccessLogging = Infer<typeof accessLoggingSchema>;

const telemetrySchema = message("Telemetry", {
  selector: workloadSelectorSchema,
  targetRef: policyTargetReferenceSchema,
  targetRefs: list(policyTargetReferenceSchema),
  tracing: list(tracingSchema),
  metrics: list(metricsSchema),
  accessLogging: list(accessLoggingSchema),
});
export type Telemetry = Infer<typeof telemetrySchema>;

export const telemetry = defineIstioKind({
  kind: "Telemetry",
  group: "telemetry.istio.io",
  versions: ["v1", "v1alpha1"],
  plural: "telemetries",
  shortNames: ["telemetry"],
  schema: telemetrySchema,
});
