/**
 * envoy.filters.network.tcp_proxy: bytes between a client and an endpoint.
 *
 * The endpoint is chosen and connected at once, before the client has said anything. Until it is there nothing is read from
 * the client. Then each side's chunks are written to the other; a side that is full stops the reading of the other; a FIN is
 * passed on and leaves the other direction open; a reset is passed on as a reset.
 */
import type * as net from "node:net";
import type * as tls from "node:tls";
import { ConfigError } from "../../../api/config-error.ts";
import { type TcpProxy, TcpProxySchema } from "../../../api/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { Hash64 } from "../../../lib/hash64.ts";
import { type AccessLog, compileAccessLog } from "../../accesslog/access-log.ts";
import { durationMs } from "../../duration.ts";
import type { RequestInfo } from "../../http/request-info.ts";
import { LazyTimer } from "../../lazy-timer.ts";
import type { DownstreamConnection } from "../../listener/downstream-connection.ts";
import { defineNetworkFilter, type NetworkFilterContext, type TerminalNetworkFilter } from "../../listener/network-filter.ts";
import { connectFailure } from "../../node-error.ts";
import { type ConnectionHash, compileConnectionHash } from "../../router/connection-hash.ts";
import { hashRequest } from "../../router/hash-policy.ts";
import type { StatIndex, StatsStore } from "../../stats/store.ts";
import { FilterState, type HeaderList, responseFlags, type TlsInfo } from "../../stream-info.ts";
import { GreetingReader } from "../../telemetry/peer-exchange.ts";
import { keepChunk, Transport, type TransportHandler } from "../../transport.ts";
import type { Cluster } from "../../upstream/cluster.ts";
import type { ClusterLookup } from "../../upstream/cluster-set.ts";
import { ConnectedSocket } from "../../upstream/connected-socket.ts";
import type { Host } from "../../upstream/host.ts";
import { openSocket } from "../../upstream/open-socket.ts";
import { UpstreamAccount } from "../../upstream/upstream-account.ts";
import type { UpstreamConnection, UpstreamReset } from "../../upstream/upstream-stream.ts";
import { TcpTunnel, TunnelSettings, type TunnelSink } from "./tcp-tunnel.ts";

const counters = [
  "downstream_cx_total",
  "downstream_cx_no_route",
  "downstream_cx_rx_bytes_total",
  "downstream_cx_tx_bytes_total",
  "downstream_cx_drain_close",
  "downstream_flow_control_paused_reading_total",
  "downstream_flow_control_resumed_reading_total",
  "idle_timeout",
  "max_downstream_connection_duration",
  "upstream_flush_total",
] as const;
const gauges = ["downstream_cx_rx_bytes_buffered", "downstream_cx_tx_bytes_buffered", "upstream_flush_active"] as const;
type Name = (typeof counters)[number] | (typeof gauges)[number];

class TcpProxyFilter implements TerminalNetworkFilter {
  readonly name: string;
  readonly isTerminal = true;
  readonly stats: StatsStore;
  readonly at: Readonly<Record<Name, StatIndex>>;
  readonly clusters: readonly { readonly name: string; readonly weight: number }[];
  readonly running: ClusterLookup;
  /** 1 h by default; 0: none. */
  readonly idleTimeoutMs: number;
  readonly maxDurationMs: number;
  readonly maxConnectAttempts: number;
  readonly accessLogs: readonly AccessLog[];
  readonly hash: ConnectionHash | null;
  /** null: endpoints get the bytes as they are. */
  readonly tunnel: TunnelSettings | null;
  readonly #totalWeight: number;

  constructor(config: TcpProxy, context: NetworkFilterContext, name: string) {
    this.name = name;
    if (config.statPrefix === "") throw new ConfigError("TcpProxy: stat_prefix: value length must be at least 1 characters");
    if (config.onDemand !== undefined) throw new ConfigError("TcpProxy: on_demand is not supported by this proxy");
    this.stats = context.stats;
    const prefix = `tcp.${config.statPrefix}.`;
    const at: Record<string, StatIndex> = {};
    for (const stat of counters) at[stat] = context.stats.counter(prefix + stat);
    for (const stat of gauges) at[stat] = context.stats.gauge(prefix + stat);
    this.at = at as Record<Name, StatIndex>;
    switch (config.clusterSpecifier.case) {
      case "cluster":
        this.clusters = [{ name: config.clusterSpecifier.value, weight: 1 }];
        break;
      case "weightedClusters":
        this.clusters = config.clusterSpecifier.value.clusters.map(({ name: cluster, weight }) => ({ name: cluster, weight }));
        break;
      default:
        throw new ConfigError("TcpProxy: cluster_specifier: value is required");
    }
    this.#totalWeight = this.clusters.reduce((sum, { weight }) => sum + weight, 0);
    this.running = context.clusters;
    this.idleTimeoutMs = durationMs(config.idleTimeout, 3_600_000);
    this.maxDurationMs = durationMs(config.maxDownstreamConnectionDuration, 0);
    this.maxConnectAttempts = config.maxConnectAttempts ?? 1;
    this.hash = compileConnectionHash(config.hashPolicy);
    this.accessLogs = config.accessLog.map((log) => compileAccessLog(log, context.accessLog));
    this.tunnel = config.tunnelingConfig === undefined ? null : new TunnelSettings(config.tunnelingConfig);
  }

