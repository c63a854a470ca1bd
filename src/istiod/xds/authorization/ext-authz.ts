/**
 * The filters that ask an authorizer. They act on those requests only that the filter before them has marked: an RBAC filter whose shadow
 * rules are the rules of the CUSTOM policies writes the matching rule's name into the request's metadata.
 * Source: Istio pilot/pkg/security/authz/builder/extauthz.go.
 */
import { create } from "@bufbuild/protobuf";
import { ApiVersion } from "../../../api/gen/envoy/config/core/v3/config_source_pb.js";
import { type GrpcService, GrpcServiceSchema } from "../../../api/gen/envoy/config/core/v3/grpc_service_pb.js";
import { type Filter, FilterSchema } from "../../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import {
  AuthorizationRequestSchema,
  AuthorizationResponseSchema,
  BufferSettingsSchema,
  ExtAuthzSchema,
  type HttpService,
  HttpServiceSchema,
} from "../../../api/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { ExtAuthzSchema as TcpExtAuthzSchema } from "../../../api/gen/envoy/extensions/filters/network/ext_authz/v3/ext_authz_pb.js";
import type { HttpFilter } from "../../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { MetadataMatcher } from "../../../api/gen/envoy/type/matcher/v3/metadata_pb.js";
import { type ListStringMatcher, ListStringMatcherSchema } from "../../../api/gen/envoy/type/matcher/v3/string_pb.js";
import { HttpStatusSchema, type StatusCode } from "../../../api/gen/envoy/type/v3/http_status_pb.js";
import type { EnvoyExternalAuthorizationRequestBody } from "../../../api/mesh/mesh-config.ts";
import { any, duration, httpFilter } from "../messages.ts";
import type { Authorizer } from "./authorizers.ts";
import { metadataMatcher, textValue } from "./claim-matcher.ts";
import { exactMatcher, prefixMatcher, suffixMatcher } from "./value-matchers.ts";

/** Begins the keys that the marking filter writes. */
export const customStatPrefix = "istio_ext_authz_";

/** What the names of rules begin with for which the provider is asked. */
export function customRulePrefix(provider: string): string {
  return `istio-ext-authz-${provider}-`;
}

const defaultTimeoutMs = 600_000;

export function httpExtAuthz(provider: string, authorizer: Authorizer): HttpFilter {
  const { config } = authorizer;
  const filter = create(ExtAuthzSchema, {
    services:
      authorizer.kind === "http"
        ? { case: "httpService", value: httpService(authorizer) }
        : { case: "grpcService", value: grpcService(authorizer) },
    transportApiVersion: ApiVersion.V3,
    failureModeAllow: config.failOpen,
    clearRouteCache: config.clearRouteCache,
    filterEnabledMetadata: markOf(provider, "envoy.filters.http.rbac"),
    ...(config.includeRequestBodyInCheck ? { withRequestBody: bufferSettings(config.includeRequestBodyInCheck) } : {}),
    ...(config.statusOnError === ""
      ? {}
      : { statusOnError: create(HttpStatusSchema, { code: Number(config.statusOnError) as StatusCode }) }),
  });
  if (authorizer.kind === "http") {
    const { includeRequestHeadersInCheck, includeHeadersInCheck } = authorizer.config;
    const allowed = headerNames(includeRequestHeadersInCheck.length > 0 ? includeRequestHeadersInCheck : includeHeadersInCheck);
    if (allowed) filter.allowedHeaders = allowed;
  }
  return httpFilter("envoy.filters.http.ext_authz", ExtAuthzSchema, filter);
}

/** Only gRPC has words for a connection that carries no requests. */
export function tcpExtAuthz(provider: string, authorizer: Authorizer & { readonly kind: "grpc" }): Filter {
  return create(FilterSchema, {
    name: "envoy.filters.network.ext_authz",
    configType: {
      case: "typedConfig",
      value: any(TcpExtAuthzSchema, {
        statPrefix: "tcp.",
        grpcService: grpcService(authorizer),
        failureModeAllow: authorizer.config.failOpen,
        transportApiVersion: ApiVersion.V3,
        filterEnabledMetadata: markOf(provider, "envoy.filters.network.rbac"),
      }),
    },
  });
}

/** Up to `ns[`, so that provider `a` is not asked about the rules of `a-b`. */
function markOf(provider: string, rbacFilter: string): MetadataMatcher {
  return metadataMatcher(
    rbacFilter,
    [`${customStatPrefix}shadow_effective_policy_id`],
    textValue(prefixMatcher(`${customRulePrefix(provider)}ns[`)),
  );
}

function grpcService({ host, cluster, config }: Authorizer): GrpcService {
  return create(GrpcServiceSchema, {
    targetSpecifier: { case: "envoyGrpc", value: { clusterName: cluster, authority: host } },
    timeout: duration(config.timeout ?? defaultTimeoutMs),
  });
}

function httpService({ host, cluster, config }: Authorizer & { readonly kind: "http" }): HttpService {
  const service = create(HttpServiceSchema, {
    pathPrefix: config.pathPrefix,
    serverUri: {
      uri: `http://${host}`,
      httpUpstreamType: { case: "cluster", value: cluster },
      timeout: duration(config.timeout ?? defaultTimeoutMs),
    },
  });
  const added = Object.entries(config.includeAdditionalHeadersInCheck).sort(([a], [b]) => (a < b ? -1 : 1));
  if (added.length > 0) {
    service.authorizationRequest = create(AuthorizationRequestSchema, { headersToAdd: added.map(([key, value]) => ({ key, value })) });
  }
  const upstream = headerNames(config.headersToUpstreamOnAllow);
  const denied = headerNames(config.headersToDownstreamOnDeny);
  const allowed = headerNames(config.headersToDownstreamOnAllow);
  if (upstream || denied || allowed) {
    service.authorizationResponse = create(AuthorizationResponseSchema, {
      ...(upstream ? { allowedUpstreamHeaders: upstream } : {}),
      ...(denied ? { allowedClientHeaders: denied } : {}),
      ...(allowed ? { allowedClientHeadersOnSuccess: allowed } : {}),
    });
  }
  return service;
}

/** `name`, `name*` and `*name`; undefined where nothing is listed, which is not the same as a list of nothing. */
function headerNames(names: readonly string[]): ListStringMatcher | undefined {
  if (names.length === 0) return undefined;
  return create(ListStringMatcherSchema, {
    patterns: names.map((name) => {
      if (name.startsWith("*")) return suffixMatcher(name.slice(1), true);
      return name.endsWith("*") ? prefixMatcher(name.slice(0, -1), true) : exactMatcher(name, true);
    }),
  });
}

function bufferSettings({ maxRequestBytes, allowPartialMessage, packAsBytes }: EnvoyExternalAuthorizationRequestBody) {
  return create(BufferSettingsSchema, { maxRequestBytes, allowPartialMessage, packAsBytes });
}
