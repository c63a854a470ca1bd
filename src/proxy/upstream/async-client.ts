/**
 * Requests that the proxy makes for itself, through a cluster like any other: load balancing, circuit breakers, connection pool, TLS and
 * statistics are the cluster's. For filters that must ask somebody (keys, authorization). The answer is collected whole, up to a limit.
 *
 *      send -> waiting for a connection -> sent -> response complete -> done
 *                        ^---- back-off <- retry
 *
 * Nothing throws and `done` is called once, never from within `send`, unless the call is cancelled before.
 */
import { localAddress } from "../local-address.ts";
import { backOffMs, type RetryPolicy, retryOnBits, wantsRetryOnResponse } from "../router/retry-policy.ts";
import type { HeaderList } from "../stream-info.ts";
import { keepChunk } from "../transport.ts";
import type { Cluster } from "./cluster.ts";
import type { ClusterLookup } from "./cluster-set.ts";
import type { ConnectionPool } from "./connection-pool.ts";
import type { Host } from "./host.ts";
import type { PoolWaiter, UpstreamExchange, UpstreamRequest, UpstreamReset } from "./upstream-stream.ts";

export interface AsyncRequest {
  readonly method: string;
  readonly path: string;
  readonly authority: string;
  /** Names in lower case. What says that the proxy itself asks is added. */
  readonly headers: HeaderList;
  readonly body: Buffer | null;
  /** For all attempts together; 0: none. */
  readonly timeoutMs: number;
  readonly maxBodyBytes: number;
  readonly retryPolicy: RetryPolicy | null;
  /** Tells the proxy's own address in x-forwarded-for. */
  readonly sendsForwardedFor: boolean;
}

export interface AsyncResponse {
  readonly status: number;
  readonly headers: HeaderList;
  readonly body: Buffer;
  /** From the request's last attempt to the end of the answer. */
  readonly tookMs: number;
}

/** `noCluster`: none of that name; `noHost`: none that is usable; `refused`: the cluster drops the request, or has no endpoints of its own. */
export type AsyncFailure = "noCluster" | "noHost" | "refused" | "timeout" | "bodyTooLarge" | UpstreamReset;

export type AsyncDone = (outcome: AsyncResponse | AsyncFailure) => void;

export interface AsyncCall {
  /** `done` is not called any more. */
  cancel(): void;
}

export class AsyncClient {
  readonly #clusters: ClusterLookup;

  constructor(clusters: ClusterLookup) {
    this.#clusters = clusters;
  }

  send(clusterName: string, request: AsyncRequest, done: AsyncDone): AsyncCall {
    const call = new Call(this.#clusters.get(clusterName), request, done);
    process.nextTick(() => call.start());
    return call;
  }
}

class Call implements AsyncCall, PoolWaiter {
  readonly priority = "default";
  readonly upgrade = "";
  /** Of the attempt that is under way. */
  request!: UpstreamRequest;
  readonly #cluster: Cluster | undefined;
  readonly #request: AsyncRequest;
  readonly #done: AsyncDone;
  #host: Host | null = null;
  #pool: ConnectionPool | null = null;
  #exchange: UpstreamExchange | null = null;
  #isWaiting = false;
  #isOver = false;
  #deadline = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | null = null;
  #tryTimer: NodeJS.Timeout | null = null;
  #retryTimer: NodeJS.Timeout | null = null;
  #attempts = 0;
  #isRetrying = false;
  #sentAt = 0;
  #status = 0;
  #headers: HeaderList = [];
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(cluster: Cluster | undefined, request: AsyncRequest, done: AsyncDone) {
    this.#cluster = cluster;
    this.#request = request;
    this.#done = done;
  }

  /** As it goes out now: what is left of the time depends on that. */
  #makeRequest(): UpstreamRequest {
    const { method, path, authority, headers, body, sendsForwardedFor } = this.#request;
    const isBodiless = body === null && (method === "GET" || method === "HEAD");
    const length = isBodiless ? [] : ["content-length", String(body?.length ?? 0)];
    const own = ["x-envoy-internal", "true", ...(sendsForwardedFor ? ["x-forwarded-for", localAddress()] : [])];
    const expectedMs = this.#expectedMs();
    if (expectedMs !== Number.POSITIVE_INFINITY) own.push("x-envoy-expected-rq-timeout-ms", String(expectedMs));
    return { method, scheme: "http", authority, path, requestHeaders: [...length, ...headers, ...own] };
  }

