/**
 * envoy.filters.http.ratelimit: a service that counts for many proxies says whether a request may pass, by descriptors that `rate_limits`
 * make of it: the route's own for this filter, else the filter's, else those of the route and its virtual host. Requests without
 * descriptors, and those that go nowhere, are not asked about.
 */
import {
  RateLimit_XRateLimitHeadersRFCVersion as HeadersVersion,
  type RateLimit,
  type RateLimitPerRoute,
  RateLimitPerRouteSchema,
  RateLimitSchema,
  RateLimitPerRoute_VhRateLimitsOptions as VhOptions,
} from "../../../../api/gen/envoy/extensions/filters/http/ratelimit/v3/rate_limit_pb.js";
import { grpcStatusNumber } from "../../../../api/grpc-status.ts";
import type { CompileContext } from "../../../compile-context.ts";
import { durationMs } from "../../../duration.ts";
import { drawn, runtimeFraction } from "../../../fraction.ts";
import { getHeader, removeHeader } from "../../../http/header-list.ts";
import { defineHttpFilter, type FilterCompileContext, type FilterStatus, type HttpFilter } from "../../../http/http-filter.ts";
import type { HttpStream } from "../../../http/http-stream.ts";
import { applyHeaderEdits, compileHeaderEdits, type HeaderEdit } from "../../../router/header-mutation.ts";
import {
  compileFilterRateLimits,
  type Descriptor,
  descriptorsOf,
  type RateLimitPolicy,
  type VirtualHostRateLimits,
} from "../../../router/rate-limit-policy.ts";
import { type HeaderList, responseFlags } from "../../../stream-info.ts";
import type { AsyncCall } from "../../../upstream/async-client.ts";
import { GrpcService } from "../../../upstream/grpc-service.ts";
import { RateLimitClient, type RateLimitVerdict } from "../../ratelimit/rate-limit-client.ts";
import { disabledFilter } from "../disabled-filter.ts";
import { limitHeaders } from "./limit-headers.ts";
import { RateLimitStats } from "./rate-limit-stats.ts";

const metadataNamespace = "envoy.filters.http.ratelimit";
const defaultTimeoutMs = 20;
const tooManyRequests = 429;
const internalError = 500;
const resourceExhausted = grpcStatusNumber("RESOURCE_EXHAUSTED");

interface RoutePolicy {
  readonly virtualHost: VirtualHostRateLimits;
  /** "": the filter's. */
  readonly domain: string;
  readonly rateLimits: RateLimitPolicy;
}

/** A request that is being asked about, or was. */
interface Inquiry {
  call: AsyncCall | null;
  responseHeaders: HeaderList;
}

class RateLimitFilter implements HttpFilter {
  readonly name: string;
  readonly #slot: number;
  readonly #client: RateLimitClient;
  readonly #stats: RateLimitStats;
  readonly #domain: string;
  readonly #stage: number;
  readonly #requests: "both" | "internal" | "external";
  /** Shares of the requests, in [0, 1]: that are asked about, that are refused when over the limit, and when there is no answer. */
  readonly #enabledChance: number;
  readonly #enforcedChance: number;
  readonly #denyChance: number;
  readonly #rateLimits: RateLimitPolicy;
  readonly #status: number;
  readonly #errorStatus: number;
  readonly #isResourceExhausted: boolean;
  readonly #tellsLimits: boolean;
  readonly #tellsLimited: boolean;
  readonly #edits: readonly HeaderEdit[];

