/** HTTPMatchRequest to Envoy's RouteMatch. Source: Istio pilot/pkg/networking/core/route/route.go (TranslateRouteMatch). */
import { create } from "@bufbuild/protobuf";
import {
  type HeaderMatcher,
  HeaderMatcherSchema,
  type QueryParameterMatcher,
  QueryParameterMatcherSchema,
  type RouteMatch,
  RouteMatchSchema,
} from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import type { MetadataMatcher } from "../../api/gen/envoy/type/matcher/v3/metadata_pb.js";
import { RegexMatcherSchema } from "../../api/gen/envoy/type/matcher/v3/regex_pb.js";
import type { HTTPMatchRequest, StringMatch } from "../../api/kinds/virtual-service.ts";
import type { ProxyNode } from "../../api/node.ts";
import { selectorMatches } from "../../registry/service.ts";
import { claimMatcher, presentValue, textValue } from "./authorization/claim-matcher.ts";
import { stringMatcher } from "./messages.ts";

/** Whether a match can ever hold for this proxy on this port; what can be decided now is not left to the proxy. */
export function appliesTo(match: HTTPMatchRequest | undefined, proxy: ProxyNode, gateways: ReadonlySet<string>, port: number): boolean {
  if (!match) return true;
  if (match.port !== 0 && match.port !== port) return false;
  if (match.gateways.length > 0) return match.gateways.some((gateway) => gateways.has(gateway));
  if (!selectorMatches(match.sourceLabels, proxy.labels)) return false;
  return match.sourceNamespace === "" || match.sourceNamespace === proxy.namespace;
}

/** `endsAtSlash`: a prefix ends where a part of the path does, as an Ingress means it. */
export function routeMatch(match: HTTPMatchRequest | undefined, endsAtSlash = false): RouteMatch {
  if (!match) return create(RouteMatchSchema, { pathSpecifier: { case: "prefix", value: "/" } });
  const headers: HeaderMatcher[] = [];
  const dynamicMetadata: MetadataMatcher[] = [];
  for (const name of Object.keys(match.headers).sort()) {
    const claim = routingClaim(name);
    if (claim) dynamicMetadata.push(claimCondition(claim, match.headers[name]));
    else headers.push(headerMatcher(name, match.headers[name]));
  }
  for (const name of Object.keys(match.withoutHeaders).sort()) {
    const claim = routingClaim(name);
    if (claim) dynamicMetadata.push({ ...claimCondition(claim, match.withoutHeaders[name]), invert: true });
    else headers.push(invertedMatcher(headerMatcher(name, match.withoutHeaders[name])));
  }
  if (match.method) headers.push(headerMatcher(":method", match.method));
  if (match.authority) headers.push(headerMatcher(":authority", match.authority));
  if (match.scheme) headers.push(headerMatcher(":scheme", match.scheme));
  return create(RouteMatchSchema, {
    pathSpecifier: pathSpecifier(match.uri, endsAtSlash),
    ...(match.ignoreUriCase ? { caseSensitive: false } : {}),
    headers,
    dynamicMetadata,
    queryParameters: Object.keys(match.queryParams)
      .sort()
      .map((name) => queryMatcher(name, match.queryParams[name])),
  });
}

/** A header that is missing counts as empty, except where the question is whether it is missing: Envoy would find it there. */
function invertedMatcher(matcher: HeaderMatcher): HeaderMatcher {
  const asksForPresence = matcher.headerMatchSpecifier.case === "presentMatch";
  return { ...matcher, invertMatch: true, treatMissingHeaderAsEmpty: !asksForPresence };
}

/**
 * A header that is none: `@request.auth.claims.a.b` or `@request.auth.claims[a][b]` is a claim of a token that was checked. Only gateways
 * check tokens before they route. Undefined for real headers.
 */
export function routingClaim(name: string): readonly string[] | undefined {
  const prefix = "@request.auth.claims";
  if (!name.toLowerCase().startsWith(prefix)) return undefined;
  const path = name.slice(prefix.length);
  if (/^\..+$/.test(path)) return path.slice(1).split(".");
  if (/^\[.+\]$/.test(path)) return path.slice(1, -1).split("][");
  return undefined;
}

function claimCondition(claim: readonly string[], match: StringMatch | undefined): MetadataMatcher {
  const matcher = stringMatcher(match);
  return claimMatcher(claim, matcher ? textValue(matcher) : presentValue());
}

function pathSpecifier(uri: StringMatch | undefined, endsAtSlash: boolean): RouteMatch["pathSpecifier"] {
  if (uri?.exact !== undefined) return { case: "path", value: uri.exact };
  if (endsAtSlash && uri?.prefix !== undefined && uri.prefix !== "/") {
    return { case: "pathSeparatedPrefix", value: uri.prefix.replace(/\/$/, "") };
  }
  if (uri?.prefix !== undefined) return { case: "prefix", value: uri.prefix };
  if (uri?.regex !== undefined) return { case: "safeRegex", value: create(RegexMatcherSchema, { regex: uri.regex }) };
  return { case: "prefix", value: "/" };
}

function headerMatcher(name: string, match: StringMatch | undefined): HeaderMatcher {
  const matcher = stringMatcher(match);
  return create(HeaderMatcherSchema, {
    name,
    headerMatchSpecifier: matcher ? { case: "stringMatch", value: matcher } : { case: "presentMatch", value: true },
  });
}

function queryMatcher(name: string, match: StringMatch | undefined): QueryParameterMatcher {
  const matcher = stringMatcher(match);
  return create(QueryParameterMatcherSchema, {
    name,
    queryParameterMatchSpecifier: matcher ? { case: "stringMatch", value: matcher } : { case: "presentMatch", value: true },
  });
}

/** Takes every request: nothing behind it in the same virtual host can be reached. */
export function isCatchAll(match: RouteMatch | undefined): boolean {
  if (!match || match.headers.length > 0 || match.queryParameters.length > 0 || match.dynamicMetadata.length > 0) return false;
  switch (match.pathSpecifier.case) {
    case "prefix":
    case "pathSeparatedPrefix":
      return match.pathSpecifier.value === "/";
    case "safeRegex":
      return match.pathSpecifier.value.regex === "*";
    default:
      return false;
  }
}