  get sniHost(): string {
    return this.#request.authority.replace(/:\d+$/, "");
  }

  start(): void {
    if (this.#isOver) return;
    const cluster = this.#cluster;
    if (cluster === undefined) {
      this.#finish("noCluster");
      return;
    }
    const isDropped = cluster.dropChance > 0 && Math.random() < cluster.dropChance;
    if (isDropped || cluster.config.isOriginalDestination) {
      this.#finish("refused");
      return;
    }
    const { timeoutMs } = this.#request;
    if (timeoutMs > 0) {
      this.#deadline = performance.now() + timeoutMs;
      this.#timer = setTimeout(() => this.#timedOut("all"), timeoutMs);
    }
    this.#attempt(cluster);
  }

  cancel(): void {
    this.#settle();
    this.#dropAttempt();
  }

  #attempt(cluster: Cluster): void {
    this.#attempts++;
    const host = cluster.choose();
    if (host === null) {
      cluster.stats.store.add(cluster.stats.at.upstream_cx_none_healthy, 1);
      this.#finish("noHost");
      return;
    }
    this.#host = host;
    this.#isWaiting = true;
    this.#pool = cluster.pool(host, cluster.protocolFor("HTTP/1.1"));
    this.#pool.newStream(this);
  }

  // --- PoolWaiter ---

  onPoolReady(exchange: UpstreamExchange): void {
    this.#isWaiting = false;
    this.#exchange = exchange;
    this.#host!.monitor?.onReady();
    this.#sentAt = performance.now();
    const perTryMs = this.#request.retryPolicy?.perTryTimeoutMs ?? 0;
    if (perTryMs > 0) this.#tryTimer = setTimeout(() => this.#timedOut("try"), perTryMs);
    const { body } = this.#request;
    this.request = this.#makeRequest();
    exchange.sendHeaders(body === null);
    if (body !== null) exchange.sendData(body, true);
  }

  onPoolFailure(reason: UpstreamReset): void {
    this.#isWaiting = false;
    this.#failed(reason);
  }

