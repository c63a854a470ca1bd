/**
 * HTTP/2 towards clients: one connection and its streams.
 *
 *      preface, SETTINGS ──> open ──GOAWAY: no more, but what is there──> draining ──last stream ends──> closed
 *
 * What a client may do to excess is counted: streams, header blocks, resets, empty frames, frames that want an answer. One that does gets GOAWAY
 * and is cut off. Source: RFC 9113; limits of Envoy's Http2ProtocolOptions.
 */
import { ConnectionAccount } from "../http/connection-account.ts";
import type { ConnectionManager } from "../http/connection-manager.ts";
import { HttpStream } from "../http/http-stream.ts";
import { isValidAuthority, prepareRequest, type RequestFraming } from "../http/request-preparation.ts";
import { LazyTimer } from "../lazy-timer.ts";
import type { DownstreamConnection } from "../listener/downstream-connection.ts";
import { type HeaderList, responseFlags } from "../stream-info.ts";
import type { Framer, Transport, TransportHandler } from "../transport.ts";
import { ConnectionLife, type ConnectionLifeOwner } from "./connection-life.ts";
import { FrameReader, type FrameSink } from "./frame-reader.ts";
import {
  defaultMaxFrameBytes,
  defaultWindow,
  type ErrorCode,
  errorCode,
  flag,
  frameHeadBytes,
  frameType,
  goAway,
  headerFrames,
  largestWindow,
  pingAck,
  preface,
  resetStream,
  setting,
  settings,
  settingsAck,
  windowUpdate,
  word,
} from "./frames.ts";
import { dependsOn, HeaderBlocks } from "./header-blocks.ts";
import { HpackDecoder } from "./hpack-decoder.ts";
import { HpackEncoder } from "./hpack-encoder.ts";
import { Http2Floods } from "./http2-floods.ts";
import { areTrailers, type RequestHead, readRequestHead } from "./request-head.ts";
import { Http2ServerStream } from "./server-stream.ts";

const never = Number.POSITIVE_INFINITY;
const connectionWord = word(0);

export interface OpenedConnection {
  readonly transport: Transport;
  readonly account: ConnectionAccount;
}

export class Http2Server implements TransportHandler, FrameSink, ConnectionLifeOwner {
  readonly initialReceiveWindow: number;
  /** Of the whole connection. */
  sendWindow = defaultWindow;
  maxFrameBytes = defaultMaxFrameBytes;
  /** Counters, and when it ends. */
  readonly life: ConnectionLife;
  readonly #manager: ConnectionManager;
  readonly #connection: DownstreamConnection;
  readonly #transport: Transport;
  readonly #reader = new FrameReader(this);
  readonly #decoder = new HpackDecoder();
  readonly #encoder = new HpackEncoder();
  readonly #floods: Http2Floods;
  readonly #timer: LazyTimer;
  readonly #streams = new Map<number, Http2ServerStream>();
  /** With something to send and no window, or a transport that is full. */
  readonly #waiting = new Set<Http2ServerStream>();
  /** Streams that this read has brought something for. */
  readonly #readers = new Set<Http2ServerStream>();
  #prefaceRead = 0;
  #sawSettings = false;
  #lastStreamId = 0;
  #initialSendWindow = defaultWindow;
  #receiveWindow: number;
  #consumed = 0;
  /** Of the DATA frame that is being read. */
  #dataStream: Http2ServerStream | null = null;
  #dataEnds = false;
  readonly #blocks: HeaderBlocks;
  #isClosed = false;
  /** Within a read: what is written then waits for its end. */
  #output = "";
  #isReading = false;

