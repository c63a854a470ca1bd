/**
 * A request that is sent a second time (request_mirror_policies): as it comes, without anybody waiting for it. Its response is read and dropped.
 * A mirror that is slower than the client is given up rather than waited for.
 */
import { setHeader } from "../../http/header-list.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { localAddress } from "../../local-address.ts";
import type { MirrorPolicy } from "../../router/mirror-policy.ts";
import type { HeaderList } from "../../stream-info.ts";
import { keepChunk } from "../../transport.ts";
import type { Cluster } from "../../upstream/cluster.ts";
import type { ConnectionPool } from "../../upstream/connection-pool.ts";
import type { Host } from "../../upstream/host.ts";
import type { PoolWaiter, UpstreamExchange, UpstreamRequest, UpstreamReset } from "../../upstream/upstream-stream.ts";

export class MirroredRequest implements PoolWaiter {
  readonly priority = "default";
  readonly upgrade = "";
  readonly sniHost: string;
  readonly request: UpstreamRequest;
  readonly #cluster: Cluster;
  readonly #limitBytes: number;
  #host: Host | null = null;
  #pool: ConnectionPool | null = null;
  #exchange: UpstreamExchange | null = null;
  #timer: NodeJS.Timeout | null = null;
  #kept: Buffer[] = [];
  #keptBytes = 0;
  /** Wait to be sent, behind what is kept. */
  #trailers: HeaderList | null = null;
  #hasEnded: boolean;
  readonly #isGrpc: boolean;
  #hasStarted = false;
  #isFull = false;
  #isOver = false;
  #sentAt = 0;

  /** `timeoutMs`: of the route; 0: none. */
  constructor(stream: HttpStream, cluster: Cluster, { addsSuffix }: MirrorPolicy, timeoutMs: number, endStream: boolean) {
    const { method, scheme, path, authority, requestHeaders } = stream.info;
    const headers = [...requestHeaders];
    setHeader(headers, "x-envoy-internal", "true");
    appendAddress(headers);
    this.request = { method, scheme, path, authority: addsSuffix ? suffixed(authority) : authority, requestHeaders: headers };
    this.sniHost = authority.replace(/:\d+$/, "");
    this.#cluster = cluster;
    this.#limitBytes = stream.manager.bufferLimitBytes;
    this.#hasEnded = endStream;
    this.#isGrpc = stream.isGrpc;
    if (timeoutMs > 0) this.#timer = setTimeout(() => this.#timedOut(), timeoutMs);
  }

  start({ info, alpnOffers }: HttpStream): void {
    const cluster = this.#cluster;
    const host = cluster.config.isOriginalDestination ? null : cluster.choose();
    if (host === null) {
      cluster.stats.store.add(cluster.stats.at.upstream_cx_none_healthy, 1);
      this.#end();
      return;
    }
    this.#host = host;
    const protocol = cluster.protocolFor(info.protocol);
    this.#pool = cluster.pool(host, protocol, cluster.offerOf(alpnOffers, protocol));
    this.#pool.newStream(this);
  }

  sendData(chunk: Buffer, endStream: boolean): void {
    if (endStream) this.#hasEnded = true;
    if (this.#isOver) return;
    if (this.#exchange !== null && !this.#isFull) {
      this.#isFull = !this.#exchange.sendData(chunk, endStream) && !endStream;
      return;
    }
    this.#kept.push(keepChunk(chunk));
    this.#keptBytes += chunk.length;
    if (this.#keptBytes <= this.#limitBytes) return;
    const { stats } = this.#cluster;
    stats.store.add(stats.at.retry_or_shadow_abandoned, 1);
    this.abandon();
  }

  sendEnd(trailers: HeaderList): void {
    this.#hasEnded = true;
    if (this.#exchange !== null && !this.#isFull) this.#exchange.sendTrailers([...trailers]);
    else this.#trailers = [...trailers];
  }

  flush(): void {
    this.#exchange?.flush();
  }

  /** The client gave its request up; one that was sent to its end goes on by itself. */
  clientLeft(): void {
    if (!this.#hasEnded) this.abandon();
  }

  abandon(): void {
    if (this.#isOver) return;
    const exchange = this.#exchange;
    this.#end();
    if (exchange !== null) exchange.reset();
    else this.#pool?.cancel(this);
  }

  // --- PoolWaiter ---

  onPoolReady(exchange: UpstreamExchange): void {
    this.#exchange = exchange;
    this.#host!.monitor?.onReady();
    this.#sentAt = performance.now();
    exchange.sendHeaders(this.#hasEnded && this.#kept.length === 0 && this.#trailers === null);
    this.#sendKept();
  }

  #sendKept(): void {
    const exchange = this.#exchange!;
    const kept = this.#kept;
    const trailers = this.#trailers;
    this.#kept = [];
    this.#keptBytes = 0;
    this.#trailers = null;
    for (const [index, chunk] of kept.entries()) exchange.sendData(chunk, this.#hasEnded && index === kept.length - 1 && trailers === null);
    if (trailers !== null) exchange.sendTrailers(trailers);
  }

  onPoolFailure(reason: UpstreamReset): void {
    if (reason !== "overflow") {
      this.#host!.stats.add(this.#host!.at.rq_error, 1);
      this.#host!.monitor?.onConnectFailed();
    }
    this.#cluster.stats.countResponse(503, true);
    this.#end();
  }

  onUpstreamHeaders(status: number, headers: HeaderList, endStream: boolean): void {
    const host = this.#host!;
    host.monitor?.onResponse(status, headers, this.#isGrpc);
    this.#hasStarted = true;
    host.stats.add(status >= 500 ? host.at.rq_error : host.at.rq_success, 1);
    this.#cluster.stats.countResponse(status, true);
    if (endStream) this.#complete();
  }

  onUpstreamData(): void {}

  onUpstreamEnd(): void {
    this.#complete();
  }

  onUpstreamReset(): void {
    this.#exchange = null;
    if (!this.#hasStarted) this.#host!.monitor?.onConnectFailed();
    this.#end();
  }

  onUpstreamReadComplete(): void {}

  onUpstreamDrain(): void {
    this.#isFull = false;
    if (!this.#isOver) this.#sendKept();
  }

  #complete(): void {
    const { stats } = this.#cluster;
    stats.store.record(stats.at.upstream_rq_time, Math.round(performance.now() - this.#sentAt));
    if (!this.#hasEnded) this.#exchange?.abandonRequest();
    this.#end();
  }

  #timedOut(): void {
    const { stats } = this.#cluster;
    stats.store.add(stats.at.upstream_rq_timeout, 1);
    if (this.#exchange !== null && !this.#hasStarted) this.#host!.monitor?.onTimeout();
    this.abandon();
  }

  #end(): void {
    this.#isOver = true;
    this.#exchange = null;
    clearTimeout(this.#timer ?? undefined);
  }
}

/** `cluster1-shadow`, before a port. */
function suffixed(authority: string): string {
  const port = /:\d+$/.exec(authority)?.[0] ?? "";
  return `${authority.slice(0, authority.length - port.length)}-shadow${port}`;
}

/** It is the proxy that asks, on behalf of those who asked it. */
function appendAddress(headers: HeaderList): void {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] !== "x-forwarded-for") continue;
    headers[i + 1] += `,${localAddress()}`;
    return;
  }
  headers.push("x-forwarded-for", localAddress());
}
