/** envoy.config.route.v3.RetryPolicy, and what request headers make of it, compiled; see reference 3.6 of Envoy's behaviour. */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../../api/config-error.ts";
import { resolveTypedStruct } from "../../api/envoy/typed-struct.ts";
import type {
  RetryPolicy_RetryPriority,
  RetryPolicy as RetryPolicyMessage,
} from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { PreviousPrioritiesConfigSchema } from "../../api/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { durationMs } from "../duration.ts";
import { getHeader } from "../http/header-list.ts";
import type { HeaderList } from "../stream-info.ts";
import { compileHeaderListMatcher } from "./header-matcher.ts";

/** Bits of `retry_on`. */
export const retryOnBits = {
  "5xx": 1 << 0,
  "gateway-error": 1 << 1,
  "connect-failure": 1 << 2,
  "retriable-4xx": 1 << 3,
  "refused-stream": 1 << 4,
  cancelled: 1 << 5,
  "deadline-exceeded": 1 << 6,
  "resource-exhausted": 1 << 7,
  unavailable: 1 << 8,
  internal: 1 << 9,
  "retriable-status-codes": 1 << 10,
  reset: 1 << 11,
  "retriable-headers": 1 << 12,
  "envoy-ratelimited": 1 << 13,
  "reset-before-request": 1 << 14,
} as const;

const grpcBits: Readonly<Record<number, number>> = {
  1: retryOnBits.cancelled,
  4: retryOnBits["deadline-exceeded"],
  8: retryOnBits["resource-exhausted"],
  13: retryOnBits.internal,
  14: retryOnBits.unavailable,
};

export interface RetryPolicy {
  readonly retryOn: number;
  readonly maxRetries: number;
  readonly retriableStatusCodes: ReadonlySet<number>;
  /** 0: none. */
  readonly perTryTimeoutMs: number;
  readonly perTryIdleTimeoutMs: number;
  readonly backOffBaseMs: number;
  readonly backOffMaxMs: number;
  readonly avoidsPreviousHosts: boolean;
  readonly hostSelectionAttempts: number;
  /** After so many attempts retries leave the priorities that were tried; 0: never. */
  readonly priorityUpdateFrequency: number;
  readonly retriableHeaders: readonly ((headers: HeaderList) => boolean)[];
  readonly retriableRequestHeaders: readonly ((headers: HeaderList) => boolean)[];
}

/** Names that are none of `retryOnBits` are ignored, as Envoy does. */
export function parseRetryOn(text: string): number {
  let bits = 0;
  for (const name of text.split(",")) {
    const trimmed = name.trim();
    if (Object.hasOwn(retryOnBits, trimmed)) bits |= retryOnBits[trimmed as keyof typeof retryOnBits];
  }
  return bits;
}

const defaultBackOffMs = 25;

