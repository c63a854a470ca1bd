/**
 * Unary gRPC calls that the proxy makes for itself (authorization, rate limits), through a cluster like any other: load balancing, limits,
 * TLS, connections and statistics are the cluster's.
 *
 * Nothing throws and `done` is called once, never from within `call`, unless the call is cancelled before.
 */
import { grpcStatusNumber } from "../../api/grpc-status.ts";
import { getHeader } from "../http/header-list.ts";
import { localAddress } from "../local-address.ts";
import type { HeaderList } from "../stream-info.ts";
import { keepChunk } from "../transport.ts";
import type { AsyncCall } from "./async-client.ts";
import type { Cluster } from "./cluster.ts";
import type { ClusterLookup } from "./cluster-set.ts";
import type { ConnectionPool } from "./connection-pool.ts";
import type { Host } from "./host.ts";
import type { PoolWaiter, UpstreamExchange, UpstreamRequest, UpstreamReset } from "./upstream-stream.ts";

export interface GrpcRequest {
  /** `/package.Service/Method` */
  readonly path: string;
  readonly message: Uint8Array;
  readonly authority: string;
  /** Names in lower case. */
  readonly metadata: HeaderList;
  /** 0: none. */
  readonly timeoutMs: number;
}

/** `message` where the status is OK; any other status says why there is none, whoever has found that out. */
export type GrpcOutcome = { readonly message: Buffer } | { readonly status: number; readonly reason: string };

const status = {
  unknown: grpcStatusNumber("UNKNOWN"),
  deadlineExceeded: grpcStatusNumber("DEADLINE_EXCEEDED"),
  resourceExhausted: grpcStatusNumber("RESOURCE_EXHAUSTED"),
  internal: grpcStatusNumber("INTERNAL"),
  unavailable: grpcStatusNumber("UNAVAILABLE"),
};

const maxAnswerBytes = 4 * 1024 * 1024;
/** A message's compression flag and length. */
const prefixBytes = 5;

export class GrpcClient {
  readonly #clusters: ClusterLookup;

  constructor(clusters: ClusterLookup) {
    this.#clusters = clusters;
  }

  call(clusterName: string, request: GrpcRequest, done: (outcome: GrpcOutcome) => void): AsyncCall {
    const call = new Call(request, done);
    process.nextTick(() => call.start(this.#clusters.get(clusterName)));
    return call;
  }
}

class Call implements AsyncCall, PoolWaiter {
  readonly priority = "default";
  readonly upgrade = "";
  request!: UpstreamRequest;
  readonly sniHost = "";
  readonly #request: GrpcRequest;
  readonly #done: (outcome: GrpcOutcome) => void;
  #cluster: Cluster | null = null;
  #host: Host | null = null;
  #pool: ConnectionPool | null = null;
  #exchange: UpstreamExchange | null = null;
  #timer: NodeJS.Timeout | null = null;
  #isOver = false;
  #sentAt = 0;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(request: GrpcRequest, done: (outcome: GrpcOutcome) => void) {
    this.#request = request;
    this.#done = done;
  }

  start(cluster: Cluster | undefined): void {
    if (this.#isOver) return;
    const problem = this.#begin(cluster);
    if (problem !== null) this.#finish({ status: status.unavailable, reason: problem });
  }

  cancel(): void {
    this.#settle();
    const exchange = this.#exchange;
    this.#exchange = null;
    if (exchange !== null) exchange.reset();
    else this.#pool?.cancel(this);
  }

  /** null, or why there can be no call. */
  #begin(cluster: Cluster | undefined): string | null {
    if (cluster === undefined) return "Cluster not available";
    const { stats, config } = cluster;
    if (config.protocol !== "http2" || config.isOriginalDestination) return "the cluster does not speak HTTP/2";
    if (cluster.dropChance > 0 && Math.random() < cluster.dropChance) return "drop overload";
    const host = cluster.choose();
    if (host === null) {
      stats.store.add(stats.at.upstream_cx_none_healthy, 1);
      return "no healthy upstream";
    }
    this.#cluster = cluster;
    this.#host = host;
    const { timeoutMs } = this.#request;
    if (timeoutMs > 0) this.#timer = setTimeout(() => this.#timedOut(), timeoutMs);
    this.#pool = cluster.pool(host, "http2");
    this.#pool.newStream(this);
    return null;
  }

  #makeRequest(): UpstreamRequest {
    const { path, authority, metadata, timeoutMs } = this.#request;
    const timeout = String(Math.ceil(timeoutMs));
    return {
      method: "POST",
      scheme: "http",
      authority,
      path,
      requestHeaders: [
        ...["te", "trailers"],
        ...(timeoutMs > 0 ? ["grpc-timeout", `${timeout}m`] : []),
        ...["content-type", "application/grpc", "x-envoy-internal", "true", "x-forwarded-for", localAddress()],
        ...(timeoutMs > 0 ? ["x-envoy-expected-rq-timeout-ms", timeout] : []),
        ...metadata,
      ],
    };
  }

