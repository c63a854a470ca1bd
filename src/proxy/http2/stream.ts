/**
 * One stream of an HTTP/2 connection, of either side: what the peer may still send, and what waits for the peer's window.
 *
 *      open ──one side ends──> half closed ──the other side ends, or a reset──> closed
 *
 * The head waits for company: it is encoded when it is written, since the order of header blocks matters.
 */
import type { HeaderList } from "../stream-info.ts";
import { type Framer, keepChunk } from "../transport.ts";
import { type ErrorCode, flag, frameHead, frameHeadBytes, frameType, word } from "./frames.ts";
import type { Http2Session } from "./session.ts";

/** As much as a read brings. */
const largestWrite = 64 * 1024;
const emptyChunk = Buffer.alloc(0);
const noTrailers: HeaderList = [];

export abstract class Http2Stream implements Framer {
  readonly id: number;
  readonly #session: Http2Session;
  protected readonly word: string;
  /** The peer has sent all that it will. */
  peerHasEnded = false;
  /** What of the peer's content-length has not come; negative: nobody has said. */
  bodyLeft = -1;
  /** Received, with frames' heads. */
  wireBytes = 0;
  /** How much the peer may still send. */
  receiveWindow: number;
  /** Came while the receiver had to wait; the peer gets it back when that goes on. */
  #unconsumed = 0;
  #consumed = 0;
  #isPaused = false;
  /** How much the peer still takes; a change of its settings can make it negative. */
  sendWindow: number;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  /** Behind the queue; empty: none, but the stream ends. */
  #ending: HeaderList | null = null;
  #wantsDrain = false;
  isClosed = false;

  constructor(session: Http2Session, id: number, receiveWindow: number, sendWindow: number) {
    this.#session = session;
    this.id = id;
    this.word = word(id);
    this.receiveWindow = receiveWindow;
    this.sendWindow = sendWindow;
  }

  // --- what the two sides do differently ---

  /** Part of the body. */
  abstract onBody(chunk: Buffer, endStream: boolean): void;
  /** The end, without anything behind the body. */
  abstract onBodyEnd(): void;
  /** All that one read brought has been handed over. */
  abstract onReadComplete(): void;
  /** Frames of the head if that still waits, else "". */
  protected abstract takeHead(endStream: boolean): string;
  /** `bytes` of frames go out. */
  protected abstract count(bytes: number): void;
  /** The last frame of our side went out. */
  protected abstract allSent(): void;
  /** There is room again for who was told to wait. */
  protected abstract drained(): void;
  /** The peer broke a rule of this stream's, which ends it. */
  abstract violated(code: ErrorCode): void;

  // --- receiving ---

  protected pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#session.count("paused");
  }

  protected resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#session.count("resumed");
    const bytes = this.#unconsumed;
    this.#unconsumed = 0;
    this.#consume(bytes);
  }

  /** The peer has sent `bytes` of flow-controlled payload. */
  received(bytes: number): void {
    if (this.#isPaused) this.#unconsumed += bytes;
    else this.#consume(bytes);
  }

  #consume(bytes: number): void {
    if (bytes === 0) return;
    this.#session.consumed(bytes);
    if (this.peerHasEnded || this.isClosed) return;
    this.#consumed += bytes;
    if (this.#consumed < this.#session.initialReceiveWindow / 2) return;
    this.receiveWindow += this.#consumed;
    this.#session.updateWindow(this.word, this.#consumed);
    this.#consumed = 0;
  }

  // --- sending ---

  get hasQueued(): boolean {
    return this.#queuedBytes > 0 || this.#ending !== null;
  }

  /** Sends what waits, and nothing behind it. */
  protected sendHeadAlone(): void {
    this.#write(this.takeHead(true));
    this.allSent();
  }

  /** False: wait for `drained`. Hot. */
  protected send(chunk: Buffer, endStream: boolean): boolean {
    if (chunk.length === 0 && !endStream) return !this.hasQueued;
    if (!this.hasQueued && chunk.length <= Math.min(this.#room, largestWrite)) {
      const isWelcome = this.#writeData(chunk, endStream);
      if (endStream) this.allSent();
      else if (!isWelcome) {
        this.#wantsDrain = true;
        this.#session.waits(this);
      }
      return isWelcome;
    }
    this.#queue.push(keepChunk(chunk));
    this.#queuedBytes += chunk.length;
    if (endStream) this.#ending = noTrailers;
    const isSent = this.#pump();
    if (!isSent && !endStream) this.#wantsDrain = true;
    return isSent;
  }

  /** The end, behind all that was sent. */
  protected sendEnd(trailers: HeaderList): void {
    this.#ending = trailers.length === 0 ? noTrailers : trailers;
    this.#pump();
  }

  flush(): void {
    this.#write(this.takeHead(false));
  }

  /** There is room again, in the window or in the transport. */
  onRoom(): void {
    if (this.isClosed || !this.#pump() || !this.#wantsDrain) return;
    this.#wantsDrain = false;
    this.drained();
  }

  /** Writes what windows allow of the queue; whether nothing is left of it. */
  #pump(): boolean {
    while (this.#queuedBytes > 0 && !this.isClosed) {
      const chunk = this.#queue[0]!;
      const size = Math.min(chunk.length, this.#room, largestWrite);
      if (size <= 0) {
        this.flush();
        this.#session.waits(this);
        return false;
      }
      const isAll = size === chunk.length;
      if (isAll) this.#queue.shift();
      else this.#queue[0] = chunk.subarray(size);
      this.#queuedBytes -= size;
      const isLast = this.#queuedBytes === 0 && this.#ending === noTrailers;
      const isWelcome = this.#writeData(isAll ? chunk : chunk.subarray(0, size), isLast);
      if (isLast) {
        this.#ending = null;
        this.allSent();
        return true;
      }
      if (!isWelcome && this.#queuedBytes > 0) {
        this.#session.waits(this);
        return false;
      }
    }
    const trailers = this.#ending;
    if (trailers !== null && !this.isClosed) {
      this.#ending = null;
      if (trailers.length === 0) this.#writeData(emptyChunk, true);
      else this.#write(this.takeHead(false) + this.#session.headerFrames(this.word, this.#session.encoder.trailers(trailers), true));
      this.allSent();
    }
    return true;
  }

  get #room(): number {
    return Math.min(this.sendWindow, this.#session.sendWindow);
  }

  #writeData(chunk: Buffer, endStream: boolean): boolean {
    this.sendWindow -= chunk.length;
    this.#session.sendWindow -= chunk.length;
    const head = this.takeHead(false);
    const frames = Math.max(1, Math.ceil(chunk.length / this.#session.maxFrameBytes));
    this.count(head.length + chunk.length + frames * frameHeadBytes);
    return this.#session.writeData(head, chunk, this, endStream);
  }

  #write(frames: string): void {
    if (frames === "") return;
    this.count(frames.length);
    this.#session.write(frames);
  }

  // --- Framer ---

  frameHead(length: number, endStream: boolean): string {
    return frameHead(length, frameType.data, endStream ? flag.endStream : 0, this.word);
  }

  // --- the end ---

  /** Tells the peer that there is nothing more to come, in either direction. */
  close(code: ErrorCode): void {
    if (this.isClosed) return;
    this.flush();
    this.#session.reset(this.id, code);
    this.#session.forget(this);
  }

  /** Nothing is written any more. */
  closed(): void {
    this.isClosed = true;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#ending = null;
    const bytes = this.#unconsumed;
    this.#unconsumed = 0;
    this.#session.consumed(bytes);
  }
}
