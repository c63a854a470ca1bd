/**
 * envoy.filters.http.fault: delays requests, then answers some of them itself. It runs before the router, so retries and outlier
 * detection never see what it does. Configuration of the route takes the place of the filter's own.
 * Source: Envoy fault filter; reference behaviour measured on Envoy 1.40.
 */
import { ConfigError } from "../../../api/config-error.ts";
import { type HTTPFault, HTTPFaultSchema } from "../../../api/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { durationMs } from "../../duration.ts";
import { fractionOf } from "../../fraction.ts";
import { getHeader } from "../../http/header-list.ts";
import { defineHttpFilter, type FilterCompileContext, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { compileHeaderListMatcher } from "../../router/header-matcher.ts";
import type { StatIndex } from "../../stats/store.ts";
import { type HeaderList, responseFlags } from "../../stream-info.ts";

interface Fault {
  readonly delay: { readonly fraction: number; readonly fixedMs: number | undefined } | undefined;
  /** `status` undefined: the request's own header says it. */
  readonly abort: { readonly fraction: number; readonly status: number | undefined } | undefined;
  readonly upstreamCluster: string;
  readonly downstreamNodes: ReadonlySet<string>;
  readonly headers: readonly ((headers: HeaderList) => boolean)[];
  readonly maxActiveFaults: number;
}

/** HTTP status by gRPC status, for a fault that is configured as the latter. Source: Envoy grpc/common.cc. */
const httpStatusOfGrpc = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];

class FaultFilter implements HttpFilter {
  readonly name: string;
  readonly #own: Fault;
  readonly #slot: number;
  readonly #context: FilterCompileContext;
  readonly #at: { readonly aborts: StatIndex; readonly delays: StatIndex; readonly active: StatIndex; readonly overflow: StatIndex };
  #active = 0;

  constructor(name: string, own: Fault, context: FilterCompileContext) {
    this.name = name;
    this.#own = own;
    this.#slot = context.slot;
    this.#context = context;
    const prefix = `${context.statPrefix}fault.`;
    this.#at = {
      aborts: context.stats.counter(`${prefix}aborts_injected`),
      delays: context.stats.counter(`${prefix}delays_injected`),
      active: context.stats.gauge(`${prefix}active_faults`),
      overflow: context.stats.counter(`${prefix}faults_overflow`),
    };
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    const fault = faultOf(stream.perFilterConfig(this.name)) ?? this.#own;
    if (fault.delay === undefined && fault.abort === undefined) return "continue";
    if (!this.#applies(fault, stream)) return "continue";
    const delayMs = fault.delay && this.#delayOf(fault.delay, stream.info.requestHeaders);
    if (delayMs !== undefined && this.#begin(fault, stream)) {
      stream.info.flags |= responseFlags.DelayInjected;
      this.#context.stats.add(this.#at.delays, 1);
      stream.filterState ??= [];
      stream.filterState[this.#slot] = setTimeout(() => {
        stream.filterState![this.#slot] = activeWithoutTimer;
        if (stream.isEnded || this.#abort(fault, stream)) return;
        stream.continueRequest();
      }, delayMs);
      return "stop";
    }
    return this.#abort(fault, stream) ? "stop" : "continue";
  }

  onStreamEnd(stream: HttpStream): void {
    const state = stream.filterState?.[this.#slot] as NodeJS.Timeout | typeof activeWithoutTimer | undefined;
    if (state === undefined) return;
    if (state !== activeWithoutTimer) clearTimeout(state);
    this.#active--;
    this.#context.stats.add(this.#at.active, -1);
  }

  #applies(fault: Fault, stream: HttpStream): boolean {
    const { info } = stream;
    if (fault.upstreamCluster !== "" && fault.upstreamCluster !== info.upstreamClusterRaw) return false;
    if (fault.downstreamNodes.size > 0) {
      const node = getHeader(info.requestHeaders, "x-envoy-downstream-service-node");
      if (node === undefined || !fault.downstreamNodes.has(node)) return false;
    }
    return fault.headers.every((matches) => matches(info.requestHeaders));
  }

  #delayOf(delay: NonNullable<Fault["delay"]>, headers: HeaderList): number | undefined {
    const milliseconds = delay.fixedMs ?? numberHeader(headers, "x-envoy-fault-delay-request");
    if (milliseconds === undefined || milliseconds <= 0) return undefined;
    const fraction = limited(delay.fraction, headers, "x-envoy-fault-delay-request-percentage", delay.fixedMs === undefined);
    return Math.random() < fraction ? milliseconds : undefined;
  }

