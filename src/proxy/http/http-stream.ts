/**
 * One request and its response on their way through the filters; Envoy's ActiveStream and FilterManager.
 *
 *      codec -> onRequest* -> filters in order -> terminal filter (router)
 *      codec <- send*      <- filters in reverse <- respond*          local replies enter here as well
 *
 * A codec owns the stream's bytes (http1-server.ts, http2/server-stream.ts), the stream owns their order: it holds back what
 * a stopped filter must not see past, applies what the connection manager decides about headers, and writes the log line at
 * the end. Hot: one object per request, no closures.
 */

import { grpcStatusNumber } from "../../api/grpc-status.ts";
import type { RouterRequest } from "../filters/http/router-request.ts";
import type { DownstreamConnection } from "../listener/downstream-connection.ts";
import { type ClusterChoice, chooseCluster, isGrpc, type Route } from "../router/route.ts";
import { type HeaderList, responseFlags } from "../stream-info.ts";
import { keepChunk } from "../transport.ts";
import type { AlpnOffers } from "../upstream/alpn-offer.ts";
import type { Cluster } from "../upstream/cluster.ts";
import type { ConnectionManager } from "./connection-manager.ts";
import { finishResponseHeaders } from "./connection-manager-headers.ts";
import { getHeader } from "./header-list.ts";
import { buildLocalReply } from "./local-reply.ts";
import { RequestInfo } from "./request-info.ts";

/** What a stream needs of the protocol below it. */
export interface ServerCodec {
  /** `headers` are final. */
  sendHeaders(stream: HttpStream, status: number, headers: HeaderList, endStream: boolean): void;
  /** Goes before the response, at once. */
  sendInterim(stream: HttpStream, status: number, headers: HeaderList): void;
  /** False: wait for `stream.onDownstreamDrain`. */
  sendData(stream: HttpStream, chunk: Buffer, endStream: boolean): boolean;
  sendTrailers(stream: HttpStream, trailers: HeaderList): void;
  /** Pushes out what waits for company. */
  flush(): void;
  /** All that has come of this stream's request, as it came over the wire. */
  receivedBytes(stream: HttpStream): number;
  /** Cuts the stream off. */
  reset(stream: HttpStream): void;
  pauseRequest(): void;
  resumeRequest(): void;
  /** The stream is over; the codec may begin the next. */
  streamEnded(stream: HttpStream): void;
  /** Sets the timer of this stream; performance.now() milliseconds. */
  setDeadline(deadline: number): void;
  /** Turns the exchange into a byte tunnel, after a 101 or an answered CONNECT. */
  upgrade(stream: HttpStream): void;
}

const never = Number.POSITIVE_INFINITY;
const deadlineExceeded = grpcStatusNumber("DEADLINE_EXCEEDED");
/** Response body that a stopped filter may hold before upstream has to wait. */
const heldBytesLimit = 1024 * 1024;

export class HttpStream {
  readonly manager: ConnectionManager;
  readonly connection: DownstreamConnection;
  readonly codec: ServerCodec;
  readonly info: RequestInfo;
  /** Slots of the filters, by `FilterCompileContext.slot`. */
  filterState: unknown[] | null = null;
  route: Route | null = null;
  #routeIsStale = false;
  /** The virtual host wants TLS (`require_tls`) and this request came without. */
  redirectsToTls = false;
  /** Which of the route's clusters this request goes to; null unless the route forwards. */
  choice: ClusterChoice | null = null;
  /** What the connection to the endpoint should have offered, if that is TLS; null: what its cluster says. */
  alpnOffers: AlpnOffers | null = null;
  /** The router's work for this stream. */
  router: RouterRequest | null = null;
  requestIsComplete = false;
  /** Response headers went to the codec. */
  responseHasStarted = false;
  responseIsComplete = false;
  isEnded = false;
  /** The downstream connection closes after this response. */
  closesConnection = false;
  sawConnectionClose = false;
  isInternal = false;
  /** Requested upgrade in lower case, "" for none. */
  upgrade = "";
  isUpgraded = false;
  isHttp10 = false;
  /** The client does not speak gRPC, though the server is asked by it. */
  isTranslated = false;
  /** What a local reply to a gRPC request says instead of the status that follows from HTTP's; -1: nothing else. */
  localReplyGrpcStatus = -1;
  /** Of the response as it is being encoded. */
  responseStatus = 0;

