/**
 * A listener as it runs in one worker: sockets that are open, and the road of a connection from accept to its filter chain.
 *
 *      accept -> original destination -> first bytes (PROXY header? TLS? HTTP?) -> chain match -> TLS handshake -> network filter
 *
 * A replaced listener keeps its sockets when the address is the same, so that no connection is refused: only the chains that
 * changed are drained.
 */
import * as net from "node:net";
import { getSystemErrorName } from "node:util";
import { listen } from "../../lib/listen.ts";
import { makeTransparent } from "../../platform/transparent-socket.ts";
import { AcceptedSocket } from "../accepted-socket.ts";
import { filterApplies, originalSource } from "../filters/listener/index.ts";
import { acceptHandles, type SocketHandle } from "../native-stream.ts";
import { bindFailure } from "../node-error.ts";
import type { ProxyHeader } from "../proxy-protocol/read-header.ts";
import type { StatIndex, StatsStore } from "../stats/store.ts";
import { responseFlags, type TlsInfo } from "../stream-info.ts";
import { type ClientHello, inspectClientHello } from "../tls/client-hello.ts";
import type { HandshakeSink, ServerTls } from "../tls/server-context.ts";
import { SslStats } from "../tls/ssl-stats.ts";
import { ServerTlsInfo } from "../tls/tls-info.ts";
import { DownstreamConnection } from "./downstream-connection.ts";
import type { ConnectionTraits } from "./filter-chain-match.ts";
import { FirstBytes } from "./first-bytes.ts";
import { addressText, type BindAddress, type FilterChain, type ListenerConfig } from "./listener-config.ts";
import { ListenerDrain } from "./listener-drain.ts";

const counters = [
  "downstream_cx_total",
  "downstream_cx_destroy",
  "downstream_cx_overflow",
  "downstream_cx_overload_reject",
  "downstream_cx_transport_socket_connect_timeout",
  "downstream_global_cx_overflow",
  "downstream_listener_filter_error",
  "downstream_listener_filter_remote_close",
  "downstream_pre_cx_timeout",
  "no_filter_chain_match",
  "extension_config_missing",
  "network_extension_config_missing",
] as const;
const gauges = ["downstream_cx_active", "downstream_pre_cx_active"] as const;
const histograms = ["downstream_cx_length_ms"] as const;
/** As OpenSSL's own would be told. */
const goneInHandshake = "TLS_error:|ECONNRESET:socket_hang_up:TLS_error_end";

type Name = (typeof counters)[number] | (typeof gauges)[number] | (typeof histograms)[number];

export interface ListenerHost {
  readonly stats: StatsStore;
  readonly workerIndex: number;
  /** Where a redirected connection wanted to go; null when it was not, or nobody knows. */
  originalDestination(socket: AcceptedSocket): { readonly ip: string; readonly port: number } | null;
  /** The listener for an original destination: the exact address, or the wildcard of its port. */
  listenerFor(ip: string, port: number): Listener | null;
  log(level: "info" | "warning" | "error", message: string): void;
}

interface Accepted {
  readonly id: number;
  readonly socket: AcceptedSocket;
  readonly acceptedAt: number;
  /** The socket's own, unless a PROXY header tells of others. */
  remoteIp: string;
  remotePort: number;
  localIp: string;
  localPort: number;
  hello: ClientHello | null;
  applicationProtocols: readonly string[];
  isRedirected: boolean;
  wasHandedOn: boolean;
  header: ProxyHeader | null;
}

let nextConnectionId = 1;

export class Listener {
  config: ListenerConfig;
  readonly #host: ListenerHost;
  readonly #at: Readonly<Record<Name, StatIndex>>;
  /** null where no chain speaks TLS. */
  readonly #ssl: SslStats | null;
  readonly #workerAt: { readonly total: StatIndex; readonly active: StatIndex };
  #servers: { readonly address: BindAddress; readonly server: net.Server }[] = [];
  /** Sockets that have no filter chain yet. */
  readonly #early = new Set<AcceptedSocket>();

