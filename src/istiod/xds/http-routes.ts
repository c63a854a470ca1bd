/**
 * The http section of a VirtualService to Envoy's routes, for one proxy and port.
 * Source: Istio pilot/pkg/networking/core/route/route.go (BuildHTTPRoutesForVirtualService).
 */
import { create } from "@bufbuild/protobuf";
import { outboundCluster, parseClusterName } from "../../api/cluster-name.ts";
import {
  type RedirectAction,
  RedirectAction_RedirectResponseCode,
  RedirectActionSchema,
  type Route,
  type RouteAction,
  type RouteAction_HashPolicy,
  RouteAction_HashPolicySchema,
  RouteAction_RequestMirrorPolicySchema,
  RouteActionSchema,
  RouteSchema,
  type WeightedCluster_ClusterWeight,
  WeightedCluster_ClusterWeightSchema,
  WeightedClusterSchema,
} from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { RegexMatchAndSubstituteSchema } from "../../api/gen/envoy/type/matcher/v3/regex_pb.js";
import type { ConsistentHashLB } from "../../api/kinds/destination-rule.ts";
import type { Destination, HTTPMatchRequest, HTTPRedirect, HTTPRoute, HTTPRouteDestination } from "../../api/kinds/virtual-service.ts";
import type { ProxyNode } from "../../api/node.ts";
import type { Service } from "../../registry/service.ts";
import { policyForSubset } from "../push/destination-rules.ts";
import { hasIngressSemantics } from "../push/ingress/ingress-virtual-services.ts";
import type { PushContext } from "../push/push-context.ts";
import type { ResolvedVirtualService } from "../push/virtual-services.ts";
import { headerEdits } from "./header-operations.ts";
import { configMetadata, duration } from "./messages.ts";
import { retryPolicy } from "./retry-policy.ts";
import { fractionalPercent, routeFilterConfigs } from "./route-filters.ts";
import { appliesTo, isCatchAll, routeMatch } from "./route-match.ts";

export interface RouteContext {
  readonly proxy: ProxyNode;
  readonly push: PushContext;
  /** Port of the listener that the routes are for. */
  readonly port: number;
  /** Names by which `gateways` in a match may mean this proxy: `mesh`, or the gateway `namespace/name`. */
  readonly gateways: ReadonlySet<string>;
  readonly isTls: boolean;
  /** Services that destinations may mean, by host, with the ports that count; by default all that the proxy can see. */
  readonly services?: ReadonlyMap<string, Service>;
}

/** In the order of the rules; generation stops behind a route that takes everything. */
export function virtualServiceRoutes(virtualService: ResolvedVirtualService, context: RouteContext): Route[] {
  const routes: Route[] = [];
  for (const rule of virtualService.spec.http) {
    const matches: (HTTPMatchRequest | undefined)[] = rule.match.length > 0 ? rule.match : [undefined];
    for (const match of matches) {
      if (!appliesTo(match, context.proxy, context.gateways, context.port)) continue;
      const route = translateRoute(virtualService, rule, match, context);
      if (!route) continue;
      routes.push(route);
      if (isCatchAll(route.match)) return routes;
    }
  }
  return routes;
}

function translateRoute(
  virtualService: ResolvedVirtualService,
  rule: HTTPRoute,
  match: HTTPMatchRequest | undefined,
  context: RouteContext,
): Route | undefined {
  const edits = headerEdits(rule.headers);
  const route = create(RouteSchema, {
    name: match?.name ? `${rule.name}.${match.name}` : rule.name,
    match: routeMatch(match, hasIngressSemantics(virtualService.object)),
    metadata: configMetadata(virtualService.object),
    requestHeadersToAdd: edits.requestHeadersToAdd,
    requestHeadersToRemove: edits.requestHeadersToRemove,
    responseHeadersToAdd: edits.responseHeadersToAdd,
    responseHeadersToRemove: edits.responseHeadersToRemove,
    typedPerFilterConfig: routeFilterConfigs(rule),
    statPrefix: match?.statPrefix ?? "",
  });
  if (rule.redirect) {
    route.action = { case: "redirect", value: redirect(rule.redirect, context) };
  } else if (rule.directResponse) {
    const { status, body } = rule.directResponse;
    const inline =
      body?.string !== undefined
        ? ({ case: "inlineString", value: body.string } as const)
        : body?.bytes !== undefined
          ? ({ case: "inlineBytes", value: body.bytes } as const)
          : undefined;
    route.action = {
      case: "directResponse",
      value: {
        $typeName: "envoy.config.route.v3.DirectResponseAction",
        status,
        ...(inline ? { body: { $typeName: "envoy.config.core.v3.DataSource", specifier: inline } } : {}),
      },
    };
  } else if (rule.route.length > 0) {
    route.action = { case: "route", value: routeAction(route, virtualService, rule, edits.authority, context) };
  } else {
    return undefined;
  }
  route.decorator = { $typeName: "envoy.config.route.v3.Decorator", operation: operationName(route, virtualService.name, context.port) };
  return route;
}

