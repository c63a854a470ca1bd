/**
 * One stream of a client's connection: what its request may still send, and what of its response waits for the client's window. It may outlive
 * its HttpStream, whose response is complete for everybody but the client.
 *
 *      open ──request ends──> half closed ──response's last byte is written──> closed
 */
import type { HttpStream, ServerCodec } from "../http/http-stream.ts";
import type { HeaderList } from "../stream-info.ts";
import { type Framer, keepChunk } from "../transport.ts";
import { type ErrorCode, errorCode, flag, frameHead, frameHeadBytes, frameType, word } from "./frames.ts";
import type { Http2Server } from "./http2-server.ts";

const never = Number.POSITIVE_INFINITY;
/** As much as a read brings. */
const largestWrite = 64 * 1024;

export class Http2ServerStream implements ServerCodec, Framer {
  readonly id: number;
  readonly #server: Http2Server;
  readonly #word: string;
  /** null when its response is complete, or nobody wants it any more. */
  stream: HttpStream | null = null;
  /** performance.now() milliseconds. */
  deadline = never;
  requestHasEnded = false;
  /** What of the request's content-length has not come; negative: nobody has said. */
  bodyLeft = -1;
  /** Of the request, with frames' heads. */
  wireBytes = 0;
  /** How much the client may still send. */
  receiveWindow: number;
  /** Came while the request had to wait; the client gets it back when it goes on. */
  #unconsumed = 0;
  #consumed = 0;
  #isPaused = false;
  /** How much the client still takes; a change of its settings can make it negative. */
  sendWindow: number;
  /** Response head that waits for company: encoded when it is written, since the order of header blocks matters. */
  #head: { readonly status: number; readonly headers: HeaderList } | null = null;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  /** Behind the queue; empty: none, but the stream ends. */
  #ending: HeaderList | null = null;
  #isBodiless = false;
  #wantsDrain = false;
  isClosed = false;

  constructor(server: Http2Server, id: number, receiveWindow: number, sendWindow: number) {
    this.#server = server;
    this.id = id;
    this.#word = word(id);
    this.receiveWindow = receiveWindow;
    this.sendWindow = sendWindow;
  }

  get hasQueued(): boolean {
    return this.#queuedBytes > 0 || this.#ending !== null;
  }

  // --- ServerCodec ---

  sendHeaders(stream: HttpStream, status: number, headers: HeaderList, endStream: boolean): void {
    stream.info.downstreamFirstResponseByteTime = stream.connection.now;
    this.#isBodiless = stream.info.method === "HEAD" || status === 204 || status === 304;
    this.#head = { status, headers };
    if (!endStream) return;
    this.#write(this.#takeHead(true));
    this.#responseSent();
  }

  sendData(_: HttpStream, chunk: Buffer, endStream: boolean): boolean {
    const body = this.#isBodiless ? emptyChunk : chunk;
    if (body.length === 0 && !endStream) return !this.hasQueued;
    if (!this.hasQueued && body.length <= Math.min(this.#room, largestWrite)) {
      const isWelcome = this.#writeData(body, endStream);
      if (endStream) this.#responseSent();
      else if (!isWelcome) this.#waitForTransport();
      return isWelcome;
    }
    this.#queue.push(keepChunk(body));
    this.#queuedBytes += body.length;
    if (endStream) this.#ending = noTrailers;
    const isSent = this.pump();
    if (!isSent && !endStream) this.#wantsDrain = true;
    return isSent;
  }

  #waitForTransport(): void {
    this.#wantsDrain = true;
    this.#server.waits(this);
  }

  sendTrailers(_: HttpStream, trailers: HeaderList): void {
    this.#ending = trailers.length === 0 ? noTrailers : trailers;
    this.pump();
  }

