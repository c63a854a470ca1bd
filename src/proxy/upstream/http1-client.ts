/**
 * One upstream connection that speaks HTTP/1.1: carries one request at a time for the router, and goes back to its pool. Nobody waits for bytes
 * that belong to no request: what an idle connection says closes it.
 *
 *      idle <-> busy -> closed
 */
import { properCase } from "../http/header-case.ts";
import { Http1Parser, type Http1ParserSink } from "../http/http1-parser.ts";
import { restoreUpgrade } from "../http/request-preparation.ts";
import type { HeaderList } from "../stream-info.ts";
import { Transport, type TransportHandler } from "../transport.ts";
import type { Priority } from "./circuit-breakers.ts";
import { ClientLife, type ClientLifeOwner } from "./client-life.ts";
import type { Established } from "./connect-attempt.ts";
import type { ConnectionPool, PooledClient } from "./connection-pool.ts";
import { isInterim, type PoolWaiter, type UpstreamConnection, type UpstreamExchange, type UpstreamStream } from "./upstream-stream.ts";

/** Methods whose requests say nothing about a body that they don't have. */
const bodilessMethods = new Set(["GET", "HEAD", "DELETE", "TRACE"]);

export class Http1Client implements TransportHandler, Http1ParserSink, PooledClient, ClientLifeOwner, UpstreamExchange {
  readonly #pool: ConnectionPool;
  readonly #life: ClientLife;
  readonly #transport: Transport;
  readonly #parser: Http1Parser;
  #priority: Priority = "default";
  #stream: UpstreamStream | null = null;
  /** Request head that waits for the body's first part. */
  #head = "";
  #isChunked = false;
  #isClosed = false;
  #requestIsComplete = false;
  #responseIsComplete = false;
  #closesAfterResponse = false;
  #isUpgraded = false;
  #isBusy = false;
  #sawHead = false;