  chooseCluster(): string {
    if (this.clusters.length === 1) return this.clusters[0]!.name;
    let at = Math.random() * this.#totalWeight;
    for (const { name, weight } of this.clusters) {
      at -= weight;
      if (at < 0) return name;
    }
    return this.clusters[this.clusters.length - 1]!.name;
  }

  onConnection(connection: DownstreamConnection): void {
    new TcpSession(this, connection).start();
  }

  dispose(): void {
    for (const log of this.accessLogs) log.close();
  }
}

/** What an endpoint's bytes come by: a connection of its own, or a tunnel. */
type FarSide = Pick<Transport, "bytesRead" | "bytesWritten" | "write" | "end" | "pause" | "start" | "destroy" | "destroyWhenWritten">;

/** Who hears of the connection to the endpoint. */
class UpstreamSide implements TransportHandler {
  readonly #session: TcpSession;

  constructor(session: TcpSession) {
    this.#session = session;
  }

  onData(chunk: Buffer): void {
    this.#session.fromUpstream(chunk);
  }

  onEnd(): void {
    this.#session.upstreamEnded();
  }

  onClose(error: NodeJS.ErrnoException | null): void {
    this.#session.upstreamClosed(error);
  }

  onDrain(): void {
    this.#session.upstreamDrained();
  }
}

const nothing = Buffer.alloc(0);
const scratch = new Hash64();
const timedOut = "connection_timeout";

class TcpSession implements TransportHandler, TunnelSink {
  readonly #filter: TcpProxyFilter;
  readonly #connection: DownstreamConnection;
  readonly #info: RequestInfo;
  readonly #downstream: Transport;
  #upstream: FarSide | null = null;
  /** The endpoint takes what the client says. */
  #isListening = false;
  /** What TLS had decrypted before there was an endpoint to send it to: at most a record or two, nothing is read before. */
  #held: Buffer[] = [];
  #connecting: net.Socket | null = null;
  #cluster: Cluster | null = null;
  #host: Host | null = null;
  #attempts = 0;
  #downstreamEnded = false;
  #upstreamEnded = false;
  #isOver = false;
  readonly #timer: LazyTimer;
  #durationTimer: NodeJS.Timeout | null = null;
  #connectTimer: NodeJS.Timeout | null = null;
  #lastActivity = 0;
  /** Of the connection to the endpoint, from the attempt on; null for a tunnel, whose connection is its pool's. */
  #account: UpstreamAccount | null = null;
  /** Before the endpoint's bytes comes what its proxy says of itself. */
  #greeting: GreetingReader | null = null;
  #tunnel: TcpTunnel | null = null;

  constructor(filter: TcpProxyFilter, connection: DownstreamConnection) {
    this.#filter = filter;
    this.#connection = connection;
    this.#info = connection.streamInfo;
    this.#downstream = connection.openTransport(this);
    this.#timer = new LazyTimer(() => this.#idleCheck());
    connection.shutdown = (isForced) => {
      if (isForced) this.#finish(false, "local");
    };
  }

