/**
 * One HTTP/2 connection, of either side: frames, windows, and what the two owe each other beside requests.
 *
 *      (preface) SETTINGS ──> open ──GOAWAY or an error──> closed
 *
 * What a peer may do to excess is counted: header blocks, empty frames, frames that want an answer. One that does gets GOAWAY and is cut off.
 * Source: RFC 9113; limits of Envoy's Http2ProtocolOptions.
 */
import type { Framer, Transport, TransportHandler } from "../transport.ts";
import type { Http2CodecStats } from "./codec-stats.ts";
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
  ping,
  pingAck,
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
import { Keepalive } from "./keepalive.ts";
import type { Http2Options } from "./options.ts";
import type { Http2Stream } from "./stream.ts";

const connectionWord = word(0);
/** Tells answers to our own questions from others. */
const keepalivePayload = "topsail?";

export type SessionEvent = "paused" | "resumed" | "protocolError";

export abstract class Http2Session<Stream extends Http2Stream = Http2Stream> implements TransportHandler, FrameSink {
  readonly initialReceiveWindow: number;
  readonly encoder = new HpackEncoder();
  /** Of the whole connection. */
  sendWindow = defaultWindow;
  maxFrameBytes = defaultMaxFrameBytes;
  protected readonly codecStats: Http2CodecStats;
  protected readonly transport: Transport;
  protected readonly decoder = new HpackDecoder();
  protected readonly floods: Http2Floods;
  protected readonly streams = new Map<number, Stream>();
  /** Streams that this read has brought something for. */
  protected readonly readers = new Set<Stream>();
  /** The newest that a client has opened. */
  protected lastStreamId = 0;
  protected initialSendWindow = defaultWindow;
  protected isClosed = false;
  readonly #options: Http2Options;
  readonly #reader = new FrameReader(this);
  readonly #blocks: HeaderBlocks;
  /** With something to send and no window, or a transport that is full. */
  readonly #waiting = new Set<Stream>();
  #sawSettings = false;
  #keepalive: Keepalive | null = null;
  #receiveWindow: number;
  #consumed = 0;
  /** Of the DATA frame that is being read. */
  #dataStream: Stream | null = null;
  #dataEnds = false;
  /** Within a read: what is written then waits for its end. */
  #output = "";
  #isReading = false;

  /** `maxHeadBytes`: of a header list. The transport's handler becomes this. */
  constructor(
    options: Http2Options,
    codecStats: Http2CodecStats,
    maxHeadBytes: number,
    openTransport: (handler: TransportHandler) => Transport,
  ) {
    this.#options = options;
    this.codecStats = codecStats;
    this.initialReceiveWindow = options.streamWindow;
    this.#receiveWindow = options.connectionWindow;
    this.floods = new Http2Floods(options.maxConcurrentStreams);
    this.#blocks = new HeaderBlocks(2 * maxHeadBytes);
    this.transport = openTransport(this);
    this.transport.handler = this;
  }

  // --- what the two sides do differently ---

  abstract count(event: SessionEvent): void;
  /** A complete header block, in the order in which it has to be decoded. */
  protected abstract onBlock(block: Buffer, streamId: number, endStream: boolean): void;
  protected abstract onStreamReset(stream: Stream, code: number): void;
  protected abstract onGoAway(lastStreamId: number, code: number): void;
  protected abstract onSetting(id: number, value: number): void;
  /** All settings of a frame have been heard. */
  protected abstract onSettingsEnd(): void;
  /** A message that no peer may send. */
  protected abstract malformed(stream: Stream, details: string): void;
  /** The connection is at its end, with a GOAWAY that says why behind it if that is our doing. */
  protected abstract abort(by: "local" | "remote", reason: string, isProtocolError: boolean): void;
  /** No stream is left. */
  protected abstract noStreams(): void;
  /** What now is, for whoever wants to know. */
  protected abstract tick(): void;

