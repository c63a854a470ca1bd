/**
 * envoy.filters.http.cors: answers preflights and marks responses for origins that the route's policy allows.
 * A request without Origin, or whose origin is not allowed, passes untouched (reference 3.5).
 */
import { type CorsPolicy, CorsPolicySchema, CorsSchema } from "../../../api/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { runtimeFraction } from "../../fraction.ts";
import { getHeader, setHeader } from "../../http/header-list.ts";
import { defineHttpFilter, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { compileStringMatcher, type StringPredicate } from "../../router/string-matcher.ts";
import type { StatIndex, StatsStore } from "../../stats/store.ts";
import { disabledFilter } from "./disabled-filter.ts";

interface Policy {
  readonly origins: readonly StringPredicate[];
  readonly enabledChance: number;
  readonly allowMethods: string;
  readonly allowHeaders: string;
  readonly exposeHeaders: string;
  readonly maxAge: string;
  readonly allowsCredentials: boolean;
  readonly allowsPrivateNetwork: boolean;
  readonly forwardsOtherPreflights: boolean;
}

function compilePolicy(config: CorsPolicy): Policy {
  return {
    origins: config.allowOriginStringMatch.map((matcher) => {
      const { matchPattern } = matcher;
      // `*` stands for any origin, also in the form of an exact match.
      if ((matchPattern.case === "exact" || matchPattern.case === "prefix") && matchPattern.value === "*") return () => true;
      return compileStringMatcher(matcher);
    }),
    enabledChance: runtimeFraction(config.filterEnabled, 1),
    allowMethods: config.allowMethods,
    allowHeaders: config.allowHeaders,
    exposeHeaders: config.exposeHeaders,
    maxAge: config.maxAge,
    allowsCredentials: config.allowCredentials ?? false,
    allowsPrivateNetwork: config.allowPrivateNetworkAccess ?? false,
    forwardsOtherPreflights: config.forwardNotMatchingPreflights ?? true,
  };
}

/** What the response of this request gets. */
interface Allowed {
  readonly origin: string;
  readonly policy: Policy;
}

class CorsFilter implements HttpFilter {
  readonly name: string;
  readonly #slot: number;
  readonly #stats: StatsStore;
  readonly #valid: StatIndex;
  readonly #invalid: StatIndex;

  constructor(name: string, slot: number, stats: StatsStore, statPrefix: string) {
    this.name = name;
    this.#slot = slot;
    this.#stats = stats;
    this.#valid = stats.counter(`${statPrefix}cors.origin_valid`);
    this.#invalid = stats.counter(`${statPrefix}cors.origin_invalid`);
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    const { info } = stream;
    const origin = getHeader(info.requestHeaders, "origin");
    if (origin === undefined || origin === "") return "continue";
    const policy = stream.perFilterConfig(this.name);
    if (policy === undefined || policy === disabledFilter) return "continue";
    const { origins, enabledChance, forwardsOtherPreflights } = policy as Policy;
    if (enabledChance < 1 && Math.random() >= enabledChance) return "continue";
    const isPreflight = info.method === "OPTIONS" && getHeader(info.requestHeaders, "access-control-request-method") !== undefined;
    if (!origins.some((allows) => allows(origin))) {
      this.#stats.add(this.#invalid, 1);
      if (!isPreflight || forwardsOtherPreflights) return "continue";
      this.#answer(stream, []);
      return "stop";
    }
    this.#stats.add(this.#valid, 1);
    if (!isPreflight) {
      stream.filterState ??= [];
      stream.filterState[this.#slot] = { origin, policy: policy as Policy } satisfies Allowed;
      return "continue";
    }
    this.#answer(stream, preflightHeaders(policy as Policy, origin, stream));
    return "stop";
  }

  onResponseHeaders(stream: HttpStream): FilterStatus {
    const allowed = stream.filterState?.[this.#slot] as Allowed | undefined;
    if (allowed === undefined) return "continue";
    const headers = stream.info.responseHeaders;
    setHeader(headers, "access-control-allow-origin", allowed.origin);
    if (allowed.policy.allowsCredentials) setHeader(headers, "access-control-allow-credentials", "true");
    if (allowed.policy.exposeHeaders !== "") setHeader(headers, "access-control-expose-headers", allowed.policy.exposeHeaders);
    return "continue";
  }

  #answer(stream: HttpStream, headers: string[]): void {
    stream.info.responseCodeDetails = "cors_response";
    stream.respond(200, headers, true);
  }
}

function preflightHeaders(policy: Policy, origin: string, stream: HttpStream): string[] {
  const headers = ["access-control-allow-origin", origin];
  if (policy.allowsCredentials) headers.push("access-control-allow-credentials", "true");
  if (policy.allowMethods !== "") headers.push("access-control-allow-methods", policy.allowMethods);
  if (policy.allowHeaders !== "") headers.push("access-control-allow-headers", policy.allowHeaders);
  if (policy.maxAge !== "") headers.push("access-control-max-age", policy.maxAge);
  const asksForPrivate = getHeader(stream.info.requestHeaders, "access-control-request-private-network") === "true";
  if (policy.allowsPrivateNetwork && asksForPrivate) headers.push("access-control-allow-private-network", "true");
  if (policy.exposeHeaders !== "") headers.push("access-control-expose-headers", policy.exposeHeaders);
  return headers;
}

export const cors = defineHttpFilter({
  name: "envoy.filters.http.cors",
  schema: CorsSchema,
  create: (_config, context, name) => new CorsFilter(name, context.slot, context.stats, context.statPrefix),
  perRoute: { schema: CorsPolicySchema, compile: compilePolicy },
});
