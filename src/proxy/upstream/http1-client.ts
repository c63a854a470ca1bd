/**
 * One upstream connection that speaks HTTP/1.1: connects, carries one request at a time for the router, and goes back to its
 * pool. Nobody waits for bytes that belong to no request: what an idle connection says closes it.
 *
 *      connecting -> idle <-> busy -> closed
 */
import type * as net from "node:net";
import type * as tls from "node:tls";
import { Http1Parser, type Http1ParserSink } from "../http/http1-parser.ts";
import { restoreUpgrade } from "../http/request-preparation.ts";
import { LazyTimer } from "../lazy-timer.ts";
import { connectFailure } from "../node-error.ts";
import type { TlsInfo } from "../stream-info.ts";
import { Transport, type TransportHandler } from "../transport.ts";
import type { Priority } from "./circuit-breakers.ts";
import { ConnectedSocket } from "./connected-socket.ts";
import type { ConnectionPool } from "./connection-pool.ts";
import { openSocket } from "./open-socket.ts";

/** Why a request lost its connection, or never got one; Envoy's words for it are in http/local-reply.ts. */
export type UpstreamReset =
  | "connectionFailure"
  | "connectionTimeout"
  | "connectionTermination"
  | "protocolError"
  | "overflow"
  | "localReset";

/** The router's side of a request under way. */
export interface UpstreamStream {
  readonly method: string;
  /** The request asks for another protocol, so that a 101 may answer it. */
  readonly wantsUpgrade: boolean;
  onUpstreamHeaders(status: number, headers: string[], endStream: boolean, client: Http1Client): void;
  onUpstreamData(chunk: Buffer, client: Http1Client): void;
  onUpstreamEnd(trailers: readonly string[] | null, client: Http1Client): void;
  onUpstreamReset(reason: UpstreamReset): void;
  /** Everything that one read brought has been handed over. */
  onUpstreamReadComplete(): void;
  /** The connection takes data again. */
  onUpstreamDrain(): void;
}

let nextConnectionId = 1;

export class Http1Client implements TransportHandler, Http1ParserSink {
  readonly id = nextConnectionId++;
  readonly pool: ConnectionPool;
  localAddress = "";
  tlsInfo: TlsInfo | null = null;
  transport: Transport | null = null;
  #priority: Priority;
  #requestPriority: Priority;
  readonly #sniHost: string;
  #socket: net.Socket | null = null;
  #connectTimer: NodeJS.Timeout | null = null;
  #connectStarted = 0;
  #stream: UpstreamStream | null = null;
  #parser: Http1Parser;
  #requests = 0;
  #isClosed = false;
  #isConnected = false;
  #requestIsComplete = false;
  #responseIsComplete = false;
  #closesAfterResponse = false;
  #isUpgraded = false;
  #idleTimer: LazyTimer | null = null;
  #durationTimer: NodeJS.Timeout | null = null;
  #countedRead = 0;
  #countedWritten = 0;
  #isBusy = false;
  #sawHead = false;

