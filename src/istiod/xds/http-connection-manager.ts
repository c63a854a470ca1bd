/** The HTTP connection manager of a filter chain, as Istio sets it up. Source: Istio pilot/pkg/networking/core/listener_builder.go. */
import { create } from "@bufbuild/protobuf";
import { type Filter, FilterSchema } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { RouteConfiguration } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import { CorsSchema } from "../../api/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { HTTPFaultSchema } from "../../api/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { FilterConfigSchema as GrpcStatsSchema } from "../../api/gen/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js";
import { GrpcWebSchema } from "../../api/gen/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.js";
import { RouterSchema } from "../../api/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import {
  type HttpConnectionManager,
  HttpConnectionManager_CodecType,
  HttpConnectionManager_ForwardClientCertDetails,
  HttpConnectionManager_PathWithEscapedSlashesAction,
  HttpConnectionManager_UpgradeConfigSchema,
  HttpConnectionManagerSchema,
  type HttpFilter,
} from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { UuidRequestIdConfigSchema } from "../../api/gen/envoy/extensions/request_id/uuid/v3/uuid_pb.js";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import type { ProxyNode } from "../../api/node.ts";
import { accessLogs } from "./access-log.ts";
import { adsSource } from "./clusters.ts";
import { gatewayTopology } from "./gateway-topology.ts";
import { istioHttpFilters } from "./istio-filters.ts";
import { any, duration, httpFilter, statName } from "./messages.ts";
import { corsFilterName, faultFilterName } from "./route-filters.ts";

export type ListenerClass = "sidecarOutbound" | "sidecarInbound" | "gateway";

export interface HttpConnectionManagerOptions {
  readonly class: ListenerClass;
  /** `outbound_0.0.0.0_8080`, without the `;`. */
  readonly statPrefix: string;
  /** By name from RDS, or whole. */
  readonly routes: { readonly rds: string } | { readonly inline: RouteConfiguration };
  readonly proxy: ProxyNode;
  readonly mesh: MeshConfig;
  /** Before all others but metadata exchange, see auth-filters.ts. */
  readonly authFilters?: readonly HttpFilter[];
  /** Clients are browsers, that speak gRPC without trailers. */
  readonly takesGrpcWeb?: boolean;
}

export function httpConnectionManager(options: HttpConnectionManagerOptions): Filter {
  const { mesh, routes } = options;
  const manager: HttpConnectionManager = create(HttpConnectionManagerSchema, {
    codecType: HttpConnectionManager_CodecType.AUTO,
    statPrefix: statName(options.statPrefix),
    routeSpecifier:
      "rds" in routes
        ? { case: "rds", value: { configSource: adsSource(), routeConfigName: routes.rds } }
        : { case: "routeConfig", value: routes.inline },
    httpFilters: httpFilters(options),
    accessLog: accessLogs(mesh),
    streamIdleTimeout: duration(0),
    upgradeConfigs: [create(HttpConnectionManager_UpgradeConfigSchema, { upgradeType: "websocket" })],
    proxy100Continue: true,
    requestIdExtension: { typedConfig: any(UuidRequestIdConfigSchema, { useRequestIdForTraceSampling: true }) },
    ...pathNormalization(mesh),
    ...trust(options),
  });
  return create(FilterSchema, {
    name: "envoy.filters.network.http_connection_manager",
    configType: { case: "typedConfig", value: any(HttpConnectionManagerSchema, manager) },
  });
}

/** What of it all methods are together; messages are counted by istio.stats, which reads what this one leaves. */
const grpcStats = httpFilter("envoy.filters.http.grpc_stats", GrpcStatsSchema, {
  emitFilterState: true,
  perMethodStatSpecifier: { case: "statsForAllMethods", value: { value: false } },
});

function httpFilters({ class: listenerClass, proxy, mesh, authFilters = [], takesGrpcWeb }: HttpConnectionManagerOptions): HttpFilter[] {
  const istio = istioHttpFilters(listenerClass, proxy, mesh);
  return [
    ...istio.first,
    ...authFilters,
    ...(takesGrpcWeb ? [httpFilter("envoy.filters.http.grpc_web", GrpcWebSchema, {})] : []),
    ...(proxy.hasGrpcStats ? [grpcStats] : []),
    ...istio.beforeFault,
    httpFilter(faultFilterName, HTTPFaultSchema, {}),
    httpFilter(corsFilterName, CorsSchema, {}),
    ...istio.beforeRouter,
    httpFilter("envoy.filters.http.router", RouterSchema, {}),
  ];
}

function pathNormalization(mesh: MeshConfig) {
  const mode = mesh.pathNormalization?.normalization ?? "DEFAULT";
  return {
    normalizePath: mode !== "NONE",
    mergeSlashes: mode === "MERGE_SLASHES" || mode === "DECODE_AND_MERGE_SLASHES",
    pathWithEscapedSlashesAction:
      mode === "DECODE_AND_MERGE_SLASHES"
        ? HttpConnectionManager_PathWithEscapedSlashesAction.UNESCAPE_AND_FORWARD
        : HttpConnectionManager_PathWithEscapedSlashesAction.KEEP_UNCHANGED,
  };
}

/** What each side of the mesh believes of X-Forwarded-For and client certificates, and how it names itself. */
function trust({ class: listenerClass, mesh, proxy }: HttpConnectionManagerOptions) {
  const details = { subject: true, uri: true, dns: true };
  switch (listenerClass) {
    case "gateway": {
      const { trustedProxies, forwardClientCertDetails: forward = "SANITIZE_SET" } = gatewayTopology(proxy, mesh);
      const forwardClientCertDetails = HttpConnectionManager_ForwardClientCertDetails[forward];
      const writes = forward === "SANITIZE_SET" || forward === "APPEND_FORWARD";
      return {
        useRemoteAddress: true,
        xffNumTrustedHops: trustedProxies,
        serverName: "istio-envoy",
        forwardClientCertDetails,
        ...(writes ? { setCurrentClientCertDetails: { ...details, cert: true } } : {}),
      };
    }
    case "sidecarInbound":
      return {
        useRemoteAddress: false,
        serverName: "istio-envoy",
        forwardClientCertDetails: HttpConnectionManager_ForwardClientCertDetails.APPEND_FORWARD,
        setCurrentClientCertDetails: details,
      };
    case "sidecarOutbound":
      return { useRemoteAddress: false };
    default:
      return listenerClass satisfies never;
  }
}
