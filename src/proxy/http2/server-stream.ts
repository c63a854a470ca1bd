/** One stream of a client's connection. It may outlive its HttpStream, whose response is complete for everybody but the client. */
import type { HttpStream, ServerCodec } from "../http/http-stream.ts";
import { type HeaderList, responseFlags } from "../stream-info.ts";
import { type ErrorCode, errorCode, frameHeadBytes } from "./frames.ts";
import type { Http2Server } from "./http2-server.ts";
import { Http2Stream } from "./stream.ts";
import { withoutUpgrade } from "./upgrade.ts";

const never = Number.POSITIVE_INFINITY;
const emptyChunk = Buffer.alloc(0);

export class Http2ServerStream extends Http2Stream implements ServerCodec {
  readonly #server: Http2Server;
  /** null when its response is complete, or nobody wants it any more. */
  stream: HttpStream | null = null;
  /** performance.now() milliseconds. */
  deadline = never;
  #head: { readonly status: number; readonly headers: HeaderList } | null = null;
  #isBodiless = false;

  constructor(server: Http2Server, id: number, receiveWindow: number, sendWindow: number) {
    super(server, id, receiveWindow, sendWindow);
    this.#server = server;
  }

  // --- ServerCodec ---

  sendInterim(_: HttpStream, status: number, headers: HeaderList): void {
    const frames = this.#server.headerFrames(this.word, this.#server.encoder.response(status, headers), false);
    this.count(frames.length);
    this.#server.write(frames);
  }

  sendHeaders(stream: HttpStream, status: number, headers: HeaderList, endStream: boolean): void {
    stream.info.downstreamFirstResponseByteTime = stream.connection.now;
    this.#isBodiless = stream.info.method === "HEAD" || status === 204 || status === 304;
    this.#head = status === 101 ? { status: 200, headers: withoutUpgrade(headers) } : { status, headers };
    if (endStream) this.sendHeadAlone();
  }

  sendData(_: HttpStream, chunk: Buffer, endStream: boolean): boolean {
    return this.send(this.#isBodiless ? emptyChunk : chunk, endStream);
  }

  sendTrailers(_: HttpStream, trailers: HeaderList): void {
    this.sendEnd(trailers);
  }

  receivedBytes(_: HttpStream): number {
    return this.wireBytes;
  }

  /** Cuts the stream off: the server's own failure, as the client sees it. */
  reset(_: HttpStream): void {
    this.close(errorCode.internal);
  }

  pauseRequest(): void {
    this.pause();
  }

  resumeRequest(): void {
    this.resume();
  }

  setDeadline(deadline: number): void {
    this.deadline = deadline;
    this.#server.schedule(deadline);
  }

  upgrade(): void {
    // The stream carries bytes either way.
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

  // --- Http2Stream ---

  onBody(chunk: Buffer, endStream: boolean): void {
    this.stream?.onRequestData(chunk, endStream);
  }

  onBodyEnd(): void {
    this.stream?.onRequestEnd([]);
  }

  onReadComplete(): void {
    this.stream?.onRequestReadComplete();
  }

  protected takeHead(endStream: boolean): string {
    const head = this.#head;
    if (head === null) return "";
    this.#head = null;
    const frames = this.#server.headerFrames(this.word, this.#server.encoder.response(head.status, head.headers), endStream);
    if (this.stream !== null) this.stream.info.responseHeaderBytes = frames.length - frameHeadBytes;
    return frames;
  }

  protected count(bytes: number): void {
    if (this.stream !== null) this.stream.info.downstreamWireBytesSent += bytes;
  }

  protected allSent(): void {
    if (this.isClosed) return;
    // A request that is not wanted to its end is told so.
    if (this.peerHasEnded) this.#server.forget(this);
    else this.close(errorCode.none);
  }

  protected drained(): void {
    this.stream?.onDownstreamDrain();
  }

  violated(code: ErrorCode): void {
    const { stream } = this;
    this.close(code);
    if (stream === null) return;
    stream.info.flags |= responseFlags.DownstreamProtocolError;
    stream.onReset("http2.violation.of.messaging.rule");
  }

  override closed(): void {
    super.closed();
    this.#head = null;
  }
}