function routeAction(
  route: Route,
  virtualService: ResolvedVirtualService,
  rule: HTTPRoute,
  headerAuthority: string,
  context: RouteContext,
): RouteAction {
  const authority = rule.rewrite?.authority || headerAuthority;
  const timeout = duration(rule.timeout ?? 0);
  const action = create(RouteActionSchema, {
    timeout,
    // Requests that carry a grpc-timeout keep to the route's as well.
    maxGrpcTimeout: timeout,
    ...(authority ? { hostRewriteSpecifier: { case: "hostRewriteLiteral", value: authority } } : {}),
  });
  if (rule.rewrite?.uriRegexRewrite) {
    action.regexRewrite = create(RegexMatchAndSubstituteSchema, {
      pattern: { regex: rule.rewrite.uriRegexRewrite.match },
      substitution: rule.rewrite.uriRegexRewrite.rewrite,
    });
  } else if (rule.rewrite?.uri) {
    action.prefixRewrite = rule.rewrite.uri;
  }
  const clusterOf = (destination: Destination | undefined) => destinationCluster(destination, virtualService.namespace, context);
  for (const mirror of mirrors(rule)) {
    action.requestMirrorPolicies.push(
      create(RouteAction_RequestMirrorPolicySchema, {
        cluster: clusterOf(mirror.destination),
        runtimeFraction: { defaultValue: fractionalPercent(mirror.percent) },
        traceSampled: false,
        disableShadowHostSuffixAppend: true,
      }),
    );
  }

  const [only] = rule.route;
  let isConsistentHash = false;
  const addHash = (entry: HTTPRouteDestination) => {
    const hash = consistentHash(entry.destination, virtualService.namespace, context);
    const policy = hash && hashPolicy(hash);
    if (policy) action.hashPolicy.push(policy);
    return hash !== undefined;
  };
  if (only && rule.route.length === 1) {
    action.clusterSpecifier = { case: "cluster", value: clusterOf(only.destination) };
    const own = headerEdits(only.headers);
    route.requestHeadersToAdd.push(...own.requestHeadersToAdd);
    route.requestHeadersToRemove.push(...own.requestHeadersToRemove);
    route.responseHeadersToAdd.push(...own.responseHeadersToAdd);
    route.responseHeadersToRemove.push(...own.responseHeadersToRemove);
    if (own.authority && !action.hostRewriteSpecifier.case)
      action.hostRewriteSpecifier = { case: "hostRewriteLiteral", value: own.authority };
    isConsistentHash = addHash(only);
  } else {
    const weighted = rule.route.filter((entry) => entry.weight > 0);
    action.clusterSpecifier = {
      case: "weightedClusters",
      value: create(WeightedClusterSchema, { clusters: weighted.map((entry) => weightedCluster(entry, clusterOf(entry.destination))) }),
    };
    for (const entry of weighted) addHash(entry);
  }
  const policy = retryPolicy(rule.retries ?? context.push.mesh.defaultHttpRetryPolicy, isConsistentHash);
  if (policy) action.retryPolicy = policy;
  return action;
}

function weightedCluster(entry: HTTPRouteDestination, name: string): WeightedCluster_ClusterWeight {
  const edits = headerEdits(entry.headers);
  return create(WeightedCluster_ClusterWeightSchema, {
    name,
    weight: entry.weight,
    requestHeadersToAdd: edits.requestHeadersToAdd,
    requestHeadersToRemove: edits.requestHeadersToRemove,
    responseHeadersToAdd: edits.responseHeadersToAdd,
    responseHeadersToRemove: edits.responseHeadersToRemove,
    ...(edits.authority ? { hostRewriteSpecifier: { case: "hostRewriteLiteral", value: edits.authority } } : {}),
  });
}

/** `mirror` with its percentage, then `mirrors`; 0 % is no mirror at all. */
function mirrors(rule: HTTPRoute): { destination: Destination | undefined; percent: number }[] {
  const list: { destination: Destination | undefined; percent: number }[] = [];
  if (rule.mirror) list.push({ destination: rule.mirror, percent: rule.mirrorPercentage?.value ?? rule.mirrorPercent ?? 100 });
  for (const mirror of rule.mirrors) list.push({ destination: mirror.destination, percent: mirror.percentage?.value ?? 100 });
  return list.filter((mirror) => mirror.destination !== undefined && mirror.percent > 0);
}