  flush(): void {
    if (this.#head !== null) this.#write(this.#takeHead(false));
  }

  receivedBytes(_: HttpStream): number {
    return this.wireBytes;
  }

  reset(_: HttpStream): void {
    this.close(errorCode.internal);
  }

  pauseRequest(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#server.life.count("downstream_flow_control_paused_reading_total");
  }

  resumeRequest(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#server.life.count("downstream_flow_control_resumed_reading_total");
    const bytes = this.#unconsumed;
    this.#unconsumed = 0;
    this.#consume(bytes);
  }

  setDeadline(deadline: number): void {
    this.deadline = deadline;
    this.#server.schedule(deadline);
  }

  upgrade(): void {
    // No upgrade is agreed to on HTTP/2: prepareRequest refuses them.
  }

  streamEnded(stream: HttpStream): void {
    if (this.stream !== stream) return;
    this.stream = null;
    this.deadline = never;
    if (this.isClosed) return;
    // Nobody is left to send the rest.
    if (!stream.responseIsComplete) this.close(errorCode.internal);
    else if (this.hasQueued && stream.idleTimeoutMs > 0) this.setDeadline(stream.connection.now + stream.idleTimeoutMs);
  }

  // --- the connection ---

  /** The client has sent `bytes` of flow-controlled payload. */
  received(bytes: number): void {
    if (this.#isPaused) this.#unconsumed += bytes;
    else this.#consume(bytes);
  }

  #consume(bytes: number): void {
    if (bytes === 0) return;
    this.#server.consumed(bytes);
    if (this.requestHasEnded || this.isClosed) return;
    this.#consumed += bytes;
    if (this.#consumed < this.#server.initialReceiveWindow / 2) return;
    this.receiveWindow += this.#consumed;
    this.#server.updateWindow(this.#word, this.#consumed);
    this.#consumed = 0;
  }

  /** Writes what windows allow of the queue; whether nothing is left of it. */
  pump(): boolean {
    while (this.#queuedBytes > 0 && !this.isClosed) {
      const chunk = this.#queue[0]!;
      const size = Math.min(chunk.length, this.#room, largestWrite);
      if (size <= 0) {
        this.flush();
        this.#server.waits(this);
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
        this.#responseSent();
        return true;
      }
      if (!isWelcome && this.#queuedBytes > 0) {
        this.#server.waits(this);
        return false;
      }
    }
    const trailers = this.#ending;
    if (trailers !== null && !this.isClosed) {
      this.#ending = null;
      if (trailers.length === 0) this.#writeData(emptyChunk, true);
      else this.#write(this.#takeHead(false) + this.#server.encode(this.#word, 0, trailers, true));
      this.#responseSent();
    }
    return true;
  }

  /** There is room again, in the window or in the transport. */
  onRoom(): void {
    if (this.isClosed || !this.pump() || !this.#wantsDrain) return;
    this.#wantsDrain = false;
    this.stream?.onDownstreamDrain();
  }

  get #room(): number {
    return Math.min(this.sendWindow, this.#server.sendWindow);
  }

  #writeData(chunk: Buffer, endStream: boolean): boolean {
    this.sendWindow -= chunk.length;
    this.#server.sendWindow -= chunk.length;
    const head = this.#takeHead(false);
    const frames = Math.max(1, Math.ceil(chunk.length / this.#server.maxFrameBytes));
    if (this.stream !== null) this.stream.info.downstreamWireBytesSent += head.length + chunk.length + frames * frameHeadBytes;
    return this.#server.writeData(head, chunk, this, endStream);
  }

  // --- Framer ---

  frameHead(length: number, endStream: boolean): string {
    return frameHead(length, frameType.data, endStream ? flag.endStream : 0, this.#word);
  }

  #takeHead(endStream: boolean): string {
    const head = this.#head;
    if (head === null) return "";
    this.#head = null;
    const frames = this.#server.encode(this.#word, head.status, head.headers, endStream);
    if (this.stream !== null) this.stream.info.responseHeaderBytes = frames.length - frameHeadBytes;
    return frames;
  }

  #write(head: string): void {
    if (this.stream !== null) this.stream.info.downstreamWireBytesSent += head.length;
    this.#server.write(head);
  }

  #responseSent(): void {
    if (this.isClosed) return;
    // A request that is not wanted to its end is told so.
    if (this.requestHasEnded) this.#server.forget(this);
    else this.close(errorCode.none);
  }

  /** Tells the client that there is nothing more to come, in either direction. */
  close(code: ErrorCode): void {
    if (this.isClosed) return;
    this.flush();
    this.#server.reset(this.id, code);
    this.#server.forget(this);
  }

  /** Nothing is written any more. */
  closed(): void {
    this.isClosed = true;
    this.#head = null;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#ending = null;
    const bytes = this.#unconsumed;
    this.#unconsumed = 0;
    this.#server.consumed(bytes);
  }
}

const emptyChunk = Buffer.alloc(0);
const noTrailers: HeaderList = [];