  idleTimeoutMs = 0;
  lastActivity = 0;
  routeDeadline = never;
  tryDeadline = never;
  /** For the next sign of life from the endpoint. */
  tryIdleDeadline = never;
  /** The attempt must have ended by then, its response too. */
  tryDurationDeadline = never;
  durationDeadline = never;
  requestDeadline = never;

  /** Where the request rests: index of the filter that stopped it, or -1. */
  #stoppedRequestAt = -1;
  #requestHeadersPassed = false;
  #heldRequest: Buffer[] = [];
  #heldRequestBytes = 0;
  #heldRequestEnd = false;
  #heldRequestTrailers: HeaderList = noTrailers;
  /** So much is held before the client has to wait. */
  heldRequestLimitBytes: number;
  #stoppedResponseAt = -1;
  #responseHeadersPassed = false;
  #heldResponse: Buffer[] = [];
  #heldResponseBytes = 0;
  #heldResponseEnd = false;
  #heldResponseTrailers: HeaderList | null = null;
  #isLocalReply = false;
  #downstreamIsFull = false;

  constructor(manager: ConnectionManager, connection: DownstreamConnection, codec: ServerCodec) {
    this.manager = manager;
    this.heldRequestLimitBytes = manager.bufferLimitBytes;
    this.connection = connection;
    this.codec = codec;
    const info = new RequestInfo(connection.info);
    info.startTimeEpochMs = Date.now();
    info.startTime = connection.now;
    this.info = info;
    this.lastActivity = connection.now;
    this.idleTimeoutMs = manager.streamIdleTimeoutMs;
  }

  // --- request ---

  /** Finds the route, and which cluster it means for this request. */
  resolveRoute(): void {
    const { info } = this;
    const table = this.manager.routeTable;
    const route = table === null ? null : table.route(info);
    this.route = route;
    this.choice = null;
    this.redirectsToTls = false;
    const virtualHost = table === null ? null : table.virtualHost(info.authority);
    if (virtualHost !== null && virtualHost.requiresTls !== "none" && info.scheme !== "https") {
      this.redirectsToTls = virtualHost.requiresTls === "all" || !this.isInternal;
      if (this.redirectsToTls) {
        this.route = null;
        return;
      }
    }
    if (route === null) return;
    info.routeName = route.name;
    if (route.action.kind !== "forward") return;
    this.choice = chooseCluster(route.action, info.requestHeaders);
    const { cluster } = this;
    if (cluster === undefined) return;
    info.upstreamCluster = cluster.config.statName;
    info.upstreamClusterRaw = cluster.config.name;
  }

  /** Where the request goes, by the cluster's name or by a header as it is now; undefined: nowhere, or there is no such cluster. Hot. */
  get cluster(): Cluster | undefined {
    const { choice } = this;
    if (choice === null) return undefined;
    const name = choice.clusterHeader === "" ? choice.cluster : (getHeader(this.info.requestHeaders, choice.clusterHeader) ?? "");
    return this.manager.clusterOf(name);
  }

  /** What a filter has found out or changed may lead to another route: it is looked up again when somebody next wants to know it. */
  clearRouteCache(): void {
    this.#routeIsStale = true;
  }

  /** Hot. */
  #refreshRoute(): void {
    if (!this.#routeIsStale) return;
    this.#routeIsStale = false;
    const { info } = this;
    info.routeName = "";
    info.upstreamCluster = "";
    info.upstreamClusterRaw = "";
    this.resolveRoute();
  }

  /** Limits of the connection manager, from the first byte on: for the client's part, which may be over, and for all of it. */
  startDeadlines(): void {
    const { requestTimeoutMs, maxStreamDurationMs } = this.manager;
    const { startTime } = this.info;
    if (requestTimeoutMs > 0 && !this.requestIsComplete) this.requestDeadline = startTime + requestTimeoutMs;
    if (maxStreamDurationMs > 0) this.durationDeadline = startTime + maxStreamDurationMs;
    this.schedule();
  }

