/**
 * Unary gRPC calls that the proxy makes for itself (authorization, rate limits), through a cluster like any other: load balancing, limits,
 * TLS and statistics are the cluster's. Each endpoint has one HTTP/2 connection in this worker, which all filters share.
 *
 * Nothing throws and `done` is called once, never from within `call`, unless the call is cancelled before.
 */
import * as http2 from "node:http2";
import { grpcStatusNumber } from "../../api/grpc-status.ts";
import { localAddress } from "../local-address.ts";
import type { HeaderList } from "../stream-info.ts";
import type { AsyncCall } from "./async-client.ts";
import type { Cluster } from "./cluster.ts";
import type { Host } from "./host.ts";
import { Http2Connection, type Http2Waiter } from "./http2-connection.ts";

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
  readonly #clusters: ReadonlyMap<string, Cluster>;

  constructor(clusters: ReadonlyMap<string, Cluster>) {
    this.#clusters = clusters;
  }

  call(clusterName: string, request: GrpcRequest, done: (outcome: GrpcOutcome) => void): AsyncCall {
    const call = new Call(request, done);
    process.nextTick(() => call.start(this.#clusters.get(clusterName)));
    return call;
  }
}

class Call implements AsyncCall, Http2Waiter {
  readonly #request: GrpcRequest;
  readonly #done: (outcome: GrpcOutcome) => void;
  #cluster: Cluster | null = null;
  #host: Host | null = null;
  #connection: Http2Connection | null = null;
  #stream: http2.ClientHttp2Stream | null = null;
  #timer: NodeJS.Timeout | null = null;
  #isOver = false;
  #isWaiting = false;
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
    this.#connection?.cancel(this);
    this.#stream?.close(http2.constants.NGHTTP2_CANCEL);
  }

  /** null, or why there can be no call. */
  #begin(cluster: Cluster | undefined): string | null {
    if (cluster === undefined) return "Cluster not available";
    const { stats, resources, config } = cluster;
    if (config.protocol !== "http2" || config.isOriginalDestination) return "the cluster does not speak HTTP/2";
    if (cluster.dropChance > 0 && Math.random() < cluster.dropChance) return "drop overload";
    const host = cluster.choose();
    if (host === null) {
      stats.store.add(stats.at.upstream_cx_none_healthy, 1);
      return "no healthy upstream";
    }
    if (!resources.default.canRequest() || !resources.default.canWait()) {
      stats.store.add(stats.at.upstream_rq_pending_overflow, 1);
      return "upstream connect error or disconnect/reset before headers. reset reason: overflow";
    }
    this.#cluster = cluster;
    this.#host = host;
    this.#wait(1);
    stats.store.add(stats.at.upstream_rq_pending_total, 1);
    const { timeoutMs } = this.#request;
    if (timeoutMs > 0) this.#timer = setTimeout(() => this.#timedOut(), timeoutMs);
    if (host.http2 === null || host.http2.isUsedUp) host.http2 = new Http2Connection(cluster, host);
    this.#connection = host.http2;
    host.http2.use(this);
    return null;
  }

  // --- Http2Waiter ---

  onConnected(session: http2.ClientHttp2Session): void {
    this.#host!.monitor?.onReady();
    this.#wait(-1);
    this.#use(1);
    const { stats } = this.#cluster!;
    stats.store.add(stats.at.upstream_rq_total, 1);
    this.#host!.stats.add(this.#host!.at.rq_total, 1);
    const { path, authority, metadata, timeoutMs, message } = this.#request;
    const headers: http2.OutgoingHttpHeaders = {
      ":method": "POST",
      ":path": path,
      ":authority": authority,
      te: "trailers",
      ...(timeoutMs > 0 && { "grpc-timeout": `${Math.ceil(timeoutMs)}m` }),
      "content-type": "application/grpc",
      "x-envoy-internal": "true",
      "x-forwarded-for": localAddress(),
      ...(timeoutMs > 0 && { "x-envoy-expected-rq-timeout-ms": String(Math.ceil(timeoutMs)) }),
    };
    for (let i = 0; i < metadata.length; i += 2) {
      const name = metadata[i]!;
      const value = metadata[i + 1]!;
      const present = headers[name] as string | string[] | undefined;
      headers[name] = present === undefined ? value : [present, value].flat();
    }
    const framed = Buffer.allocUnsafe(prefixBytes + message.length);
    framed[0] = 0;
    framed.writeUInt32BE(message.length, 1);
    framed.set(message, prefixBytes);
    let stream: http2.ClientHttp2Stream;
    try {
      stream = session.request(headers);
    } catch {
      // The session went between being chosen and being used.
      this.#failed(status.unavailable, "upstream connect error or disconnect/reset before headers");
      return;
    }
    this.#stream = stream;
    stream.on("response", (answer) => this.#onResponse(answer));
    stream.on("data", (chunk: Buffer) => this.#onData(chunk));
    stream.on("trailers", (trailers) => this.#onStatus(trailers));
    stream.on("error", () => {});
    stream.once("close", () => this.#failed(status.unavailable, "upstream connect error or disconnect/reset before headers"));
    stream.end(framed);
  }

  onConnectFailed(): void {
    this.#failed(status.unavailable, "upstream connect error or disconnect/reset before headers");
  }

  // --- the answer ---

  #onResponse(headers: http2.IncomingHttpHeaders): void {
    const code = Number(headers[":status"]);
    this.#host!.monitor?.onResponse(code, ["grpc-status", String(headers["grpc-status"] ?? "")], true);
    if (code !== 200) this.#answered(code, { status: statusOfHttp(code), reason: `HTTP status ${code}` });
    else if (headers["grpc-status"] !== undefined) this.#onStatus(headers);
    else if (!String(headers["content-type"]).startsWith("application/grpc")) {
      this.#answered(200, { status: status.unknown, reason: "the answer is no gRPC" });
    }
  }

  #onData(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes <= maxAnswerBytes) this.#chunks.push(chunk);
    else this.#answered(200, { status: status.resourceExhausted, reason: "the answer is too large" });
  }

  #onStatus(headers: http2.IncomingHttpHeaders): void {
    const written = String(headers["grpc-status"] ?? "");
    const code = /^\d{1,9}$/.test(written) ? Number(written) : status.unknown;
    if (code !== 0) this.#answered(200, { status: code, reason: String(headers["grpc-message"] ?? "") });
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
    const isGood = "message" in outcome;
    this.#host!.stats.add(isGood ? this.#host!.at.rq_success : this.#host!.at.rq_error, 1);
    stats.countResponse(httpStatus, true);
    this.#finish(outcome);
    if (!this.#stream!.closed && !isGood) this.#stream!.close(http2.constants.NGHTTP2_CANCEL);
  }

  #timedOut(): void {
    if (this.#isOver) return;
    const { stats } = this.#cluster!;
    stats.store.add(stats.at.upstream_rq_timeout, 1);
    this.#host!.stats.add(this.#host!.at.rq_timeout, 1);
    if (this.#stream !== null) this.#host!.monitor?.onTimeout();
    stats.countResponse(504, true);
    this.cancel();
    this.#done({ status: status.deadlineExceeded, reason: "upstream request timeout" });
  }

  #failed(code: number, reason: string): void {
    if (this.#isOver) return;
    this.#host!.monitor?.onConnectFailed();
    this.#host!.stats.add(this.#host!.at.rq_error, 1);
    this.#cluster!.stats.countResponse(503, true);
    this.#finish({ status: code, reason });
  }

  #finish(outcome: GrpcOutcome): void {
    if (this.#isOver) return;
    this.#settle();
    this.#done(outcome);
  }

  /** Gives back what the call has taken. */
  #settle(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer ?? undefined);
    if (this.#isWaiting) this.#wait(-1);
    else if (this.#sentAt > 0) this.#use(-1);
  }

  /** Takes or gives back a place among those that wait for a connection. */
  #wait(amount: 1 | -1): void {
    this.#isWaiting = amount > 0;
    const { stats, resources } = this.#cluster!;
    resources.default.addPending(amount);
    stats.store.add(stats.at.upstream_rq_pending_active, amount);
    this.#host!.stats.add(this.#host!.at.rq_pending_active, amount);
  }

  /** The same among those that have one. */
  #use(amount: 1 | -1): void {
    this.#sentAt = performance.now();
    const { stats, resources } = this.#cluster!;
    const host = this.#host!;
    resources.default.addRequest(amount);
    stats.store.add(stats.at.upstream_rq_active, amount);
    host.activeRequests += amount;
    host.stats.add(host.at.rq_active, amount);
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
