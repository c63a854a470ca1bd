import {
  bool,
  bytes,
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
} from "../schema/schema.ts";
import { ageColumn, defineIstioKind } from "./kind.ts";

const stringMatchSchema = message(
  "StringMatch",
  {
    exact: optional(string()),
    prefix: optional(string()),
    regex: optional(string()),
  },
  { oneofs: [["exact", "prefix", "regex"]] },
);
export type StringMatch = Infer<typeof stringMatchSchema>;

const httpMatchRequestSchema = message("HTTPMatchRequest", {
  name: string(),
  uri: stringMatchSchema,
  scheme: stringMatchSchema,
  method: stringMatchSchema,
  authority: stringMatchSchema,
  headers: map(stringMatchSchema),
  port: uint32(),
  sourceLabels: map(string()),
  gateways: list(string()),
  queryParams: map(stringMatchSchema),
  ignoreUriCase: bool(),
  withoutHeaders: map(stringMatchSchema),
  sourceNamespace: string(),
  statPrefix: string(),
});
export type HTTPMatchRequest = Infer<typeof httpMatchRequestSchema>;

export const portSelectorSchema = message("PortSelector", {
  number: uint32(),
});
export type PortSelector = Infer<typeof portSelectorSchema>;

export const destinationSchema = message("Destination", {
  host: string(),
  subset: string(),
  port: portSelectorSchema,
});
export type Destination = Infer<typeof destinationSchema>;

const headerOperationsSchema = message("HeaderOperations", {
  set: map(string()),
  add: map(string()),
  remove: list(string()),
});
export type HeaderOperations = Infer<typeof headerOperationsSchema>;

const headersSchema = message("Headers", {
  request: headerOperationsSchema,
  response: headerOperationsSchema,
});
export type Headers = Infer<typeof headersSchema>;

const httpRouteDestinationSchema = message("HTTPRouteDestination", {
  destination: destinationSchema,
  weight: int32(),
  headers: headersSchema,
});
export type HTTPRouteDestination = Infer<typeof httpRouteDestinationSchema>;

const redirectPortSelectionSchema = enumeration("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT");
export type RedirectPortSelection = Infer<typeof redirectPortSelectionSchema>;

const httpRedirectSchema = message(
  "HTTPRedirect",
  {
    uri: string(),
    authority: string(),
    port: optional(uint32()),
    derivePort: optional(redirectPortSelectionSchema),
    scheme: string(),
    redirectCode: uint32(),
    prefixRewrite: string(),
  },
  { oneofs: [["port", "derivePort"]] },
);
export type HTTPRedirect = Infer<typeof httpRedirectSchema>;

const httpBodySchema = message(
  "HTTPBody",
  {
    string: optional(string()),
    bytes: optional(bytes()),
  },
  { oneofs: [["string", "bytes"]] },
);
export type HTTPBody = Infer<typeof httpBodySchema>;

const httpDirectResponseSchema = message("HTTPDirectResponse", {
  status: uint32(),
  body: httpBodySchema,
});
export type HTTPDirectResponse = Infer<typeof httpDirectResponseSchema>;

const delegateSchema = message("Delegate", {
  name: string(),
  namespace: string(),
});
export type Delegate = Infer<typeof delegateSchema>;

const regexRewriteSchema = message("RegexRewrite", {
  match: string(),
  rewrite: string(),
});
export type RegexRewrite = Infer<typeof regexRewriteSchema>;

const httpRewriteSchema = message("HTTPRewrite", {
  uri: string(),
  authority: string(),
  uriRegexRewrite: regexRewriteSchema,
});
export type HTTPRewrite = Infer<typeof httpRewriteSchema>;

export const httpRetrySchema = message("HTTPRetry", {
  attempts: int32(),
  perTryTimeout: duration(),
  retryOn: string(),
  retryRemoteLocalities: optional(bool()),
  retryIgnorePreviousHosts: optional(bool()),
  backoff: duration(),
});
export type HTTPRetry = Infer<typeof httpRetrySchema>;

const percentSchema = message("Percent", {
  value: double(),
});
export type Percent = Infer<typeof percentSchema>;

const httpFaultInjectionDelaySchema = message(
  "Delay",
  {
    percent: int32(),
    fixedDelay: duration(),
    exponentialDelay: duration(),
    percentage: percentSchema,
  },
  { oneofs: [["fixedDelay", "exponentialDelay"]] },
);
export type HTTPFaultInjectionDelay = Infer<typeof httpFaultInjectionDelaySchema>;

