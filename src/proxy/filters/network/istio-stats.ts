/**
 * istio.stats for connections without HTTP: how many were opened and closed, and the bytes between them, told every few seconds while a
 * connection lasts. Source: Istio's proxy, source/extensions/filters/http/istio_stats.
 */
import { type PluginConfig, PluginConfigSchema } from "../../../api/gen/istio/stats/plugin_config_pb.js";
import type { DownstreamConnection } from "../../listener/downstream-connection.ts";
import { defineNetworkFilter, type NetworkFilterContext, type NetworkReadFilter } from "../../listener/network-filter.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import type { ClusterLookup } from "../../upstream/cluster-set.ts";
import { compileStatsConfig, type StatsConfig, tcpMetric } from "../istio-stats/stats-config.ts";
import { type Traffic, TrafficTable } from "../istio-stats/traffic-table.ts";

class IstioStatsFilter implements NetworkReadFilter {
  readonly name: string;
  readonly #config: StatsConfig;
  readonly #telemetry: Telemetry;
  readonly #clusters: ClusterLookup;
  readonly #table: TrafficTable;

  constructor(message: PluginConfig, context: NetworkFilterContext, name: string) {
    this.name = name;
    this.#config = compileStatsConfig(message, context, context.trafficDirection);
    this.#telemetry = context.telemetry;
    this.#clusters = context.clusters;
    const { own, series } = context.telemetry;
    this.#table = new TrafficTable({ reporter: this.#config.reporter, own, series, shape: this.#config.tcp });
    context.telemetry.showBuild();
  }

  onConnection(connection: DownstreamConnection): null {
    // Who is at the ends can't be asked any more when the client is gone.
    if (this.#config.reporter === "destination") this.#telemetry.principals.of(connection.info.tls);
    const told: Told = { traffic: null, flags: 0, sent: 0, received: 0 };
    const { reportMs } = this.#config;
    const timer = reportMs > 0 ? setInterval(() => this.#tell(connection, told, false), reportMs).unref() : undefined;
    const before = connection.onceClosed;
    connection.onceClosed = () => {
      clearInterval(timer);
      this.#tell(connection, told, true);
      before?.();
    };
    return null;
  }

  dispose(): void {}

  #tell(connection: DownstreamConnection, told: Told, isOver: boolean): void {
    const { store } = this.#telemetry.series;
    const info = connection.streamInfo;
    const isNew = told.traffic === null;
    if (isNew) {
      if (!isOver && this.#awaitsPeer(connection)) return;
      told.flags = info.flags;
    }
    // What was found before may have lost its place since.
    const { service, peer, principals } = told.traffic ?? this.#traffic(connection);
    told.traffic = this.#table.traffic(service, peer, principals);
    const series = this.#table.tcp(told.traffic, told.flags);
    series.uses++;
    const add = (metric: keyof typeof tcpMetric, amount: number) => {
      const index = series.at[tcpMetric[metric]]!;
      if (index >= 0) store.add(index, amount);
    };
    if (isNew) add("opened", 1);
    add("sent", info.downstreamWireBytesSent - told.sent);
    add("received", info.downstreamWireBytesReceived - told.received);
    told.sent = info.downstreamWireBytesSent;
    told.received = info.downstreamWireBytesReceived;
    if (isOver) add("closed", 1);
  }

  /** Labels are settled with the first report, so that it waits for them. */
  #awaitsPeer({ streamInfo, greeting }: DownstreamConnection): boolean {
    return this.#config.reporter === "source"
      ? streamInfo.upstreamPeer === undefined
      : greeting !== null && streamInfo.downstreamPeer === undefined;
  }

  #traffic({ streamInfo: info, info: { tls } }: DownstreamConnection): Pick<Traffic, "service" | "peer" | "principals"> {
    const { services, principals } = this.#telemetry;
    const service = services.serviceOf("", this.#clusters.get(info.upstreamClusterRaw), "");
    if (this.#config.reporter === "destination") return { service, peer: info.downstreamPeer ?? null, principals: principals.of(tls) };
    const peer = info.upstreamPeer ?? this.#telemetry.peerOfEndpoint(info.upstreamEndpoint);
    return { service, peer, principals: principals.of(info.upstreamTls) };
  }
}

/** Of one connection. */
interface Told {
  traffic: Traffic | null;
  flags: number;
  sent: number;
  received: number;
}

export const istioStats = defineNetworkFilter({
  name: "istio.stats",
  schema: PluginConfigSchema,
  create: (config, context, name) => new IstioStatsFilter(config, context, name),
});