  /** The head is in `info`; what the connection manager wants of it is done. */
  onRequestHeaders(endStream: boolean): void {
    this.#runRequestHeaders(0, endStream);
  }

  #runRequestHeaders(from: number, endStream: boolean): void {
    const filters = this.manager.filters;
    for (let i = from; i < filters.length; i++) {
      const filter = filters[i]!;
      if (filter.onRequestHeaders === undefined) continue;
      const status = filter.onRequestHeaders(this, endStream);
      if (this.responseHasStarted || this.isEnded || this.#isLocalReply) return;
      if (status === "stop") {
        this.#stoppedRequestAt = i;
        return;
      }
    }
    this.#requestHeadersPassed = true;
    this.#refreshRoute();
    this.manager.terminal.onRequestHeaders(this, endStream);
  }

  onRequestData(chunk: Buffer, endStream: boolean): void {
    this.info.bytesReceived += chunk.length;
    this.lastActivity = this.connection.now;
    if (endStream) this.requestCompleted();
    if (this.isEnded || this.responseIsComplete) return;
    if (!this.#requestHeadersPassed) {
      this.#holdRequest(chunk, endStream);
      return;
    }
    this.#runRequestData(0, chunk, endStream);
  }

  #runRequestData(from: number, given: Buffer, endStream: boolean): void {
    const filters = this.manager.requestDataFilters;
    let chunk = given;
    for (let i = from; i < filters.length; i++) {
      const status = filters[i]!.onRequestData!(this, chunk, endStream);
      if (this.isEnded || this.#isLocalReply) return;
      if (status === "stop") {
        this.#holdRequest(chunk, endStream);
        return;
      }
      if (status !== "continue") chunk = status;
    }
    this.manager.terminal.onRequestData(this, chunk, endStream);
  }

  #holdRequest(chunk: Buffer, endStream: boolean): void {
    if (chunk.length > 0) {
      this.#heldRequest.push(keepChunk(chunk));
      this.#heldRequestBytes += chunk.length;
    }
    if (endStream) this.#heldRequestEnd = true;
    if (this.#heldRequestBytes > this.heldRequestLimitBytes) this.codec.pauseRequest();
    this.#tellHeld();
  }

