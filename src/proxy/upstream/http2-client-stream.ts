/** One request on an HTTP/2 connection to an endpoint. */
import { type ErrorCode, errorCode } from "../http2/frames.ts";
import { areTrailers } from "../http2/request-head.ts";
import { type ResponseHead, readResponseHead } from "../http2/response-head.ts";
import { Http2Stream } from "../http2/stream.ts";
import { withoutUpgrade } from "../http2/upgrade.ts";
import type { HeaderList } from "../stream-info.ts";
import type { Priority } from "./circuit-breakers.ts";
import type { Http2Client } from "./http2-client.ts";
import {
  isInterim,
  type PoolWaiter,
  type UpstreamConnection,
  type UpstreamExchange,
  type UpstreamReset,
  type UpstreamStream,
} from "./upstream-stream.ts";

export class Http2ClientStream extends Http2Stream implements UpstreamExchange {
  readonly priority: Priority;
  readonly #client: Http2Client;
  /** null when the response is complete, or nobody wants it any more. */
  #stream: UpstreamStream | null;
  #headWaits = false;
  #sawHead = false;
  #hasSentAll = false;

  constructor(client: Http2Client, id: number, waiter: PoolWaiter, receiveWindow: number, sendWindow: number) {
    super(client, id, receiveWindow, sendWindow);
    this.#client = client;
    this.#stream = waiter;
    this.priority = waiter.priority;
  }

  get connection(): UpstreamConnection {
    return this.#client.connection;
  }

  // --- UpstreamExchange ---

  sendHeaders(endStream: boolean): void {
    this.#headWaits = true;
    if (endStream) this.sendHeadAlone();
    else if (this.#stream!.upgrade !== "") this.flush();
  }

  sendData(chunk: Buffer, endStream: boolean): boolean {
    return this.send(chunk, endStream);
  }

  sendTrailers(trailers: HeaderList): void {
    this.sendEnd(trailers);
  }

  pauseReading(): void {
    this.pause();
  }

  resumeReading(): void {
    this.resume();
  }

  reset(): void {
    this.#stream = null;
    this.close(errorCode.internal);
  }

  abandonRequest(): void {
    this.close(errorCode.internal);
  }

  // --- Http2Stream ---

  protected takeHead(endStream: boolean): string {
    if (!this.#headWaits || this.#stream === null) return "";
    this.#headWaits = false;
    const { request, upgrade } = this.#stream;
    const { scheme, authority, path, requestHeaders } = request;
    const isUpgrade = upgrade !== "" && upgrade !== "connect";
    const target = { method: isUpgrade ? "CONNECT" : request.method, scheme, authority, path, protocol: isUpgrade ? upgrade : "" };
    const headers = isUpgrade ? withoutUpgrade(requestHeaders) : requestHeaders;
    return this.#client.headerFrames(this.word, this.#client.encoder.request(target, headers), endStream);
  }

  protected count(): void {
    // The router counts what it sends.
  }

  protected allSent(): void {
    this.#hasSentAll = true;
    if (this.peerHasEnded) this.#client.forget(this);
  }

  protected drained(): void {
    this.#stream?.onUpstreamDrain();
  }

  onReadComplete(): void {
    this.#stream?.onUpstreamReadComplete();
  }

  onBody(chunk: Buffer, endStream: boolean): void {
    if (!this.#sawHead) return void this.#client.refuse(this);
    this.#stream?.onUpstreamData(chunk);
    if (endStream) this.#complete(null);
  }

  onBodyEnd(): void {
    if (!this.#sawHead) return void this.#client.refuse(this);
    this.#complete(null);
  }

  /** A header block: of the response, of an announcement before it, or behind it. False for what no response may have. */
  onHeaders(list: HeaderList, endStream: boolean): boolean {
    if (this.#sawHead) {
      if (!endStream || this.bodyLeft > 0 || !areTrailers(list)) return false;
      this.peerHasEnded = true;
      this.#complete(list.length === 0 ? null : list);
      return true;
    }
    const head = readResponseHead(list);
    if (head === null) return false;
    if (head.status < 200) {
      if (!endStream && isInterim(head.status)) this.#stream?.onUpstreamInterim?.(head.status, head.headers);
      return !endStream;
    }
    this.#sawHead = true;
    return this.#begin(head, endStream);
  }

  #begin({ status, headers, contentLength }: ResponseHead, endStream: boolean): boolean {
    const stream = this.#stream;
    if (stream === null) return true;
    const isBodiless = stream.request.method === "HEAD" || status === 204 || status === 304;
    if (endStream && !isBodiless && contentLength > 0) return false;
    this.bodyLeft = isBodiless ? 0 : contentLength;
    if (endStream) {
      this.peerHasEnded = true;
      this.#stream = null;
      stream.onUpstreamHeaders(status, headers, true);
      this.#end();
    } else if (stream.upgrade === "connect" && status < 300) {
      this.bodyLeft = -1;
      stream.onUpstreamHeaders(status, headers, false);
    } else if (stream.upgrade !== "" && status === 200) {
      this.bodyLeft = -1;
      stream.onUpstreamHeaders(101, [...headers, "upgrade", stream.upgrade, "connection", "upgrade"], false);
    } else stream.onUpstreamHeaders(status, headers, false);
    return true;
  }

  #complete(trailers: HeaderList | null): void {
    const stream = this.#stream;
    if (stream?.outlivesResponse === true && !this.#hasSentAll) {
      stream.onUpstreamEnd(trailers);
      return;
    }
    this.#stream = null;
    stream?.onUpstreamEnd(trailers);
    this.#end();
  }

  /** The response is complete. What of the request was not sent is not wanted. */
  #end(): void {
    if (this.isClosed) return;
    if (this.#hasSentAll) this.#client.forget(this);
    else this.abandonRequest();
  }

  /** It is over without a response, or with a part of one. */
  lost(reason: UpstreamReset): void {
    const stream = this.#stream;
    this.#stream = null;
    stream?.onUpstreamReset(reason);
  }

  /** Nothing that the endpoint says of it counts any more. */
  violated(code: ErrorCode): void {
    this.close(code);
    this.lost("protocolError");
  }
}
