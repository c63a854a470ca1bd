/**
 * istio.stats for HTTP: Istio's standard metrics of requests, reported by the client's proxy, the server's, or both.
 * Source: Istio's proxy, source/extensions/filters/http/istio_stats.
 */
import { type PluginConfig, PluginConfigSchema } from "../../../api/gen/istio/stats/plugin_config_pb.js";
import { getHeader } from "../../http/header-list.ts";
import { defineHttpFilter, type FilterCompileContext, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import type { RequestInfo } from "../../http/request-info.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import { compileStatsConfig, grpcMetric, httpMetric, type StatsConfig } from "../istio-stats/stats-config.ts";
import { type Traffic, TrafficTable } from "../istio-stats/traffic-table.ts";

/** What has been told of a call's messages. */
interface Told {
  requests: number;
  responses: number;
}

class IstioStatsFilter implements HttpFilter {
  readonly name: string;
  /** Calls of gRPC under way. */
  readonly #calls = new Map<HttpStream, Told>();
  #timer: NodeJS.Timeout | null = null;
  readonly #config: StatsConfig;
  readonly #telemetry: Telemetry;
  readonly #table: TrafficTable;
  readonly #isServer: boolean;

  constructor(message: PluginConfig, context: FilterCompileContext, name: string) {
    this.name = name;
    this.#config = compileStatsConfig(message, context, context.trafficDirection);
    this.#telemetry = context.telemetry;
    this.#isServer = this.#config.reporter === "destination";
    const { own, series } = context.telemetry;
    this.#table = new TrafficTable({ reporter: this.#config.reporter, own, series, shape: this.#config.http });
    context.telemetry.showBuild();
  }

  /** Who is at the ends can't be asked any more when the client is gone. */
  onRequestHeaders(stream: HttpStream): FilterStatus {
    if (this.#isServer) this.#telemetry.principals.of(stream.connection.info.tls);
    if (stream.isGrpc) {
      this.#calls.set(stream, { requests: 0, responses: 0 });
      if (this.#config.reportMs > 0) this.#timer ??= setInterval(() => this.#tellWhileTheyLast(), this.#config.reportMs).unref();
    }
    return "continue";
  }

  dispose(): void {
    clearInterval(this.#timer ?? undefined);
  }

  #tellWhileTheyLast(): void {
    for (const [stream, told] of this.#calls) {
      // Before an answer a client does not know of whom it is.
      if (this.#isServer || stream.responseHasStarted) this.#tellMessages(stream.info, told, this.#traffic(stream, stream.info));
    }
  }

  #tellMessages({ grpcMessages }: RequestInfo, told: Told, traffic: Traffic): void {
    if (grpcMessages === null) return;
    const series = this.#table.messages(traffic, this.#config.grpc);
    series.uses++;
    const { store } = this.#telemetry.series;
    for (const direction of ["requests", "responses"] as const) {
      const index = series.at[grpcMetric[direction]]!;
      const { total } = grpcMessages[direction];
      if (index >= 0) store.add(index, total - told[direction]);
      told[direction] = total;
    }
  }

  onStreamEnd(stream: HttpStream): void {
    const { info } = stream;
    const { series: labelled } = this.#telemetry;
    const traffic = this.#traffic(stream, info);
    const told = this.#calls.size === 0 ? undefined : this.#calls.get(stream);
    if (told !== undefined) {
      this.#calls.delete(stream);
      this.#tellMessages(info, told, traffic);
    }
    const series = stream.isGrpc
      ? this.#table.grpc(traffic, info.responseCode, info.flags, grpcStatusOf(info))
      : this.#table.http(traffic, info.responseCode, info.flags);
    series.uses++;
    const { store } = labelled;
    const { at } = series;
    const requests = at[httpMetric.requests]!;
    if (requests >= 0) store.values[requests]! += 1;
    const duration = at[httpMetric.duration]!;
    if (duration >= 0) store.record(duration, Math.floor(info.endTime - info.startTime));
    const requestBytes = at[httpMetric.requestBytes]!;
    if (requestBytes >= 0) store.record(requestBytes, info.downstreamWireBytesReceived);
    const responseBytes = at[httpMetric.responseBytes]!;
    if (responseBytes >= 0) store.record(responseBytes, info.downstreamWireBytesSent);
  }

  #traffic(stream: HttpStream, info: RequestInfo): Traffic {
    const { services, principals } = this.#telemetry;
    const service = services.serviceOf(info.routeName, stream.cluster, this.#config.usesHostHeader ? info.authority : "");
    if (this.#isServer) return this.#table.traffic(service, info.downstreamPeer ?? null, principals.of(stream.connection.info.tls));
    const peer = info.upstreamPeer ?? this.#telemetry.peerOfEndpoint(info.upstreamEndpoint);
    return this.#table.traffic(service, peer, principals.of(info.upstreamTls));
  }
}

function grpcStatusOf(info: RequestInfo): string {
  const status = getHeader(info.responseTrailers, "grpc-status") ?? getHeader(info.responseHeaders, "grpc-status") ?? "";
  return /^\d{1,4}$/.test(status) ? status : "";
}

export const istioStats = defineHttpFilter({
  name: "istio.stats",
  schema: PluginConfigSchema,
  create: (config, context, name) => new IstioStatsFilter(config, context, name),
});