  /** Whether the request was answered. */
  #abort(fault: Fault, stream: HttpStream): boolean {
    const { abort } = fault;
    if (abort === undefined) return false;
    const headers = stream.info.requestHeaders;
    const status = abort.status ?? headerStatus(headers);
    if (status === undefined) return false;
    const fraction = limited(abort.fraction, headers, "x-envoy-fault-abort-request-percentage", abort.status === undefined);
    if (Math.random() >= fraction || !this.#begin(fault, stream)) return false;
    stream.info.flags |= responseFlags.FaultInjected;
    this.#context.stats.add(this.#at.aborts, 1);
    stream.sendLocalReply(status, "fault filter abort", "fault_filter_abort");
    return true;
  }

  /** Counts the stream as one with a fault; false when there are too many already. */
  #begin(fault: Fault, stream: HttpStream): boolean {
    stream.filterState ??= [];
    if (stream.filterState[this.#slot] !== undefined) return true;
    if (this.#active >= fault.maxActiveFaults) {
      this.#context.stats.add(this.#at.overflow, 1);
      return false;
    }
    this.#active++;
    this.#context.stats.add(this.#at.active, 1);
    stream.filterState[this.#slot] = activeWithoutTimer;
    return true;
  }
}

const activeWithoutTimer = Symbol("active fault");

/** A route may also hold the mark that the filter is disabled there. */
function faultOf(config: unknown): Fault | undefined {
  if (typeof config === "symbol") return nothing;
  return config as Fault | undefined;
}

const nothing: Fault = {
  delay: undefined,
  abort: undefined,
  upstreamCluster: "",
  downstreamNodes: new Set(),
  headers: [],
  maxActiveFaults: Number.POSITIVE_INFINITY,
};

function headerStatus(headers: HeaderList): number | undefined {
  const status = numberHeader(headers, "x-envoy-fault-abort-request");
  if (status !== undefined) return status >= 200 && status < 600 ? status : undefined;
  const grpc = numberHeader(headers, "x-envoy-fault-abort-grpc-request");
  return grpc === undefined ? undefined : httpStatusOfGrpc[grpc];
}

function numberHeader(headers: HeaderList, name: string): number | undefined {
  const text = getHeader(headers, name);
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

/** A header may lower the percentage of a fault that headers control. */
function limited(fraction: number, headers: HeaderList, name: string, byHeader: boolean): number {
  if (!byHeader) return fraction;
  const percentage = numberHeader(headers, name);
  return percentage === undefined ? fraction : Math.min(fraction, percentage / 100);
}

function compileFault(message: HTTPFault): Fault {
  if (message.responseRateLimit)
    throw new ConfigError("response_rate_limit of the fault filter is not supported by this proxy yet", { field: "response_rate_limit" });
  const { delay, abort } = message;
  return {
    delay: delay && {
      // Without a percentage Envoy takes 0 %.
      fraction: fractionOf(delay.percentage),
      fixedMs: delay.faultDelaySecifier.case === "fixedDelay" ? durationMs(delay.faultDelaySecifier.value, 0) : undefined,
    },
    abort: abort && {
      fraction: fractionOf(abort.percentage),
      status:
        abort.errorType.case === "httpStatus"
          ? abort.errorType.value
          : abort.errorType.case === "grpcStatus"
            ? (httpStatusOfGrpc[abort.errorType.value] ?? 500)
            : undefined,
    },
    upstreamCluster: message.upstreamCluster,
    downstreamNodes: new Set(message.downstreamNodes),
    headers: message.headers.map(compileHeaderListMatcher),
    maxActiveFaults: message.maxActiveFaults ?? Number.POSITIVE_INFINITY,
  };
}

export const fault = defineHttpFilter({
  name: "envoy.filters.http.fault",
  schema: HTTPFaultSchema,
  create: (config, context, name) => new FaultFilter(name, compileFault(config), context),
  perRoute: { schema: HTTPFaultSchema, compile: compileFault },
});