const httpFaultInjectionAbortSchema = message(
  "Abort",
  {
    httpStatus: optional(int32()),
    grpcStatus: optional(string()),
    http2Error: optional(string()),
    percentage: percentSchema,
  },
  { oneofs: [["httpStatus", "grpcStatus", "http2Error"]] },
);
export type HTTPFaultInjectionAbort = Infer<typeof httpFaultInjectionAbortSchema>;

const httpFaultInjectionSchema = message("HTTPFaultInjection", {
  delay: httpFaultInjectionDelaySchema,
  abort: httpFaultInjectionAbortSchema,
});
export type HTTPFaultInjection = Infer<typeof httpFaultInjectionSchema>;

const httpMirrorPolicySchema = message("HTTPMirrorPolicy", {
  destination: destinationSchema,
  percentage: percentSchema,
});
export type HTTPMirrorPolicy = Infer<typeof httpMirrorPolicySchema>;

const unmatchedPreflightsSchema = enumeration("UNSPECIFIED", "FORWARD", "IGNORE");
export type UnmatchedPreflights = Infer<typeof unmatchedPreflightsSchema>;

const corsPolicySchema = message("CorsPolicy", {
  allowOrigin: list(string()),
  allowOrigins: list(stringMatchSchema),
  allowMethods: list(string()),
  allowHeaders: list(string()),
  exposeHeaders: list(string()),
  maxAge: duration(),
  allowCredentials: optional(bool()),
  unmatchedPreflights: unmatchedPreflightsSchema,
});
export type CorsPolicy = Infer<typeof corsPolicySchema>;

const httpRouteSchema = message("HTTPRoute", {
  name: string(),
  match: list(httpMatchRequestSchema),
  route: list(httpRouteDestinationSchema),
  redirect: httpRedirectSchema,
  directResponse: httpDirectResponseSchema,
  delegate: delegateSchema,
  rewrite: httpRewriteSchema,
  timeout: duration(),
  retries: httpRetrySchema,
  fault: httpFaultInjectionSchema,
  mirror: destinationSchema,
  mirrors: list(httpMirrorPolicySchema),
  mirrorPercent: optional(uint32()),
  mirrorPercentage: percentSchema,
  corsPolicy: corsPolicySchema,
  headers: headersSchema,
});
export type HTTPRoute = Infer<typeof httpRouteSchema>;

const tlsMatchAttributesSchema = message("TLSMatchAttributes", {
  sniHosts: list(string()),
  destinationSubnets: list(string()),
  port: uint32(),
  sourceLabels: map(string()),
  gateways: list(string()),
  sourceNamespace: string(),
});
export type TLSMatchAttributes = Infer<typeof tlsMatchAttributesSchema>;

const routeDestinationSchema = message("RouteDestination", {
  destination: destinationSchema,
  weight: int32(),
});
export type RouteDestination = Infer<typeof routeDestinationSchema>;

const tlsRouteSchema = message("TLSRoute", {
  match: list(tlsMatchAttributesSchema),
  route: list(routeDestinationSchema),
});
export type TLSRoute = Infer<typeof tlsRouteSchema>;

export const l4MatchAttributesSchema = message("L4MatchAttributes", {
  destinationSubnets: list(string()),
  port: uint32(),
  sourceSubnet: string(),
  sourceLabels: map(string()),
  gateways: list(string()),
  sourceNamespace: string(),
});
export type L4MatchAttributes = Infer<typeof l4MatchAttributesSchema>;

const tcpRouteSchema = message("TCPRoute", {
  match: list(l4MatchAttributesSchema),
  route: list(routeDestinationSchema),
});
export type TCPRoute = Infer<typeof tcpRouteSchema>;

const virtualServiceSchema = message("VirtualService", {
  hosts: list(string()),
  gateways: list(string()),
  http: list(httpRouteSchema),
  tls: list(tlsRouteSchema),
  tcp: list(tcpRouteSchema),
  exportTo: list(string()),
});
export type VirtualService = Infer<typeof virtualServiceSchema>;

export const virtualService = defineIstioKind({
  kind: "VirtualService",
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  plural: "virtualservices",
  shortNames: ["vs"],
  columns: [
    { name: "Gateways", type: "string", jsonPath: ".spec.gateways", description: "The gateways and sidecars that the routes are for" },
    { name: "Hosts", type: "string", jsonPath: ".spec.hosts", description: "The hosts that traffic is sent to" },
    ageColumn,
  ],
  schema: virtualServiceSchema,
});