  constructor(config: ListenerConfig, host: ListenerHost) {
    this.config = config;
    this.#host = host;
    const { stats } = host;
    const at: Record<string, StatIndex> = {};
    for (const name of counters) at[name] = stats.counter(config.statPrefix + name);
    for (const name of gauges) at[name] = stats.gauge(config.statPrefix + name);
    for (const name of histograms) at[name] = stats.histogram(config.statPrefix + name);
    this.#at = at as Record<Name, StatIndex>;
    this.#ssl = config.chains.some((chain) => chain.tls !== null) ? new SslStats(stats, config.statPrefix) : null;
    this.#workerAt = {
      total: stats.counter(`${config.statPrefix}worker_${host.workerIndex}.downstream_cx_total`),
      active: stats.gauge(`${config.statPrefix}worker_${host.workerIndex}.downstream_cx_active`),
    };
  }

  get isBound(): boolean {
    return this.#servers.length > 0;
  }

  /** Addresses that are bound, with the kernel's port where 0 was asked for. */
  get bound(): { readonly address: string; readonly port: number }[] {
    return this.#servers.map(({ address, server }) => {
      const actual = server.address();
      return typeof actual === "object" && actual !== null
        ? { address: actual.address, port: actual.port }
        : { address: address.host, port: -1 };
    });
  }

  /** Binds all addresses; when one fails none stays. Rejects with Envoy's message. */
  async listen(): Promise<void> {
    if (!this.config.bindsToPort) return;
    for (const address of this.config.addresses) {
      // A path, or a port that must not be shared, has room for one worker only.
      if ((address.port < 0 || !this.config.reusesPort) && this.#host.workerIndex > 0) continue;
      const server = net.createServer();
      try {
        const { backlog } = this.config;
        const options =
          address.port < 0
            ? { path: address.host, backlog }
            : {
                host: address.host,
                port: address.port,
                backlog,
                ipv6Only: address.host.includes(":") && !address.takesIpv4,
                reusePort: this.config.reusesPort,
                exclusive: true,
              };
        await listen(server, options);
      } catch (error) {
        this.stopListening();
        throw new Error(`cannot bind '${addressText(address)}': ${bindFailure(error as NodeJS.ErrnoException)}`, { cause: error });
      }
      server.on("error", (error) => this.#host.log("error", `listener ${this.config.name}: ${error.message}`));
      this.#acceptFrom(server);
      this.#servers.push({ address, server });
      if (this.config.isTransparent && address.port >= 0 && !makeTransparent(descriptorOf(server), address.host.includes(":") ? 6 : 4)) {
        this.stopListening();
        throw new Error("Setting socket options failed: a transparent listener needs CAP_NET_ADMIN");
      }
    }
  }

  /** Takes the open sockets of the listener that this one replaces. */
  adopt(other: Listener): void {
    this.#servers = other.#servers;
    other.#servers = [];
    for (const { server } of this.#servers) this.#acceptFrom(server);
  }

  #acceptFrom(server: net.Server): void {
    acceptHandles(server, (status, handle) => {
      if (status === 0) this.#accept(handle);
      else this.#host.log("error", `listener ${this.config.name}: accept ${getSystemErrorName(status)}`);
    });
  }

  stopListening(): void {
    for (const { server } of this.#servers) server.close();
    this.#servers = [];
  }

  /** Asks the connections of these chains to end, and ends them when the time is up. */
  drain(chains: readonly FilterChain[], strategy: "immediate" | "gradual", drainTimeMs: number, disposes: boolean): void {
    for (const chain of chains) chain.drain.start(strategy, drainTimeMs);
    setTimeout(() => {
      for (const chain of chains) {
        for (const connection of chain.connections) connection.shutdown(true);
        if (disposes) chain.filter?.dispose();
      }
    }, drainTimeMs).unref();
  }

  /** Tells clients that can be told that nothing new is taken from them. */
  announceDrain(): void {
    for (const chain of this.config.chains) for (const connection of chain.connections) connection.announceDrain();
  }

  /** Closes everything at once. */
  close(): void {
    this.stopListening();
    for (const socket of this.#early) socket.destroy();
    for (const chain of this.config.chains) {
      for (const connection of chain.connections) connection.shutdown(true);
      chain.filter?.dispose();
    }
    for (const log of this.config.accessLogs) log.close();
  }

  // --- accept ---

  #accept(handle: SocketHandle): void {
    const socket = new AcceptedSocket(handle);
    const accepted: Accepted = {
      id: nextConnectionId++,
      socket,
      acceptedAt: Date.now(),
      remoteIp: socket.remoteIp,
      remotePort: socket.remotePort,
      localIp: socket.localIp,
      localPort: socket.localPort,
      hello: null,
      applicationProtocols: [],
      isRedirected: false,
      wasHandedOn: false,
      header: null,
    };
    const { listenerFilters, usesOriginalDestination } = this.config;
    // Who hands connections on by their destination has to know it, whether the filter is listed or not.
    if (usesOriginalDestination || filterApplies(listenerFilters, "originalDst", accepted.localPort)) {
      const destination = this.#host.originalDestination(socket);
      if (destination !== null && (destination.ip !== accepted.localIp || destination.port !== accepted.localPort)) {
        accepted.localIp = destination.ip;
        accepted.localPort = destination.port;
        accepted.isRedirected = true;
      } else if (this.config.isTransparent) {
        // Packets were handed over as they are: the socket has the address that they were meant for.
        accepted.isRedirected = true;
      }
    }
    const other = this.#otherListener(accepted);
    if (other === null) this.#inspect(accepted);
    else other.#inspect(accepted);
  }

  /** The listener for where it was meant to go; null: this one. Nobody is handed on twice. */
  #otherListener(accepted: Accepted): Listener | null {
    if (!this.config.usesOriginalDestination || !accepted.isRedirected || accepted.wasHandedOn) return null;
    const other = this.#host.listenerFor(accepted.localIp, accepted.localPort);
    if (other === null || other === this) return null;
    accepted.wasHandedOn = true;
    return other;
  }

  /** Looks at the first bytes where a listener filter wants to know them. */
  #inspect(accepted: Accepted): void {
    const { listenerFilters } = this.config;
    if (!listenerFilters.readsFirstBytes) {
      this.#match(accepted, false);
      return;
    }
    const first = new FirstBytes(listenerFilters, accepted.localPort);
    // There are some when another listener has read a header.
    const { early } = accepted.socket;
    const outcome = first.isDone ? "done" : early.length === 0 ? "more" : first.take(early);
    if (outcome === "done") {
      this.#inspected(accepted, first);
      return;
    }
    if (outcome === "refused") {
      this.#refused(accepted);
      return;
    }
    const { stats } = this.#host;
    const at = this.#at;
    stats.add(at.downstream_pre_cx_active, 1);
    const timer = setTimeout(() => {
      if (this.config.continuesOnTimeout) {
        go();
        return;
      }
      finish();
      stats.add(at.downstream_pre_cx_timeout, 1);
      accepted.socket.destroy();
    }, this.config.listenerFiltersTimeoutMs || 0x7fff_ffff);
    timer.unref();
    const finish = this.#readFirst(
      accepted.socket,
      (bytes) => {
        const outcome = first.take(bytes);
        if (outcome === "done") go();
        else if (outcome === "refused") {
          finish();
          stopped();
          this.#refused(accepted);
        }
      },
      () => {
        stopped();
        stats.add(at.downstream_listener_filter_remote_close, 1);
        this.#log(this.#describe(accepted, null, null), 0, "");
        accepted.socket.destroy(accepted.socket.early.length > 0 ? "reset" : "clean");
      },
    );
    const stopped = () => {
      clearTimeout(timer);
      stats.add(at.downstream_pre_cx_active, -1);
    };
    const go = () => {
      finish();
      stopped();
      this.#inspected(accepted, first);
    };
  }

  #refused(accepted: Accepted): void {
    this.#log(this.#describe(accepted, null, null), 0, "");
    accepted.socket.destroy("reset");
  }

  #inspected(accepted: Accepted, first: FirstBytes): void {
    accepted.hello = first.hello;
    accepted.applicationProtocols = first.applicationProtocols;
    if (first.header !== null) {
      this.#announced(accepted, first.header);
      // Only now is it known where it was meant to go.
      const other = this.#otherListener(accepted);
      if (other !== null) {
        other.#inspect(accepted);
        return;
      }
    }
    this.#match(accepted, first.isTls);
  }

  /** The addresses are those that a PROXY header tells, and the header is not there any more. */
  #announced(accepted: Accepted, header: ProxyHeader): void {
    accepted.header = header;
    accepted.socket.dropFirst(header.length);
    const { addresses } = header;
    if (addresses === null) return;
    accepted.remoteIp = addresses.sourceIp;
    accepted.remotePort = addresses.sourcePort;
    if (addresses.destinationIp === accepted.localIp && addresses.destinationPort === accepted.localPort) return;
    accepted.localIp = addresses.destinationIp;
    accepted.localPort = addresses.destinationPort;
    accepted.isRedirected = true;
  }

  /** Until the returned function is called. */
  #readFirst(socket: AcceptedSocket, onBytes: (bytes: Buffer) => void, onGone: () => void): () => void {
    this.#early.add(socket);
    const gone = () => {
      this.#early.delete(socket);
      onGone();
    };
    socket.readFirst({ onBytes, onEnd: gone, onGone: gone });
    return () => {
      this.#early.delete(socket);
      socket.stopReading();
    };
  }

  #match(accepted: Accepted, isTls: boolean): void {
    const { socket } = accepted;
    const { stats } = this.#host;
    const traits: ConnectionTraits = {
      destinationIp: accepted.localIp,
      destinationPort: accepted.localPort,
      serverName: accepted.hello?.serverName ?? "",
      transportProtocol: isTls ? "tls" : "raw_buffer",
      applicationProtocols: accepted.applicationProtocols,
      directSourceIp: socket.remoteIp,
      sourceIp: accepted.remoteIp,
      sourcePort: accepted.remotePort,
    };
    const chain = this.config.matcher.find(traits);
    if (chain === null) {
      stats.add(this.#at.no_filter_chain_match, 1);
      const connection = this.#describe(accepted, null, null);
      this.#log(connection, responseFlags.NoRouteFound, "filter_chain_not_found");
      socket.destroy();
      return;
    }
    if (chain.tls === null) this.#serve(accepted, chain, null);
    else this.#handshake(accepted, chain, chain.tls);
  }

  #handshake(accepted: Accepted, chain: FilterChain, server: ServerTls): void {
    const { socket } = accepted;
    const { stats } = this.#host;
    const at = this.#at;
    if (!server.isReady) {
      // The secret has not come yet: Envoy resets as well.
      socket.destroy("reset");
      return;
    }
    const timer =
      chain.connectTimeoutMs > 0
        ? setTimeout(() => {
            this.#early.delete(socket);
            stats.add(at.downstream_cx_transport_socket_connect_timeout, 1);
            socket.destroy();
          }, chain.connectTimeoutMs)
        : undefined;
    const failed = (reason: string) => {
      clearTimeout(timer);
      this.#early.delete(socket);
      this.#handshakeFailed(accepted, chain, reason);
    };
    const sink: HandshakeSink = {
      secured: (handle, peer) => {
        clearTimeout(timer);
        this.#early.delete(socket);
        const info = new ServerTlsInfo(socket, handle, peer);
        this.#ssl?.secured(info, handle.isSessionReused());
        this.#serve(accepted, chain, info);
      },
      failed,
      stapled: (action) => this.#ssl?.stapled(action),
    };
    const start = (hello: ClientHello | null) => {
      this.#early.add(socket);
      server.accept(socket, sink, hello);
    };
    if (accepted.hello !== null) {
      start(accepted.hello);
      return;
    }
    const early = accepted.header === null ? null : inspectClientHello(socket.early);
    if (early !== null && early.kind !== "more") {
      start(early.kind === "tls" ? early.hello : null);
      return;
    }
    // What no tls_inspector has seen is known to the handshake alone, as with Envoy.
    const stop = this.#readFirst(
      socket,
      (bytes) => {
        const found = inspectClientHello(bytes);
        if (found.kind === "more") return;
        stop();
        // What is no hello goes to OpenSSL all the same: it says to the client what is wrong.
        start(found.kind === "tls" ? found.hello : null);
      },
      () => failed(goneInHandshake),
    );
  }

  #handshakeFailed(accepted: Accepted, chain: FilterChain, reason: string): void {
    this.#ssl?.failed(reason);
    const connection = this.#describe(accepted, chain, null);
    connection.info.transportFailureReason = reason;
    this.#log(connection, 0, "");
    accepted.socket.destroy("lost");
  }

  #serve(accepted: Accepted, chain: FilterChain, tls: TlsInfo | null): void {
    const { socket } = accepted;
    const { stats } = this.#host;
    if (chain.filter === null) {
      socket.destroy();
      return;
    }
    stats.add(this.#at.downstream_cx_total, 1);
    stats.add(this.#at.downstream_cx_active, 1);
    stats.add(this.#workerAt.total, 1);
    stats.add(this.#workerAt.active, 1);
    const connection = this.#describe(accepted, chain, tls);
    chain.connections.add(connection);
    chain.filter.onConnection(connection);
  }

  #describe(accepted: Accepted, chain: FilterChain | null, tls: TlsInfo | null): DownstreamConnection {
    const { socket } = accepted;
    const { listenerFilters } = this.config;
    const { header } = accepted;
    const remoteAddress = addressText({ host: accepted.remoteIp, port: accepted.remotePort });
    const started = performance.now();
    const described = new DownstreamConnection({
      id: accepted.id,
      acceptedAtEpochMs: accepted.acceptedAt,
      socket,
      remoteIp: accepted.remoteIp,
      remotePort: accepted.remotePort,
      localIp: accepted.localIp,
      localPort: accepted.localPort,
      remoteAddress,
      directRemoteAddress: header === null ? remoteAddress : addressText({ host: socket.remoteIp, port: socket.remotePort }),
      localAddress: addressText({ host: accepted.localIp, port: accepted.localPort }),
      directLocalAddress: addressText({ host: socket.localIp, port: socket.localPort }),
      isRedirected: accepted.isRedirected,
      originalSource: originalSource(listenerFilters, accepted.localPort, accepted.remoteIp),
      requestedServerName: accepted.hello?.serverName ?? "",
      filterChainName: chain?.name ?? "",
      tls,
      drain: chain?.drain ?? noDrain,
      onClosed: (connection) => {
        const { stats } = this.#host;
        chain?.connections.delete(connection);
        stats.add(this.#at.downstream_cx_active, -1);
        stats.add(this.#workerAt.active, -1);
        stats.add(this.#at.downstream_cx_destroy, 1);
        stats.record(this.#at.downstream_cx_length_ms, Math.round(performance.now() - started));
        if (this.config.accessLogs.length > 0) this.#log(connection, 0, "");
      },
    });
    if (header !== null && header.tlvs.length > 0) {
      described.passedTlvs = listenerFilters.proxyProtocol!.passedTlvs(header);
      described.streamInfo.dynamicMetadata = listenerFilters.proxyProtocol!.metadataOf(header);
    }
    return described;
  }

  /** The listener's own access log: a line per connection. */
  #log(connection: DownstreamConnection, flags: number, details: string): void {
    if (this.config.accessLogs.length === 0) return;
    const info = connection.streamInfo;
    info.endTime = performance.now();
    info.flags |= flags;
    if (details !== "") info.responseCodeDetails = details;
    if (connection.transport !== null) {
      info.bytesReceived = connection.transport.bytesRead;
      info.bytesSent = connection.transport.bytesWritten;
    }
    for (const log of this.config.accessLogs) log.write(info);
  }
}

const noDrain = new ListenerDrain();
function descriptorOf(server: net.Server): number {
  return (server as unknown as { readonly _handle: { readonly fd: number } | null })._handle?.fd ?? -1;
}
