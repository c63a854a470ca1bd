/** HTTPRetry to Envoy's RetryPolicy, with Istio's default. Source: Istio pilot/pkg/networking/core/route/retry/retry.go. */
import { create } from "@bufbuild/protobuf";
import { type RetryPolicy, RetryPolicySchema } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { PreviousHostsPredicateSchema } from "../../api/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { PreviousPrioritiesConfigSchema } from "../../api/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import type { HTTPRetry } from "../../api/kinds/virtual-service.ts";
import { any, duration } from "./messages.ts";

const defaultRetryOn = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const defaultAttempts = 2;

/** Undefined: no retries. With a consistent hash the same endpoint is wanted again, so previous hosts are not avoided. */
export function retryPolicy(retry: HTTPRetry | undefined, isConsistentHash: boolean): RetryPolicy | undefined {
  if (retry && retry.attempts <= 0) return undefined;
  const avoidsPrevious = !(retry?.retryIgnorePreviousHosts === false) && !isConsistentHash;
  const { retryOn, statusCodes } = parseRetryOn(retry?.retryOn || defaultRetryOn);
  return create(RetryPolicySchema, {
    retryOn,
    retriableStatusCodes: statusCodes,
    numRetries: retry?.attempts ?? defaultAttempts,
    ...(avoidsPrevious
      ? {
          retryHostPredicate: [
            {
              name: "envoy.retry_host_predicates.previous_hosts",
              configType: { case: "typedConfig", value: any(PreviousHostsPredicateSchema, {}) },
            },
          ],
          hostSelectionRetryMaxAttempts: 5n,
        }
      : {}),
    ...(retry?.perTryTimeout ? { perTryTimeout: duration(retry.perTryTimeout) } : {}),
    ...(retry?.backoff ? { retryBackOff: { baseInterval: duration(retry.backoff) } } : {}),
    ...(retry?.retryRemoteLocalities
      ? {
          retryPriority: {
            name: "envoy.retry_priorities.previous_priorities",
            configType: { case: "typedConfig", value: any(PreviousPrioritiesConfigSchema, { updateFrequency: 2 }) },
          },
        }
      : {}),
  });
}

/** Status codes may stand among the conditions; they are a list of their own to Envoy, switched on by a condition. */
function parseRetryOn(text: string): { retryOn: string; statusCodes: number[] } {
  const conditions: string[] = [];
  const statusCodes: number[] = [];
  for (const part of text
    .split(",")
    .map((entry) => entry.trim())
    .filter(Boolean)) {
    if (/^\d{3}$/.test(part)) statusCodes.push(Number(part));
    else conditions.push(part);
  }
  if (statusCodes.length > 0 && !conditions.includes("retriable-status-codes")) conditions.push("retriable-status-codes");
  return { retryOn: conditions.join(","), statusCodes };
}
