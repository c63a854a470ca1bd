/**
 * HTTP/2 towards clients: one connection and its requests.
 *
 *      preface, SETTINGS ──> open ──GOAWAY: no more, but what is there──> draining ──last stream ends──> closed
 */
import { ConnectionAccount } from "../http/connection-account.ts";
import type { ConnectionManager } from "../http/connection-manager.ts";
import { HttpStream } from "../http/http-stream.ts";
import { isValidAuthority, prepareRequest, type RequestFraming } from "../http/request-preparation.ts";
import { LazyTimer } from "../lazy-timer.ts";
import type { DownstreamConnection } from "../listener/downstream-connection.ts";
import { type HeaderList, responseFlags } from "../stream-info.ts";
import type { Transport } from "../transport.ts";
import { ConnectionLife, type ConnectionLifeOwner } from "./connection-life.ts";
import { errorCode, frameHeadBytes, goAway, largestWindow, preface, setting, word } from "./frames.ts";
import { areTrailers, type RequestHead, readRequestHead } from "./request-head.ts";
import { Http2ServerStream } from "./server-stream.ts";
import { Http2Session, type SessionEvent } from "./session.ts";

const never = Number.POSITIVE_INFINITY;

export interface OpenedConnection {
  readonly transport: Transport;
  readonly account: ConnectionAccount;
}

const counters = {
  paused: "downstream_flow_control_paused_reading_total",
  resumed: "downstream_flow_control_resumed_reading_total",
  protocolError: "downstream_cx_protocol_error",
} as const;

export class Http2Server extends Http2Session<Http2ServerStream> implements ConnectionLifeOwner {
  /** Counters, and when it ends. */
  readonly life: ConnectionLife;
  readonly #manager: ConnectionManager;
  readonly #connection: DownstreamConnection;
  readonly #timer: LazyTimer;
  #prefaceRead = 0;

  /** `opened`: the connection had begun as one of HTTP/1. */
  constructor(manager: ConnectionManager, connection: DownstreamConnection, opened?: OpenedConnection) {
    super(
      manager.http2,
      manager.http2CodecStats,
      manager.parserOptions.maxHeadBytes,
      (handler) => opened?.transport ?? connection.openTransport(handler),
    );
    this.#manager = manager;
    this.#connection = connection;
    this.#timer = new LazyTimer(() => this.#expired());
    const account = opened?.account ?? new ConnectionAccount(manager, connection, this.transport);
    this.life = new ConnectionLife(manager, connection, account, this);
    const onTooOld = () => this.life.startDrain();
    if (!opened) account.open(onTooOld);
    account.speaks("http2", onTooOld);
    connection.decideClose = () => this.life.decideClose();
    connection.announceDrain = () => this.life.drainAnnounced();
    connection.shutdown = (isForced) => this.#shutdown(isForced);
  }

  start(): void {
    const { maxConcurrentStreams, allowsConnect } = this.#manager.http2;
    this.greet("", [
      [setting.headerTableSize, 4096],
      [setting.enableConnectProtocol, allowsConnect ? 1 : 0],
      [setting.maxConcurrentStreams, maxConcurrentStreams],
    ]);
    this.life.becameIdle();
    this.transport.start();
  }

  // --- Http2Session ---

  count(event: SessionEvent): void {
    this.life.count(counters[event]);
  }

  protected tick(): void {
    this.#connection.now = performance.now();
  }

