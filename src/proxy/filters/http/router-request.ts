/**
 * The router's work for one request: choose a cluster and an endpoint, send the request, pass the answer on, try again where
 * the policy says so, and answer in the proxy's name where there is no answer.
 *
 *      start -> (local reply | waiting for a connection -> sent -> response under way -> complete)
 *                                   ^---------- back-off <-- retry
 *
 * Hot: one object per request; a retry uses it again with another connection.
 */

import { drawn } from "../../fraction.ts";
import { getHeader, removeHeaders, setHeader } from "../../http/header-list.ts";
import type { TimeoutKind } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { applyHeaderEdits } from "../../router/header-mutation.ts";
import { backOffMs, type RetryPolicy, retryOnBits, retryPolicyFor, wantsRetryOnResponse } from "../../router/retry-policy.ts";
import type { ClusterChoice, ForwardAction, HostRewrite, Route } from "../../router/route.ts";
import type { RouteCounter } from "../../router/route-stats.ts";
import { type HeaderList, responseFlags } from "../../stream-info.ts";
import { keepChunk } from "../../transport.ts";
import type { Priority } from "../../upstream/circuit-breakers.ts";
import type { Cluster } from "../../upstream/cluster.ts";
import { DirectConnection } from "../../upstream/direct-connection.ts";
import type { Host } from "../../upstream/host.ts";
import type { PoolWaiter, StreamSource, UpstreamExchange, UpstreamRequest, UpstreamReset } from "../../upstream/upstream-stream.ts";
import { HostChoice } from "./host-choice.ts";
import { MirroredRequest } from "./mirrored-request.ts";
import type { RouterFilter } from "./router.ts";

const never = Number.POSITIVE_INFINITY;

const consumed = new Set([
  "x-envoy-retry-on",
  "x-envoy-retry-grpc-on",
  "x-envoy-max-retries",
  "x-envoy-retriable-status-codes",
  "x-envoy-retriable-header-names",
  "x-envoy-upstream-rq-timeout-ms",
  "x-envoy-upstream-rq-per-try-timeout-ms",
  "x-envoy-upstream-rq-timeout-alt-response",
  "x-envoy-expected-rq-timeout-ms",
  "x-envoy-hedge-on-per-try-timeout",
]);

const ofConnection = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);

interface Failure {
  readonly words: string;
  readonly status: number;
  readonly flag: number;
}

const failures: Readonly<Record<UpstreamReset, Failure>> = {
  connectionFailure: { words: "remote connection failure", status: 503, flag: responseFlags.UpstreamConnectionFailure },
  connectionTimeout: { words: "connection timeout", status: 503, flag: responseFlags.UpstreamConnectionFailure },
  connectionTermination: { words: "connection termination", status: 503, flag: responseFlags.UpstreamConnectionTermination },
  protocolError: { words: "protocol error", status: 502, flag: responseFlags.UpstreamProtocolError },
  overflow: { words: "overflow", status: 503, flag: responseFlags.UpstreamOverflow },
  localReset: { words: "local reset", status: 503, flag: responseFlags.LocalReset },
  remoteReset: { words: "remote reset", status: 503, flag: responseFlags.UpstreamRemoteReset },
  remoteRefusedStream: { words: "remote refused stream reset", status: 503, flag: responseFlags.UpstreamRemoteReset },
};

const timeoutDetails: Readonly<Record<TimeoutKind, string>> = {
  route: "response_timeout",
  try: "upstream_per_try_timeout",
  tryIdle: "upstream_per_try_idle_timeout",
  tryDuration: "upstream_max_stream_duration_reached",
};

export class RouterRequest implements PoolWaiter {
  readonly #filter: RouterFilter;
  readonly #stream: HttpStream;
  #route: Route | null = null;
  #action: ForwardAction | null = null;
  #cluster: Cluster | null = null;
  #host: Host | null = null;
  /** Where it waits, or has waited. */
  #pool: StreamSource | null = null;
  #exchange: UpstreamExchange | null = null;
  #isWaiting = false;
  #requestEnded = false;
  /** Body that can't be sent yet, or that a retry may have to send again. */
  #kept: Buffer[] = [];
  #keptBytes = 0;
  #trailers: HeaderList | null = null;
  #keepsBody = false;
  #sentHead = false;
  #isOver = false;
  #responseStarted = false;
  #upstreamIsPaused = false;
  #requestIsPaused = false;

  #retry: RetryPolicy | null = null;
  #retriesLeft = 0;
  #attempts = 0;
  #isRetrying = false;
  #retryTimer: NodeJS.Timeout | null = null;
  /** null: the choice of an endpoint goes by nothing of this request. */
  #hostChoice: HostChoice | null = null;
  #timeoutMs = 0;
  #altResponse = false;
  #mirrored: MirroredRequest[] | null = null;

