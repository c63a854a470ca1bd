/**
 * One upstream connection that speaks HTTP/2: carries as many requests at once as the endpoint and the cluster allow.
 *
 *      preface, SETTINGS -> open -> retired by GOAWAY, age or count: no more requests -> closed behind the last
 */
import { type ErrorCode, errorCode, preface, setting } from "../http2/frames.ts";
import { Http2Session, type SessionEvent } from "../http2/session.ts";
import { Transport } from "../transport.ts";
import { ClientLife, type ClientLifeOwner } from "./client-life.ts";
import type { Established } from "./connect-attempt.ts";
import type { ConnectionPool, PooledClient } from "./connection-pool.ts";
import { Http2ClientStream } from "./http2-client-stream.ts";
import type { PoolWaiter, UpstreamConnection, UpstreamReset } from "./upstream-stream.ts";

const maxResponseHeadBytes = 60 * 1024;
/** As many requests as an endpoint is sent before it has said how many it takes. */
const streamsBeforeSettings = 100;
/** Beyond that a new connection has to carry on. */
const lastUsableStream = 0x3fff_ffff;

const counters = {
  paused: "upstream_flow_control_paused_reading_total",
  resumed: "upstream_flow_control_resumed_reading_total",
  protocolError: "upstream_cx_protocol_error",
} as const;

export class Http2Client extends Http2Session<Http2ClientStream> implements PooledClient, ClientLifeOwner {
  readonly #pool: ConnectionPool;
  readonly #life: ClientLife;
  #nextStreamId = 1;
  #maxStreams: number;
  /** As the endpoint says; without a word, any number. */
  #peerMaxStreams = Number.POSITIVE_INFINITY;

  constructor(pool: ConnectionPool, established: Established) {
    super(
      pool.cluster.config.http2,
      pool.cluster.http2CodecStats,
      maxResponseHeadBytes,
      (handler) => new Transport(established.socket, handler),
    );
    this.#pool = pool;
    this.#life = new ClientLife(pool, established, this);
    this.#maxStreams = Math.min(streamsBeforeSettings, pool.cluster.config.http2.maxConcurrentStreams);
  }

  get connection(): UpstreamConnection {
    return this.#life;
  }

  // --- the pool's side ---

  start(): void {
    this.#life.start(this.transport);
    this.greet(preface.latin1Slice(), [
      [setting.headerTableSize, 4096],
      [setting.enablePush, 0],
    ]);
    this.transport.start();
  }

