/** What an HTTP answer to a health check means. */
import { containsBlocks, type HttpCheck, isInRanges } from "./health-check-config.ts";
import { failed, type ProbeOutcome } from "./health-probe.ts";

export interface HttpAnswer {
  readonly status: number;
  /** By name in lower case. */
  readonly header: (name: string) => string | undefined;
  readonly body: Buffer;
}

/** `onServiceName`: the name of the service behind the answer is looked at. */
export function judgeHttpAnswer(check: HttpCheck, { status, header, body }: HttpAnswer, onServiceName: () => void): ProbeOutcome {
  const wantsExclusion = header("x-envoy-immediate-health-check-fail") !== undefined;
  if (check.receive.length > 0 && !containsBlocks(body, check.receive)) return { kind: "failed", isRetriable: false, wantsExclusion };
  if (!isInRanges(status, check.expected)) return { kind: "failed", isRetriable: isInRanges(status, check.retriable), wantsExclusion };
  if (check.serviceName !== null) {
    onServiceName();
    if (!check.serviceName(header("x-envoy-upstream-healthchecked-cluster") ?? "")) return failed;
  }
  return { kind: "passed", isDegraded: header("x-envoy-degraded") !== undefined };
}
