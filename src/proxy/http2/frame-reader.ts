/**
 * Bytes into frames. The body of a DATA frame is handed on as it comes, so that nothing of it is kept; other frames are small, and come whole.
 */
import { defaultMaxFrameBytes, type ErrorCode, errorCode, flag, frameHeadBytes, frameType } from "./frames.ts";

export interface FrameSink {
  /** A DATA frame begins; `length` counts for flow control. False: nobody wants its bytes. */
  onDataFrame(streamId: number, length: number, endStream: boolean): boolean;
  /** Part of the body of the frame that has begun; valid during the call. `isLast`: its end. */
  onDataPart(chunk: Buffer, isLast: boolean): void;
  /** `payload` is valid during the call. */
  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void;
  onFrameError(code: ErrorCode, reason: string): void;
}

const nothing = Buffer.alloc(0);

export class FrameReader {
  readonly #sink: FrameSink;
  readonly #head = Buffer.alloc(frameHeadBytes);
  #headLength = 0;
  #type = 0;
  #flags = 0;
  #streamId = 0;
  /** Of the payload; -1 before a frame. */
  #left = -1;
  /** What came of a payload that is cut. */
  #kept: Buffer | null = null;
  #keptLength = 0;
  /** Of DATA: -1 while its length is to be read. */
  #padding = 0;
  #isWanted = true;
  #isStopped = false;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Nothing is read any more. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Hot. */
  execute(chunk: Buffer): void {
    let at = 0;
    while (!this.#isStopped) {
      if (this.#left < 0) {
        if (this.#headLength === 0 && at + frameHeadBytes <= chunk.length) {
          this.#begin(chunk, at);
          at += frameHeadBytes;
        } else {
          const taken = Math.min(frameHeadBytes - this.#headLength, chunk.length - at);
          chunk.copy(this.#head, this.#headLength, at, at + taken);
          this.#headLength += taken;
          at += taken;
          if (this.#headLength < frameHeadBytes) return;
          this.#headLength = 0;
          this.#begin(this.#head, 0);
        }
        continue;
      }
      if (at >= chunk.length && this.#left > 0) return;
      at = this.#type === frameType.data ? this.#data(chunk, at) : this.#payload(chunk, at);
    }
  }

  #begin(bytes: Buffer, at: number): void {
    const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
    this.#type = bytes[at + 3]!;
    this.#flags = bytes[at + 4]!;
    this.#streamId = ((bytes[at + 5]! & 0x7f) << 24) | (bytes[at + 6]! << 16) | (bytes[at + 7]! << 8) | bytes[at + 8]!;
    if (length > defaultMaxFrameBytes) {
      this.#fail(errorCode.frameSize, "frame is too large");
      return;
    }
    this.#left = length;
    if (this.#type !== frameType.data) return;
    this.#padding = this.#flags & flag.padded ? -1 : 0;
    if (this.#padding < 0 && length === 0) {
      this.#fail(errorCode.frameSize, "padding of an empty frame");
      return;
    }
    this.#isWanted = this.#sink.onDataFrame(this.#streamId, length, (this.#flags & flag.endStream) !== 0);
  }

  #data(chunk: Buffer, from: number): number {
    let at = from;
    if (this.#padding < 0) {
      this.#padding = chunk[at++]!;
      this.#left--;
      if (this.#padding > this.#left) {
        this.#fail(errorCode.protocol, "more padding than payload");
        return at;
      }
    }
    const body = this.#left - this.#padding;
    const taken = Math.min(body, chunk.length - at);
    this.#left -= taken;
    // Even an empty frame may be the end of something.
    if ((taken > 0 || body === 0) && this.#isWanted && (body > 0 || this.#padding >= 0)) {
      const isLast = taken === body;
      const part = taken === 0 ? nothing : chunk.subarray(at, at + taken);
      if (isLast) this.#isWanted = false;
      this.#sink.onDataPart(part, isLast);
    }
    at += taken;
    if (this.#left === this.#padding) {
      const skipped = Math.min(this.#padding, chunk.length - at);
      this.#padding -= skipped;
      this.#left -= skipped;
      at += skipped;
      if (this.#left === 0) this.#left = -1;
    }
    return at;
  }

  #payload(chunk: Buffer, at: number): number {
    const left = this.#left;
    if (this.#kept === null && at + left <= chunk.length) {
      this.#left = -1;
      this.#sink.onFrame(this.#type, this.#flags, this.#streamId, chunk.subarray(at, at + left));
      return at + left;
    }
    this.#kept ??= Buffer.allocUnsafe(left);
    const taken = Math.min(left, chunk.length - at);
    chunk.copy(this.#kept, this.#keptLength, at, at + taken);
    this.#keptLength += taken;
    this.#left -= taken;
    if (this.#left === 0) {
      const payload = this.#kept;
      this.#kept = null;
      this.#keptLength = 0;
      this.#left = -1;
      this.#sink.onFrame(this.#type, this.#flags, this.#streamId, payload);
    }
    return at + taken;
  }

  #fail(code: ErrorCode, reason: string): void {
    this.#isStopped = true;
    this.#sink.onFrameError(code, reason);
  }
}