  #tellHeld(): void {
    if (this.#stoppedRequestAt < 0 || this.#requestHeadersPassed) return;
    this.manager.filters[this.#stoppedRequestAt]!.onHeldRequestData?.(this, this.#heldRequestEnd);
  }

  /** The body as far as it has come while a filter rests the request. */
  get heldRequest(): readonly Buffer[] {
    return this.#heldRequest;
  }

  get heldRequestBytes(): number {
    return this.#heldRequestBytes;
  }

  /** More of the body has come than the filter that needs all of it may hold. */
  refuseTooLargeRequest(): void {
    const { store, at } = this.manager.stats;
    store.add(at.downstream_rq_too_large, 1);
    this.closesConnection = true;
    this.sendLocalReply(413, "Payload Too Large", "request_payload_too_large");
  }

  /** The body ended without data at its end; `trailers` are empty unless they are enabled. */
  onRequestEnd(trailers: string[]): void {
    this.requestCompleted();
    if (this.isEnded || this.responseIsComplete) return;
    if (!this.#requestHeadersPassed) {
      this.#heldRequestEnd = true;
      this.#heldRequestTrailers = trailers;
      this.#tellHeld();
      return;
    }
    this.#runRequestEnd(trailers);
  }

  #runRequestEnd(trailers: HeaderList): void {
    const filters = this.manager.requestEndFilters;
    for (let i = 0; i < filters.length; i++) {
      filters[i]!.onRequestEnd!(this);
      if (this.isEnded || this.#isLocalReply) return;
    }
    this.manager.terminal.onRequestTrailers(this, trailers);
  }

  onRequestReadComplete(): void {
    if (!this.isEnded && this.#requestHeadersPassed) this.manager.terminal.onRequestReadComplete(this);
  }

  /** The codec has seen the request's end. */
  requestCompleted(): void {
    this.requestIsComplete = true;
    this.info.requestEndTime = this.connection.now;
    this.requestDeadline = never;
  }

  /** A filter that stopped the request lets it go on. */
  continueRequest(): void {
    if (this.isEnded || this.#stoppedRequestAt < 0) return;
    const from = this.#stoppedRequestAt + 1;
    this.#stoppedRequestAt = -1;
    const held = this.#heldRequest;
    const ends = this.#heldRequestEnd;
    const hadBody = held.length > 0 || ends || !this.requestIsComplete;
    this.#runRequestHeaders(from, this.requestIsComplete && !hadBody);
    if (!this.#requestHeadersPassed || this.isEnded) {
      // Another filter rests it now, and may want the body that is here already.
      if (hadBody && !this.isEnded) this.#tellHeld();
      return;
    }
    this.#heldRequest = [];
    this.#heldRequestBytes = 0;
    const trailers = this.#heldRequestTrailers;
    const endsWithData = ends && trailers.length === 0;
    for (const [index, chunk] of held.entries()) this.#runRequestData(0, chunk, endsWithData && index === held.length - 1);
    if (ends && !(endsWithData && held.length > 0)) this.#runRequestEnd(trailers);
    this.codec.resumeRequest();
    this.manager.terminal.onRequestReadComplete(this);
  }

  // --- response ---

  /** The router has an answer: `info.responseHeaders` and the status. */
  respond(status: number, headers: HeaderList, endStream: boolean): void {
    this.responseStatus = status;
    // Who answers before the end of the request has stopped waiting for it.
    this.requestDeadline = never;
    this.info.responseHeaders = headers;
    this.info.responseCode = status;
    this.#runResponseHeaders(this.manager.filters.length - 1, endStream);
  }

  #runResponseHeaders(from: number, endStream: boolean): void {
    const filters = this.manager.filters;
    for (let i = from; i >= 0; i--) {
      const filter = filters[i]!;
      if (filter.onResponseHeaders === undefined) continue;
      const status = filter.onResponseHeaders(this, endStream);
      if (this.isEnded) return;
      if (status === "stop") {
        this.#stoppedResponseAt = i;
        if (endStream) this.#heldResponseEnd = true;
        return;
      }
    }
    this.#responseHeadersPassed = true;
    this.responseHasStarted = true;
    finishResponseHeaders(this);
    this.codec.sendHeaders(this, this.responseStatus, this.info.responseHeaders, endStream);
    if (endStream) this.#responseCompleted();
  }

  respondData(chunk: Buffer, endStream: boolean): void {
    this.lastActivity = this.connection.now;
    if (!this.#responseHeadersPassed) {
      this.#holdResponse(chunk, endStream);
      return;
    }
    this.#runResponseData(chunk, endStream);
  }

  #runResponseData(given: Buffer, endStream: boolean): void {
    const filters = this.manager.responseDataFilters;
    let chunk = given;
    for (let i = filters.length - 1; i >= 0; i--) {
      const status = filters[i]!.onResponseData!(this, chunk, endStream);
      if (status === "stop") {
        this.#holdResponse(chunk, endStream);
        return;
      }
      if (status !== "continue") chunk = status;
      if (this.isEnded) return;
    }
    this.#sendData(chunk, endStream);
  }

  #sendData(chunk: Buffer, endStream: boolean): void {
    this.info.bytesSent += chunk.length;
    if (!this.codec.sendData(this, chunk, endStream) && !endStream) {
      this.#downstreamIsFull = true;
      this.router?.pauseUpstream();
    }
    if (endStream) this.#responseCompleted();
  }

  /** The response ended without data at its end. */
  respondEnd(trailers: HeaderList | null): void {
    if (trailers !== null) this.info.responseTrailers = trailers;
    if (!this.#responseHeadersPassed) {
      this.#heldResponseEnd = true;
      this.#heldResponseTrailers = trailers;
      this.#tellHeldResponse();
      return;
    }
    this.#runResponseEnd(trailers ?? noTrailers);
  }