  start(): void {
    const { stats, at } = this.#filter;
    stats.add(at.downstream_cx_total, 1);
    if (this.#filter.maxDurationMs > 0) {
      this.#durationTimer = setTimeout(() => {
        stats.add(at.max_downstream_connection_duration, 1);
        this.#info.flags |= responseFlags.DurationTimeout;
        this.#connection.info.localCloseReason = "max_duration_reached";
        this.#finish(false, "local");
      }, this.#filter.maxDurationMs);
      this.#durationTimer.unref();
    }
    this.#touch();
    const name = this.#filter.chooseCluster();
    const cluster = this.#filter.running.get(name);
    if (cluster === undefined) {
      stats.add(at.downstream_cx_no_route, 1);
      this.#connection.info.localCloseReason = "tcp_initializion_failure:3";
      this.#info.flags |= responseFlags.NoClusterFound;
      this.#finish(false, "local");
      return;
    }
    this.#cluster = cluster;
    this.#info.upstreamCluster = cluster.config.statName;
    this.#info.upstreamClusterRaw = cluster.config.name;
    this.#connect();
  }

  // --- connecting ---

  #connect(): void {
    const cluster = this.#cluster!;
    const { stats } = cluster;
    const connection = this.#connection;
    if (this.#attempts >= this.#filter.maxConnectAttempts) {
      stats.store.add(stats.at.upstream_cx_connect_attempts_exceeded, 1);
      this.#connection.info.localCloseReason = "tcp_initializion_failure:0";
      this.#info.flags |= responseFlags.UpstreamRetryLimitExceeded;
      this.#finish(false, "local");
      return;
    }
    if (!cluster.resources.default.canConnect()) {
      stats.store.add(stats.at.upstream_cx_overflow, 1);
      this.#connection.info.localCloseReason = "tcp_initializion_failure:2";
      this.#info.flags |= responseFlags.UpstreamOverflow;
      this.#finish(false, "local");
      return;
    }
    const host = cluster.config.isOriginalDestination
      ? connection.isRedirected
        ? cluster.originalDestination(connection.localIp, connection.localPort)
        : null
      : this.#choose(cluster);
    if (host === null) {
      stats.store.add(stats.at.upstream_cx_none_healthy, 1);
      this.#connection.info.localCloseReason = "tcp_initializion_failure:1";
      this.#info.flags |= responseFlags.NoHealthyUpstream;
      this.#finish(false, "local");
      return;
    }
    this.#attempts++;
    this.#info.upstreamAttempts = this.#attempts;
    this.#host = host;
    this.#info.upstreamHost = host.key;
    this.#info.upstreamEndpoint = host;
    this.#info.upstreamHostName = host.description.hostname;
    const { tunnel } = this.#filter;
    if (tunnel !== null) {
      this.#tunnel = new TcpTunnel(tunnel, this.#info, this);
      this.#upstream = this.#tunnel;
      this.#tunnel.ask(cluster.pool(host, cluster.protocolFor(null), null, connection));
      return;
    }
    this.#account = new UpstreamAccount(cluster, host, "default");
    host.activeRequests++;
    const raw = openSocket(host, { config: cluster.config, client: connection, allowHalfOpen: true });
    this.#connecting = raw;
    const fail = (reason: string) => this.#connectFailed(reason);
    this.#connectTimer = setTimeout(() => {
      stats.store.add(stats.at.upstream_cx_connect_timeout, 1);
      fail(timedOut);
    }, cluster.config.connectTimeoutMs);
    raw.on("error", (error: NodeJS.ErrnoException) => fail(connectFailure(error)));
    const { tls } = host.transportSocket;
    if (tls === null) {
      raw.once("connect", () => this.#connected(raw));
      return;
    }
    const secured = tls.connect(raw, { peer: host.key, serverName: tls.sni });
    if (secured === null) {
      process.nextTick(() => fail("TLS_error:_Secret_is_not_supplied_by_SDS"));
      return;
    }
    this.#connecting = secured;
    secured.on("error", (error: NodeJS.ErrnoException) => fail(connectFailure(error)));
    secured.once("close", () => fail("connection_termination"));
    secured.once("secureConnect", () => {
      const problem = tls.verify(secured, "");
      if (problem === null) this.#connected(secured, tls.info(secured));
      else fail(problem);
    });
  }

  #choose(cluster: Cluster): Host | null {
    const { hash } = this.#filter;
    if (!cluster.choosesByHash) return cluster.choose();
    if (cluster.hashPolicy !== null) return cluster.choose(hashRequest(cluster.hashPolicy, this.#info));
    if (hash === null) return cluster.choose();
    return cluster.choose(hash(this.#info, scratch) ? scratch : null);
  }

  #closeAccount(by: "local" | "remote", cutsOff: boolean): void {
    const account = this.#account;
    if (account === null) return;
    this.#account = null;
    this.#host!.activeRequests--;
    account.closed(by, cutsOff);
  }

  #connectFailed(reason: string): void {
    const socket = this.#connecting;
    if (socket === null) return;
    this.#connecting = null;
    clearTimeout(this.#connectTimer ?? undefined);
    socket.on("error", () => {});
    socket.destroy();
    const { stats } = this.#cluster!;
    const { monitor } = this.#host!;
    this.#account!.connectFailed();
    if (reason === timedOut) monitor?.onTimeout();
    else monitor?.onConnectFailed();
    if (reason.startsWith("TLS_error")) stats.ssl?.failed(reason);
    this.#closeAccount(reason === timedOut ? "local" : "remote", false);
    this.#info.flags |= responseFlags.UpstreamConnectionFailure;
    this.#info.upstreamTransportFailureReason = reason;
    this.#connect();
  }

  #connected(socket: net.Socket, info: TlsInfo | null = null): void {
    if (this.#connecting === null) return;
    this.#connecting = null;
    clearTimeout(this.#connectTimer ?? undefined);
    const { stats } = this.#cluster!;
    this.#account!.connected();
    stats.store.add(stats.at.upstream_rq_total, 1);
    this.#host!.monitor?.onConnected();
    this.#info.upstreamLocalAddress = socket.localAddress === undefined ? "" : `${socket.localAddress}:${socket.localPort}`;
    socket.removeAllListeners("error");
    socket.removeAllListeners("close");
    if (info !== null) {
      stats.ssl?.secured(info, (socket as tls.TLSSocket).isSessionReused());
      // What the connection showed of itself can't be asked any more when it is over.
      void info.localCertificate;
      this.#info.upstreamTls = info;
    }
    const upstream = new Transport(new ConnectedSocket(socket, info !== null), new UpstreamSide(this));
    this.#upstream = upstream;
    this.#account!.carriedBy(upstream);
    this.#touch();
    this.#greet(upstream, info === null ? false : (socket as tls.TLSSocket).alpnProtocol);
    upstream.start();
    this.#listen(upstream);
  }

  /** The endpoint is there: it gets what was held for it, and from now on what comes. */
  #listen(endpoint: FarSide): void {
    this.#isListening = true;
    for (const chunk of this.#held) endpoint.write(chunk);
    this.#held = [];
    if (this.#downstreamEnded) endpoint.end();
    else if (!this.#isOver) this.#downstream.start();
  }

  // --- the tunnel ---

  tunnelAsked({ id, localAddress, tlsInfo }: UpstreamConnection): void {
    this.#info.upstreamConnectionId = id;
    this.#info.upstreamLocalAddress = localAddress;
    this.#info.upstreamTls = tlsInfo;
  }

  tunnelToldOf(status: number, headers: HeaderList): void {
    const { info } = this.#connection;
    info.filterState ??= new FilterState();
    if (status === 0) info.filterState.headers.set("envoy.tcp_proxy.propagate_response_trailers", headers);
    else info.filterState.headers.set("envoy.tcp_proxy.propagate_response_headers", [":status", String(status), ...headers]);
  }

  tunnelOpened(): void {
    this.#host!.monitor?.onConnected();
    this.#touch();
    this.#listen(this.#upstream!);
  }

  tunnelFailed(reason: UpstreamReset, transportFailure: string): void {
    this.#tunnelLeft(transportFailure, reason === "connectionTimeout");
  }

  tunnelRefused(status: number): void {
    this.#tunnelLeft(status === 0 ? "" : `tunnel_response:${status}`, false);
  }

  /** Another endpoint may say something else. */
  #tunnelLeft(reason: string, isLate: boolean): void {
    if (this.#isOver) return;
    this.#tunnel = null;
    this.#upstream = null;
    const { monitor } = this.#host!;
    if (isLate) monitor?.onTimeout();
    else monitor?.onConnectFailed();
    this.#info.flags |= responseFlags.UpstreamConnectionFailure;
    if (reason !== "") this.#info.upstreamTransportFailureReason = reason;
    this.#connect();
  }

  fromTunnel(bytes: Buffer): void {
    this.#lastActivity = performance.now();
    this.#toClient(bytes);
  }

  tunnelDrained(): void {
    this.upstreamDrained();
  }

  tunnelEnded(): void {
    this.#endpointEnded();
  }

  tunnelLost(): void {
    this.#finish(false, "remote");
  }

  #greet(upstream: Transport, protocol: string | false | null): void {
    const { peerExchange } = this.#cluster!.config;
    if (peerExchange === null) return;
    if (!peerExchange.begins(protocol)) {
      this.#info.upstreamPeer = null;
      return;
    }
    this.#greeting = new GreetingReader(peerExchange);
    upstream.write(peerExchange.greeting);
  }

  /** What is the application's of it; null: nothing yet. */
  #readGreeting(chunk: Buffer, endStream: boolean): Buffer | null {
    const read = this.#greeting!.read(chunk, endStream);
    if (read === "incomplete") return null;
    this.#greeting = null;
    if (read === "refused") {
      this.#finish(false, "local");
      return null;
    }
    this.#info.upstreamPeer = read.peer;
    return read.bytes.length > 0 ? read.bytes : null;
  }

  // --- bytes; hot ---

  onData(chunk: Buffer): void {
    this.#lastActivity = performance.now();
    this.#info.downstreamWireBytesReceived += chunk.length;
    if (!this.#isListening) {
      this.#held.push(keepChunk(chunk));
      return;
    }
    if (!this.#upstream!.write(chunk)) {
      const { stats, at } = this.#filter;
      stats.add(at.downstream_flow_control_paused_reading_total, 1);
      this.#downstream.pause();
    }
  }

  fromUpstream(chunk: Buffer): void {
    this.#lastActivity = performance.now();
    const bytes = this.#greeting === null ? chunk : this.#readGreeting(chunk, false);
    if (bytes !== null) this.#toClient(bytes);
  }

  #toClient(bytes: Buffer): void {
    this.#info.downstreamWireBytesSent += bytes.length;
    if (!this.#downstream.write(bytes)) this.#upstream?.pause();
  }

  upstreamDrained(): void {
    if (this.#downstreamEnded || this.#isOver || !this.#downstream.isPaused) return;
    const { stats, at } = this.#filter;
    stats.add(at.downstream_flow_control_resumed_reading_total, 1);
    this.#downstream.start();
  }

  onDrain(): void {
    if (!this.#upstreamEnded) this.#upstream?.start();
  }

  // --- the end ---

  onEnd(): void {
    this.#downstreamEnded = true;
    if (!this.#isListening) {
      // The endpoint still gets what came before.
      if (this.#held.length === 0) this.#finish(false, "local");
      return;
    }
    this.#upstream!.end();
    if (this.#upstreamEnded) this.#finish(false, "local");
  }

  upstreamEnded(): void {
    this.#endpointEnded();
  }

  #endpointEnded(): void {
    if (this.#upstreamEnded) return;
    this.#upstreamEnded = true;
    const kept = this.#greeting === null ? null : this.#readGreeting(nothing, true);
    if (kept !== null) this.#downstream.write(kept);
    this.#downstream.end();
    if (this.#downstreamEnded) this.#finish(false, "remote");
  }

  onClose(error: NodeJS.ErrnoException | null): void {
    if (error?.code === "ECONNRESET") this.#upstream?.destroy(true);
    this.#finish(false, "local");
  }

  upstreamClosed(error: NodeJS.ErrnoException | null): void {
    const isReset = error?.code === "ECONNRESET";
    if (isReset) this.#info.flags |= responseFlags.UpstreamRemoteReset;
    this.#finish(isReset, "remote");
  }

  #touch(): void {
    this.#lastActivity = performance.now();
    if (this.#filter.idleTimeoutMs > 0) this.#timer.set(this.#lastActivity + this.#filter.idleTimeoutMs);
  }

  #idleCheck(): void {
    const deadline = this.#lastActivity + this.#filter.idleTimeoutMs;
    if (performance.now() < deadline - 0.5) {
      this.#timer.set(deadline);
      return;
    }
    const { stats, at } = this.#filter;
    stats.add(at.idle_timeout, 1);
    this.#connection.info.localCloseReason = "tcp_session_idle_timeout";
    this.#finish(false, "local");
  }

  /** `by`: what ended the endpoint's connection, which is ours to end when the client goes. */
  #finish(reset: boolean, by: "local" | "remote"): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer.dispose();
    clearTimeout(this.#durationTimer ?? undefined);
    clearTimeout(this.#connectTimer ?? undefined);
    this.#connecting?.on("error", () => {});
    this.#connecting?.destroy();
    this.#connecting = null;
    const info = this.#info;
    const { stats, at } = this.#filter;
    info.endTime = performance.now();
    info.bytesReceived = this.#downstream.bytesRead;
    info.bytesSent = this.#downstream.bytesWritten;
    stats.add(at.downstream_cx_rx_bytes_total, info.bytesReceived);
    stats.add(at.downstream_cx_tx_bytes_total, info.bytesSent);
    const upstream = this.#upstream;
    if (upstream !== null) {
      info.upstreamWireBytesReceived = upstream.bytesRead;
      info.upstreamWireBytesSent = upstream.bytesWritten;
    }
    this.#closeAccount(by, upstream !== null);
    upstream?.destroyWhenWritten();
    if (reset) this.#downstream.destroy(true);
    else this.#downstream.destroyWhenWritten();
    this.#connection.closed();
    for (const log of this.#filter.accessLogs) log.write(info);
  }
}

export const tcpProxy = defineNetworkFilter({
  name: "envoy.filters.network.tcp_proxy",
  schema: TcpProxySchema,
  create: (config, context, name) => new TcpProxyFilter(config, context, name),
});
