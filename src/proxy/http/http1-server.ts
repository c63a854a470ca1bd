/**
 * HTTP/1.1 towards clients: one connection, its requests in order, one at a time.
 *
 *      waiting -> request head -> stream -> response -> waiting | lingering -> closed
 *
 * A response's head waits for the body's first part or for the end of the read that brought it, so that small responses are
 * one write. A connection that closes after an error lingers: it stops answering but goes on reading for the delayed close
 * timeout, because a reset would take the answer from a client that is still sending. A FIN from the client aborts, as in Envoy.
 */

import { Http2Server } from "../http2/http2-server.ts";
import { LazyTimer } from "../lazy-timer.ts";
import type { DownstreamConnection } from "../listener/downstream-connection.ts";
import { type HeaderList, responseFlags } from "../stream-info.ts";
import type { Transport, TransportHandler } from "../transport.ts";
import { ConnectionAccount } from "./connection-account.ts";
import type { ConnectionManager } from "./connection-manager.ts";
import { properCase } from "./header-case.ts";
import { hasHeader } from "./header-list.ts";
import { HttpStream, type ServerCodec } from "./http-stream.ts";
import { Http1Parser, type Http1ParserSink } from "./http1-parser.ts";
import { acceptsConnectionHeader, isValidAuthority, prepareRequest } from "./request-preparation.ts";
import { reasonPhrase, statusLine } from "./status-text.ts";

const never = Number.POSITIVE_INFINITY;
const maxPipelinedBytes = 64 * 1024;
const lastChunk = "0\r\n\r\n";
const continueResponse = "HTTP/1.1 100 Continue\r\n\r\n";

export class Http1Server implements TransportHandler, Http1ParserSink, ServerCodec {
  readonly #manager: ConnectionManager;
  readonly #connection: DownstreamConnection;
  readonly #transport: Transport;
  readonly #parser: Http1Parser;
  readonly #timer: LazyTimer;
  readonly #account: ConnectionAccount;
  #stream: HttpStream | null = null;
  /** Response head that waits for company. */
  #head = "";
  #isChunked = false;
  #isBodiless = false;
  #inHead = false;
  /** Of the present request less than its head has come. */
  #awaitsHead = false;
  #requests = 0;
  #isClosed = false;
  #isSilent = true;
  /** Its handshake did not say. */
  #mayBeHttp2: boolean;
  #isLingering = false;
  #tunnel: HttpStream | null = null;
  /** From then on every response closes. */
  #softDrainUntil = never;
  #headersDeadline = never;
  #idleDeadline = never;
  #requestIsPaused = false;

  constructor(manager: ConnectionManager, connection: DownstreamConnection) {
    this.#manager = manager;
    this.#connection = connection;
    this.#transport = connection.openTransport(this);
    this.#account = new ConnectionAccount(manager, connection, this.#transport);
    this.#parser = new Http1Parser(manager.parserOptions, this);
    this.#timer = new LazyTimer(() => this.#expired());
    this.#mayBeHttp2 = manager.codec === "auto" && !connection.socket.applicationProtocol;
    connection.decideClose = (stream) => this.#decideClose(stream);
    connection.shutdown = (isForced) => this.#shutdown(isForced);
  }

  start(): void {
    this.#account.open(() => this.#softDrain());
    this.#becameIdle();
    this.#transport.start();
  }

  #becomeHttp2(chunk: Buffer): void {
    this.#isClosed = true;
    this.#timer.dispose();
    const server = new Http2Server(this.#manager, this.#connection, { transport: this.#transport, account: this.#account });
    server.start();
    server.onData(chunk);
  }