  constructor(name: string, config: RateLimit, context: FilterCompileContext) {
    this.name = name;
    this.#slot = context.slot;
    const timeoutMs = durationMs(config.timeout, defaultTimeoutMs);
    this.#client = new RateLimitClient(new GrpcService(config.rateLimitService?.grpcService, context.clusters, timeoutMs));
    this.#stats = new RateLimitStats(config.statPrefix, context.stats);
    this.#domain = config.domain;
    this.#stage = config.stage;
    this.#requests = config.requestType === "internal" || config.requestType === "external" ? config.requestType : "both";
    this.#enabledChance = runtimeFraction(config.filterEnabled, 1);
    this.#enforcedChance = runtimeFraction(config.filterEnforced, 1);
    this.#denyChance = runtimeFraction(config.failureModeDenyPercent, config.failureModeDeny ? 1 : 0);
    this.#rateLimits = compileFilterRateLimits(config.rateLimits, context.nodeCluster);
    this.#status = atLeast400(config.rateLimitedStatus?.code, tooManyRequests);
    this.#errorStatus = atLeast400(config.statusOnError?.code, internalError);
    this.#isResourceExhausted = config.rateLimitedAsResourceExhausted;
    this.#tellsLimits = config.enableXRatelimitHeaders === HeadersVersion.DRAFT_VERSION_03;
    this.#tellsLimited = !config.disableXEnvoyRatelimitedHeader;
    this.#edits = compileHeaderEdits(config.responseHeadersToAdd, []);
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    const policy = stream.perFilterConfig(this.name);
    if (policy === disabledFilter || !drawn(this.#enabledChance) || !this.#concerns(stream)) return "continue";
    if (stream.cluster === undefined) return "continue";
    const route = policy as RoutePolicy | undefined;
    const descriptors = this.#describe(stream, route, false);
    if (descriptors.length === 0 && !this.#countsAfterwards(stream, route)) return "continue";
    const inquiry: Inquiry = { call: null, responseHeaders: [] };
    stream.filterState ??= [];
    stream.filterState[this.#slot] = inquiry;
    if (descriptors.length === 0) return "continue";
    inquiry.call = this.#client.ask(route?.domain || this.#domain, descriptors, stream.info, (verdict) => {
      inquiry.call = null;
      if (stream.isEnded) return;
      stream.connection.now = performance.now();
      this.#conclude(stream, inquiry, verdict);
    });
    return "stop";
  }

  onResponseHeaders(stream: HttpStream): FilterStatus {
    const inquiry = stream.filterState?.[this.#slot] as Inquiry | undefined;
    if (inquiry !== undefined) stream.info.responseHeaders.push(...inquiry.responseHeaders);
    return "continue";
  }

  onStreamEnd(stream: HttpStream): void {
    const inquiry = stream.filterState?.[this.#slot] as Inquiry | undefined;
    if (inquiry === undefined) return;
    if (inquiry.call === null) this.#countAfterwards(stream);
    else inquiry.call.cancel();
  }

  /** Which comes before those of routes and virtual hosts; empty: there is none. */
  #ownPolicy(route: RoutePolicy | undefined): RateLimitPolicy {
    return route !== undefined && !route.rateLimits.isEmpty ? route.rateLimits : this.#rateLimits;
  }

  #describe(stream: HttpStream, route: RoutePolicy | undefined, afterwards: boolean): Descriptor[] {
    const own = this.#ownPolicy(route);
    if (!own.isEmpty) return own.descriptorsOf(stream, afterwards);
    return descriptorsOf(stream, this.#stage, route?.virtualHost ?? "override", { withDisableKey: true, afterwards });
  }

  #countsAfterwards({ route }: HttpStream, policy: RoutePolicy | undefined): boolean {
    const own = this.#ownPolicy(policy);
    if (!own.isEmpty) return own.hasAfterwards;
    return route?.action.kind === "forward" && (route.action.rateLimits.hasAfterwards || route.scope.rateLimits.hasAfterwards);
  }

  /** The service is told, and its answer concerns nobody. */
  #countAfterwards(stream: HttpStream): void {
    const route = stream.perFilterConfig(this.name) as RoutePolicy | undefined;
    if (!this.#countsAfterwards(stream, route)) return;
    const descriptors = this.#describe(stream, route, true);
    if (descriptors.length > 0) this.#client.ask(route?.domain || this.#domain, descriptors, stream.info, () => {});
  }

  #concerns({ info }: HttpStream): boolean {
    if (this.#requests === "both") return true;
    return (getHeader(info.requestHeaders, "x-envoy-internal") === "true") === (this.#requests === "internal");
  }

  #conclude(stream: HttpStream, inquiry: Inquiry, verdict: RateLimitVerdict): void {
    const { info } = stream;
    if (verdict.kind === "failed") {
      this.#stats.count(stream, "error");
      this.#onFailure(stream);
      return;
    }
    for (const [key, value] of Object.entries(verdict.metadata)) info.setDynamicMetadata(metadataNamespace, key, value);
    const headers: HeaderList = [...verdict.responseHeaders];
    if (verdict.kind === "overLimit") {
      this.#stats.count(stream, "over_limit");
      this.#stats.chargeCluster(stream, this.#status);
      if (this.#tellsLimited) headers.push("x-envoy-ratelimited", "true");
    } else this.#stats.count(stream, "ok");
    if (this.#tellsLimits) headers.push(...limitHeaders(verdict.statuses));
    if (verdict.kind === "overLimit" && drawn(this.#enforcedChance)) {
      this.#limit(stream, headers, verdict.body);
      return;
    }
    inquiry.responseHeaders = headers;
    info.requestHeaders.push(...verdict.requestHeaders);
    stream.continueRequest();
  }

  #limit(stream: HttpStream, headers: HeaderList, body: string): void {
    applyHeaderEdits(this.#edits, headers, stream.info);
    if (body === "") removeHeader(headers, "content-type");
    stream.info.flags |= responseFlags.RateLimited;
    if (this.#isResourceExhausted) stream.localReplyGrpcStatus = resourceExhausted;
    stream.sendLocalReply(this.#status, body, "request_rate_limited", headers);
  }

  #onFailure(stream: HttpStream): void {
    if (!drawn(this.#denyChance)) {
      this.#stats.count(stream, "failure_mode_allowed");
      stream.continueRequest();
      return;
    }
    stream.info.flags |= responseFlags.RateLimitServiceError;
    stream.sendLocalReply(this.#errorStatus, "", "rate_limiter_error");
  }
}

/** Nobody shall take a refusal for success. */
function atLeast400(status: number | undefined, fallback: number): number {
  return status !== undefined && status >= 400 ? status : fallback;
}

const fromVirtualHost: Readonly<Record<VhOptions, VirtualHostRateLimits>> = {
  [VhOptions.OVERRIDE]: "override",
  [VhOptions.INCLUDE]: "include",
  [VhOptions.IGNORE]: "ignore",
};

/** `override_option` has no effect in Envoy either. */
function compileRoutePolicy({ vhRateLimits, domain, rateLimits }: RateLimitPerRoute, { nodeCluster }: CompileContext): RoutePolicy {
  return { virtualHost: fromVirtualHost[vhRateLimits] ?? "override", domain, rateLimits: compileFilterRateLimits(rateLimits, nodeCluster) };
}

export const rateLimit = defineHttpFilter({
  name: "envoy.filters.http.ratelimit",
  schema: RateLimitSchema,
  create: (config, context, name) => new RateLimitFilter(name, config, context),
  perRoute: { schema: RateLimitPerRouteSchema, compile: compileRoutePolicy },
});