  get freeStreams(): number {
    if (this.isClosed || this.#life.isRetired) return 0;
    return this.#maxStreams - this.streams.size;
  }

  get isIdle(): boolean {
    return !this.isClosed && this.streams.size === 0;
  }

  /** Hot. */
  begin(waiter: PoolWaiter): Http2ClientStream {
    const id = this.#nextStreamId;
    this.#nextStreamId += 2;
    this.lastStreamId = id;
    const stream = new Http2ClientStream(this, id, waiter, this.initialReceiveWindow, this.initialSendWindow);
    this.opened(stream);
    this.floods.requestBegan();
    this.#life.requestBegan(waiter.priority);
    if (id >= lastUsableStream) this.#life.isRetired = true;
    return stream;
  }

  becameIdle(): void {
    this.#life.account.countBytes();
    if (this.#life.isRetired) this.close("local");
    else this.#life.becameIdle();
  }

  retired(): void {
    this.#pool.changed(this);
  }

  close(by: "local" | "remote"): void {
    this.#end(by, "localReset");
  }

  // --- Http2Session ---

  count(event: SessionEvent): void {
    const { store, at } = this.#pool.cluster.stats;
    store.add(at[counters[event]], 1);
  }

  override reset(streamId: number, code: ErrorCode): void {
    const { store, at } = this.#pool.cluster.stats;
    store.add(at.upstream_rq_tx_reset, 1);
    super.reset(streamId, code);
  }

  protected tick(): void {
    // Who is sent something asks the clock itself.
  }

  override forget(stream: Http2ClientStream): void {
    if (!this.streams.has(stream.id)) return;
    super.forget(stream);
    this.#life.requestEnded(stream.priority);
    if (!this.isClosed) this.#pool.changed(this);
  }

  protected noStreams(): void {
    // The pool is told of every stream that ends.
  }

  protected onBlock(block: Buffer, streamId: number, endStream: boolean): void {
    const list: string[] = [];
    const outcome = this.decoder.decode(block, list, maxResponseHeadBytes);
    if (outcome === "compressionError") return void this.fail(errorCode.compression, "header block can't be read");
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      this.codecStats.count("headers_cb_no_stream");
      if (this.isIdleStream(streamId)) this.fail(errorCode.protocol, "HEADERS on an idle stream");
      else if (!this.floods.wasResetByUs(streamId)) this.fail(errorCode.streamClosed, "HEADERS on a closed stream");
      return;
    }
    this.readers.add(stream);
    if (stream.peerHasEnded) return void this.fail(errorCode.streamClosed, "HEADERS after the end of a response");
    const isTooLarge = outcome === "tooLarge" || list.length / 2 > this.#pool.cluster.config.maxResponseHeaders + 1;
    if (isTooLarge) this.codecStats.count("header_overflow");
    if (isTooLarge || !stream.onHeaders(list, endStream)) this.refuse(stream);
  }

  protected onStreamReset(stream: Http2ClientStream, code: number): void {
    const isRefused = code === errorCode.refusedStream;
    const { store, at } = this.#pool.cluster.stats;
    if (!isRefused) store.add(at.upstream_rq_rx_reset, 1);
    this.forget(stream);
    stream.lost(isRefused ? "remoteRefusedStream" : "remoteReset");
  }

  protected onSetting(id: number, value: number): void {
    if (id !== setting.maxConcurrentStreams) return;
    this.#peerMaxStreams = value;
  }

  protected onSettingsEnd(): void {
    this.#maxStreams = Math.min(this.#peerMaxStreams, this.#pool.cluster.config.http2.maxConcurrentStreams);
    this.#pool.changed(this);
  }

  /** Streams above `lastStreamId` were not begun there: others may carry them. */
  protected onGoAway(lastStreamId: number): void {
    const { stats } = this.#pool.cluster;
    stats.store.add(stats.at.upstream_cx_close_notify, 1);
    this.#life.isRetired = true;
    for (const stream of [...this.streams.values()]) {
      if (stream.id <= lastStreamId) continue;
      this.forget(stream);
      stream.lost("remoteRefusedStream");
    }
    this.#life.retire();
  }

  protected malformed(stream: Http2ClientStream): void {
    this.#refuse(stream);
  }

  /** Says nothing that a response may say. Like Envoy, of the whole connection, unless that is told to bear it. */
  refuse(stream: Http2ClientStream): void {
    this.codecStats.count("rx_messaging_error");
    this.#refuse(stream);
  }

  #refuse(stream: Http2ClientStream): void {
    const { config } = this.#pool.cluster;
    if (!config.http2.bearsInvalidMessages) return void this.fail(errorCode.protocol, "http2.violation.of.messaging.rule");
    this.count("protocolError");
    stream.violated(errorCode.protocol);
  }

  protected override get lastOfPeer(): number {
    return 0;
  }

  protected abort(by: "local" | "remote", _reason: string, isProtocolError: boolean): void {
    this.#end(by, isProtocolError ? "protocolError" : "connectionTermination");
  }

  #end(by: "local" | "remote", reset: UpstreamReset): void {
    if (this.isClosed) return;
    const streams = [...this.streams.values()];
    this.shut(by);
    this.#life.closed(by, streams.length > 0);
    for (const stream of streams) this.forget(stream);
    this.#pool.closed(this);
    for (const stream of streams) stream.lost(reset);
  }
}