  get #isFull(): boolean {
    return this.#parser.isDone && this.#parser.pendingBytes > maxPipelinedBytes;
  }

  // --- TransportHandler ---

  onData(chunk: Buffer): void {
    if (this.#isLingering || this.#isClosed) return;
    this.#connection.now = performance.now();
    if (this.#isSilent) {
      this.#isSilent = false;
      if (this.#mayBeHttp2 && beginsHttp2(chunk)) return void this.#becomeHttp2(chunk);
      this.#account.speaks("http1");
    }
    if (this.#tunnel !== null) {
      this.#tunnel.onRequestData(chunk, false);
      this.#tunnel?.onRequestReadComplete();
      return;
    }
    this.#parser.execute(chunk);
    if (this.#parser.isInHead) this.#headBegan();
    const stream = this.#stream;
    if (stream !== null) {
      stream.onRequestReadComplete();
      // Pipelined bytes wait in the parser; many of them must wait in the kernel. Few don't stop the reading, because
      // a client that goes away would then not be noticed.
      if (this.#isFull) this.#transport.pause();
    }
  }

  onEnd(): void {
    this.#connection.now = performance.now();
    if (this.#isLingering) {
      this.#close("remote");
      return;
    }
    const tunnel = this.#tunnel;
    if (tunnel !== null) {
      tunnel.onRequestEnd([]);
      return;
    }
    this.#abort("downstream_remote_disconnect", "remote");
  }

  onClose(_error: NodeJS.ErrnoException | null): void {
    this.#connection.now = performance.now();
    this.#abort("downstream_remote_disconnect", "remote");
  }

  onDrain(): void {
    this.#connection.now = performance.now();
    this.#stream?.onDownstreamDrain();
  }

  // --- Http1ParserSink ---

  onHead(parser: Http1Parser): void {
    this.#inHead = true;
    const stream = this.#awaitsHead ? this.#stream! : this.#beginStream();
    this.#awaitsHead = false;
    this.#headersDeadline = never;
    const { info } = stream;
    const manager = this.#manager;
    info.method = parser.method;
    info.path = parser.target;
    info.authority = parser.host ?? "";
    info.requestHeaders = parser.headers;
    info.requestHeaderBytes = parser.headBytes;
    info.scheme = this.#connection.isTls ? "https" : "http";
    if (parser.minorVersion === 0) {
      info.protocol = "HTTP/1.0";
      if (!manager.acceptsHttp10) {
        this.#answerError(stream, 426, "low_version");
        this.#inHead = false;
        return;
      }
      stream.isHttp10 = true;
    }
    if (parser.connection !== "" || stream.isHttp10) {
      const connection = parser.connection.toLowerCase();
      stream.sawConnectionClose = stream.isHttp10 ? !connection.includes("keep-alive") : /(?:^|,)[ \t]*close[ \t]*(?:,|$)/.test(connection);
    }
    let refusal: string | null = null;
    if (info.method === "CONNECT") {
      // Its bytes are a tunnel's: the request never ends.
      parser.switchToRaw();
      info.authority = info.path;
      info.path = "";
    } else if (info.path.charCodeAt(0) !== 47) refusal = splitAbsolute(stream, manager.allowsAbsoluteUrl);
    if (!isValidAuthority(info.authority)) refusal = "http.invalid_authority";
    if (parser.connection !== "" && !acceptsConnectionHeader(parser.connection)) refusal = "http1.connection_header_rejected";
    if (refusal !== null) {
      this.#answerError(stream, 400, refusal);
      this.#inHead = false;
      return;
    }
    if (parser.isDone) stream.requestCompleted();
    if (parser.expect !== "" && !manager.proxies100Continue && parser.expect.toLowerCase() === "100-continue") {
      this.#transport.writeParts(continueResponse, null, "");
    }
    if (prepareRequest(stream, parser)) {
      stream.startDeadlines();
      // An upgrade's bytes follow the head without any framing.
      if (stream.upgrade !== "") parser.switchToRaw();
      stream.onRequestHeaders(parser.isDone);
    }
    this.#inHead = false;
  }

  /** The first bytes are a request already: its clocks run, and it has its line in the log however it ends. */
  #headBegan(): void {
    if (this.#stream !== null || this.#isLingering || this.#isClosed) return;
    this.#awaitsHead = true;
    const stream = this.#beginStream();
    const { requestHeadersTimeoutMs } = this.#manager;
    if (requestHeadersTimeoutMs > 0) this.#headersDeadline = this.#connection.now + requestHeadersTimeoutMs;
    stream.startDeadlines();
  }

  #beginStream(): HttpStream {
    this.#idleDeadline = never;
    const manager = this.#manager;
    const { values } = manager.stats.store;
    const { at } = manager.stats;
    values[at.downstream_rq_total]! += 1;
    values[at.downstream_rq_http1_total]! += 1;
    values[at.downstream_rq_active]! += 1;
    this.#requests++;
    const stream = new HttpStream(manager, this.#connection, this);
    const { info } = stream;
    info.protocol = "HTTP/1.1";
    this.#stream = stream;
    this.#head = "";
    return stream;
  }

  onBody(chunk: Buffer): void {
    const stream = this.#tunnel ?? this.#stream;
    if (stream === null) return;
    stream.onRequestData(chunk, this.#parser.isDone);
  }

  onMessageEnd(parser: Http1Parser): void {
    this.#transport.isBulk = false;
    const stream = this.#stream;
    if (stream === null) {
      // Answered within the call that brought the head.
      if (!this.#isLingering && !this.#isClosed) this.#nextRequest();
      return;
    }
    if (!stream.requestIsComplete) stream.onRequestEnd(parser.trailers);
  }

  onParseError(status: number, details: string): void {
    const { store, at } = this.#manager.stats;
    store.add(at.downstream_cx_protocol_error, 1);
    if (status === 431) store.add(at.downstream_rq_too_large, 1);
    const active = this.#stream;
    const hasNoHead = active === null || this.#awaitsHead;
    if (active?.responseHasStarted) {
      active.info.flags |= responseFlags.DownstreamProtocolError;
      active.resetDownstream(details);
      return;
    }
    const stream = active ?? this.#beginStream();
    if (hasNoHead) {
      stream.info.requestHeaders = [];
      stream.info.requestEndTime = this.#connection.now;
    }
    this.#answerError(stream, status, details);
  }

  /** An answer by the codec: the reason phrase is its body, and the connection ends with it. */
  #answerError(stream: HttpStream, status: number, details: string): void {
    const { info } = stream;
    stream.closesConnection = true;
    info.flags |= responseFlags.DownstreamProtocolError;
    if (stream.route === null) {
      // Nothing of the request counts, as if it had never had a head.
      info.requestHeaders = [];
      info.method = "";
      info.path = "";
      info.authority = "";
      info.protocol = "HTTP/1.1";
    }
    this.#parser.stop();
    stream.sendLocalReply(status, reasonPhrase(status), details);
  }

  // --- ServerCodec ---

  sendInterim(stream: HttpStream, status: number, headers: HeaderList): void {
    let head = statusLine(status);
    const proper = this.#manager.properCaseHeaders;
    for (let i = 0; i < headers.length; i += 2) head += `${proper ? properCase(headers[i]!) : headers[i]!}: ${headers[i + 1]!}\r\n`;
    head += "\r\n";
    stream.info.downstreamWireBytesSent += head.length;
    this.#transport.writeParts(head, null, "");
  }

  sendHeaders(stream: HttpStream, status: number, headers: HeaderList, endStream: boolean): void {
    let head = stream.isHttp10 ? `HTTP/1.0 ${status} ${reasonPhrase(status)}\r\n` : statusLine(status);
    let hasLength = false;
    const proper = this.#manager.properCaseHeaders;
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i]!;
      if (name === "content-length") {
        if (status === 204 || status < 200) continue;
        hasLength = true;
      }
      head += `${proper ? properCase(name) : name}: ${headers[i + 1]!}\r\n`;
    }
    const isHead = stream.info.method === "HEAD";
    this.#isBodiless = isHead || status === 204 || status === 304 || status < 200;
    this.#isChunked = false;
    if (!hasLength) {
      if (endStream && !isHead) {
        if (!this.#isBodiless) head += proper ? "Content-Length: 0\r\n" : "content-length: 0\r\n";
      } else if (!stream.isHttp10 && status >= 200 && status !== 204 && status !== 304 && !stream.isUpgraded) {
        head += proper ? "Transfer-Encoding: chunked\r\n" : "transfer-encoding: chunked\r\n";
        this.#isChunked = !isHead;
      }
    }
    head += "\r\n";
    const { info } = stream;
    info.responseHeaderBytes = head.length;
    info.downstreamWireBytesSent += head.length;
    info.downstreamFirstResponseByteTime = this.#connection.now;
    if (endStream) this.#transport.writeParts(head, null, "");
    else this.#head = head;
  }

  sendData({ info }: HttpStream, chunk: Buffer, endStream: boolean): boolean {
    const head = this.#head;
    this.#head = "";
    if (this.#isBodiless && this.#tunnel === null) return head === "" || this.#transport.writeParts(head, null, "");
    if (this.#isChunked) {
      const end = endStream ? lastChunk : "";
      if (chunk.length === 0) {
        info.downstreamWireBytesSent += end.length;
        return this.#transport.writeParts(head + end, null, "");
      }
      const size = `${chunk.length.toString(16)}\r\n`;
      info.downstreamWireBytesSent += size.length + chunk.length + 2 + end.length;
      return this.#transport.writeParts(head + size, chunk, endStream ? `\r\n${lastChunk}` : "\r\n");
    }
    info.downstreamWireBytesSent += chunk.length;
    return head === "" ? this.#transport.write(chunk) : this.#transport.writeParts(head, chunk, "");
  }

  sendTrailers({ info }: HttpStream, trailers: HeaderList): void {
    let text = this.#head;
    const before = text.length;
    this.#head = "";
    if (this.#isChunked) {
      text += "0\r\n";
      if (this.#manager.sendsTrailers) for (let i = 0; i < trailers.length; i += 2) text += `${trailers[i]}: ${trailers[i + 1]}\r\n`;
      text += "\r\n";
    }
    info.downstreamWireBytesSent += text.length - before;
    if (text !== "") this.#transport.writeParts(text, null, "");
    if (this.#tunnel !== null) this.#transport.end();
  }

  receivedBytes({ info }: HttpStream): number {
    // A request whose head was refused has no part in what the parser counted before.
    return info.requestHeaderBytes === 0 ? 0 : info.requestHeaderBytes + info.bytesReceived + this.#parser.framingBytes;
  }

  flush(): void {
    if (this.#head === "") return;
    const head = this.#head;
    this.#head = "";
    this.#transport.writeParts(head, null, "");
  }

  reset(_stream: HttpStream): void {
    this.flush();
    // What is already written still goes out; the missing end tells the client.
    this.#parser.stop();
    this.#isLingering = true;
  }

  pauseRequest(): void {
    if (this.#requestIsPaused) return;
    this.#requestIsPaused = true;
    const { store, at } = this.#manager.stats;
    store.add(at.downstream_flow_control_paused_reading_total, 1);
    this.#transport.pause();
  }

  resumeRequest(): void {
    if (!this.#requestIsPaused) return;
    this.#requestIsPaused = false;
    const { store, at } = this.#manager.stats;
    store.add(at.downstream_flow_control_resumed_reading_total, 1);
    if (!this.#isFull) this.#transport.start();
  }

  setDeadline(deadline: number): void {
    this.#timer.set(Math.min(deadline, this.#headersDeadline));
  }

  upgrade(stream: HttpStream): void {
    this.#tunnel = stream;
    this.#parser.switchToRaw();
  }

  streamEnded(stream: HttpStream): void {
    if (this.#stream !== stream) return;
    this.#stream = null;
    this.#awaitsHead = false;
    this.#headersDeadline = never;
    this.#tunnel = null;
    this.#timer.set(never);
    if (this.#isClosed) return;
    if (this.#isLingering) {
      this.flush();
      this.#close("local");
      return;
    }
    this.flush();
    this.#account.countBytes();
    if (this.#requestIsPaused) {
      this.#requestIsPaused = false;
      this.#transport.start();
    }
    if (stream.closesConnection || !stream.requestIsComplete || stream.isUpgraded) {
      // Where the client asked for it and has sent everything there is nothing left to lose.
      this.#closeAfterResponse(stream.isUpgraded || (stream.sawConnectionClose && stream.requestIsComplete));
      return;
    }
    if (!this.#inHead && this.#parser.isDone) this.#nextRequest();
  }

  #nextRequest(): void {
    this.#becameIdle();
    this.#parser.next();
    if (this.#isClosed || this.#isLingering) return;
    if (this.#parser.isInHead) this.#headBegan();
    const stream = this.#stream;
    if (stream !== null) {
      stream.onRequestReadComplete();
      if (this.#isFull) return;
    }
    if (!this.#requestIsPaused && this.#transport.isPaused) this.#transport.start();
  }

  // --- the end of the connection ---

  #decideClose(stream: HttpStream): void {
    const manager = this.#manager;
    const { store, at } = manager.stats;
    const status = stream.responseStatus;
    if (stream.sawConnectionClose) stream.closesConnection = true;
    if (stream.isHttp10 && !hasHeader(stream.info.responseHeaders, "content-length")) {
      // Only the end of the connection ends the body.
      stream.closesConnection = true;
      stream.sawConnectionClose = true;
    }
    let saysClose = false;
    if (this.#softDrainUntil === never && this.#connection.drain.shouldClose()) {
      store.add(at.downstream_cx_drain_close, 1);
      this.#softDrain();
    }
    if (this.#softDrainUntil !== never) {
      saysClose = true;
      if (this.#connection.now >= this.#softDrainUntil) stream.closesConnection = true;
    }
    if (manager.maxRequestsPerConnection > 0 && this.#requests >= manager.maxRequestsPerConnection) {
      if (!stream.closesConnection) store.add(at.downstream_cx_max_requests_reached, 1);
      stream.closesConnection = true;
      stream.sawConnectionClose = true;
    }
    if (!stream.requestIsComplete && status !== 101 && !stream.isUpgraded) {
      stream.closesConnection = true;
      store.add(at.downstream_rq_response_before_rq_complete, 1);
    }
    if (status === 101 || stream.isUpgraded) return;
    if (stream.closesConnection || saysClose) stream.info.responseHeaders.push("connection", "close");
    else if (stream.isHttp10) stream.info.responseHeaders.push("connection", "keep-alive");
  }

  /** From now on responses say `connection: close`; after the drain timeout the next one also does it, or nobody waits for another. */
  #softDrain(): void {
    if (this.#softDrainUntil !== never) return;
    this.#softDrainUntil = performance.now() + this.#manager.drainTimeoutMs;
    if (this.#stream !== null) return;
    if (this.#isSilent) this.#close("local");
    else this.#timer.set(Math.min(this.#softDrainUntil, this.#idleDeadline));
  }

  #shutdown(isForced: boolean): void {
    if (isForced || (this.#stream === null && this.#tunnel === null)) this.#close("local");
    else this.#softDrainUntil = 0;
  }

  #becameIdle(): void {
    const { idleTimeoutMs } = this.#manager;
    if (idleTimeoutMs > 0) this.#idleDeadline = this.#connection.now + idleTimeoutMs;
    const deadline = Math.min(this.#softDrainUntil, this.#idleDeadline);
    if (deadline !== never) this.#timer.set(deadline);
  }

  #expired(): void {
    this.#connection.now = performance.now();
    const stream = this.#stream;
    const { store, at } = this.#manager.stats;
    if (stream !== null) {
      if (this.#headersDeadline > this.#connection.now + 0.5) {
        stream.onDeadline();
        return;
      }
      this.#headersDeadline = never;
      store.add(at.downstream_rq_header_timeout, 1);
      stream.closesConnection = true;
      this.#parser.stop();
      stream.sendLocalReply(408, "request header timeout", "request_header_timeout");
      return;
    }
    if (this.#softDrainUntil <= this.#connection.now + 0.5) this.#close("local");
    else if (this.#idleDeadline <= this.#connection.now + 0.5) {
      store.add(at.downstream_cx_idle_timeout, 1);
      this.#connection.info.localCloseReason = "http1_idle_timeout";
      this.#close("local");
    }
  }

  #closeAfterResponse(atOnce: boolean): void {
    this.#isLingering = true;
    this.#parser.stop();
    const { delayedCloseTimeoutMs } = this.#manager;
    if (atOnce || delayedCloseTimeoutMs <= 0) {
      this.#transport.destroyWhenWritten();
      this.#finishClose("local", false);
      return;
    }
    if (this.#transport.isPaused) this.#transport.start();
    const { store, at } = this.#manager.stats;
    const timer = setTimeout(() => {
      store.add(at.downstream_cx_delayed_close_timeout, 1);
      this.#close("local");
    }, delayedCloseTimeoutMs);
    timer.unref();
  }

  #abort(details: string, by: "local" | "remote"): void {
    if (this.#isClosed) return;
    const stream = this.#stream;
    this.#close(by, stream !== null);
    stream?.onClientGone(details);
  }

  #close(by: "local" | "remote", cutsOff = false): void {
    if (this.#isClosed) return;
    // What was written before goes out first, unless the other side is gone.
    if (by === "local") this.#transport.destroyWhenWritten();
    else this.#transport.destroy();
    this.#finishClose(by, cutsOff);
  }

  #finishClose(by: "local" | "remote", cutsOff: boolean): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer.dispose();
    this.#parser.stop();
    this.#account.close(by, cutsOff);
  }
}

/** Envoy looks no further, and takes half of it for HTTP/1. */
function beginsHttp2(chunk: Buffer): boolean {
  return chunk[0] === 80 && chunk.length >= 12 && chunk.latin1Slice(0, 12) === "PRI * HTTP/2";
}

/** `http://host/path` into authority and path; details of the refusal, or null. What isn't allowed stays and is refused later. */
function splitAbsolute(stream: HttpStream, isAllowed: boolean): string | null {
  const { info } = stream;
  const match = /^([A-Za-z]+):\/\/([^/?]*)(.*)$/s.exec(info.path);
  if (match === null || !isAllowed) return null;
  const scheme = match[1]!.toLowerCase();
  if (match[2] === "") return "http1.invalid_url";
  if (scheme !== "http" && scheme !== "https") return "http1.invalid_scheme";
  info.authority = match[2]!.slice(match[2]!.lastIndexOf("@") + 1);
  info.path = match[3] === "" ? "/" : match[3]!;
  return null;
}