  #runResponseEnd(trailers: HeaderList): void {
    if (this.responseIsComplete) return;
    const filters = this.manager.responseEndFilters;
    for (let i = filters.length - 1; i >= 0; i--) {
      const body = filters[i]!.onResponseEnd!(this, trailers);
      if (body !== null) return void this.#sendData(body, true);
    }
    this.codec.sendTrailers(this, trailers);
    this.#responseCompleted();
  }

  continueResponse(): void {
    if (this.isEnded || this.#stoppedResponseAt < 0) return;
    const from = this.#stoppedResponseAt - 1;
    this.#stoppedResponseAt = -1;
    const held = this.#heldResponse;
    const ends = this.#heldResponseEnd;
    this.#heldResponse = [];
    this.#heldResponseBytes = 0;
    const trailers = this.#heldResponseTrailers;
    this.#runResponseHeaders(from, ends && held.length === 0 && trailers === null);
    if (!this.#responseHeadersPassed || this.responseIsComplete) {
      this.#heldResponse = held;
      return;
    }
    for (const [index, chunk] of held.entries()) this.#runResponseData(chunk, ends && trailers === null && index === held.length - 1);
    if (trailers !== null) this.#runResponseEnd(trailers);
    this.router?.resumeUpstream();
    this.codec.flush();
  }

  #holdResponse(chunk: Buffer, endStream: boolean): void {
    if (chunk.length > 0) {
      this.#heldResponse.push(keepChunk(chunk));
      this.#heldResponseBytes += chunk.length;
    }
    if (endStream) this.#heldResponseEnd = true;
    if (this.#heldResponseBytes > heldBytesLimit) this.router?.pauseUpstream();
    this.#tellHeldResponse();
  }

  #tellHeldResponse(): void {
    if (this.#stoppedResponseAt < 0 || this.#responseHeadersPassed) return;
    this.manager.filters[this.#stoppedResponseAt]!.onHeldResponseData?.(this, this.#heldResponseEnd);
  }

  /** The body as far as it has come while a filter rests the response: whose it is now. */
  takeHeldResponse(): Buffer {
    const body = Buffer.concat(this.#heldResponse);
    this.#heldResponse = [];
    this.#heldResponseBytes = 0;
    return body;
  }

  /** Answers in the proxy's own name. After the response has begun all that is left is to cut it. */
  sendLocalReply(status: number, body: string, details: string, extraHeaders: HeaderList | null = null): void {
    if (this.isEnded || this.#isLocalReply) return;
    if (this.responseHasStarted) {
      this.resetDownstream(details);
      return;
    }
    this.info.responseCodeDetails = details;
    this.#isLocalReply = true;
    this.#stoppedResponseAt = -1;
    this.#heldResponse = [];
    this.manager.terminal.onStreamEnd(this);
    this.#refreshRoute();
    const reply = buildLocalReply(this, status, body, extraHeaders);
    const isHead = this.info.method === "HEAD";
    const hasBody = reply.body.length > 0 && !isHead;
    this.respond(reply.status, reply.headers, !hasBody);
    if (hasBody && !this.isEnded) this.respondData(reply.body, true);
    this.codec.flush();
  }

  /** Cuts off a response under way. */
  resetDownstream(details: string): void {
    if (this.isEnded) return;
    this.info.responseCodeDetails = details;
    const { store, at } = this.manager.stats;
    store.add(at.downstream_rq_tx_reset, 1);
    this.codec.reset(this);
    this.end();
  }

  onDownstreamDrain(): void {
    if (!this.#downstreamIsFull) return;
    this.#downstreamIsFull = false;
    this.lastActivity = this.connection.now;
    this.router?.resumeUpstream();
  }

  get downstreamIsFull(): boolean {
    return this.#downstreamIsFull;
  }

  #responseCompleted(): void {
    this.responseIsComplete = true;
    this.end();
  }

  /** The client went away. */
  onClientGone(details: string): void {
    if (this.isEnded) return;
    this.info.responseCodeDetails = details;
    this.info.flags |= responseFlags.DownstreamConnectionTermination;
    this.end();
  }

  /** It was cut off by the client, or for what the client sent; others of its connection go on. */
  onReset(details: string): void {
    if (this.isEnded) return;
    this.info.responseCodeDetails = details;
    this.end();
  }

  /** Ends the stream, once: stops upstream work, counts, logs. */
  end(): void {
    if (this.isEnded) return;
    this.isEnded = true;
    const { info, manager } = this;
    // Envoy's name for every stream that a half is missing of, whoever cut it off.
    if (!this.requestIsComplete || !this.responseIsComplete) manager.stats.store.add(manager.stats.at.downstream_rq_rx_reset, 1);
    info.endTime = this.connection.now;
    info.downstreamWireBytesReceived = this.codec.receivedBytes(this);
    manager.terminal.onStreamEnd(this);
    const filters = manager.filters;
    for (let i = 0; i < filters.length; i++) filters[i]!.onStreamEnd?.(this);
    manager.streamEnded(this);
    this.codec.streamEnded(this);
  }

  // --- deadlines ---

  /** Tells the codec's timer the earliest deadline. Hot. */
  schedule(): void {
    let next = this.routeDeadline;
    if (this.tryDeadline < next) next = this.tryDeadline;
    if (this.tryIdleDeadline < next) next = this.tryIdleDeadline;
    if (this.tryDurationDeadline < next) next = this.tryDurationDeadline;
    if (this.durationDeadline < next) next = this.durationDeadline;
    if (this.requestDeadline < next) next = this.requestDeadline;
    if (this.idleTimeoutMs > 0 && this.lastActivity + this.idleTimeoutMs < next) next = this.lastActivity + this.idleTimeoutMs;
    this.codec.setDeadline(next);
  }

  /** Who kept the other waiting: the client, with half a request, or what is behind us. */
  get timeoutStatus(): number {
    return this.requestIsComplete ? 504 : 408;
  }

  onDeadline(): void {
    if (this.isEnded) return;
    const now = performance.now() + 0.5;
    const { store, at } = this.manager.stats;
    if (this.durationDeadline <= now) {
      this.durationDeadline = never;
      store.add(at.downstream_rq_max_duration_reached, 1);
      this.localReplyGrpcStatus = deadlineExceeded;
      this.sendLocalReply(this.timeoutStatus, "downstream duration timeout", "max_duration_timeout");
    } else if (this.requestDeadline <= now) {
      this.requestDeadline = never;
      store.add(at.downstream_rq_timeout, 1);
      this.closesConnection = true;
      this.sendLocalReply(408, "request timeout", "request_overall_timeout");
    } else if (this.routeDeadline <= now) {
      this.routeDeadline = never;
      this.manager.terminal.onTimeout(this, "route");
    } else if (this.tryDeadline <= now) {
      this.tryDeadline = never;
      this.manager.terminal.onTimeout(this, "try");
    } else if (this.tryIdleDeadline <= now) {
      this.tryIdleDeadline = never;
      this.manager.terminal.onTimeout(this, "tryIdle");
    } else if (this.tryDurationDeadline <= now) {
      this.tryDurationDeadline = never;
      this.manager.terminal.onTimeout(this, "tryDuration");
    } else if (this.idleTimeoutMs > 0 && this.lastActivity + this.idleTimeoutMs <= now) {
      this.idleTimeoutMs = 0;
      store.add(at.downstream_rq_idle_timeout, 1);
      this.info.flags |= responseFlags.StreamIdleTimeout;
      this.sendLocalReply(this.timeoutStatus, "stream timeout", "stream_idle_timeout");
    }
    if (!this.isEnded) this.schedule();
  }

  get isGrpc(): boolean {
    return isGrpc(this.info);
  }

  /** Configuration of a filter for this route, by the filter's name. */
  perFilterConfig(name: string): unknown {
    this.#refreshRoute();
    return this.choice?.perFilterConfig.get(name) ?? this.route?.perFilterConfig.get(name);
  }

  /** The same of all levels that have one: the route configuration's first, the weighted cluster's last. For filters that add them up. */
  perFilterConfigs(name: string): ReadonlySet<unknown> {
    this.#refreshRoute();
    const levels = new Set<unknown>();
    const { route, choice } = this;
    // A level that has none has that of the one above.
    for (const level of [route?.scope.outerFilterConfig, route?.scope.perFilterConfig, route?.perFilterConfig, choice?.perFilterConfig]) {
      const config = level?.get(name);
      if (config !== undefined) levels.add(config);
    }
    return levels;
  }
}

const noTrailers: HeaderList = [];