  constructor(filter: RouterFilter, stream: HttpStream) {
    this.#filter = filter;
    this.#stream = stream;
  }

  get request(): UpstreamRequest {
    return this.#stream.info;
  }

  get upgrade(): string {
    return this.#stream.upgrade;
  }

  get priority(): Priority {
    return this.#action!.priority;
  }

  get sniHost(): string {
    const { autoSniHeader } = this.#cluster!.config;
    const { info } = this.#stream;
    const written = autoSniHeader === "" ? info.authority : (getHeader(info.requestHeaders, autoSniHeader) ?? "");
    return written.replace(/:\d+$/, "");
  }

  get cluster(): Cluster | null {
    return this.#cluster;
  }

  start(endStream: boolean): void {
    const stream = this.#stream;
    const { store, at } = stream.manager.stats;
    const { info, route } = stream;
    store.values[at.rq_total]! += 1;
    this.#requestEnded = endStream;
    if (stream.redirectsToTls) {
      store.add(at.rq_redirect, 1);
      stream.sendLocalReply(301, "", "direct_response", ["location", `https://${info.authority}${info.path}`]);
      return;
    }
    if (route === null) {
      store.add(at.no_route, 1);
      info.flags |= responseFlags.NoRouteFound;
      stream.sendLocalReply(404, "", "route_not_found");
      return;
    }
    this.#route = route;
    const { action } = route;
    if (action.kind === "forward") {
      this.#forward(route, action, endStream);
      return;
    }
    if (action.kind === "direct") {
      store.add(at.rq_direct_response, 1);
      const isLocated = action.status === 201 || (action.status >= 300 && action.status < 400);
      this.#answer(route, action.status, action.body, isLocated ? ["location", `${info.scheme}://${info.authority}${info.path}`] : []);
    } else if (action.kind === "redirect") {
      store.add(at.rq_redirect, 1);
      const location = action.location(info);
      if (action.rewritePath !== null) info.path = action.rewritePath(info.path);
      this.#answer(route, action.status, "", ["location", location]);
    } else {
      stream.sendLocalReply(404, "", "route_not_found");
    }
  }

  #answer(route: Route, status: number, body: string, headers: HeaderList): void {
    applyHeaderEdits(route.responseEdits, headers, this.#stream.info);
    this.#stream.sendLocalReply(status, body, "direct_response", headers);
  }

