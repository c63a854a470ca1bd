import { STATUS_CODES } from "node:http";
import type { HTTPRetry } from "../kinds/virtual-service.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkDuration } from "./scalars.ts";

/** Envoy's conditions for HTTP, then those for gRPC. */
const conditions = new Set([
  "5xx",
  "gateway-error",
  "reset",
  "reset-before-request",
  "connect-failure",
  "retriable-4xx",
  "refused-stream",
  "retriable-status-codes",
  "retriable-headers",
  "envoy-ratelimited",
  "http3-post-connect-failure",
  "cancelled",
  "deadline-exceeded",
  "internal",
  "resource-exhausted",
  "unavailable",
]);

export function checkRetries(retries: HTTPRetry | undefined, report: FieldReport): void {
  if (!retries) return;
  if (retries.attempts < 0) report.at("attempts").error("must not be negative");
  if (
    retries.attempts === 0 &&
    (retries.perTryTimeout !== undefined || retries.retryOn !== "" || retries.retryRemoteLocalities !== undefined)
  ) {
    report.at("attempts").error("is 0, which turns retries off, so that the other fields have no meaning");
  }
  checkDuration(retries.perTryTimeout, report.at("perTryTimeout"));
  checkDuration(retries.backoff, report.at("backoff"));
  if (retries.retryOn === "") return;
  for (const condition of retries.retryOn.split(",")) {
    if (!conditions.has(condition) && !Object.hasOwn(STATUS_CODES, condition)) {
      report.at("retryOn").error(`${JSON.stringify(condition)} is not a condition to retry on`);
    }
  }
}