  constructor(pool: ConnectionPool, established: Established) {
    this.#pool = pool;
    this.#life = new ClientLife(pool, established, this);
    const { config } = pool.cluster;
    this.#parser = new Http1Parser(
      {
        kind: "response",
        maxHeadBytes: 60 * 1024,
        maxHeaders: config.maxResponseHeaders,
        keepsTrailers: config.enablesTrailers,
        allowsChunkedLength: config.allowsChunkedLength,
        allowsCustomMethods: true,
        underscores: "allow",
      },
      this,
    );
    this.#transport = new Transport(established.socket, this);
  }

  get connection(): UpstreamConnection {
    return this.#life;
  }

  // --- the pool's side ---

  start(): void {
    this.#life.start(this.#transport);
    this.#transport.start();
  }

  get freeStreams(): number {
    return this.#isBusy || this.#isClosed || this.#life.isRetired ? 0 : 1;
  }

  get isIdle(): boolean {
    return !this.#isBusy && !this.#isClosed;
  }

  /** Hot. */
  begin(waiter: PoolWaiter): UpstreamExchange {
    this.#isBusy = true;
    this.#stream = waiter;
    this.#priority = waiter.priority;
    this.#requestIsComplete = false;
    this.#responseIsComplete = false;
    this.#life.requestBegan(waiter.priority);
    if (this.#life.isRetired) this.#closesAfterResponse = true;
    return this;
  }

  becameIdle(): void {
    this.#life.becameIdle();
  }

  retired(): void {
    this.#closesAfterResponse = true;
  }

  close(by: "local" | "remote"): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#parser.stop();
    this.#life.closed(by, this.#isBusy);
    this.#transport.destroy();
    this.#releaseRequest();
    this.#pool.closed(this);
  }

  // --- UpstreamExchange ---

  /** Hot. */
  sendHeaders(endStream: boolean): void {
    const { request, upgrade } = this.#stream!;
    const { authority, method, path, requestHeaders: headers } = request;
    const { properCaseHeaders } = this.#pool.cluster.config;
    let head = `${method} ${method === "CONNECT" ? authority : path} HTTP/1.1\r\n${properCaseHeaders ? "Host" : "host"}: ${authority}\r\n`;
    let hasLength = false;
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i]!;
      if (name === "content-length") hasLength = true;
      head += `${properCaseHeaders ? properCase(name) : name}: ${headers[i + 1]!}\r\n`;
    }
    this.#isChunked = false;
    if (!hasLength && upgrade === "") {
      if (!endStream) {
        head += properCaseHeaders ? "Transfer-Encoding: chunked\r\n" : "transfer-encoding: chunked\r\n";
        this.#isChunked = true;
      } else if (!bodilessMethods.has(method)) head += properCaseHeaders ? "Content-Length: 0\r\n" : "content-length: 0\r\n";
    }
    this.#head = `${head}\r\n`;
    if (!endStream && upgrade === "") return;
    this.#requestIsComplete = endStream;
    this.flush();
  }

  sendData(chunk: Buffer, endStream: boolean): boolean {
    const head = this.#head;
    this.#head = "";
    const transport = this.#transport;
    let more = true;
    if (this.#isChunked) {
      const last = endStream ? "0\r\n\r\n" : "";
      if (chunk.length === 0) transport.writeParts(head + last, null, "");
      else more = transport.writeParts(`${head}${chunk.length.toString(16)}\r\n`, chunk, `\r\n${last}`);
    } else more = head === "" ? transport.write(chunk) : transport.writeParts(head, chunk, "");
    if (endStream) this.#requestSent();
    return more;
  }

  sendTrailers(trailers: HeaderList): void {
    if (this.#stream !== null && this.#stream.upgrade !== "") {
      this.#transport.end();
      return;
    }
    let text = this.#head;
    this.#head = "";
    if (this.#isChunked) {
      text += "0\r\n";
      if (this.#pool.cluster.config.enablesTrailers)
        for (let i = 0; i < trailers.length; i += 2) text += `${trailers[i]}: ${trailers[i + 1]}\r\n`;
      text += "\r\n";
    }
    if (text !== "") this.#transport.writeParts(text, null, "");
    this.#requestSent();
  }

  flush(): void {
    if (this.#head === "") return;
    const head = this.#head;
    this.#head = "";
    this.#transport.writeParts(head, null, "");
  }

  pauseReading(): void {
    const { stats } = this.#pool.cluster;
    stats.store.add(stats.at.upstream_flow_control_paused_reading_total, 1);
    this.#transport.pause();
  }

  resumeReading(): void {
    const { stats } = this.#pool.cluster;
    stats.store.add(stats.at.upstream_flow_control_resumed_reading_total, 1);
    this.#transport.start();
  }

  /** HTTP/1.1 can only close, which is counted as no reset. */
  reset(): void {
    this.#stream = null;
    if (!this.#isClosed) this.close("local");
  }

  /** The connection can't be used again. */
  abandonRequest(): void {
    this.#closesAfterResponse = true;
  }

  // --- TransportHandler ---

  onData(chunk: Buffer): void {
    if (!this.#isBusy || (this.#responseIsComplete && !this.#isUpgraded)) {
      this.#protocolError();
      return;
    }
    const stream = this.#stream;
    this.#parser.execute(chunk);
    stream?.onUpstreamReadComplete();
    if (this.#responseIsComplete) this.#settle();
  }

  onEnd(): void {
    if (!this.#isBusy) {
      this.close("remote");
      return;
    }
    if (this.#isUpgraded) {
      const upgraded = this.#stream;
      this.#stream = null;
      this.close("remote");
      upgraded?.onUpstreamReset("connectionTermination");
      return;
    }
    if (this.#parser.readsUntilClose) {
      this.#closesAfterResponse = true;
      const stream = this.#stream;
      this.#parser.finish();
      stream?.onUpstreamReadComplete();
      this.#settle();
      return;
    }
    this.#lost(null);
  }

  onClose(error: NodeJS.ErrnoException | null): void {
    this.#lost(error);
  }

  #lost(_error: NodeJS.ErrnoException | null): void {
    if (this.#isClosed) return;
    const stream = this.#stream;
    this.#stream = null;
    // Cut within a chunked body or one with a length: what came is no complete message.
    const isCut = stream !== null && (this.#sawHead || this.#parser.hasPending);
    this.close("remote");
    if (stream === null) return;
    const { stats } = this.#pool.cluster;
    if (isCut) stats.store.add(stats.at.upstream_cx_protocol_error, 1);
    stream.onUpstreamReset(isCut ? "protocolError" : "connectionTermination");
  }

  onDrain(): void {
    this.#stream?.onUpstreamDrain();
  }

  // --- Http1ParserSink ---

  onHead(parser: Http1Parser): void {
    const stream = this.#stream;
    if (stream === null) return;
    const { status } = parser;
    if (status < 200 && status !== 101) {
      if (isInterim(status)) stream.onUpstreamInterim?.(status, parser.headers);
      parser.skipBody();
      return;
    }
    const isTunnel = stream.upgrade === "connect" && status < 300;
    if (status === 204 && !isTunnel && (parser.contentLength > 0 || parser.isChunked)) {
      // A body where there can't be one: its bytes would be taken for the next response.
      this.#protocolError();
      return;
    }
    const isBodiless = stream.request.method === "HEAD" || status === 204 || status === 304;
    const connection = parser.connection.toLowerCase();
    if (parser.minorVersion === 1 ? connection.includes("close") : !connection.includes("keep-alive")) this.#closesAfterResponse = true;
    this.#sawHead = true;
    // Even where nobody asked to switch: what follows is no HTTP.
    if (status === 101) this.#closesAfterResponse = true;
    if (isTunnel || (status === 101 && stream.upgrade !== "")) {
      this.#isUpgraded = true;
      this.#closesAfterResponse = true;
      parser.switchToRaw();
      if (!isTunnel) restoreUpgrade(parser.headers, parser);
    } else if (isBodiless || status === 101) parser.skipBody();
    else if (parser.readsUntilClose) this.#closesAfterResponse = true;
    const endStream = parser.isDone;
    if (endStream) {
      this.#responseIsComplete = true;
      this.#stream = null;
      const { headers } = parser;
      if (parser.endsChunk) this.#settle();
      stream.onUpstreamHeaders(status, headers, true);
      return;
    }
    stream.onUpstreamHeaders(status, parser.headers, false);
  }

  onBody(chunk: Buffer): void {
    this.#stream?.onUpstreamData(chunk);
  }

  onMessageEnd(parser: Http1Parser): void {
    this.#transport.isBulk = false;
    if (this.#responseIsComplete || !this.#sawHead) {
      // Either told with the head, or the end of an interim response.
      if (!this.#responseIsComplete) parser.next();
      return;
    }
    const stream = this.#stream;
    this.#stream = null;
    this.#responseIsComplete = true;
    const trailers = parser.isChunked && parser.trailers.length > 0 && this.#pool.cluster.config.enablesTrailers ? parser.trailers : null;
    // Free again before the stream hears of the end: a pipelined request that follows at once finds it.
    if (parser.endsChunk) this.#settle();
    stream?.onUpstreamEnd(trailers);
  }

  onParseError(): void {
    this.#protocolError();
  }

  #protocolError(): void {
    if (this.#isClosed) return;
    const stream = this.#stream;
    this.#stream = null;
    const { stats } = this.#pool.cluster;
    if (this.#isBusy) stats.store.add(stats.at.upstream_cx_protocol_error, 1);
    this.close("local");
    stream?.onUpstreamReset("protocolError");
  }

  /** The request's last byte was sent; the response may have been complete before. */
  #requestSent(): void {
    this.#requestIsComplete = true;
    if (this.#responseIsComplete) process.nextTick(() => this.#settle());
  }

  /** Response and request are complete: the connection goes back to the pool, unless one of them says otherwise. Not before it is
   *  known that nothing follows the response: such bytes belong to nobody and must not answer the next request. */
  #settle(): void {
    if (this.#isClosed || !this.#isBusy || this.#isUpgraded) return;
    if (this.#closesAfterResponse || !this.#requestIsComplete || this.#parser.hasPending) {
      if (this.#requestIsComplete) this.#releaseRequest();
      this.close("local");
      return;
    }
    this.#releaseRequest();
    this.#sawHead = false;
    this.#life.account.countBytes();
    this.#parser.next();
    if (this.#transport.isPaused) this.#transport.start();
    this.#pool.changed(this);
  }

  #releaseRequest(): void {
    if (!this.#isBusy) return;
    this.#isBusy = false;
    this.#life.requestEnded(this.#priority);
  }
}