  /** How the connection begins, behind a client's preface. */
  protected greet(before: string, own: readonly (readonly [id: number, value: number])[]): void {
    const { streamWindow, connectionWindow, keepalive } = this.#options;
    const wider = connectionWindow > defaultWindow ? windowUpdate(connectionWord, connectionWindow - defaultWindow) : "";
    this.write(before + settings([...own, [setting.initialWindowSize, streamWindow]]) + wider);
    if (keepalive === null) return;
    this.#keepalive = new Keepalive(
      keepalive,
      () => this.write(ping(keepalivePayload)),
      () => {
        this.codecStats.count("keepalive_timeout");
        this.abort("local", "http2_ping_timeout", false);
      },
    );
  }

  // --- TransportHandler ---

  onData(chunk: Buffer): void {
    if (this.isClosed) return;
    this.tick();
    this.#isReading = true;
    const bytes = this.skipPreface(chunk);
    if (!this.isClosed) this.#reader.execute(bytes);
    for (const stream of this.readers) stream.onReadComplete();
    this.readers.clear();
    this.#isReading = false;
    this.flushOutput();
  }

  /** What is behind it. */
  protected skipPreface(chunk: Buffer): Buffer {
    return chunk;
  }

  onEnd(): void {
    this.tick();
    this.abort("remote", "", false);
  }

  onClose(_error: NodeJS.ErrnoException | null): void {
    this.tick();
    this.abort("remote", "", false);
  }

  onDrain(): void {
    this.tick();
    this.#pumpAll();
  }

  // --- FrameSink ---

  onDataFrame(streamId: number, length: number, endStream: boolean): boolean {
    this.#dataStream = null;
    if (!this.#mayCome(frameType.data)) return false;
    if (streamId === 0) return this.#refuse(errorCode.protocol, "DATA on stream 0");
    if (length === 0 && !endStream && this.floods.emptyFrame()) {
      this.codecStats.count("inbound_empty_frames_flood");
      return this.#refuse(errorCode.enhanceYourCalm, "empty frames");
    }
    if (length > 0 || endStream) this.floods.usefulFrame();
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0) return this.#refuse(errorCode.flowControl, "connection window exceeded");
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      if (this.isIdleStream(streamId)) return this.#refuse(errorCode.protocol, "DATA on an idle stream");
      // Of a stream that has been closed or reset; on its way then.
      this.consumed(length);
      if (!this.floods.wasResetByUs(streamId)) return this.#refuse(errorCode.streamClosed, "DATA on a closed stream");
      return false;
    }
    stream.wireBytes += length + frameHeadBytes;
    stream.receiveWindow -= length;
    if (stream.peerHasEnded) {
      stream.violated(errorCode.streamClosed);
      this.consumed(length);
      return false;
    }
    if (stream.receiveWindow < 0) {
      stream.violated(errorCode.flowControl);
      this.consumed(length);
      return false;
    }
    this.#dataStream = stream;
    this.#dataEnds = endStream;
    if (endStream) stream.peerHasEnded = true;
    stream.received(length);
    return true;
  }

  onDataPart(chunk: Buffer, isLast: boolean): void {
    const stream = this.#dataStream;
    if (stream === null || stream.isClosed) return;
    const ends = isLast && this.#dataEnds;
    if (stream.bodyLeft >= 0) {
      stream.bodyLeft -= chunk.length;
      if (stream.bodyLeft < 0 || (ends && stream.bodyLeft > 0)) {
        this.codecStats.count("rx_messaging_error");
        this.malformed(stream, "http2.violation.of.messaging.rule");
        return;
      }
    }
    if (chunk.length === 0 && !ends) return;
    this.readers.add(stream);
    if (chunk.length === 0) stream.onBodyEnd();
    else stream.onBody(chunk, ends);
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
        if (streamId !== 0) return void this.fail(errorCode.protocol, "GOAWAY on a stream");
        if (payload.length < 8) return void this.fail(errorCode.frameSize, "GOAWAY is too short");
        return void this.onGoAway(payload.readUInt32BE(0) & 0x7fff_ffff, payload.readUInt32BE(4));
      case frameType.windowUpdate:
        return void this.#onWindowUpdate(streamId, payload);
      case frameType.pushPromise:
        return void this.fail(errorCode.protocol, "PUSH_PROMISE that nobody wants");
      default:
      // Unknown frames are passed over.
    }
  }

  onFrameError(code: ErrorCode, reason: string): void {
    this.fail(code, reason);
  }

  /** SETTINGS come first, and nothing between the parts of a header block. */
  #mayCome(type: number): boolean {
    if (this.isClosed) return false;
    if (!this.#sawSettings && type !== frameType.settings) return this.#refuse(errorCode.protocol, "no SETTINGS at first");
    const { isComplete } = this.#blocks;
    if (isComplete === (type !== frameType.continuation)) return true;
    return this.#refuse(errorCode.protocol, isComplete ? "CONTINUATION of nothing" : "a header block is not complete");
  }

  /** No client has opened it yet. */
  protected isIdleStream(streamId: number): boolean {
    return streamId > this.lastStreamId || streamId % 2 === 0;
  }

  #onHeaderFrame(block: Buffer | null, streamId: number): void {
    const { problem } = this.#blocks;
    if (problem !== null) this.fail(problem.code, problem.reason);
    else if (block !== null) this.onBlock(block, streamId, this.#blocks.endStream);
  }

  #onPriority(streamId: number, payload: Buffer): void {
    if (streamId === 0) return void this.fail(errorCode.protocol, "PRIORITY on stream 0");
    if (this.floods.priorityFrame()) {
      this.codecStats.count("inbound_priority_frames_flood");
      return void this.fail(errorCode.enhanceYourCalm, "too many PRIORITY frames");
    }
    if (payload.length !== 5) return void this.fail(errorCode.frameSize, "PRIORITY of another length than 5");
    if (dependsOn(payload, 0) === streamId) this.fail(errorCode.protocol, "a stream that depends on itself");
  }

  #onReset(streamId: number, payload: Buffer): void {
    if (streamId === 0) return void this.fail(errorCode.protocol, "RST_STREAM on stream 0");
    if (payload.length !== 4) return void this.fail(errorCode.frameSize, "RST_STREAM of another length than 4");
    if (this.isIdleStream(streamId)) return void this.fail(errorCode.protocol, "RST_STREAM on an idle stream");
    const stream = this.streams.get(streamId);
    if (stream === undefined) return;
    this.codecStats.count("rx_reset");
    this.onStreamReset(stream, payload.readUInt32BE(0));
  }

  #onSettings(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) return void this.fail(errorCode.protocol, "SETTINGS on a stream");
    if (flags & flag.ack) {
      if (payload.length > 0) this.fail(errorCode.frameSize, "SETTINGS that are acknowledged and given");
      return;
    }
    if (payload.length % 6 !== 0) return void this.fail(errorCode.frameSize, "SETTINGS are cut off");
    this.#sawSettings = true;
    for (let at = 0; at < payload.length && !this.isClosed; at += 6) this.#take(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    if (this.isClosed) return;
    this.#answer(settingsAck);
    this.onSettingsEnd();
    this.#pumpAll();
  }

  #take(id: number, value: number): void {
    switch (id) {
      case setting.headerTableSize:
        this.encoder.setTableLimit(value);
        break;
      case setting.enablePush:
        if (value > 1) this.fail(errorCode.protocol, "ENABLE_PUSH is neither 0 nor 1");
        break;
      case setting.initialWindowSize:
        if (value > largestWindow) return void this.fail(errorCode.flowControl, "INITIAL_WINDOW_SIZE is too large");
        for (const stream of this.streams.values()) {
          stream.sendWindow += value - this.initialSendWindow;
          if (stream.sendWindow > largestWindow) return void this.fail(errorCode.flowControl, "a window is too large");
        }
        this.initialSendWindow = value;
        break;
      case setting.maxFrameSize:
        if (value < defaultMaxFrameBytes || value > 0xff_ffff) return void this.fail(errorCode.protocol, "MAX_FRAME_SIZE is out of range");
        this.maxFrameBytes = Math.min(value, 65_536);
        break;
      default:
        this.onSetting(id, value);
    }
  }

  #onPing(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) return void this.fail(errorCode.protocol, "PING on a stream");
    if (payload.length !== 8) return void this.fail(errorCode.frameSize, "PING of another length than 8");
    if ((flags & flag.ack) === 0) this.#answer(pingAck(payload));
    else if (payload.latin1Slice() === keepalivePayload) this.#keepalive?.answered();
  }

  #onWindowUpdate(streamId: number, payload: Buffer): void {
    if (payload.length !== 4) return void this.fail(errorCode.frameSize, "WINDOW_UPDATE of another length than 4");
    const bytes = payload.readUInt32BE(0) & 0x7fff_ffff;
    if (streamId === 0) {
      if (bytes === 0) return void this.fail(errorCode.protocol, "WINDOW_UPDATE by nothing");
      this.sendWindow += bytes;
      if (this.sendWindow > largestWindow) return void this.fail(errorCode.flowControl, "the connection's window is too large");
      this.#pumpAll();
      return;
    }
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      if (this.isIdleStream(streamId)) this.fail(errorCode.protocol, "WINDOW_UPDATE on an idle stream");
      return;
    }
    if (bytes === 0) return void stream.violated(errorCode.protocol);
    stream.sendWindow += bytes;
    if (stream.sendWindow > largestWindow) return void stream.violated(errorCode.flowControl);
    if (this.#waiting.delete(stream)) stream.onRoom();
  }

  // --- called by streams ---

  /** A block's order among all that are written matters: it goes out before the next one is made. */
  headerFrames(stream: string, block: string, endStream: boolean): string {
    return headerFrames(stream, block, endStream, this.maxFrameBytes);
  }

  /** Frames that are no data; within a read they wait for its end. */
  write(frames: string): void {
    if (!this.isClosed) this.#output += frames;
    if (!this.#isReading) this.flushOutput();
  }

  /** False: the transport is full. Hot. */
  writeData(head: string, chunk: Buffer, framer: Framer, endStream: boolean): boolean {
    if (this.isClosed) return true;
    const before = this.#output + head;
    this.#output = "";
    if (chunk.length <= this.maxFrameBytes) return this.transport.writeParts(before + framer.frameHead(chunk.length, endStream), chunk, "");
    return this.transport.writeInFrames(before, chunk, this.maxFrameBytes, framer, endStream);
  }

  reset(streamId: number, code: ErrorCode): void {
    this.floods.resetByUs(streamId);
    this.codecStats.count("tx_reset");
    this.write(resetStream(word(streamId), code));
  }

  updateWindow(stream: string, bytes: number): void {
    this.write(windowUpdate(stream, bytes));
  }

  /** Bytes have gone on: the peer may send as many on other streams. */
  consumed(bytes: number): void {
    this.#consumed += bytes;
    if (this.isClosed || this.#consumed < this.#options.connectionWindow / 2) return;
    this.#receiveWindow += this.#consumed;
    this.updateWindow(connectionWord, this.#consumed);
    this.#consumed = 0;
  }

  /** For a window, or for the transport. */
  waits(stream: Http2Stream): void {
    this.#waiting.add(stream as Stream);
  }

  protected opened(stream: Stream): void {
    this.streams.set(stream.id, stream);
    this.codecStats.streams(1);
  }

  forget(stream: Http2Stream): void {
    if (!this.streams.delete(stream.id)) return;
    this.codecStats.streams(-1);
    this.#waiting.delete(stream as Stream);
    stream.closed();
    if (!this.isClosed && this.streams.size === 0) this.noStreams();
  }

  #pumpAll(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const stream of waiting) stream.onRoom();
  }

  // --- what is wrong ---

  #refuse(code: ErrorCode, reason: string): false {
    this.fail(code, reason);
    return false;
  }

  protected fail(code: ErrorCode, reason: string): void {
    if (this.isClosed) return;
    this.count("protocolError");
    this.#reader.stop();
    this.codecStats.count("goaway_sent");
    this.write(goAway(this.lastOfPeer, code));
    this.#isReading = false;
    this.flushOutput();
    this.abort("local", reason, true);
  }

  /** The newest stream that the peer has opened, for GOAWAY. */
  protected get lastOfPeer(): number {
    return this.lastStreamId;
  }

  /** Answers that a peer can ask for without end wait only as long as it takes them. */
  #answer(frame: string): void {
    if (this.transport.waitingBytes > 0 && this.floods.answerWaits()) {
      this.codecStats.count("outbound_control_flood");
      this.fail(errorCode.enhanceYourCalm, "answers are not read");
    } else this.write(frame);
  }

  // --- the end ---

  /** Nothing is read or written any more. */
  protected shut(by: "local" | "remote"): void {
    this.isClosed = true;
    if (by === "local") this.transport.destroyWhenWritten();
    else this.transport.destroy();
    this.#reader.stop();
    this.#keepalive?.dispose();
  }

  protected flushOutput(): void {
    if (this.#output === "") return;
    const output = this.#output;
    this.#output = "";
    this.transport.writeParts(output, null, "");
  }
}