  constructor(pool: ConnectionPool, priority: Priority, sniHost: string) {
    this.pool = pool;
    this.#priority = priority;
    this.#requestPriority = priority;
    this.#sniHost = sniHost;
    const { config } = pool.cluster;
    this.#parser = new Http1Parser(
      {
        kind: "response",
        maxHeadBytes: 60 * 1024,
        maxHeaders: config.maxResponseHeaders,
        keepsTrailers: config.enablesTrailers,
        allowsChunkedLength: config.allowsChunkedLength,
        allowsCustomMethods: true,
        underscores: "allow",
      },
      this,
    );
  }

  get requestsServed(): number {
    return this.#requests;
  }

  connect(): void {
    const { cluster, host } = this.pool;
    const { stats, config } = cluster;
    stats.store.add(stats.at.upstream_cx_total, 1);
    stats.store.add(stats.at.upstream_cx_http1_total, 1);
    stats.store.add(stats.at.upstream_cx_active, 1);
    stats.store.add(host.at.cx_total, 1);
    stats.store.add(host.at.cx_active, 1);
    cluster.resources[this.#priority].addConnection(1);
    this.#connectStarted = performance.now();
    const socket = openSocket(host, { config, client: this.pool.client });
    this.#socket = socket;
    this.#connectTimer = setTimeout(() => {
      stats.store.add(stats.at.upstream_cx_connect_timeout, 1);
      this.#connectFailed("connectionTimeout", "");
    }, config.connectTimeoutMs);
    const tls = host.transportSocket.tls;
    if (tls === null) {
      socket.on("error", (error: NodeJS.ErrnoException) => this.#connectFailed("connectionFailure", connectFailure(error)));
      socket.once("connect", () => this.#connected(socket));
      return;
    }
    const serverName = config.autoSni && this.#sniHost !== "" ? this.#sniHost : tls.sni;
    const secured = tls.connect(socket, { peer: host.key, serverName, offer: this.pool.alpnOffer });
    if (secured === null) {
      process.nextTick(() => this.#connectFailed("connectionFailure", "TLS_error:_Secret_is_not_supplied_by_SDS"));
      return;
    }
    this.#socket = secured;
    socket.on("error", (error: NodeJS.ErrnoException) => this.#connectFailed("connectionFailure", connectFailure(error)));
    secured.on("error", (error: NodeJS.ErrnoException) => this.#connectFailed("connectionFailure", connectFailure(error)));
    secured.once("close", () => this.#connectFailed("connectionFailure", "connection_termination"));
    secured.once("secureConnect", () => {
      const problem = tls.verify(secured, config.autoSanValidation ? this.#sniHost : "");
      if (problem !== null) this.#connectFailed("connectionFailure", problem);
      else this.#connected(secured, tls.info(secured));
    });
  }

  #connected(socket: net.Socket, info: TlsInfo | null = null): void {
    if (this.#isClosed) return;
    clearTimeout(this.#connectTimer ?? undefined);
    const { cluster } = this.pool;
    const { stats, config } = cluster;
    stats.store.record(stats.at.upstream_cx_connect_ms, Math.round(performance.now() - this.#connectStarted));
    this.#isConnected = true;
    this.localAddress = socket.localAddress === undefined ? "" : `${socket.localAddress}:${socket.localPort}`;
    socket.removeAllListeners("error");
    socket.removeAllListeners("close");
    this.tlsInfo = info;
    if (info !== null) {
      stats.ssl?.secured(info, (socket as tls.TLSSocket).isSessionReused());
      // What the connection showed of itself can't be asked any more when it has failed.
      void info.localCertificate;
    }
    this.transport = new Transport(new ConnectedSocket(socket, info !== null), this);
    if (config.maxConnectionDurationMs > 0) {
      this.#durationTimer = setTimeout(() => {
        stats.store.add(stats.at.upstream_cx_max_duration_reached, 1);
        this.#retire();
      }, config.maxConnectionDurationMs);
      this.#durationTimer.unref();
    }
    this.transport.start();
    if (!this.#isClosed) this.pool.connected(this);
  }

  #connectFailed(reason: UpstreamReset, transportFailure: string): void {
    if (this.#isClosed || this.#isConnected) return;
    const { cluster, host } = this.pool;
    const { stats } = cluster;
    stats.store.add(stats.at.upstream_cx_connect_fail, 1);
    stats.store.add(host.at.cx_connect_fail, 1);
    if (transportFailure.startsWith("TLS_error")) stats.ssl?.failed(transportFailure);
    this.#shut(reason === "connectionTimeout" ? "local" : "remote");
    this.pool.connectFailed(this, reason, transportFailure);
  }

  // --- the pool's side ---

  /** A request takes the connection. Hot. */
  begin(priority: Priority): void {
    const { cluster, host } = this.pool;
    this.#isBusy = true;
    this.#requestPriority = priority;
    this.#requestIsComplete = false;
    this.#responseIsComplete = false;
    this.#requests++;
    this.#idleTimer?.set(Number.POSITIVE_INFINITY);
    cluster.resources[priority].addRequest(1);
    host.activeRequests++;
    const { values } = cluster.stats.store;
    values[cluster.stats.at.upstream_rq_active]! += 1;
    values[cluster.stats.at.upstream_rq_total]! += 1;
    values[host.at.rq_active]! += 1;
    values[host.at.rq_total]! += 1;
    const max = cluster.config.maxRequestsPerConnection;
    if (max > 0 && this.#requests >= max) {
      this.#closesAfterResponse = true;
      values[cluster.stats.at.upstream_cx_max_requests]! += 1;
    }
  }

  becameIdle(): void {
    const { idleTimeoutMs } = this.pool.cluster.config;
    if (idleTimeoutMs <= 0) return;
    this.#idleTimer ??= new LazyTimer(() => this.#idleExpired());
    this.#idleTimer.set(performance.now() + idleTimeoutMs);
  }

  #idleExpired(): void {
    if (this.#isBusy) return;
    const { stats } = this.pool.cluster;
    stats.store.add(stats.at.upstream_cx_idle_timeout, 1);
    this.close("local");
  }

  /** No further request: closes now, or after the present one. */
  #retire(): void {
    if (this.#isBusy) this.#closesAfterResponse = true;
    else this.close("local");
  }

  close(by: "local" | "remote"): void {
    if (this.#isClosed) return;
    this.#shut(by);
    this.pool.closed(this);
  }

  #shut(by: "local" | "remote"): void {
    this.#isClosed = true;
    clearTimeout(this.#connectTimer ?? undefined);
    clearTimeout(this.#durationTimer ?? undefined);
    this.#idleTimer?.dispose();
    this.#parser.stop();
    this.#countBytes();
    if (this.transport !== null) this.transport.destroy();
    else {
      this.#socket?.on("error", () => {});
      this.#socket?.destroy();
    }
    const { cluster, host } = this.pool;
    const { stats } = cluster;
    cluster.resources[this.#priority].addConnection(-1);
    stats.store.add(stats.at.upstream_cx_active, -1);
    stats.store.add(host.at.cx_active, -1);
    stats.store.add(stats.at.upstream_cx_destroy, 1);
    stats.store.add(by === "local" ? stats.at.upstream_cx_destroy_local : stats.at.upstream_cx_destroy_remote, 1);
    if (this.#isBusy) {
      stats.store.add(stats.at.upstream_cx_destroy_with_active_rq, 1);
      stats.store.add(
        by === "local" ? stats.at.upstream_cx_destroy_local_with_active_rq : stats.at.upstream_cx_destroy_remote_with_active_rq,
        1,
      );
    }
    if (this.#isConnected) stats.store.record(stats.at.upstream_cx_length_ms, Math.round(performance.now() - this.#connectStarted));
    this.#releaseRequest();
  }

  // --- the router's side ---

  /** Sends a head, and a body's first part where it is there already. Hot. */
  send(stream: UpstreamStream, head: string, body: Buffer | null, bodySuffix: string, endStream: boolean): boolean {
    this.#stream = stream;
    this.#requestIsComplete = endStream;
    return this.transport!.writeParts(head, body, bodySuffix);
  }

  sendData(before: string, body: Buffer, after: string, endStream: boolean): boolean {
    if (endStream) this.#requestIsComplete = true;
    const transport = this.transport!;
    const more = before === "" && after === "" ? transport.write(body) : transport.writeParts(before, body, after);
    if (endStream) this.#requestSent();
    return more;
  }

  sendText(text: string, endStream: boolean): void {
    if (endStream) this.#requestIsComplete = true;
    if (text !== "") this.transport!.writeParts(text, null, "");
    if (endStream) this.#requestSent();
  }

  /** In an upgraded connection: no more bytes from downstream. */
  sendFin(): void {
    this.transport?.end();
  }

  pauseReading(): void {
    const { stats } = this.pool.cluster;
    stats.store.add(stats.at.upstream_flow_control_paused_reading_total, 1);
    this.transport?.pause();
  }

  resumeReading(): void {
    const { stats } = this.pool.cluster;
    stats.store.add(stats.at.upstream_flow_control_resumed_reading_total, 1);
    this.transport?.start();
  }

  /** The router gave the request up: HTTP/1.1 can only close. */
  reset(): void {
    this.#stream = null;
    if (this.#isClosed) return;
    const { stats } = this.pool.cluster;
    stats.store.add(stats.at.upstream_rq_tx_reset, 1);
    this.close("local");
  }

  /** The response was complete before the request: the rest of the request is not sent, so the connection can't be used again. */
  abandonRequest(): void {
    this.#closesAfterResponse = true;
  }

  /** Puts the response's Connection and Upgrade lines back. */
  restoreUpgrade(headers: string[]): void {
    restoreUpgrade(headers, this.#parser);
  }

  upgrade(): void {
    this.#isUpgraded = true;
    this.#closesAfterResponse = true;
    this.#parser.switchToRaw();
  }

  // --- TransportHandler ---

  onData(chunk: Buffer): void {
    if (!this.#isBusy || (this.#responseIsComplete && !this.#isUpgraded)) {
      this.#protocolError();
      return;
    }
    const stream = this.#stream;
    this.#parser.execute(chunk);
    stream?.onUpstreamReadComplete();
    if (this.#responseIsComplete) this.#settle();
  }

  onEnd(): void {
    if (!this.#isBusy) {
      this.close("remote");
      return;
    }
    if (this.#isUpgraded) {
      const upgraded = this.#stream;
      this.#stream = null;
      this.close("remote");
      upgraded?.onUpstreamReset("connectionTermination");
      return;
    }
    if (this.#parser.readsUntilClose) {
      this.#closesAfterResponse = true;
      const stream = this.#stream;
      this.#parser.finish();
      stream?.onUpstreamReadComplete();
      this.#settle();
      return;
    }
    this.#lost(null);
  }

  onClose(error: NodeJS.ErrnoException | null): void {
    this.#lost(error);
  }

  #lost(_error: NodeJS.ErrnoException | null): void {
    if (this.#isClosed) return;
    const stream = this.#stream;
    this.#stream = null;
    // Cut within a chunked body or one with a length: what came is no complete message.
    const isCut = stream !== null && (this.#sawHead || this.#parser.hasPending);
    this.close("remote");
    if (stream === null) return;
    const { stats } = this.pool.cluster;
    if (isCut) stats.store.add(stats.at.upstream_cx_protocol_error, 1);
    stream.onUpstreamReset(isCut ? "protocolError" : "connectionTermination");
  }

  onDrain(): void {
    this.#stream?.onUpstreamDrain();
  }

  // --- Http1ParserSink ---

  onHead(parser: Http1Parser): void {
    const stream = this.#stream;
    if (stream === null) return;
    const { status } = parser;
    if (status < 200 && status !== 101) {
      // 100 and 103 announce another head. Envoy passes 100 on only when told to, and drops the others.
      parser.skipBody();
      return;
    }
    if (status === 204 && (parser.contentLength > 0 || parser.isChunked)) {
      // A body where there can't be one: its bytes would be taken for the next response.
      this.#protocolError();
      return;
    }
    const isBodiless = stream.method === "HEAD" || status === 204 || status === 304;
    const connection = parser.connection.toLowerCase();
    if (parser.minorVersion === 1 ? connection.includes("close") : !connection.includes("keep-alive")) this.#closesAfterResponse = true;
    this.#sawHead = true;
    // Nobody asked to switch: what follows is no HTTP.
    if (status === 101 && !stream.wantsUpgrade) this.#closesAfterResponse = true;
    if (status === 101 && stream.wantsUpgrade) parser.switchToRaw();
    else if (isBodiless || status === 101) parser.skipBody();
    else if (parser.readsUntilClose) this.#closesAfterResponse = true;
    const endStream = parser.isDone;
    if (endStream) {
      this.#responseIsComplete = true;
      this.#stream = null;
      const { headers } = parser;
      if (parser.endsChunk) this.#settle();
      stream.onUpstreamHeaders(status, headers, true, this);
      return;
    }
    stream.onUpstreamHeaders(status, parser.headers, false, this);
  }

  onBody(chunk: Buffer): void {
    this.#stream?.onUpstreamData(chunk, this);
  }

  onMessageEnd(parser: Http1Parser): void {
    if (this.transport !== null) this.transport.isBulk = false;
    if (this.#responseIsComplete || !this.#sawHead) {
      // Either told with the head, or the end of an interim response.
      if (!this.#responseIsComplete) parser.next();
      return;
    }
    const stream = this.#stream;
    this.#stream = null;
    this.#responseIsComplete = true;
    const trailers = parser.isChunked && parser.trailers.length > 0 && this.pool.cluster.config.enablesTrailers ? parser.trailers : null;
    // Free again before the stream hears of the end: a pipelined request that follows at once finds it.
    if (parser.endsChunk) this.#settle();
    stream?.onUpstreamEnd(trailers, this);
  }

  onParseError(): void {
    this.#protocolError();
  }

  #protocolError(): void {
    if (this.#isClosed) return;
    const stream = this.#stream;
    this.#stream = null;
    const { stats } = this.pool.cluster;
    if (this.#isBusy) stats.store.add(stats.at.upstream_cx_protocol_error, 1);
    this.close("local");
    stream?.onUpstreamReset("protocolError");
  }

  /** The request's last byte was sent; the response may have been complete before. */
  #requestSent(): void {
    if (this.#responseIsComplete) process.nextTick(() => this.#settle());
  }

  /** Response and request are complete: the connection goes back to the pool, unless one of them says otherwise. Not before it is
   *  known that nothing follows the response: such bytes belong to nobody and must not answer the next request. */
  #settle(): void {
    if (this.#isClosed || !this.#isBusy || this.#isUpgraded) return;
    if (this.#closesAfterResponse || !this.#requestIsComplete || this.#parser.hasPending) {
      this.close("local");
      return;
    }
    this.#releaseRequest();
    this.#sawHead = false;
    this.#countBytes();
    this.#parser.next();
    if (this.transport?.isPaused) this.transport.start();
    if (!this.#isClosed) this.pool.finished(this);
  }

  #releaseRequest(): void {
    if (!this.#isBusy) return;
    this.#isBusy = false;
    const { cluster, host } = this.pool;
    cluster.resources[this.#requestPriority].addRequest(-1);
    host.activeRequests--;
    const { values } = cluster.stats.store;
    values[cluster.stats.at.upstream_rq_active]! -= 1;
    values[host.at.rq_active]! -= 1;
  }

  #countBytes(): void {
    const { transport } = this;
    if (transport === null) return;
    const { at, store } = this.pool.cluster.stats;
    store.values[at.upstream_cx_rx_bytes_total]! += transport.bytesRead - this.#countedRead;
    store.values[at.upstream_cx_tx_bytes_total]! += transport.bytesWritten - this.#countedWritten;
    this.#countedRead = transport.bytesRead;
    this.#countedWritten = transport.bytesWritten;
  }
}
