/**
 * envoy.filters.http.grpc_stats: calls by their gRPC status, and messages both ways, of the cluster that is called: `cluster.NAME.grpc.`, with
 * `SERVICE.METHOD.` behind it for methods that are told apart. Source: Envoy's grpc_stats filter and source/common/grpc/context_impl.cc.
 */
import { type FilterConfig, FilterConfigSchema } from "../../../api/gen/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js";
import { getHeader } from "../../http/header-list.ts";
import { defineHttpFilter, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { isGrpcContentType } from "../../router/route.ts";
import type { StatIndex } from "../../stats/store.ts";
import type { GrpcMessages, HeaderList } from "../../stream-info.ts";
import type { ClusterStats } from "../../upstream/cluster-stats.ts";
import { MessageCounter } from "./message-counter.ts";

/** Of one call. */
interface Call extends GrpcMessages {
  readonly requests: MessageCounter;
  readonly responses: MessageCounter;
  /** null: there is nobody to count for. */
  readonly counters: Counters | null;
  answersInGrpc: boolean;
}

/** Paths come from outside: with statistics for all methods, so do their names. Those beyond count without their method. */
const maxMethods = 1024;

class GrpcStatsFilter implements HttpFilter {
  readonly name: string;
  readonly #slot: number;
  readonly #emitsFilterState: boolean;
  readonly #timesUpstream: boolean;
  readonly #replacesDots: boolean;
  /** null: all. */
  readonly #methods: ReadonlySet<string> | null;
  readonly #byCluster = new WeakMap<ClusterStats, Map<string, Counters>>();

  constructor(config: FilterConfig, name: string, slot: number) {
    this.name = name;
    this.#slot = slot;
    this.#emitsFilterState = config.emitFilterState;
    this.#timesUpstream = config.enableUpstreamStats;
    this.#replacesDots = config.replaceDotsInGrpcServiceName;
    const { perMethodStatSpecifier: which } = config;
    const listed = which.case === "individualMethodStatsAllowlist" ? which.value.services : [];
    const isAll = which.case === "statsForAllMethods" && which.value.value;
    this.#methods = isAll
      ? null
      : new Set(listed.flatMap(({ name: service, methodNames }) => methodNames.map((method) => `${service}/${method}`)));
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    if (!stream.isGrpc) return "continue";
    stream.filterState ??= [];
    stream.filterState[this.#slot] = {
      requests: new MessageCounter(),
      responses: new MessageCounter(),
      counters: this.#countersOf(stream),
      answersInGrpc: false,
    } satisfies Call;
    return "continue";
  }

  onRequestData(stream: HttpStream, chunk: Buffer): FilterStatus {
    const call = stream.filterState?.[this.#slot] as Call | undefined;
    if (call !== undefined) this.#count(stream, call, "request", call.requests.count(chunk));
    return "continue";
  }

  onResponseHeaders(stream: HttpStream, endStream: boolean): FilterStatus {
    const call = stream.filterState?.[this.#slot] as Call | undefined;
    if (call === undefined) return "continue";
    const { responseHeaders, responseCode } = stream.info;
    const status = getHeader(responseHeaders, "grpc-status");
    call.answersInGrpc = endStream
      ? status !== undefined
      : responseCode === 200 && isGrpcContentType(getHeader(responseHeaders, "content-type") ?? "");
    call.counters?.ended(status);
    if (endStream) this.#countTime(stream, call);
    return "continue";
  }

  onResponseData(stream: HttpStream, chunk: Buffer): FilterStatus {
    const call = stream.filterState?.[this.#slot] as Call | undefined;
    if (call?.answersInGrpc) this.#count(stream, call, "response", call.responses.count(chunk));
    return "continue";
  }

  onResponseEnd(stream: HttpStream, trailers: HeaderList): null {
    const call = stream.filterState?.[this.#slot] as Call | undefined;
    if (call === undefined) return null;
    call.counters?.ended(getHeader(trailers, "grpc-status"));
    this.#countTime(stream, call);
    return null;
  }

  #countTime({ info: { upstreamFirstRequestByteTime: from, upstreamLastResponseByteTime: to } }: HttpStream, { counters }: Call): void {
    if (this.#timesUpstream && from >= 0 && to >= 0) counters?.took(Math.round(to - from));
  }

  /** `begun`: messages of a chunk, often none. The first makes the call's counts known to others. */
  #count({ info }: HttpStream, call: Call, direction: "request" | "response", begun: number): void {
    if (begun === 0) return;
    if (this.#emitsFilterState) info.grpcMessages = call;
    call.counters?.add(`${direction}_message_count`, begun);
  }

  #countersOf({ info, cluster }: HttpStream): Counters | null {
    if (cluster === undefined) return null;
    const [root, service, method, ...more] = info.path.replace(/[?#].*$/s, "").split("/");
    if (root !== "" || service === undefined || method === undefined || more.length > 0) return null;
    let byMethod = this.#byCluster.get(cluster.stats);
    if (byMethod === undefined) {
      byMethod = new Map();
      this.#byCluster.set(cluster.stats, byMethod);
    }
    const isToldApart = this.#methods === null || this.#methods.has(`${service}/${method}`);
    let prefix = isToldApart ? `${this.#replacesDots ? service.replaceAll(".", "_") : service}.${method}.` : "";
    if (byMethod.size >= maxMethods && !byMethod.has(prefix)) prefix = "";
    let counters = byMethod.get(prefix);
    if (counters === undefined) {
      counters = new Counters(cluster.stats, `grpc.${prefix}`);
      byMethod.set(prefix, counters);
    }
    return counters;
  }
}

/** Of a method, or of all. Each is there from the first time that it counts. */
class Counters {
  readonly #stats: ClusterStats;
  readonly #prefix: string;
  readonly #byName = new Map<string, StatIndex>();
  #time: StatIndex | null = null;

  constructor(stats: ClusterStats, prefix: string) {
    this.#stats = stats;
    this.#prefix = prefix;
  }

  add(name: string, amount: number): void {
    let index = this.#byName.get(name);
    if (index === undefined) {
      index = this.#stats.counter(this.#prefix + name);
      this.#byName.set(name, index);
    }
    this.#stats.store.add(index, amount);
  }

  /** `status`: as the server wrote it, in headers or in trailers. */
  ended(status: string | undefined): void {
    if (status === undefined) return;
    const code = knownCode(status);
    // What is no code of gRPC is nobody's to name a statistic with.
    if (code !== null) this.add(String(code), 1);
    this.add(code === 0 ? "success" : "failure", 1);
    this.add("total", 1);
  }

  took(ms: number): void {
    this.#time ??= this.#stats.histogram(`${this.#prefix}upstream_rq_time`);
    this.#stats.store.record(this.#time, ms);
  }
}

const maxCode = 16;

function knownCode(status: string): number | null {
  const code = /^\d{1,2}$/.test(status) ? Number(status) : Number.NaN;
  return code <= maxCode ? code : null;
}

export const grpcStats = defineHttpFilter({
  name: "envoy.filters.http.grpc_stats",
  schema: FilterConfigSchema,
  create: (config, context, name) => new GrpcStatsFilter(config, name, context.slot),
});
