/**
 * envoy.filters.http.cors: answers preflights, and tells browsers which origins may read a response. The policy comes with the route;
 * without one the filter does nothing. What it allows it says with the origin that asked, never with `*`.
 * Source: Envoy cors filter; reference behaviour measured on Envoy 1.40.
 */

import type { CorsPolicy as CorsPolicyMessage } from "../../../api/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { CorsPolicySchema, CorsSchema } from "../../../api/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { runtimeFraction } from "../../fraction.ts";
import { getHeader, hasHeader, setHeader } from "../../http/header-list.ts";
import { defineHttpFilter, type FilterCompileContext, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { compileStringMatcher, type StringPredicate } from "../../router/string-matcher.ts";
import type { StatIndex } from "../../stats/store.ts";

interface CorsPolicy {
  readonly origins: readonly StringPredicate[];
  readonly enabledFraction: number;
  readonly allowMethods: string;
  readonly allowHeaders: string;
  readonly exposeHeaders: string;
  readonly maxAge: string;
  readonly allowsCredentials: boolean;
  readonly allowsPrivateNetwork: boolean;
  readonly forwardsOtherPreflights: boolean;
}

/** What a request leaves for its response: the origin to name. */
interface Allowed {
  readonly policy: CorsPolicy;
  readonly origin: string;
}

class CorsFilter implements HttpFilter {
  readonly name: string;
  readonly #slot: number;
  readonly #context: FilterCompileContext;
  readonly #originValid: StatIndex;
  readonly #originInvalid: StatIndex;

  constructor(name: string, context: FilterCompileContext) {
    this.name = name;
    this.#slot = context.slot;
    this.#context = context;
    this.#originValid = context.stats.counter(`${context.statPrefix}cors.origin_valid`);
    this.#originInvalid = context.stats.counter(`${context.statPrefix}cors.origin_invalid`);
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    const policy = stream.perFilterConfig(this.name) as CorsPolicy | undefined;
    if (policy?.origins === undefined || (policy.enabledFraction < 1 && Math.random() >= policy.enabledFraction)) return "continue";
    const headers = stream.info.requestHeaders;
    const origin = getHeader(headers, "origin");
    if (origin === undefined || origin === "") return "continue";
    const isPreflight = stream.info.method === "OPTIONS" && hasHeader(headers, "access-control-request-method");
    if (!policy.origins.some((matches) => matches(origin))) {
      this.#context.stats.add(this.#originInvalid, 1);
      if (isPreflight && !policy.forwardsOtherPreflights) this.#answer(stream, []);
      return "continue";
    }
    this.#context.stats.add(this.#originValid, 1);
    if (isPreflight) {
      this.#answer(stream, preflightHeaders(policy, origin, getHeader(headers, "access-control-request-private-network") === "true"));
      return "stop";
    }
    stream.filterState ??= [];
    stream.filterState[this.#slot] = { policy, origin } satisfies Allowed;
    return "continue";
  }

  onResponseHeaders(stream: HttpStream): FilterStatus {
    const allowed = stream.filterState?.[this.#slot] as Allowed | undefined;
    if (allowed === undefined) return "continue";
    const { policy, origin } = allowed;
    const headers = stream.info.responseHeaders;
    setHeader(headers, "access-control-allow-origin", origin);
    if (policy.allowsCredentials) setHeader(headers, "access-control-allow-credentials", "true");
    if (policy.exposeHeaders !== "") setHeader(headers, "access-control-expose-headers", policy.exposeHeaders);
    return "continue";
  }

  #answer(stream: HttpStream, headers: string[]): void {
    stream.info.responseCodeDetails = "cors_response";
    stream.respond(200, headers, true);
    stream.codec.flush();
  }
}

function preflightHeaders(policy: CorsPolicy, origin: string, asksPrivateNetwork: boolean): string[] {
  const headers = ["access-control-allow-origin", origin];
  if (policy.allowsCredentials) headers.push("access-control-allow-credentials", "true");
  if (policy.allowMethods !== "") headers.push("access-control-allow-methods", policy.allowMethods);
  if (policy.allowHeaders !== "") headers.push("access-control-allow-headers", policy.allowHeaders);
  if (policy.exposeHeaders !== "") headers.push("access-control-expose-headers", policy.exposeHeaders);
  if (policy.maxAge !== "") headers.push("access-control-max-age", policy.maxAge);
  if (policy.allowsPrivateNetwork && asksPrivateNetwork) headers.push("access-control-allow-private-network", "true");
  return headers;
}

function compilePolicy(message: CorsPolicyMessage): CorsPolicy {
  return {
    origins: message.allowOriginStringMatch.map(compileStringMatcher),
    enabledFraction: runtimeFraction(message.filterEnabled, 1),
    allowMethods: message.allowMethods,
    allowHeaders: message.allowHeaders,
    exposeHeaders: message.exposeHeaders,
    maxAge: message.maxAge,
    allowsCredentials: message.allowCredentials ?? false,
    allowsPrivateNetwork: message.allowPrivateNetworkAccess ?? false,
    forwardsOtherPreflights: message.forwardNotMatchingPreflights ?? true,
  };
}

export const cors = defineHttpFilter({
  name: "envoy.filters.http.cors",
  schema: CorsSchema,
  create: (_, context, name) => new CorsFilter(name, context),
  perRoute: { schema: CorsPolicySchema, compile: compilePolicy },
});
