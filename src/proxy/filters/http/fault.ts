/**
 * envoy.filters.http.fault: delays requests, or answers them with an error, for a share of them or by request header.
 * It stands before the router, so neither retries nor outlier detection see it (reference 7.1). First the delay, then the abort.
 */
import { ConfigError } from "../../../api/config-error.ts";
import { type HTTPFault, HTTPFaultSchema } from "../../../api/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { durationMs } from "../../duration.ts";
import { fractionOf } from "../../fraction.ts";
import { getHeader } from "../../http/header-list.ts";
import { defineHttpFilter, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { compileHeaderMatcher, type RouteCondition } from "../../router/header-matcher.ts";
import type { StatIndex, StatsStore } from "../../stats/store.ts";
import { responseFlags } from "../../stream-info.ts";
import { disabledFilter } from "./disabled-filter.ts";

interface Delay {
  /** -1: the request says it in x-envoy-fault-delay-request, in milliseconds. */
  readonly fixedMs: number;
  readonly chance: number;
}

interface Abort {
  readonly by: "httpStatus" | "grpcStatus" | "header";
  readonly status: number;
  readonly chance: number;
}

interface Policy {
  readonly delay: Delay | null;
  readonly abort: Abort | null;
  readonly upstreamCluster: string;
  readonly conditions: readonly RouteCondition[];
  readonly downstreamNodes: ReadonlySet<string>;
  readonly maxActiveFaults: number;
}

function compilePolicy(config: HTTPFault): Policy {
  if (config.responseRateLimit !== undefined) throw new ConfigError("HTTPFault: response_rate_limit is not supported by this proxy");
  return {
    delay: compileDelay(config),
    abort: compileAbort(config),
    upstreamCluster: config.upstreamCluster,
    conditions: config.headers.map(compileHeaderMatcher),
    downstreamNodes: new Set(config.downstreamNodes),
    maxActiveFaults: config.maxActiveFaults ?? Number.POSITIVE_INFINITY,
  };
}

function compileDelay({ delay }: HTTPFault): Delay | null {
  if (delay === undefined) return null;
  const chance = fractionOf(delay.percentage);
  if (delay.faultDelaySecifier.case === "fixedDelay") {
    const fixedMs = durationMs(delay.faultDelaySecifier.value, 0);
    if (fixedMs <= 0) throw new ConfigError("FaultDelay: fixed_delay: value must be greater than 0s");
    return { fixedMs, chance };
  }
  if (delay.faultDelaySecifier.case === "headerDelay") return { fixedMs: -1, chance };
  throw new ConfigError("FaultDelay: fault_delay_secifier: value is required");
}

function compileAbort({ abort }: HTTPFault): Abort | null {
  if (abort === undefined) return null;
  const chance = fractionOf(abort.percentage);
  switch (abort.errorType.case) {
    case "httpStatus":
      if (abort.errorType.value < 200 || abort.errorType.value >= 600) {
        throw new ConfigError("FaultAbort: http_status: value must be inside range [200, 600)");
      }
      return { by: "httpStatus", status: abort.errorType.value, chance };
    case "grpcStatus":
      return { by: "grpcStatus", status: abort.errorType.value, chance };
    case "headerAbort":
      return { by: "header", status: 0, chance };
    default:
      throw new ConfigError("FaultAbort: error_type: value is required");
  }
}

/** A stream under the influence of a fault. */
interface ActiveFault {
  timer: NodeJS.Timeout | null;
}

class FaultFilter implements HttpFilter {
  readonly name: string;
  readonly #standard: Policy;
  readonly #slot: number;
  readonly #stats: StatsStore;
  readonly #at: { readonly aborts: StatIndex; readonly delays: StatIndex; readonly active: StatIndex; readonly overflow: StatIndex };
  #active = 0;

  constructor(name: string, config: HTTPFault, slot: number, stats: StatsStore, statPrefix: string) {
    this.name = name;
    this.#standard = compilePolicy(config);
    this.#slot = slot;
    this.#stats = stats;
    const prefix = `${statPrefix}fault.`;
    this.#at = {
      aborts: stats.counter(`${prefix}aborts_injected`),
      delays: stats.counter(`${prefix}delays_injected`),
      active: stats.gauge(`${prefix}active_faults`),
      overflow: stats.counter(`${prefix}faults_overflow`),
    };
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    const override = stream.perFilterConfig(this.name);
    if (override === disabledFilter) return "continue";
    const policy = (override as Policy | undefined) ?? this.#standard;
    if (policy.delay === null && policy.abort === null) return "continue";
    if (!appliesTo(policy, stream)) return "continue";
    const delayMs = policy.delay === null ? 0 : delayOf(policy.delay, stream);
    if (delayMs > 0 && this.#begin(stream, policy)) {
      this.#stats.add(this.#at.delays, 1);
      stream.info.flags |= responseFlags.DelayInjected;
      const fault = stream.filterState![this.#slot] as ActiveFault;
      fault.timer = setTimeout(() => {
        fault.timer = null;
        if (stream.isEnded) return;
        stream.connection.now = performance.now();
        if (!this.#aborts(stream, policy)) {
          this.#finish(stream);
          stream.continueRequest();
        }
      }, delayMs);
      return "stop";
    }
    return this.#aborts(stream, policy) ? "stop" : "continue";
  }

  onStreamEnd(stream: HttpStream): void {
    this.#finish(stream);
  }

  /** False when the limit of active faults is reached. */
  #begin(stream: HttpStream, policy: Policy): boolean {
    if (stream.filterState?.[this.#slot] !== undefined) return true;
    if (this.#active >= policy.maxActiveFaults) {
      this.#stats.add(this.#at.overflow, 1);
      return false;
    }
    this.#active++;
    this.#stats.add(this.#at.active, 1);
    stream.filterState ??= [];
    stream.filterState[this.#slot] = { timer: null } satisfies ActiveFault;
    return true;
  }

  #finish(stream: HttpStream): void {
    const fault = stream.filterState?.[this.#slot] as ActiveFault | undefined;
    if (fault === undefined) return;
    stream.filterState![this.#slot] = undefined;
    clearTimeout(fault.timer ?? undefined);
    this.#active--;
    this.#stats.add(this.#at.active, -1);
  }

  #aborts(stream: HttpStream, policy: Policy): boolean {
    if (policy.abort === null) return false;
    const outcome = abortOf(policy.abort, stream);
    if (outcome === null || !this.#begin(stream, policy)) return false;
    this.#stats.add(this.#at.aborts, 1);
    stream.info.flags |= responseFlags.FaultInjected;
    if (outcome.grpcStatus >= 0) stream.localReplyGrpcStatus = outcome.grpcStatus;
    stream.sendLocalReply(outcome.status, "fault filter abort", "fault_filter_abort");
    return true;
  }
}

function appliesTo(policy: Policy, stream: HttpStream): boolean {
  const { info } = stream;
  if (policy.upstreamCluster !== "" && policy.upstreamCluster !== info.upstreamClusterRaw) return false;
  for (const condition of policy.conditions) if (!condition(info)) return false;
  if (policy.downstreamNodes.size === 0) return true;
  return policy.downstreamNodes.has(getHeader(info.requestHeaders, "x-envoy-downstream-service-node") ?? "");
}

/** A request may ask for a smaller share than is configured, never for a larger one. */
function shareOf(chance: number, headerName: string, stream: HttpStream): number {
  const written = getHeader(stream.info.requestHeaders, headerName);
  if (written === undefined || !/^\d+$/.test(written)) return chance;
  return Math.min(chance, Number(written) / 100);
}

function delayOf(delay: Delay, stream: HttpStream): number {
  if (delay.fixedMs >= 0) return Math.random() < delay.chance ? delay.fixedMs : 0;
  const written = getHeader(stream.info.requestHeaders, "x-envoy-fault-delay-request");
  if (written === undefined || !/^\d{1,9}$/.test(written)) return 0;
  return Math.random() < shareOf(delay.chance, "x-envoy-fault-delay-request-percentage", stream) ? Number(written) : 0;
}

function abortOf(abort: Abort, stream: HttpStream): { status: number; grpcStatus: number } | null {
  if (abort.by !== "header") {
    if (Math.random() >= abort.chance) return null;
    return abort.by === "httpStatus" ? { status: abort.status, grpcStatus: -1 } : { status: 200, grpcStatus: abort.status };
  }
  const { requestHeaders } = stream.info;
  const http = getHeader(requestHeaders, "x-envoy-fault-abort-request");
  const grpc = getHeader(requestHeaders, "x-envoy-fault-abort-grpc-request");
  if (http === undefined && grpc === undefined) return null;
  if (Math.random() >= shareOf(abort.chance, "x-envoy-fault-abort-request-percentage", stream)) return null;
  if (http !== undefined && /^[2-5]\d\d$/.test(http)) return { status: Number(http), grpcStatus: -1 };
  if (grpc !== undefined && /^\d{1,2}$/.test(grpc)) return { status: 200, grpcStatus: Number(grpc) };
  return null;
}

export const fault = defineHttpFilter({
  name: "envoy.filters.http.fault",
  schema: HTTPFaultSchema,
  create: (config, context, name) => new FaultFilter(name, config, context.slot, context.stats, context.statPrefix),
  perRoute: { schema: HTTPFaultSchema, compile: compilePolicy },
});