/** Name of the cluster that a destination means. An unknown host still names one: the proxy answers 503 NC, as in Istio. */
export function destinationCluster(destination: Destination | undefined, namespace: string, context: RouteContext): string {
  if (!destination) return "";
  const { proxy, push, services } = context;
  const service = services ? services.get(destination.host) : push.destinationService(proxy, destination.host, namespace);
  return outboundCluster(destination.host, destinationPort(destination, service, context.port), destination.subset);
}

/** Without a port: the service's only one, else the listener's own. */
function destinationPort(destination: Destination, service: Service | undefined, listenerPort: number): number {
  if (destination.port?.number) return destination.port.number;
  return service?.ports.length === 1 ? service.ports[0]!.number : listenerPort;
}

export function consistentHash(
  destination: Destination | undefined,
  namespace: string,
  context: RouteContext,
): ConsistentHashLB | undefined {
  if (!destination) return undefined;
  const service = context.push.destinationService(context.proxy, destination.host, namespace);
  return service && serviceHash(service, destination.subset, destinationPort(destination, service, context.port), context);
}

/** `subset` is "" for all of the service. */
export function serviceHash(
  service: Service,
  subset: string,
  port: number,
  { proxy, push }: Pick<RouteContext, "proxy" | "push">,
): ConsistentHashLB | undefined {
  const rule = push.destinationRules.forService(proxy, service);
  const policy = rule?.spec.subsets.find((candidate) => candidate.name === subset)?.trafficPolicy;
  return policyForSubset(rule?.spec.trafficPolicy, policy, port)?.loadBalancer?.consistentHash;
}

export function hashPolicy(hash: ConsistentHashLB): RouteAction_HashPolicy | undefined {
  if (hash.httpHeaderName !== undefined) {
    return create(RouteAction_HashPolicySchema, { policySpecifier: { case: "header", value: { headerName: hash.httpHeaderName } } });
  }
  if (hash.httpCookie) {
    const { name, path, ttl, attributes } = hash.httpCookie;
    return create(RouteAction_HashPolicySchema, {
      policySpecifier: { case: "cookie", value: { name, path, attributes, ...(ttl === undefined ? {} : { ttl: duration(ttl) }) } },
    });
  }
  if (hash.useSourceIp !== undefined) {
    const value = { sourceIp: hash.useSourceIp };
    return create(RouteAction_HashPolicySchema, { policySpecifier: { case: "connectionProperties", value } });
  }
  if (hash.httpQueryParameterName !== undefined) {
    return create(RouteAction_HashPolicySchema, {
      policySpecifier: { case: "queryParameter", value: { name: hash.httpQueryParameterName } },
    });
  }
  return undefined;
}

const redirectCodes: Record<number, RedirectAction_RedirectResponseCode> = {
  0: RedirectAction_RedirectResponseCode.MOVED_PERMANENTLY,
  301: RedirectAction_RedirectResponseCode.MOVED_PERMANENTLY,
  302: RedirectAction_RedirectResponseCode.FOUND,
  303: RedirectAction_RedirectResponseCode.SEE_OTHER,
  307: RedirectAction_RedirectResponseCode.TEMPORARY_REDIRECT,
  308: RedirectAction_RedirectResponseCode.PERMANENT_REDIRECT,
};

function redirect(spec: HTTPRedirect, context: RouteContext): RedirectAction {
  const scheme = spec.scheme || (context.isTls ? "https" : "http");
  let port = spec.port ?? (spec.derivePort === "FROM_REQUEST_PORT" ? context.port : 0);
  // The default port of the scheme is not written out.
  if ((port === 80 && scheme === "http") || (port === 443 && scheme === "https")) port = 0;
  return create(RedirectActionSchema, {
    hostRedirect: spec.authority,
    portRedirect: port,
    ...(spec.scheme ? { schemeRewriteSpecifier: { case: "schemeRedirect", value: spec.scheme } } : {}),
    pathRewriteSpecifier: spec.prefixRewrite
      ? { case: "prefixRewrite", value: spec.prefixRewrite }
      : { case: "pathRedirect", value: spec.uri },
    responseCode: redirectCodes[spec.redirectCode] ?? RedirectAction_RedirectResponseCode.MOVED_PERMANENTLY,
  });
}

/** What traces call the route: `host:port/path*`, with the VirtualService's name where there are several destinations. */
function operationName(route: Route, virtualServiceName: string, port: number): string {
  const path = route.match?.pathSpecifier;
  const suffix =
    path?.case === "prefix" ? `${path.value}*` : path?.case === "path" ? path.value : path?.case === "safeRegex" ? path.value.regex : "/*";
  const cluster =
    route.action.case === "route" && route.action.value.clusterSpecifier.case === "cluster"
      ? route.action.value.clusterSpecifier.value
      : "";
  const parsed = parseClusterName(cluster);
  return parsed ? `${parsed.host}:${parsed.port}${suffix}` : `${virtualServiceName}:${port}${suffix}`;
}
