/**
 * envoy.filters.http.local_ratelimit: so many requests pass in a time, without asking anybody. The limit is the proxy's, whatever the
 * number of its workers, or each connection's. What a route's configuration says stands for all that the filter's own says.
 */
import { toBinary } from "@bufbuild/protobuf";
import { ConfigError } from "../../../api/config-error.ts";
import { VhRateLimitsOptions, XRateLimitHeadersRFCVersion } from "../../../api/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";
import {
  type LocalRateLimit,
  LocalRateLimitSchema,
} from "../../../api/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import { grpcStatusNumber } from "../../../api/grpc-status.ts";
import type { CompileContext } from "../../compile-context.ts";
import { drawn, runtimeFraction } from "../../fraction.ts";
import { defineHttpFilter, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import type { DownstreamConnection } from "../../listener/downstream-connection.ts";
import { applyHeaderEdits, compileHeaderEdits, type HeaderEdit } from "../../router/header-mutation.ts";
import {
  compileFilterRateLimits,
  type Descriptor,
  descriptorsOf,
  type RateLimitPolicy,
  type VirtualHostRateLimits,
} from "../../router/rate-limit-policy.ts";
import type { StatIndex, StatsStore } from "../../stats/store.ts";
import { type HeaderList, responseFlags } from "../../stream-info.ts";
import { checkDefaultBucket, compileLocalDescriptors, LocalLimiter, type LocalLimiterOptions } from "../ratelimit/local-limiter.ts";
import { type TokenBucket, tokenBucketOptions } from "../ratelimit/token-bucket.ts";
import { disabledFilter } from "./disabled-filter.ts";

const statNames = ["enabled", "enforced", "rate_limited", "ok", "shadow_mode"] as const;

interface Policy {
  /** Shares of the requests, in [0, 1]: those that need a token, and those that are refused without one. */
  readonly enabledChance: number;
  readonly enforcedChance: number;
  /** null: each connection has one, made of the options. */
  readonly limiter: LocalLimiter | null;
  readonly limiterOptions: LocalLimiterOptions;
  /** The filter's own; where there are any, those of routes don't count. */
  readonly rateLimits: RateLimitPolicy;
  readonly stage: number;
  readonly virtualHostRateLimits: VirtualHostRateLimits;
  readonly status: number;
  readonly isResourceExhausted: boolean;
  readonly requestEdits: readonly HeaderEdit[];
  readonly responseEdits: readonly HeaderEdit[];
  readonly tellsLimits: boolean;
  readonly at: Readonly<Record<(typeof statNames)[number], StatIndex>>;
}

const virtualHostOptions: Record<VhRateLimitsOptions, VirtualHostRateLimits> = {
  [VhRateLimitsOptions.OVERRIDE]: "override",
  [VhRateLimitsOptions.INCLUDE]: "include",
  [VhRateLimitsOptions.IGNORE]: "ignore",
};

const tooManyRequests = 429;
const resourceExhausted = grpcStatusNumber("RESOURCE_EXHAUSTED");

function compilePolicy(config: LocalRateLimit, context: CompileContext): Policy {
  if (config.localClusterRateLimit !== undefined) {
    throw new ConfigError("LocalRateLimit: local_cluster_rate_limit is not supported by this proxy");
  }
  const bucket = config.tokenBucket === undefined ? null : tokenBucketOptions(config.tokenBucket);
  if (bucket !== null) checkDefaultBucket(bucket);
  const limiterOptions: LocalLimiterOptions = {
    defaultBucket: bucket,
    descriptors: compileLocalDescriptors(config.descriptors),
    alwaysConsumesDefault: config.alwaysConsumeDefaultTokenBucket ?? true,
    maxDynamicBuckets: config.maxDynamicDescriptors ?? 20,
  };
  if (limiterOptions.descriptors.some(({ isWildcard }) => isWildcard)) {
    context.warn("LocalRateLimit: each worker of this proxy limits by itself what a descriptor without a value matches");
  }
  const identity = Buffer.from(toBinary(LocalRateLimitSchema, config)).toString("base64");
  const isPerConnection = config.localRateLimitPerDownstreamConnection;
  const status = config.status?.code ?? 0;
  const at: Record<string, StatIndex> = {};
  for (const name of statNames) at[name] = context.stats.counter(`${config.statPrefix}.http_local_rate_limit.${name}`);
  return {
    enabledChance: runtimeFraction(config.filterEnabled, 0),
    enforcedChance: runtimeFraction(config.filterEnforced, 0),
    limiter: isPerConnection ? null : new LocalLimiter(limiterOptions, () => context.cells.cell(identity)),
    limiterOptions,
    rateLimits: compileFilterRateLimits(config.rateLimits, context.nodeCluster),
    stage: config.stage,
    virtualHostRateLimits: virtualHostOptions[config.vhRateLimits] ?? "override",
    // Only errors: whoever was limited must not take it for success.
    status: status >= 400 ? status : tooManyRequests,
    isResourceExhausted: config.rateLimitedAsResourceExhausted,
    requestEdits: compileHeaderEdits(config.requestHeadersToAddWhenNotEnforced, []),
    responseEdits: compileHeaderEdits(config.responseHeadersToAdd, []),
    tellsLimits: config.enableXRatelimitHeaders === XRateLimitHeadersRFCVersion.DRAFT_VERSION_03,
    at: at as Policy["at"],
  };
}

function compileRoutePolicy(config: LocalRateLimit, context: CompileContext): Policy {
  if (config.tokenBucket === undefined) throw new ConfigError("local rate limit token bucket must be set for per filter configs");
  return compilePolicy(config, context);
}

/** Of the policy that a connection's first limited request had; it stays the connection's, for other routes too. */
const limitersOfConnections = new WeakMap<DownstreamConnection, LocalLimiter>();

function limiterOf({ limiter, limiterOptions }: Policy, connection: DownstreamConnection): LocalLimiter {
  if (limiter !== null) return limiter;
  let own = limitersOfConnections.get(connection);
  if (own === undefined) {
    own = new LocalLimiter(limiterOptions, () => ({ values: new BigInt64Array(1), at: 0 }));
    limitersOfConnections.set(connection, own);
  }
  return own;
}

/** What the response has to tell. */
interface Outcome {
  readonly bucket: TokenBucket | null;
  readonly isLimited: boolean;
}

const noDescriptors: readonly Descriptor[] = [];

function describe({ limiterOptions, rateLimits, stage, virtualHostRateLimits }: Policy, stream: HttpStream): readonly Descriptor[] {
  if (limiterOptions.descriptors.length === 0) return noDescriptors;
  return rateLimits.isEmpty
    ? descriptorsOf(stream, stage, virtualHostRateLimits, { withDisableKey: false })
    : rateLimits.descriptorsOf(stream);
}

class LocalRateLimitFilter implements HttpFilter {
  readonly name: string;
  readonly #standard: Policy;
  readonly #slot: number;
  readonly #stats: StatsStore;

  constructor(name: string, standard: Policy, slot: number, stats: StatsStore) {
    this.name = name;
    this.#standard = standard;
    this.#slot = slot;
    this.#stats = stats;
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    const override = stream.perFilterConfig(this.name);
    if (override === disabledFilter) return "continue";
    const policy = (override as Policy | undefined) ?? this.#standard;
    if (!drawn(policy.enabledChance)) return "continue";
    this.#stats.add(policy.at.enabled, 1);
    const verdict = limiterOf(policy, stream.connection).ask(describe(policy, stream));
    const told = (verdict.tellsLimits ?? policy.tellsLimits) ? verdict.bucket : null;
    if (told !== null) this.#remember(stream, { bucket: told, isLimited: false });
    if (verdict.isAllowed && !verdict.isShadowed) {
      this.#stats.add(policy.at.ok, 1);
      return "continue";
    }
    this.#stats.add(policy.at.rate_limited, 1);
    if (verdict.isAllowed) {
      this.#stats.add(policy.at.shadow_mode, 1);
      return "continue";
    }
    if (!drawn(policy.enforcedChance)) {
      applyHeaderEdits(policy.requestEdits, stream.info.requestHeaders, stream.info);
      return "continue";
    }
    this.#stats.add(policy.at.enforced, 1);
    const extra: HeaderList = [];
    applyHeaderEdits(policy.responseEdits, extra, stream.info);
    this.#remember(stream, { bucket: told, isLimited: true });
    if (policy.isResourceExhausted) stream.localReplyGrpcStatus = resourceExhausted;
    stream.sendLocalReply(policy.status, "local_rate_limited", "local_rate_limited", extra);
    return "stop";
  }

  #remember(stream: HttpStream, outcome: Outcome): void {
    stream.filterState ??= [];
    stream.filterState[this.#slot] = outcome;
  }

  onResponseHeaders(stream: HttpStream): FilterStatus {
    const outcome = stream.filterState?.[this.#slot] as Outcome | undefined;
    if (outcome === undefined) return "continue";
    const { bucket, isLimited } = outcome;
    // Not earlier: as in Envoy a local_reply_config doesn't see the flag, the access log does.
    if (isLimited) stream.info.flags |= responseFlags.RateLimited;
    if (bucket !== null) {
      const { maxTokens, remainingTokens, resetSeconds } = bucket;
      const { responseHeaders } = stream.info;
      responseHeaders.push("x-ratelimit-limit", String(maxTokens), "x-ratelimit-remaining", String(remainingTokens));
      responseHeaders.push("x-ratelimit-reset", String(resetSeconds));
    }
    return "continue";
  }
}

export const localRateLimit = defineHttpFilter({
  name: "envoy.filters.http.local_ratelimit",
  schema: LocalRateLimitSchema,
  create: (config, context, name) => new LocalRateLimitFilter(name, compilePolicy(config, context), context.slot, context.stats),
  perRoute: { schema: LocalRateLimitSchema, compile: compileRoutePolicy },
});