  protected override skipPreface(chunk: Buffer): Buffer {
    if (this.#prefaceRead === preface.length) return chunk;
    const expected = preface.subarray(this.#prefaceRead, this.#prefaceRead + chunk.length);
    if (!chunk.subarray(0, expected.length).equals(expected)) this.fail(errorCode.protocol, "http2.invalid_preface");
    this.#prefaceRead += expected.length;
    return chunk.subarray(expected.length);
  }

  protected onSetting(): void {
    // What a client says beside the common settings concerns pushes alone.
  }

  protected onSettingsEnd(): void {
    // Nor does any of it matter later.
  }

  protected onGoAway(): void {
    // A client that wants no pushes, which it gets none of anyway.
  }

  protected noStreams(): void {
    this.life.becameIdle();
  }

  protected onBlock(block: Buffer, streamId: number, endStream: boolean): void {
    const list: string[] = [];
    const outcome = this.decoder.decode(block, list, this.#manager.parserOptions.maxHeadBytes);
    if (outcome === "compressionError") return void this.fail(errorCode.compression, "header block can't be read");
    const known = this.streams.get(streamId);
    if (known !== undefined) return void this.#onTrailers(known, list, endStream, outcome === "tooLarge");
    if (streamId <= this.lastStreamId) {
      if (this.floods.wasResetByUs(streamId)) return;
      return void this.fail(errorCode.streamClosed, "HEADERS on a closed stream");
    }
    this.lastStreamId = streamId;
    // A client that has not heard of the end yet, or wants too much at once, may ask again elsewhere or later.
    if (this.life.phase === "final" || this.streams.size >= this.#manager.http2.maxConcurrentStreams)
      return void this.reset(streamId, errorCode.refusedStream);
    this.floods.requestBegan();
    const codec = new Http2ServerStream(this, streamId, this.initialReceiveWindow, this.initialSendWindow);
    codec.wireBytes = block.length + frameHeadBytes;
    codec.peerHasEnded = endStream;
    this.opened(codec);
    const isTooLarge = outcome === "tooLarge" || list.length / 2 > this.#manager.parserOptions.maxHeaders;
    if (isTooLarge) {
      this.life.count("downstream_rq_too_large");
      this.codecStats.count("header_overflow");
      codec.close(errorCode.internal);
      return;
    }
    const head = readRequestHead(list);
    const isAllowed = head !== null && (head.protocol === "" || this.#manager.http2.allowsConnect);
    if (!isAllowed || (endStream && head.contentLength > 0)) {
      this.codecStats.count("rx_messaging_error");
      return void this.malformed(codec, "http2.invalid.header.field");
    }
    codec.bodyLeft = head.contentLength;
    if (this.#manager.parserOptions.underscores !== "allow" && this.#rejectsUnderscores(head.headers)) {
      codec.close(errorCode.internal);
      return;
    }
    this.#begin(codec, head, block.length, endStream);
  }

  /** Some servers take `_` for `-`: names with one are dropped, or the request with them. */
  #rejectsUnderscores(headers: HeaderList): boolean {
    for (let i = headers.length - 2; i >= 0; i -= 2) {
      if (!headers[i]!.includes("_")) continue;
      if (this.#manager.parserOptions.underscores === "reject") {
        this.codecStats.count("requests_rejected_with_underscores_in_headers");
        return true;
      }
      this.codecStats.count("dropped_headers_with_underscores");
      headers.splice(i, 2);
    }
    return false;
  }

  #begin(codec: Http2ServerStream, head: RequestHead, headBytes: number, endStream: boolean): void {
    const manager = this.#manager;
    this.life.requestBegan();
    const stream = new HttpStream(manager, this.#connection, codec);
    codec.stream = stream;
    this.readers.add(codec);
    const { info } = stream;
    info.protocol = "HTTP/2";
    // As HTTP/1.1 would ask for it, so that filters and routes need to know one form.
    info.method = head.protocol === "" ? head.method : "GET";
    info.path = head.path;
    info.authority = head.authority;
    info.scheme = head.scheme || (this.#connection.isTls ? "https" : "http");
    info.requestHeaders = head.headers;
    info.requestHeaderBytes = headBytes;
    if (!isValidAuthority(head.authority)) {
      info.flags |= responseFlags.DownstreamProtocolError;
      this.malformed(codec, "http.invalid_authority");
      return;
    }
    if (endStream) stream.requestCompleted();
    if (head.expect !== "" && !manager.proxies100Continue && head.expect.toLowerCase() === "100-continue") {
      this.write(this.headerFrames(word(codec.id), this.encoder.response(100, []), false));
    }
    if (!prepareRequest(stream, framingOf(head))) return;
    stream.startDeadlines();
    stream.onRequestHeaders(endStream);
  }

  #onTrailers(codec: Http2ServerStream, list: HeaderList, endStream: boolean, isTooLarge: boolean): void {
    if (codec.peerHasEnded) return void this.fail(errorCode.streamClosed, "HEADERS after the end of a request");
    if (!endStream || codec.bodyLeft > 0 || isTooLarge || !areTrailers(list)) {
      this.codecStats.count("rx_messaging_error");
      return void this.malformed(codec, "http2.violation.of.messaging.rule");
    }
    codec.peerHasEnded = true;
    this.codecStats.count("trailers");
    this.readers.add(codec);
    codec.stream?.onRequestEnd(list);
  }

  protected onStreamReset(codec: Http2ServerStream): void {
    const { stream } = codec;
    this.forget(codec);
    if (stream !== null) {
      stream.info.flags |= responseFlags.DownstreamRemoteReset;
      stream.onReset("http2.remote_reset");
    }
    if (!this.floods.resetByClient(stream !== null)) return;
    this.life.count("downstream_rq_too_many_premature_resets");
    this.fail(errorCode.enhanceYourCalm, "too many premature resets");
  }

  /** A request that no server may take: like Envoy, of the whole connection, unless that is told to bear it. */
  protected malformed(codec: Http2ServerStream, details: string): void {
    const { stream } = codec;
    this.life.count("downstream_cx_protocol_error");
    if (this.#manager.http2.bearsInvalidMessages) codec.close(errorCode.protocol);
    if (stream !== null) {
      stream.info.flags |= responseFlags.DownstreamProtocolError;
      stream.onReset(details);
    }
    if (!this.#manager.http2.bearsInvalidMessages) this.fail(errorCode.protocol, details);
  }

  schedule(deadline: number): void {
    if (deadline < this.#timer.deadline) this.#timer.set(deadline);
  }

  // --- the connection ---

  sayGoAway(isFinal: boolean): void {
    this.codecStats.count("goaway_sent");
    this.write(goAway(isFinal ? this.lastStreamId : largestWindow, errorCode.none));
    this.flushOutput();
  }

  get isIdle(): boolean {
    return this.streams.size === 0;
  }

  end(): void {
    this.flushOutput();
    this.#close("local", false);
  }

  #shutdown(isForced: boolean): void {
    if (isForced) {
      if (this.life.phase !== "final") this.sayGoAway(true);
      this.abort("local", "");
    } else this.life.finishDrain();
  }

  #expired(): void {
    const now = performance.now();
    this.#connection.now = now;
    for (const codec of [...this.streams.values()]) {
      if (codec.deadline > now + 0.5) continue;
      codec.deadline = never;
      // A client that does not take the rest of a response that is long over.
      if (codec.stream === null) codec.close(errorCode.cancel);
      else codec.stream.onDeadline();
    }
    this.life.expire(now + 0.5);
    let next = this.life.idleDeadline;
    for (const { deadline } of this.streams.values()) next = Math.min(next, deadline);
    if (next < never && !this.isClosed) this.#timer.set(Math.min(next, this.#timer.deadline));
    this.flushOutput();
  }

  protected abort(by: "local" | "remote", reason: string): void {
    if (this.isClosed) return;
    if (reason !== "") this.#connection.info.localCloseReason = reason;
    const streams = [...this.streams.values()];
    this.#close(
      by,
      streams.some(({ stream }) => stream !== null),
    );
    for (const codec of streams) {
      const { stream } = codec;
      codec.closed();
      stream?.onClientGone(by === "remote" ? "downstream_remote_disconnect" : "downstream_local_disconnect");
    }
    this.codecStats.streams(-this.streams.size);
    this.streams.clear();
  }

  #close(by: "local" | "remote", cutsOff: boolean): void {
    if (this.isClosed) return;
    this.shut(by);
    this.#timer.dispose();
    this.life.closed(by, cutsOff);
  }
}

/** HTTP/2 has no headers of the connection. */
function framingOf({ expect, authority, protocol, headers }: RequestHead): RequestFraming {
  if (protocol !== "") {
    const at = headers.length;
    return { ...plainFraming, expect, connection: "upgrade", upgrade: protocol, connectionAt: at, upgradeAt: at, isUpgradeFirst: true };
  }
  return authority === "" || expect !== "" ? { ...plainFraming, host: authority || null, expect } : plainFraming;
}

const plainFraming: RequestFraming = {
  host: "",
  expect: "",
  connection: "",
  upgrade: "",
  hasHopByHop: false,
  connectionAt: -1,
  upgradeAt: -1,
  isUpgradeFirst: false,
};