  /** `opened`: the connection had begun as one of HTTP/1. */
  constructor(manager: ConnectionManager, connection: DownstreamConnection, opened?: OpenedConnection) {
    this.#manager = manager;
    this.#connection = connection;
    const { http2 } = manager;
    this.initialReceiveWindow = http2.streamWindow;
    this.#receiveWindow = http2.connectionWindow;
    this.#floods = new Http2Floods(http2.maxConcurrentStreams);
    this.#timer = new LazyTimer(() => this.#expired());
    this.#transport = opened?.transport ?? connection.openTransport(this);
    this.#transport.handler = this;
    this.#blocks = new HeaderBlocks(2 * manager.parserOptions.maxHeadBytes);
    const account = opened?.account ?? new ConnectionAccount(manager, connection, this.#transport);
    this.life = new ConnectionLife(manager, connection, account, this);
    const onTooOld = () => this.life.startDrain();
    if (opened) account.speaks("http2", onTooOld);
    else account.open("http2", onTooOld);
    connection.decideClose = () => this.life.decideClose();
    connection.shutdown = (isForced) => this.#shutdown(isForced);
  }

  start(): void {
    const { http2 } = this.#manager;
    this.write(
      settings([
        [setting.headerTableSize, 4096],
        [setting.enableConnectProtocol, 0],
        [setting.maxConcurrentStreams, http2.maxConcurrentStreams],
        [setting.initialWindowSize, http2.streamWindow],
      ]) + (http2.connectionWindow > defaultWindow ? windowUpdate(connectionWord, http2.connectionWindow - defaultWindow) : ""),
    );
    this.life.becameIdle();
    this.#transport.start();
  }

  // --- TransportHandler ---

  onData(chunk: Buffer): void {
    if (this.#isClosed) return;
    this.#connection.now = performance.now();
    this.#isReading = true;
    let bytes = chunk;
    if (this.#prefaceRead < preface.length) {
      const expected = preface.subarray(this.#prefaceRead, this.#prefaceRead + chunk.length);
      if (!chunk.subarray(0, expected.length).equals(expected)) this.#fail(errorCode.protocol, "http2.invalid_preface");
      this.#prefaceRead += expected.length;
      bytes = chunk.subarray(expected.length);
    }
    if (!this.#isClosed) this.#reader.execute(bytes);
    for (const waiting of this.#readers) waiting.stream?.onRequestReadComplete();
    this.#readers.clear();
    this.#isReading = false;
    this.#flushOutput();
  }

  onEnd(): void {
    this.#connection.now = performance.now();
    this.#abort("remote");
  }

  onClose(_error: NodeJS.ErrnoException | null): void {
    this.#connection.now = performance.now();
    this.#abort("remote");
  }

  onDrain(): void {
    this.#connection.now = performance.now();
    this.#pumpAll();
  }

  // --- FrameSink ---

  onDataFrame(streamId: number, length: number, endStream: boolean): boolean {
    this.#dataStream = null;
    if (!this.#mayCome(frameType.data)) return false;
    if (streamId === 0) return this.#refuse(errorCode.protocol, "DATA on stream 0");
    if (length === 0 && !endStream && this.#floods.emptyFrame()) return this.#refuse(errorCode.enhanceYourCalm, "empty frames");
    if (length > 0 || endStream) this.#floods.usefulFrame();
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0) return this.#refuse(errorCode.flowControl, "connection window exceeded");
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      if (streamId > this.#lastStreamId || streamId % 2 === 0) return this.#refuse(errorCode.protocol, "DATA on an idle stream");
      // Of a stream that has been closed or reset; on its way then.
      this.consumed(length);
      if (!this.#floods.wasResetByUs(streamId)) return this.#refuse(errorCode.streamClosed, "DATA on a closed stream");
      return false;
    }
    stream.wireBytes += length + frameHeadBytes;
    stream.receiveWindow -= length;
    if (stream.requestHasEnded) {
      stream.close(errorCode.streamClosed);
      this.consumed(length);
      return false;
    }
    if (stream.receiveWindow < 0) {
      stream.close(errorCode.flowControl);
      this.consumed(length);
      return false;
    }
    this.#dataStream = stream;
    this.#dataEnds = endStream;
    if (endStream) stream.requestHasEnded = true;
    stream.received(length);
    return true;
  }

  onDataPart(chunk: Buffer, isLast: boolean): void {
    const codec = this.#dataStream;
    if (codec === null || codec.isClosed) return;
    if (codec.bodyLeft >= 0) {
      codec.bodyLeft -= chunk.length;
      if (codec.bodyLeft < 0 || (isLast && this.#dataEnds && codec.bodyLeft > 0)) {
        this.#malformed(codec, "http2.violation.of.messaging.rule");
        return;
      }
    }
    const ends = isLast && this.#dataEnds;
    if (chunk.length === 0 && !ends) return;
    this.#readers.add(codec);
    if (chunk.length === 0) codec.stream?.onRequestEnd([]);
    else codec.stream?.onRequestData(chunk, ends);
  }

  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void {
    if (!this.#mayCome(type)) return;
    switch (type) {
      case frameType.headers:
        return void this.#onHeaderFrame(this.#blocks.begin(flags, streamId, payload), streamId);
      case frameType.continuation:
        return void this.#onHeaderFrame(this.#blocks.continue(flags, streamId, payload), streamId);
      case frameType.priority:
        return void this.#onPriority(streamId, payload);
      case frameType.resetStream:
        return void this.#onReset(streamId, payload);
      case frameType.settings:
        return void this.#onSettings(flags, streamId, payload);
      case frameType.ping:
        return void this.#onPing(flags, streamId, payload);
      case frameType.goAway:
        if (streamId !== 0) return void this.#fail(errorCode.protocol, "GOAWAY on a stream");
        if (payload.length < 8) return void this.#fail(errorCode.frameSize, "GOAWAY is too short");
        return;
      case frameType.windowUpdate:
        return void this.#onWindowUpdate(streamId, payload);
      case frameType.pushPromise:
        return void this.#fail(errorCode.protocol, "PUSH_PROMISE of a client");
      default:
      // Unknown frames are passed over.
    }
  }

  onFrameError(code: ErrorCode, reason: string): void {
    this.#fail(code, reason);
  }

  /** SETTINGS come first, and nothing between the parts of a header block. */
  #mayCome(type: number): boolean {
    if (this.#isClosed) return false;
    if (!this.#sawSettings && type !== frameType.settings) return this.#refuse(errorCode.protocol, "no SETTINGS at first");
    const { isComplete } = this.#blocks;
    if (isComplete === (type !== frameType.continuation)) return true;
    return this.#refuse(errorCode.protocol, isComplete ? "CONTINUATION of nothing" : "a header block is not complete");
  }

  #onHeaderFrame(block: Buffer | null, streamId: number): void {
    const { problem } = this.#blocks;
    if (problem !== null) this.#fail(problem.code, problem.reason);
    else if (block !== null) this.#onBlock(block, streamId, this.#blocks.endStream);
  }

  #onBlock(block: Buffer, streamId: number, endStream: boolean): void {
    const list: string[] = [];
    const outcome = this.#decoder.decode(block, list, this.#manager.parserOptions.maxHeadBytes);
    if (outcome === "compressionError") return void this.#fail(errorCode.compression, "header block can't be read");
    const known = this.#streams.get(streamId);
    if (known !== undefined) return void this.#onTrailers(known, list, endStream, outcome === "tooLarge");
    if (streamId <= this.#lastStreamId) {
      if (this.#floods.wasResetByUs(streamId)) return;
      return void this.#fail(errorCode.streamClosed, "HEADERS on a closed stream");
    }
    this.#lastStreamId = streamId;
    // A client that has not heard of the end yet, or wants too much at once, may ask again elsewhere or later.
    if (this.life.phase === "final" || this.#streams.size >= this.#manager.http2.maxConcurrentStreams)
      return void this.reset(streamId, errorCode.refusedStream);
    this.#floods.requestBegan();
    const codec = new Http2ServerStream(this, streamId, this.initialReceiveWindow, this.#initialSendWindow);
    codec.wireBytes = block.length + frameHeadBytes;
    codec.requestHasEnded = endStream;
    this.#streams.set(streamId, codec);
    const isTooLarge = outcome === "tooLarge" || list.length / 2 > this.#manager.parserOptions.maxHeaders;
    if (isTooLarge) {
      this.life.count("downstream_rq_too_large");
      codec.close(errorCode.internal);
      return;
    }
    const head = readRequestHead(list);
    if (head === null || (endStream && head.contentLength > 0)) return void this.#malformed(codec, "http2.invalid.header.field");
    codec.bodyLeft = head.contentLength;
    this.#begin(codec, head, block.length, endStream);
  }

  #begin(codec: Http2ServerStream, head: RequestHead, headBytes: number, endStream: boolean): void {
    const manager = this.#manager;
    this.life.requestBegan();
    const stream = new HttpStream(manager, this.#connection, codec);
    codec.stream = stream;
    this.#readers.add(codec);
    const { info } = stream;
    info.protocol = "HTTP/2";
    info.method = head.method;
    info.path = head.path;
    info.authority = head.authority;
    info.scheme = head.scheme || (this.#connection.isTls ? "https" : "http");
    info.requestHeaders = head.headers;
    info.requestHeaderBytes = headBytes;
    if (!isValidAuthority(head.authority)) {
      info.flags |= responseFlags.DownstreamProtocolError;
      this.#malformed(codec, "http.invalid_authority");
      return;
    }
    if (endStream) stream.requestCompleted();
    if (head.expect !== "" && !manager.proxies100Continue && head.expect.toLowerCase() === "100-continue") {
      this.write(this.encode(word(codec.id), 100, [], false));
    }
    if (!prepareRequest(stream, framingOf(head))) return;
    stream.startDeadlines();
    stream.onRequestHeaders(endStream);
  }

  #onTrailers(codec: Http2ServerStream, list: HeaderList, endStream: boolean, isTooLarge: boolean): void {
    if (codec.requestHasEnded) return void this.#fail(errorCode.streamClosed, "HEADERS after the end of a request");
    if (!endStream || codec.bodyLeft > 0 || isTooLarge || !areTrailers(list)) {
      return void this.#malformed(codec, "http2.violation.of.messaging.rule");
    }
    codec.requestHasEnded = true;
    this.#readers.add(codec);
    codec.stream?.onRequestEnd(list);
  }

  #onPriority(streamId: number, payload: Buffer): void {
    if (streamId === 0) return void this.#fail(errorCode.protocol, "PRIORITY on stream 0");
    if (this.#floods.priorityFrame()) return void this.#fail(errorCode.enhanceYourCalm, "too many PRIORITY frames");
    if (payload.length !== 5) return void this.#fail(errorCode.frameSize, "PRIORITY of another length than 5");
    if (dependsOn(payload, 0) === streamId) this.#fail(errorCode.protocol, "a stream that depends on itself");
  }

  #onReset(streamId: number, payload: Buffer): void {
    if (streamId === 0) return void this.#fail(errorCode.protocol, "RST_STREAM on stream 0");
    if (payload.length !== 4) return void this.#fail(errorCode.frameSize, "RST_STREAM of another length than 4");
    if (streamId > this.#lastStreamId || streamId % 2 === 0) return void this.#fail(errorCode.protocol, "RST_STREAM on an idle stream");
    const codec = this.#streams.get(streamId);
    if (codec === undefined) return;
    const { stream } = codec;
    this.life.count("downstream_rq_rx_reset");
    this.forget(codec);
    if (stream !== null) {
      stream.info.flags |= responseFlags.DownstreamRemoteReset;
      stream.onReset("http2.remote_reset");
    }
    if (!this.#floods.resetByClient(stream !== null)) return;
    this.life.count("downstream_rq_too_many_premature_resets");
    this.#fail(errorCode.enhanceYourCalm, "too many premature resets");
  }

  #onSettings(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) return void this.#fail(errorCode.protocol, "SETTINGS on a stream");
    if (flags & flag.ack) {
      if (payload.length > 0) this.#fail(errorCode.frameSize, "SETTINGS that are acknowledged and given");
      return;
    }
    if (payload.length % 6 !== 0) return void this.#fail(errorCode.frameSize, "SETTINGS are cut off");
    this.#sawSettings = true;
    for (let at = 0; at < payload.length; at += 6) {
      const value = payload.readUInt32BE(at + 2);
      switch (payload.readUInt16BE(at)) {
        case setting.headerTableSize:
          this.#encoder.setTableLimit(value);
          break;
        case setting.enablePush:
          if (value > 1) return void this.#fail(errorCode.protocol, "ENABLE_PUSH is neither 0 nor 1");
          break;
        case setting.initialWindowSize:
          if (value > largestWindow) return void this.#fail(errorCode.flowControl, "INITIAL_WINDOW_SIZE is too large");
          for (const codec of this.#streams.values()) {
            codec.sendWindow += value - this.#initialSendWindow;
            if (codec.sendWindow > largestWindow) return void this.#fail(errorCode.flowControl, "a window is too large");
          }
          this.#initialSendWindow = value;
          break;
        case setting.maxFrameSize:
          if (value < defaultMaxFrameBytes || value > 0xff_ffff)
            return void this.#fail(errorCode.protocol, "MAX_FRAME_SIZE is out of range");
          this.maxFrameBytes = Math.min(value, 65_536);
          break;
      }
    }
    this.#answer(settingsAck);
    this.#pumpAll();
  }

  #onPing(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) return void this.#fail(errorCode.protocol, "PING on a stream");
    if (payload.length !== 8) return void this.#fail(errorCode.frameSize, "PING of another length than 8");
    if ((flags & flag.ack) === 0) this.#answer(pingAck(payload));
  }

  #onWindowUpdate(streamId: number, payload: Buffer): void {
    if (payload.length !== 4) return void this.#fail(errorCode.frameSize, "WINDOW_UPDATE of another length than 4");
    const bytes = payload.readUInt32BE(0) & 0x7fff_ffff;
    if (streamId === 0) {
      if (bytes === 0) return void this.#fail(errorCode.protocol, "WINDOW_UPDATE by nothing");
      this.sendWindow += bytes;
      if (this.sendWindow > largestWindow) return void this.#fail(errorCode.flowControl, "the connection's window is too large");
      this.#pumpAll();
      return;
    }
    const codec = this.#streams.get(streamId);
    if (codec === undefined) {
      if (streamId > this.#lastStreamId || streamId % 2 === 0) this.#fail(errorCode.protocol, "WINDOW_UPDATE on an idle stream");
      return;
    }
    if (bytes === 0) return void codec.close(errorCode.protocol);
    codec.sendWindow += bytes;
    if (codec.sendWindow > largestWindow) return void codec.close(errorCode.flowControl);
    if (this.#waiting.delete(codec)) codec.onRoom();
  }

  // --- called by streams ---

  /** Frames of a header block. Its order among all that are written matters: it goes out before the next one is made. */
  encode(stream: string, status: number, headers: HeaderList, endStream: boolean): string {
    return headerFrames(stream, this.#encoder.encode(status, headers), endStream, this.maxFrameBytes);
  }

  /** Frames that are no data; within a read they wait for its end. */
  write(frames: string): void {
    if (!this.#isClosed) this.#output += frames;
    if (!this.#isReading) this.#flushOutput();
  }

  /** False: the transport is full. Hot. */
  writeData(head: string, chunk: Buffer, framer: Framer, endStream: boolean): boolean {
    if (this.#isClosed) return true;
    const before = this.#output + head;
    this.#output = "";
    if (chunk.length <= this.maxFrameBytes)
      return this.#transport.writeParts(before + framer.frameHead(chunk.length, endStream), chunk, "");
    return this.#transport.writeInFrames(before, chunk, this.maxFrameBytes, framer, endStream);
  }

  reset(streamId: number, code: ErrorCode): void {
    this.#floods.resetByUs(streamId);
    this.life.count("downstream_rq_tx_reset");
    this.write(resetStream(word(streamId), code));
  }

  updateWindow(stream: string, bytes: number): void {
    this.write(windowUpdate(stream, bytes));
  }

  /** Bytes have gone on: the client may send as many on other streams. */
  consumed(bytes: number): void {
    this.#consumed += bytes;
    if (this.#isClosed || this.#consumed < this.#manager.http2.connectionWindow / 2) return;
    this.#receiveWindow += this.#consumed;
    this.updateWindow(connectionWord, this.#consumed);
    this.#consumed = 0;
  }

  /** For a window, or for the transport. */
  waits(codec: Http2ServerStream): void {
    this.#waiting.add(codec);
  }

  forget(codec: Http2ServerStream): void {
    if (!this.#streams.delete(codec.id)) return;
    this.#waiting.delete(codec);
    codec.closed();
    if (!this.#isClosed && this.#streams.size === 0) this.life.becameIdle();
  }

  schedule(deadline: number): void {
    if (deadline < this.#timer.deadline) this.#timer.set(deadline);
  }

  #pumpAll(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const codec of waiting) codec.onRoom();
  }

  // --- what is wrong ---

  /** A request that no server may take: like Envoy, of the whole connection, unless that is told to bear it. */
  #malformed(codec: Http2ServerStream, details: string): void {
    const { stream } = codec;
    this.life.count("downstream_cx_protocol_error");
    if (this.#manager.http2.bearsInvalidMessages) codec.close(errorCode.protocol);
    if (stream !== null) {
      stream.info.flags |= responseFlags.DownstreamProtocolError;
      stream.onReset(details);
    }
    if (!this.#manager.http2.bearsInvalidMessages) this.#fail(errorCode.protocol, details);
  }

  #refuse(code: ErrorCode, reason: string): false {
    this.#fail(code, reason);
    return false;
  }

  #fail(code: ErrorCode, reason: string): void {
    if (this.#isClosed) return;
    this.life.count("downstream_cx_protocol_error");
    this.#connection.info.localCloseReason = reason;
    this.#reader.stop();
    this.write(goAway(this.#lastStreamId, code));
    this.#isReading = false;
    this.#flushOutput();
    this.#abort("local");
  }

  /** Answers that a client can ask for without end wait only as long as it takes them. */
  #answer(frame: string): void {
    if (this.#transport.waitingBytes > 0 && this.#floods.answerWaits()) this.#fail(errorCode.enhanceYourCalm, "answers are not read");
    else this.write(frame);
  }

  // --- the connection ---

  sayGoAway(isFinal: boolean): void {
    this.write(goAway(isFinal ? this.#lastStreamId : largestWindow, errorCode.none));
    this.#flushOutput();
  }

  get isIdle(): boolean {
    return this.#streams.size === 0;
  }

  end(): void {
    this.#flushOutput();
    this.#close("local", false);
  }

  #shutdown(isForced: boolean): void {
    if (isForced) {
      if (this.life.phase !== "final") this.sayGoAway(true);
      this.#abort("local");
    } else this.life.finishDrain();
  }

  #expired(): void {
    const now = performance.now();
    this.#connection.now = now;
    for (const codec of [...this.#streams.values()]) {
      if (codec.deadline > now + 0.5) continue;
      codec.deadline = never;
      // A client that does not take the rest of a response that is long over.
      if (codec.stream === null) codec.close(errorCode.cancel);
      else codec.stream.onDeadline();
    }
    this.life.expire(now + 0.5);
    let next = this.life.idleDeadline;
    for (const { deadline } of this.#streams.values()) next = Math.min(next, deadline);
    if (next < never && !this.#isClosed) this.#timer.set(Math.min(next, this.#timer.deadline));
    this.#flushOutput();
  }

  #abort(by: "local" | "remote"): void {
    if (this.#isClosed) return;
    const streams = [...this.#streams.values()];
    this.#close(
      by,
      streams.some(({ stream }) => stream !== null),
    );
    for (const codec of streams) {
      const { stream } = codec;
      codec.closed();
      stream?.onClientGone(by === "remote" ? "downstream_remote_disconnect" : "downstream_local_disconnect");
    }
    this.#streams.clear();
  }

  #close(by: "local" | "remote", cutsOff: boolean): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (by === "local") this.#transport.destroyWhenWritten();
    else this.#transport.destroy();
    this.#reader.stop();
    this.#timer.dispose();
    this.life.closed(by, cutsOff);
  }

  #flushOutput(): void {
    if (this.#output === "") return;
    const output = this.#output;
    this.#output = "";
    this.#transport.writeParts(output, null, "");
  }
}

/** HTTP/2 has no headers of the connection. */
function framingOf({ expect, authority }: RequestHead): RequestFraming {
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