  // --- PoolWaiter ---

  onPoolReady(exchange: UpstreamExchange): void {
    this.#exchange = exchange;
    this.#host!.monitor?.onReady();
    this.#sentAt = performance.now();
    const { message } = this.#request;
    const framed = Buffer.allocUnsafe(prefixBytes + message.length);
    framed[0] = 0;
    framed.writeUInt32BE(message.length, 1);
    framed.set(message, prefixBytes);
    this.request = this.#makeRequest();
    exchange.sendHeaders(false);
    exchange.sendData(framed, true);
  }

  onPoolFailure(reason: UpstreamReset): void {
    this.#failed(reason);
  }

  // --- UpstreamStream ---

  onUpstreamHeaders(code: number, headers: HeaderList, endStream: boolean): void {
    if (endStream) this.#exchange = null;
    this.#host!.monitor?.onResponse(code, headers, true);
    if (code !== 200) this.#answered(code, { status: statusOfHttp(code), reason: `HTTP status ${code}` });
    else if (getHeader(headers, "grpc-status") !== undefined) this.#onStatus(headers);
    else if (!getHeader(headers, "content-type")?.startsWith("application/grpc")) {
      this.#answered(200, { status: status.unknown, reason: "the answer is no gRPC" });
    } else if (endStream) this.#onStatus([]);
  }

  onUpstreamData(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes <= maxAnswerBytes) this.#chunks.push(keepChunk(chunk));
    else this.#answered(200, { status: status.resourceExhausted, reason: "the answer is too large" });
  }

  onUpstreamEnd(trailers: HeaderList | null): void {
    this.#exchange = null;
    this.#onStatus(trailers ?? []);
  }

  onUpstreamReset(reason: UpstreamReset): void {
    this.#exchange = null;
    this.#failed(reason);
  }

  onUpstreamReadComplete(): void {}

  onUpstreamDrain(): void {}

  // --- the answer ---

  #onStatus(headers: HeaderList): void {
    const written = getHeader(headers, "grpc-status") ?? "";
    const code = /^\d{1,9}$/.test(written) ? Number(written) : status.unknown;
    if (code !== 0) this.#answered(200, { status: code, reason: getHeader(headers, "grpc-message") ?? "" });
    else this.#answered(200, this.#message());
  }

  #message(): GrpcOutcome {
    const bytes = Buffer.concat(this.#chunks);
    const isWhole = bytes.length >= prefixBytes && bytes.length === prefixBytes + bytes.readUInt32BE(1);
    if (!isWhole || bytes[0] !== 0) return { status: status.internal, reason: "the answer is not one plain message" };
    return { message: bytes.subarray(prefixBytes) };
  }

  #answered(httpStatus: number, outcome: GrpcOutcome): void {
    if (this.#isOver) return;
    const { stats } = this.#cluster!;
    stats.store.record(stats.at.upstream_rq_time, Math.round(performance.now() - this.#sentAt));
    this.#host!.stats.add("message" in outcome ? this.#host!.at.rq_success : this.#host!.at.rq_error, 1);
    stats.countResponse(httpStatus, true);
    this.#finish(outcome);
    // What else it would say is not wanted.
    const exchange = this.#exchange;
    this.#exchange = null;
    exchange?.reset();
  }

  #timedOut(): void {
    if (this.#isOver) return;
    const { stats } = this.#cluster!;
    stats.store.add(stats.at.upstream_rq_timeout, 1);
    this.#host!.stats.add(this.#host!.at.rq_timeout, 1);
    if (this.#exchange !== null) this.#host!.monitor?.onTimeout();
    stats.countResponse(504, true);
    this.cancel();
    this.#done({ status: status.deadlineExceeded, reason: "upstream request timeout" });
  }

  #failed(reason: UpstreamReset): void {
    if (this.#isOver) return;
    if (reason !== "overflow") {
      this.#host!.monitor?.onConnectFailed();
      this.#host!.stats.add(this.#host!.at.rq_error, 1);
      this.#cluster!.stats.countResponse(503, true);
    }
    const words = "upstream connect error or disconnect/reset before headers";
    this.#finish({ status: status.unavailable, reason: reason === "overflow" ? `${words}. reset reason: overflow` : words });
  }

  #finish(outcome: GrpcOutcome): void {
    if (this.#isOver) return;
    this.#settle();
    this.#done(outcome);
  }

  #settle(): void {
    this.#isOver = true;
    clearTimeout(this.#timer ?? undefined);
  }
}

/** What the gRPC protocol makes of an HTTP status that came without one of its own. */
function statusOfHttp(code: number): number {
  switch (code) {
    case 400:
      return status.internal;
    case 401:
      return grpcStatusNumber("UNAUTHENTICATED");
    case 403:
      return grpcStatusNumber("PERMISSION_DENIED");
    case 404:
      return grpcStatusNumber("UNIMPLEMENTED");
    case 429:
    case 502:
    case 503:
    case 504:
      return status.unavailable;
    default:
      return status.unknown;
  }
}