export function compileRetryPolicy(policy: RetryPolicyMessage): RetryPolicy {
  const baseMs = durationMs(policy.retryBackOff?.baseInterval, defaultBackOffMs);
  if (policy.retryBackOff !== undefined && (policy.retryBackOff.baseInterval === undefined || baseMs <= 0)) {
    throw new ConfigError("RetryBackOff: base_interval: value must be greater than 0s");
  }
  const maxMs = durationMs(policy.retryBackOff?.maxInterval, baseMs * 10);
  if (maxMs < baseMs) throw new ConfigError("retry_policy.max_interval must greater than or equal to the base_interval");
  let avoidsPreviousHosts = false;
  for (const predicate of policy.retryHostPredicate) {
    const typeUrl = predicate.configType.case === "typedConfig" ? predicate.configType.value.typeUrl.replace(/^.*\//, "") : "";
    const known =
      typeUrl === "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate" ||
      (typeUrl === "" && predicate.name === "envoy.retry_host_predicates.previous_hosts");
    if (!known) throw unknownExtension(predicate.name, typeUrl);
    avoidsPreviousHosts = true;
  }
  // Envoy comes with none of those.
  for (const { name, typedConfig } of policy.retryOptionsPredicates) throw unknownExtension(name, typedConfig?.typeUrl ?? "");
  return {
    retryOn: parseRetryOn(policy.retryOn),
    maxRetries: policy.numRetries ?? 1,
    retriableStatusCodes: new Set(policy.retriableStatusCodes),
    perTryTimeoutMs: durationMs(policy.perTryTimeout, 0),
    perTryIdleTimeoutMs: durationMs(policy.perTryIdleTimeout, 0),
    backOffBaseMs: baseMs,
    backOffMaxMs: maxMs,
    avoidsPreviousHosts,
    hostSelectionAttempts: Number(policy.hostSelectionRetryMaxAttempts) || 1,
    priorityUpdateFrequency: priorityUpdateFrequency(policy.retryPriority),
    retriableHeaders: policy.retriableHeaders.map(compileHeaderListMatcher),
    retriableRequestHeaders: policy.retriableRequestHeaders.map(compileHeaderListMatcher),
  };
}

function priorityUpdateFrequency(priority: RetryPolicy_RetryPriority | undefined): number {
  if (priority === undefined) return 0;
  const any = priority.configType.case === "typedConfig" ? resolveTypedStruct(priority.configType.value) : undefined;
  const config = any && anyUnpack(any, PreviousPrioritiesConfigSchema);
  if (config === undefined) throw unknownExtension(priority.name, any?.typeUrl ?? "");
  return config.updateFrequency;
}

function unknownExtension(name: string, typeUrl: string): ConfigError {
  return new ConfigError(`Didn't find a registered implementation for '${name}' with type URL: '${typeUrl.replace(/^.*\//, "")}'`);
}

const noPolicy: RetryPolicy = {
  retryOn: 0,
  maxRetries: 1,
  retriableStatusCodes: new Set(),
  perTryTimeoutMs: 0,
  perTryIdleTimeoutMs: 0,
  backOffBaseMs: defaultBackOffMs,
  backOffMaxMs: defaultBackOffMs * 10,
  avoidsPreviousHosts: false,
  hostSelectionAttempts: 1,
  priorityUpdateFrequency: 0,
  retriableHeaders: [],
  retriableRequestHeaders: [],
};

/** The route's policy with what x-envoy-retry-* request headers change (external requests have lost those by now), or null when
 *  nothing may be retried. Hot: without policy and headers it is one walk over the headers. */
export function retryPolicyFor(policy: RetryPolicy | null, headers: HeaderList): RetryPolicy | null {
  let hasHeaders = false;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    if (name.length < 16 || !name.startsWith("x-envoy-")) continue;
    if (
      name === "x-envoy-retry-on" ||
      name === "x-envoy-retry-grpc-on" ||
      name === "x-envoy-max-retries" ||
      name === "x-envoy-retriable-status-codes" ||
      name === "x-envoy-upstream-rq-per-try-timeout-ms"
    ) {
      hasHeaders = true;
    }
  }
  if (policy !== null && policy.retriableRequestHeaders.length > 0 && !policy.retriableRequestHeaders.some((test) => test(headers))) {
    policy = null;
  }
  if (!hasHeaders) return policy === null || policy.retryOn === 0 ? (policy?.perTryTimeoutMs ? policy : null) : policy;
  const base = policy ?? noPolicy;
  const maxRetries = Number.parseInt(getHeader(headers, "x-envoy-max-retries") ?? "", 10);
  const perTry = Number.parseInt(getHeader(headers, "x-envoy-upstream-rq-per-try-timeout-ms") ?? "", 10);
  const codes = getHeader(headers, "x-envoy-retriable-status-codes");
  const added = codes?.split(",").map(Number).filter(Number.isInteger) ?? [];
  return {
    ...base,
    retryOn:
      base.retryOn |
      parseRetryOn(getHeader(headers, "x-envoy-retry-on") ?? "") |
      parseRetryOn(getHeader(headers, "x-envoy-retry-grpc-on") ?? ""),
    maxRetries: Number.isNaN(maxRetries) ? base.maxRetries : maxRetries,
    perTryTimeoutMs: Number.isNaN(perTry) ? base.perTryTimeoutMs : perTry,
    retriableStatusCodes: added.length === 0 ? base.retriableStatusCodes : new Set([...base.retriableStatusCodes, ...added]),
  };
}

/** Whether an answer with these headers is one to try again. */
export function wantsRetryOnResponse(policy: RetryPolicy, status: number, headers: HeaderList): boolean {
  const on = policy.retryOn;
  if (getHeader(headers, "x-envoy-ratelimited") !== undefined && (on & retryOnBits["envoy-ratelimited"]) === 0) return false;
  if (getHeader(headers, "x-envoy-ratelimited") !== undefined) return true;
  if (on & retryOnBits["5xx"] && status >= 500 && status < 600) return true;
  if (on & retryOnBits["gateway-error"] && status >= 502 && status <= 504) return true;
  if (on & retryOnBits["retriable-4xx"] && status === 409) return true;
  if (on & retryOnBits["retriable-status-codes"] && policy.retriableStatusCodes.has(status)) return true;
  if (on & retryOnBits["retriable-headers"] && policy.retriableHeaders.some((test) => test(headers))) return true;
  const grpcStatus = getHeader(headers, "grpc-status");
  return grpcStatus !== undefined && (on & (grpcBits[Number(grpcStatus)] ?? 0)) !== 0;
}

/** Uniform below a bound that doubles from the base with each retry, capped. `retry` counts from 1. */
export function backOffMs(policy: RetryPolicy, retry: number): number {
  const bound = Math.min(policy.backOffMaxMs, policy.backOffBaseMs * 2 ** (retry - 1));
  return Math.floor(Math.random() * bound);
}