  /** How long this attempt may take. */
  #expectedMs(): number {
    const { timeoutMs, retryPolicy } = this.#request;
    const leftMs =
      this.#attempts === 1 ? timeoutMs || Number.POSITIVE_INFINITY : Math.max(1, Math.floor(this.#deadline - performance.now()));
    return Math.min(leftMs, retryPolicy?.perTryTimeoutMs || Number.POSITIVE_INFINITY);
  }

  // --- UpstreamStream ---

  onUpstreamHeaders(status: number, headers: HeaderList, endStream: boolean): void {
    clearTimeout(this.#tryTimer ?? undefined);
    const { stats } = this.#cluster!;
    const host = this.#host!;
    host.stats.add(status >= 500 ? host.at.rq_error : host.at.rq_success, 1);
    host.monitor?.onResponse(status, headers, false);
    const { retryPolicy } = this.#request;
    if (retryPolicy !== null && wantsRetryOnResponse(retryPolicy, status, headers)) {
      if (this.#triesAgain(retryPolicy)) {
        stats.countRetriedResponse(status);
        const exchange = this.#exchange!;
        this.#exchange = null;
        if (!endStream) exchange.reset();
        return;
      }
    } else if (this.#attempts > 1 && status < 500) stats.store.add(stats.at.upstream_rq_retry_success, 1);
    stats.countResponse(status, true);
    this.#status = status;
    this.#headers = headers;
    if (endStream) this.#complete();
  }

  onUpstreamData(chunk: Buffer): void {
    if (this.#isOver) return;
    this.#bytes += chunk.length;
    if (this.#bytes > this.#request.maxBodyBytes) {
      this.#dropAttempt();
      this.#finish("bodyTooLarge");
      return;
    }
    this.#chunks.push(keepChunk(chunk));
  }

  onUpstreamEnd(): void {
    if (!this.#isOver) this.#complete();
  }

  onUpstreamReset(reason: UpstreamReset): void {
    this.#exchange = null;
    this.#failed(reason);
  }

  onUpstreamReadComplete(): void {}

  onUpstreamDrain(): void {}

  #complete(): void {
    this.#exchange = null;
    const { stats } = this.#cluster!;
    const tookMs = Math.round(performance.now() - this.#sentAt);
    stats.store.record(stats.at.upstream_rq_time, tookMs);
    this.#finish({ status: this.#status, headers: this.#headers, body: Buffer.concat(this.#chunks), tookMs });
  }

  // --- failures ---

  #failed(reason: UpstreamReset): void {
    if (this.#isOver) return;
    clearTimeout(this.#tryTimer ?? undefined);
    const { stats } = this.#cluster!;
    const hasStarted = this.#status !== 0;
    const host = this.#host!;
    if (reason !== "overflow") {
      host.stats.add(host.at.rq_error, 1);
      host.monitor?.onConnectFailed();
    }
    const { retryPolicy } = this.#request;
    if (!hasStarted && retryPolicy !== null && retriesReset(retryPolicy, reason) && this.#triesAgain(retryPolicy)) return;
    if (!hasStarted) stats.countResponse(reason === "protocolError" ? 502 : 503, true);
    this.#finish(reason);
  }

  #triesAgain(policy: RetryPolicy): boolean {
    const cluster = this.#cluster!;
    const { store, at } = cluster.stats;
    this.#leaveRetry();
    if (this.#attempts > policy.maxRetries) {
      if (this.#attempts > 1) store.add(at.upstream_rq_retry_limit_exceeded, 1);
      return false;
    }
    const resources = cluster.resources[this.priority];
    if (!resources.canRetry()) {
      store.add(at.upstream_rq_retry_overflow, 1);
      return false;
    }
    this.#isRetrying = true;
    resources.addRetry(1);
    store.add(at.upstream_rq_retry, 1);
    store.add(at.upstream_rq_retry_backoff_exponential, 1);
    this.#retryTimer = setTimeout(() => this.#attempt(cluster), backOffMs(policy, this.#attempts));
    return true;
  }

  /** The retry that is over makes room for others. */
  #leaveRetry(): void {
    if (!this.#isRetrying) return;
    this.#isRetrying = false;
    this.#cluster!.resources[this.priority].addRetry(-1);
  }

  #timedOut(which: "all" | "try"): void {
    if (this.#isOver) return;
    const { stats } = this.#cluster!;
    const host = this.#host;
    stats.store.add(which === "all" ? stats.at.upstream_rq_timeout : stats.at.upstream_rq_per_try_timeout, 1);
    if (host !== null) host.stats.add(host.at.rq_timeout, 1);
    if (this.#exchange !== null && this.#status === 0) host?.monitor?.onTimeout();
    this.#dropAttempt();
    const { retryPolicy } = this.#request;
    if (which === "try" && retriesReset(retryPolicy!, "localReset") && this.#triesAgain(retryPolicy!)) return;
    if (this.#status === 0) stats.countResponse(504, true);
    this.#finish("timeout");
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

  #finish(outcome: AsyncResponse | AsyncFailure): void {
    if (this.#isOver) return;
    this.#settle();
    this.#done(outcome);
  }

  #settle(): void {
    this.#isOver = true;
    clearTimeout(this.#timer ?? undefined);
    clearTimeout(this.#tryTimer ?? undefined);
    clearTimeout(this.#retryTimer ?? undefined);
    this.#leaveRetry();
  }
}

function retriesReset({ retryOn }: RetryPolicy, reason: UpstreamReset): boolean {
  if (reason === "overflow") return false;
  if (retryOn & (retryOnBits["5xx"] | retryOnBits["gateway-error"] | retryOnBits.reset)) return true;
  return (retryOn & retryOnBits["connect-failure"]) !== 0 && (reason === "connectionFailure" || reason === "connectionTimeout");
}