  #forward(route: Route, action: ForwardAction, endStream: boolean): void {
    const stream = this.#stream;
    const { info } = stream;
    this.#action = action;
    const choice = stream.choice!;
    const { cluster } = stream;
    if (cluster === undefined) {
      stream.manager.stats.store.add(stream.manager.stats.at.no_cluster, 1);
      info.flags |= responseFlags.NoClusterFound;
      stream.sendLocalReply(action.clusterNotFoundStatus, "", "cluster_not_found");
      return;
    }
    this.#cluster = cluster;
    if (cluster.dropChance > 0 && Math.random() < cluster.dropChance) {
      const everything = cluster.dropChance >= 1;
      info.flags |= everything ? responseFlags.UnconditionalDropOverload : responseFlags.DropOverload;
      const words = everything ? "unconditional drop overload" : "drop overload";
      this.#countAnswer(503);
      stream.sendLocalReply(503, words, words.replaceAll(" ", "_"), ["x-envoy-drop-overload", "true"]);
      return;
    }
    this.#finishRequestHeaders(route, action, choice);
    this.#setDeadlines(action, endStream);
    if (!endStream) this.#keepsBody = this.#retry !== null;
    if (action.mirrors.length > 0 && stream.upgrade === "") this.#mirror(action, endStream);
    this.#attempt();
  }

  #mirror({ mirrors }: ForwardAction, endStream: boolean): void {
    const stream = this.#stream;
    for (const mirror of mirrors) {
      if (!drawn(mirror.chance)) continue;
      const name = mirror.clusterHeader === "" ? mirror.cluster : (getHeader(stream.info.requestHeaders, mirror.clusterHeader) ?? "");
      const cluster = stream.manager.clusterOf(name);
      if (cluster === undefined) continue;
      const mirrored = new MirroredRequest(stream, cluster, mirror, this.#timeoutMs, endStream);
      this.#mirrored ??= [];
      this.#mirrored.push(mirrored);
      mirrored.start(stream);
    }
  }

  /** Timeouts and retries from route and headers, rewrites, and the route's header edits, in Envoy's order. */
  #finishRequestHeaders(route: Route, action: ForwardAction, choice: ClusterChoice): void {
    const stream = this.#stream;
    const { info } = stream;
    const headers = info.requestHeaders;
    let timeoutMs = action.timeoutMs;
    let hasEnvoyHeaders = false;
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i]!;
      if (name.length > 12 && name.startsWith("x-envoy-") && consumed.has(name)) hasEnvoyHeaders = true;
    }
    this.#retry = retryPolicyFor(action.retryPolicy, headers);
    this.#retriesLeft = this.#retry === null || this.#retry.retryOn === 0 ? 0 : this.#retry.maxRetries;
    if (action.maxGrpcTimeoutMs >= 0 && stream.isGrpc) {
      const asked = grpcTimeoutMs(getHeader(headers, "grpc-timeout"));
      if (asked !== null)
        timeoutMs = action.maxGrpcTimeoutMs > 0 ? Math.min(asked || action.maxGrpcTimeoutMs, action.maxGrpcTimeoutMs) : asked;
    }
    if (hasEnvoyHeaders) {
      const asked = Number.parseInt(getHeader(headers, "x-envoy-upstream-rq-timeout-ms") ?? "", 10);
      if (asked >= 0) timeoutMs = asked;
      this.#altResponse = getHeader(headers, "x-envoy-upstream-rq-timeout-alt-response") !== undefined;
      removeHeaders(headers, consumed);
    }
    this.#timeoutMs = timeoutMs;
    const suppresses = this.#filter.suppressesEnvoyHeaders;
    const perTry = this.#retry?.perTryTimeoutMs ?? 0;
    const expected = perTry > 0 && (timeoutMs === 0 || perTry < timeoutMs) ? perTry : timeoutMs;
    if (expected > 0) {
      if (!suppresses) headers.push("x-envoy-expected-rq-timeout-ms", String(expected));
      // The server is told when the proxy will have lost its patience.
      if (action.maxGrpcTimeoutMs >= 0 && stream.isGrpc) setHeader(headers, "grpc-timeout", `${expected}m`);
    }
    if (route.scope.includesAttemptCount) setHeader(headers, "x-envoy-attempt-count", "1");
    if (choice.edits.request.length > 0) applyHeaderEdits(choice.edits.request, headers, info);
    if (route.requestEdits.length > 0) applyHeaderEdits(route.requestEdits, headers, info);
    const rewrite = choice.hostRewrite ?? action.hostRewrite;
    if (rewrite !== null && rewrite.kind !== "auto") {
      const host = rewrittenHost(rewrite, stream);
      if (host !== null) this.#setHost(host, action.appendsForwardedHost, choice.hostRewrite === null);
    }
    if (action.rewritePath !== null) {
      if (!suppresses) setHeader(headers, "x-envoy-original-path", info.path);
      info.path = action.rewritePath(info.path);
    }
  }

  #setHost(host: string, appendsForwardedHost: boolean, keepsOriginal: boolean): void {
    const { info } = this.#stream;
    if (host === info.authority) return;
    if (keepsOriginal && !this.#filter.suppressesEnvoyHeaders) setHeader(info.requestHeaders, "x-envoy-original-host", info.authority);
    if (appendsForwardedHost) {
      const before = getHeader(info.requestHeaders, "x-forwarded-host");
      setHeader(info.requestHeaders, "x-forwarded-host", before === undefined ? info.authority : `${before},${info.authority}`);
    }
    info.authority = host;
  }

  #setDeadlines(action: ForwardAction, endStream: boolean): void {
    const stream = this.#stream;
    const { now } = stream.connection;
    if (action.idleTimeoutMs >= 0) stream.idleTimeoutMs = action.idleTimeoutMs;
    let durationMs = action.maxStreamDurationMs;
    if (action.grpcTimeoutHeaderMaxMs >= 0 && stream.isGrpc) {
      const asked = grpcTimeoutMs(getHeader(stream.info.requestHeaders, "grpc-timeout"));
      if (asked !== null) {
        durationMs = action.grpcTimeoutHeaderMaxMs > 0 ? Math.min(asked, action.grpcTimeoutHeaderMaxMs) : asked;
        setHeader(stream.info.requestHeaders, "grpc-timeout", `${durationMs}m`);
      }
    }
    if (durationMs >= 0) stream.durationDeadline = durationMs === 0 ? never : stream.info.startTime + durationMs;
    if (endStream && this.#timeoutMs > 0) stream.routeDeadline = now + this.#timeoutMs;
    stream.schedule();
  }

  /** Of the cluster, and of the route where it counts by itself. */
  #count(name: RouteCounter): void {
    const { store, at } = this.#cluster!.stats;
    store.add(at[name], 1);
    this.#route!.stats?.count(name);
  }

  #countAnswer(status: number): void {
    this.#cluster!.stats.countResponse(status, this.#stream.isInternal);
    this.#route!.stats?.countResponse(status);
  }

  // --- attempts ---

  #attempt(): void {
    const stream = this.#stream;
    const { info } = stream;
    const cluster = this.#cluster!;
    this.#attempts++;
    info.upstreamAttempts = this.#attempts;
    const host = this.#chooseHost(cluster);
    if (host === null) {
      cluster.stats.store.add(cluster.stats.at.upstream_cx_none_healthy, 1);
      info.flags |= responseFlags.NoHealthyUpstream;
      this.#countAnswer(503);
      stream.sendLocalReply(503, "no healthy upstream", "no_healthy_upstream");
      return;
    }
    this.#host = host;
    info.upstreamHost = host.key;
    info.upstreamEndpoint = host;
    info.upstreamHostName = host.description.hostname;
    const rewrite = stream.choice!.hostRewrite ?? this.#action!.hostRewrite;
    if (rewrite !== null && rewrite.kind === "auto" && host.description.hostname !== "") {
      this.#setHost(host.description.hostname, this.#action!.appendsForwardedHost, true);
    }
    this.#isWaiting = true;
    const protocol = cluster.protocolFor(info.protocol);
    this.#pool = this.#endsTunnel
      ? new DirectConnection(cluster, host, stream.connection)
      : cluster.pool(host, protocol, cluster.offerOf(stream.alpnOffers, protocol), stream.connection);
    this.#pool.newStream(this);
  }

  /** What a CONNECT asks for is the endpoint itself, not what that would make of the request. */
  get #endsTunnel(): boolean {
    return this.#stream.upgrade === "connect" && this.#action!.endsTunnels;
  }

  #chooseHost(cluster: Cluster): Host | null {
    if (cluster.config.isOriginalDestination) return this.#originalDestination(cluster);
    const retry = this.#retry;
    if (cluster.choosesByHash || (retry !== null && retry.priorityUpdateFrequency > 0)) this.#hostChoice ??= this.#newHostChoice(cluster);
    return this.#hostChoice === null ? cluster.choose() : this.#hostChoice.choose(cluster, retry, this.#attempts > 1);
  }

  #newHostChoice(cluster: Cluster): HostChoice {
    return new HostChoice(cluster, this.#action!.hashPolicy, this.#stream.info, this.#retry);
  }

  #originalDestination(cluster: Cluster): Host | null {
    const { originalDestinationHeader } = cluster.config;
    const { connection, info } = this.#stream;
    if (originalDestinationHeader !== "") {
      const written = getHeader(info.requestHeaders, originalDestinationHeader);
      const match = written === undefined ? null : /^\[?([0-9A-Fa-f.:]+?)\]?:(\d{1,5})$/.exec(written.trim());
      if (match !== null) return cluster.originalDestination(match[1]!, Number(match[2]));
      if (written !== undefined) cluster.stats.store.add(cluster.stats.at.original_dst_host_invalid, 1);
    }
    // Another has no destination than the listener that took it.
    if (!connection.isRedirected) return null;
    return cluster.originalDestination(connection.localIp, connection.localPort);
  }

  // --- PoolWaiter ---

  onPoolReady(exchange: UpstreamExchange): void {
    this.#isWaiting = false;
    this.#exchange = exchange;
    this.#host!.monitor?.onReady();
    this.#route!.stats?.count("upstream_rq_total");
    const stream = this.#stream;
    const { info } = stream;
    const { connection } = exchange;
    info.upstreamConnectionId = connection.id;
    info.upstreamLocalAddress = connection.localAddress;
    info.upstreamTls = connection.tlsInfo;
    info.upstreamProtocol = connection.protocol;
    info.upstreamFirstRequestByteTime = stream.connection.now;
    if (this.#requestEnded && this.#retry !== null && this.#limitTry(this.#retry, performance.now())) stream.schedule();
    const { maxStreamDurationMs } = this.#cluster!.config;
    if (maxStreamDurationMs > 0) {
      stream.tryDurationDeadline = performance.now() + maxStreamDurationMs;
      stream.schedule();
    }
    const kept = this.#kept;
    const isHeadAlone = this.#requestEnded && kept.length === 0 && this.#trailers === null;
    this.#sentHead = true;
    exchange.sendHeaders(isHeadAlone);
    if (isHeadAlone) {
      info.upstreamLastRequestByteTime = stream.connection.now;
      return;
    }
    let more = true;
    for (const [index, chunk] of kept.entries())
      more = this.#write(chunk, this.#requestEnded && index === kept.length - 1 && this.#trailers === null) && more;
    if (this.#requestEnded && this.#trailers !== null) this.#writeEnd(this.#trailers);
    if (!this.#keepsBody) {
      this.#kept = [];
      this.#keptBytes = 0;
    }
    if (this.#requestEnded) info.upstreamLastRequestByteTime = stream.connection.now;
    else if (kept.length > 0) this.#setRequestFlow(more);
  }

  onPoolFailure(reason: UpstreamReset, transportFailure: string): void {
    this.#isWaiting = false;
    this.#stream.connection.now = performance.now();
    if (transportFailure !== "") this.#stream.info.upstreamTransportFailureReason = transportFailure;
    this.#failed(reason, transportFailure);
  }

  // --- the request's body ---

  sendData(chunk: Buffer, endStream: boolean): void {
    if (endStream) this.#ended();
    if (this.#mirrored !== null) for (const mirrored of this.#mirrored) mirrored.sendData(chunk, endStream);
    if (this.#isOver) return;
    if (this.#keepsBody) {
      this.#keep(chunk);
      if (this.#keptBytes > this.#stream.manager.bufferLimitBytes) {
        // Too much to send twice: no retry for this request.
        this.#keepsBody = false;
        this.#retriesLeft = 0;
        this.#cluster!.stats.store.add(this.#cluster!.stats.at.retry_or_shadow_abandoned, 1);
        if (this.#sentHead) this.#kept = [];
      }
    } else if (!this.#sentHead) this.#keep(chunk);
    if (!this.#sentHead) {
      if (this.#keptBytes > this.#stream.manager.bufferLimitBytes) this.#setRequestFlow(false);
      return;
    }
    const more = this.#write(chunk, endStream);
    if (!endStream) this.#setRequestFlow(more);
  }

  sendEnd(trailers: HeaderList): void {
    this.#ended();
    if (this.#mirrored !== null) for (const mirrored of this.#mirrored) mirrored.sendEnd(trailers);
    if (this.#isOver) return;
    this.#trailers = trailers;
    if (this.#sentHead) this.#writeEnd(trailers);
  }

  #ended(): void {
    if (this.#requestEnded) return;
    this.#requestEnded = true;
    const stream = this.#stream;
    if (this.#isOver || this.#cluster === null) return;
    if (this.#timeoutMs > 0 && !stream.isUpgraded) stream.routeDeadline = stream.connection.now + this.#timeoutMs;
    if (this.#retry !== null && this.#exchange !== null) this.#limitTry(this.#retry, stream.connection.now);
    stream.schedule();
  }

  /** The attempt has the whole request: its time begins. False where it has no limit. */
  #limitTry({ perTryTimeoutMs, perTryIdleTimeoutMs }: RetryPolicy, now: number): boolean {
    const stream = this.#stream;
    if (perTryTimeoutMs > 0) stream.tryDeadline = now + perTryTimeoutMs;
    if (perTryIdleTimeoutMs > 0) stream.tryIdleDeadline = now + perTryIdleTimeoutMs;
    return perTryTimeoutMs > 0 || perTryIdleTimeoutMs > 0;
  }

  #forgetTry(): void {
    const stream = this.#stream;
    stream.tryDeadline = never;
    stream.tryIdleDeadline = never;
    stream.tryDurationDeadline = never;
  }

  /** A sign of life. Who looks at the deadline sees that it has moved. */
  #extendTry(now: number): void {
    const stream = this.#stream;
    if (stream.tryIdleDeadline !== never) stream.tryIdleDeadline = now + this.#retry!.perTryIdleTimeoutMs;
  }

  #keep(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#kept.push(keepChunk(chunk));
    this.#keptBytes += chunk.length;
  }

  #write(chunk: Buffer, endStream: boolean): boolean {
    const exchange = this.#exchange;
    if (exchange === null) return true;
    this.#stream.info.upstreamWireBytesSent += chunk.length;
    if (endStream) this.#stream.info.upstreamLastRequestByteTime = this.#stream.connection.now;
    return exchange.sendData(chunk, endStream);
  }

  #writeEnd(trailers: HeaderList): void {
    this.#exchange?.sendTrailers(trailers);
    if (!this.#stream.isUpgraded) this.#stream.info.upstreamLastRequestByteTime = this.#stream.connection.now;
  }

  /** The read that brought the head is over: what it brought goes out. */
  flush(): void {
    this.#exchange?.flush();
    if (this.#mirrored !== null) for (const mirrored of this.#mirrored) mirrored.flush();
  }

  #setRequestFlow(more: boolean): void {
    if (more === !this.#requestIsPaused) return;
    this.#requestIsPaused = !more;
    const stats = this.#cluster!.stats;
    stats.store.add(more ? stats.at.upstream_flow_control_drained_total : stats.at.upstream_flow_control_backed_up_total, 1);
    if (more) this.#stream.codec.resumeRequest();
    else this.#stream.codec.pauseRequest();
  }

  // --- UpstreamStream ---

  onUpstreamInterim(status: number, headers: HeaderList): void {
    const stream = this.#stream;
    if (!stream.manager.proxies100Continue || stream.isHttp10 || this.#responseStarted) return;
    this.#countAnswer(status);
    removeHeaders(headers, ofConnection);
    stream.codec.sendInterim(stream, status, headers);
  }

  onUpstreamHeaders(status: number, headers: HeaderList, endStream: boolean): void {
    const exchange = this.#exchange!;
    const stream = this.#stream;
    const { info } = stream;
    const cluster = this.#cluster!;
    const now = performance.now();
    stream.connection.now = now;
    stream.lastActivity = now;
    info.upstreamFirstResponseByteTime = now;
    const host = this.#host!;
    host.stats.add(status >= 500 ? host.at.rq_error : host.at.rq_success, 1);
    host.monitor?.onResponse(status, headers, stream.isGrpc);
    const retry = this.#retry;
    if (retry !== null && retry.retryOn !== 0 && wantsRetryOnResponse(retry, status, headers)) {
      if (this.#tryAgain()) {
        cluster.stats.countRetriedResponse(status);
        this.#exchange = null;
        if (!endStream) exchange.reset();
        return;
      }
    } else if (this.#attempts > 1 && status < 500) this.#count("upstream_rq_retry_success");
    this.#countAnswer(status);
    this.#settleRetry();
    if (stream.tryIdleDeadline === never) stream.tryDeadline = never;
    else this.#extendTry(now);
    this.#responseStarted = true;
    if (stream.upgrade === "connect" ? status < 300 : status === 101 && stream.upgrade !== "") {
      stream.isUpgraded = true;
      stream.routeDeadline = never;
      stream.codec.upgrade(stream);
    } else if (stream.upgrade !== "" && stream.upgrade !== "connect" && status < 300) {
      // The other side did not take the upgrade; its answer is no tunnel and no plain response either.
      this.#exchange = null;
      if (!endStream) exchange.reset();
      this.#isOver = true;
      stream.sendLocalReply(status, "", "websocket_handshake_unsuccessful");
      return;
    }
    const route = this.#route!;
    if (!this.#filter.suppressesEnvoyHeaders) {
      if (info.requestEndTime >= 0 && !stream.isUpgraded) {
        setHeader(headers, "x-envoy-upstream-service-time", String(Math.floor(now - info.requestEndTime)));
      }
    }
    const { choice } = stream;
    info.responseHeaders = headers;
    info.responseCode = status;
    this.#hostChoice?.addCookies(headers);
    info.responseCodeDetails = "via_upstream";
    if (choice!.edits.response.length > 0) applyHeaderEdits(choice!.edits.response, headers, info);
    if (route.responseEdits.length > 0) applyHeaderEdits(route.responseEdits, headers, info);
    if (route.scope.includesAttemptCountInResponse) setHeader(headers, "x-envoy-attempt-count", String(this.#attempts));
    if (endStream) this.#completed(exchange);
    stream.respond(status, headers, endStream);
    if (stream.downstreamIsFull) this.pauseUpstream();
  }

  onUpstreamData(chunk: Buffer): void {
    if (this.#isOver) return;
    const stream = this.#stream;
    stream.connection.now = performance.now();
    this.#extendTry(stream.connection.now);
    stream.info.upstreamWireBytesReceived += chunk.length;
    stream.respondData(chunk, false);
  }

  onUpstreamEnd(trailers: HeaderList | null): void {
    if (this.#isOver) return;
    this.#stream.connection.now = performance.now();
    this.#completed(this.#exchange!);
    this.#stream.respondEnd(trailers);
  }

  onUpstreamReadComplete(): void {
    if (!this.#stream.isEnded) this.#stream.codec.flush();
  }

  onUpstreamReset(reason: UpstreamReset): void {
    this.#exchange = null;
    this.#stream.connection.now = performance.now();
    this.#failed(reason, "");
  }

  onUpstreamDrain(): void {
    this.#setRequestFlow(true);
  }

  pauseUpstream(): void {
    if (this.#upstreamIsPaused || this.#exchange === null) return;
    this.#upstreamIsPaused = true;
    this.#exchange.pauseReading();
  }

  resumeUpstream(): void {
    if (!this.#upstreamIsPaused) return;
    this.#upstreamIsPaused = false;
    this.#exchange?.resumeReading();
  }

  /** The response is complete. */
  #completed(exchange: UpstreamExchange): void {
    const { info } = this.#stream;
    const { stats } = this.#cluster!;
    info.upstreamLastResponseByteTime = this.#stream.connection.now;
    const elapsedMs = Math.round(info.upstreamLastResponseByteTime - info.upstreamFirstRequestByteTime);
    stats.store.record(stats.at.upstream_rq_time, elapsedMs);
    this.#route!.stats?.recordTime(elapsedMs);
    this.#upstreamIsPaused = false;
    this.#exchange = null;
    this.#isOver = true;
    this.#forgetTry();
    if (!this.#requestEnded) exchange.abandonRequest();
  }

  // --- failures ---

  #failed(reason: UpstreamReset, transportFailure: string): void {
    const stream = this.#stream;
    const { info } = stream;
    const failure = failures[reason];
    if (reason !== "overflow") this.#host!.monitor?.onConnectFailed();
    if (this.#responseStarted) {
      this.#isOver = true;
      info.flags |= failure.flag;
      const { store, at } = stream.manager.stats;
      store.add(at.rq_reset_after_downstream_response_started, 1);
      stream.resetDownstream(`upstream_reset_after_response_started{${failure.words.replaceAll(" ", "_")}}`);
      return;
    }
    // An overflow: no endpoint has seen this request.
    if (reason === "overflow") {
      info.upstreamHost = "";
      info.upstreamEndpoint = null;
    } else {
      const host = this.#host!;
      host.stats.add(host.at.rq_error, 1);
    }
    if (this.#wantsRetryOnReset(reason) && this.#tryAgain()) return;
    this.#countAnswer(failure.status);
    this.#isOver = true;
    info.flags |= failure.flag;
    const reasonText = failure.words.replaceAll(" ", "_");
    const details = `upstream_reset_before_response_started{${reasonText}${transportFailure === "" ? "" : `|${transportFailure}`}}`;
    const prefix = this.#attempts > 1 ? "retried and the latest reset reason: " : "reset reason: ";
    stream.sendLocalReply(
      failure.status,
      `upstream connect error or disconnect/reset before headers. ${prefix}${failure.words}`,
      details,
      reason === "overflow" ? ["x-envoy-overloaded", "true"] : null,
    );
  }

  #wantsRetryOnReset(reason: UpstreamReset): boolean {
    const retry = this.#retry;
    if (retry === null) return false;
    const on = retry.retryOn;
    if (reason === "overflow") return false;
    if (on & retryOnBits["5xx"] || on & retryOnBits["gateway-error"]) return true;
    if (on & retryOnBits.reset) return true;
    if (on & retryOnBits["reset-before-request"] && !this.#sentHead) return true;
    if (on & retryOnBits["refused-stream"] && reason === "remoteRefusedStream") return true;
    return (on & retryOnBits["connect-failure"]) !== 0 && (reason === "connectionFailure" || reason === "connectionTimeout");
  }

  /** Plans another attempt; false when the policy's or the cluster's allowance is used up. */
  #tryAgain(): boolean {
    const cluster = this.#cluster!;
    const { store, at } = cluster.stats;
    const { info } = this.#stream;
    const retry = this.#retry!;
    if (this.#isRetrying) {
      // The retry that failed makes room for the next.
      cluster.resources[this.priority].addRetry(-1);
      this.#isRetrying = false;
    }
    if (this.#retriesLeft === 0) {
      if (retry.maxRetries > 0 && this.#attempts > 1) {
        this.#count("upstream_rq_retry_limit_exceeded");
        info.flags |= responseFlags.UpstreamRetryLimitExceeded;
      }
      return false;
    }
    if (!cluster.resources[this.priority].canRetry()) {
      this.#count("upstream_rq_retry_overflow");
      info.flags |= responseFlags.UpstreamOverflow;
      return false;
    }
    this.#retriesLeft--;
    this.#isRetrying = true;
    cluster.resources[this.priority].addRetry(1);
    this.#count("upstream_rq_retry");
    store.add(at.upstream_rq_retry_backoff_exponential, 1);
    if (retry.avoidsPreviousHosts && this.#host !== null) {
      this.#hostChoice ??= this.#newHostChoice(cluster);
      this.#hostChoice.avoid(this.#host);
    }
    this.#sentHead = false;
    this.#forgetTry();
    this.#retryTimer = setTimeout(() => this.#again(), backOffMs(retry, this.#attempts));
    return true;
  }

  #again(): void {
    this.#retryTimer = null;
    if (this.#isOver) return;
    const stream = this.#stream;
    stream.connection.now = performance.now();
    const headers = stream.info.requestHeaders;
    if (this.#route!.scope.includesAttemptCount) setHeader(headers, "x-envoy-attempt-count", String(this.#attempts + 1));
    if (stream.routeDeadline !== never && getHeader(headers, "x-envoy-expected-rq-timeout-ms") !== undefined) {
      const left = Math.max(1, Math.floor(stream.routeDeadline - stream.connection.now));
      const perTry = this.#retry!.perTryTimeoutMs;
      setHeader(headers, "x-envoy-expected-rq-timeout-ms", String(perTry > 0 ? Math.min(perTry, left) : left));
    }
    this.#attempt();
  }

  #settleRetry(): void {
    if (!this.#isRetrying) return;
    this.#isRetrying = false;
    this.#cluster!.resources[this.priority].addRetry(-1);
  }

  timedOut(which: TimeoutKind): void {
    if (this.#isOver && !this.#responseStarted) return;
    const stream = this.#stream;
    if (which === "try" && this.#responseStarted) {
      // Too late for it, but then nobody waits for signs of life any more: Envoy drops that timer here.
      stream.tryIdleDeadline = never;
      return;
    }
    const { info } = stream;
    const cluster = this.#cluster!;
    const { store, at } = cluster.stats;
    const host = this.#host;
    stream.connection.now = performance.now();
    if (which === "tryDuration") {
      this.#tookTooLong();
      return;
    }
    if (host !== null) host.stats.add(host.at.rq_timeout, 1);
    if (this.#exchange !== null && !this.#responseStarted) host?.monitor?.onTimeout(this.#altResponse ? 204 : 504);
    if (which !== "route") {
      store.add(which === "try" ? at.upstream_rq_per_try_timeout : at.upstream_rq_per_try_idle_timeout, 1);
      this.#dropAttempt();
      const retry = this.#retry!;
      const wants = (retry.retryOn & (retryOnBits["5xx"] | retryOnBits["gateway-error"] | retryOnBits.reset)) !== 0;
      if (!this.#responseStarted && wants && this.#tryAgain()) return;
      if (!this.#responseStarted) this.#countAnswer(this.#altResponse ? 204 : 504);
    } else {
      this.#count("upstream_rq_timeout");
      this.#dropAttempt();
      if (!this.#responseStarted) this.#countAnswer(this.#altResponse ? 204 : 504);
    }
    this.#isOver = true;
    info.flags |= responseFlags.UpstreamRequestTimeout;
    const details = timeoutDetails[which];
    if (this.#altResponse) stream.sendLocalReply(204, "", details);
    else stream.sendLocalReply(504, "upstream request timeout", details);
  }

  /** An attempt with its response, by the cluster's measure: ended as if by a reset of ours, which is no fault of the endpoint's. */
  #tookTooLong(): void {
    const stream = this.#stream;
    const { store, at } = this.#cluster!.stats;
    store.add(at.upstream_rq_max_duration_reached, 1);
    this.#dropAttempt();
    if (!this.#responseStarted && this.#wantsRetryOnReset("localReset") && this.#tryAgain()) return;
    this.#isOver = true;
    stream.info.flags |= responseFlags.UpstreamMaxStreamDurationReached;
    stream.sendLocalReply(stream.timeoutStatus, "upstream max stream duration reached", timeoutDetails.tryDuration);
  }

  #dropAttempt(): void {
    const exchange = this.#exchange;
    this.#exchange = null;
    if (exchange !== null) exchange.reset();
    else if (this.#isWaiting) {
      this.#isWaiting = false;
      this.#pool!.cancel(this);
    }
  }

  /** The stream is over, or was answered without us. */
  abandon(): void {
    if (this.#mirrored !== null) for (const mirrored of this.#mirrored) mirrored.clientLeft();
    if (this.#isOver && this.#exchange === null && !this.#isWaiting && this.#retryTimer === null && !this.#isRetrying) return;
    this.#isOver = true;
    if (this.#retryTimer !== null) {
      clearTimeout(this.#retryTimer);
      this.#retryTimer = null;
    }
    this.#settleRetry();
    this.#dropAttempt();
    this.#kept = [];
  }
}

function rewrittenHost(rewrite: HostRewrite, stream: HttpStream): string | null {
  const { info } = stream;
  switch (rewrite.kind) {
    case "literal":
      return rewrite.literal;
    case "header":
      return getHeader(info.requestHeaders, rewrite.literal) || null;
    case "pathRegex":
      return rewrite.substitute!(info.path.replace(/[?#].*$/s, ""));
    default:
      return null;
  }
}

const grpcUnits: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

function grpcTimeoutMs(written: string | undefined): number | null {
  const match = written === undefined ? null : /^(\d{1,8})([HMSmun])$/.exec(written);
  return match === null ? null : Math.ceil(Number(match[1]) * grpcUnits[match[2]!]!);
}
