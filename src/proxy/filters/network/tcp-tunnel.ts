/**
 * `tunneling_config` of tcp_proxy: the endpoint is a proxy that is asked for a tunnel, by CONNECT, or by a POST whose body and answer are the two
 * directions. The request takes a connection of the endpoint's pool: all of one of HTTP/1.1, a stream of HTTP/2. Nothing is read from the
 * client before the answer is there.
 *
 *      ask -> (1xx)* -> yes: opened, bytes both ways    |    anything else: refused
 */
import { ConfigError } from "../../../api/config-error.ts";
import type { TcpProxy_TunnelingConfig } from "../../../api/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import {
  applyHeaderEdits,
  compileHeaderEdits,
  compileHeaderValue,
  type HeaderEdit,
  type HeaderValueFormat,
} from "../../router/header-mutation.ts";
import type { HeaderList, StreamInfo } from "../../stream-info.ts";
import type {
  PoolWaiter,
  StreamSource,
  UpstreamConnection,
  UpstreamExchange,
  UpstreamRequest,
  UpstreamReset,
} from "../../upstream/upstream-stream.ts";

/** Who is in the tunnel. */
export interface TunnelSink {
  /** The endpoint is asked. */
  tunnelAsked(connection: UpstreamConnection): void;
  /** What the endpoint says behind its status; `status` 0: behind the last byte. */
  tunnelToldOf(status: number, headers: HeaderList): void;
  tunnelOpened(): void;
  /** There is no connection to ask by. */
  tunnelFailed(reason: UpstreamReset, transportFailure: string): void;
  /** `status`: of the answer; 0: there was none. */
  tunnelRefused(status: number): void;
  /** A view of what was read, valid during the call. */
  fromTunnel(bytes: Buffer): void;
  tunnelDrained(): void;
  /** The endpoint says no more. */
  tunnelEnded(): void;
  /** It is over for both directions. */
  tunnelLost(): void;
}

export class TunnelSettings {
  readonly usesPost: boolean;
  readonly tellsHeaders: boolean;
  readonly tellsTrailers: boolean;
  readonly #hostname: HeaderValueFormat;
  readonly #path: string;
  readonly #edits: readonly HeaderEdit[];

  constructor(config: TcpProxy_TunnelingConfig) {
    if (config.hostname === "") throw new ConfigError("TcpProxy.TunnelingConfig: hostname: value length must be at least 1 characters");
    if (config.postPath !== "" && !config.usePost) throw new ConfigError("Can't set a post path when POST method isn't used");
    this.usesPost = config.usePost;
    this.tellsHeaders = config.propagateResponseHeaders;
    this.tellsTrailers = config.propagateResponseTrailers;
    this.#hostname = compileHeaderValue(config.hostname);
    this.#path = config.postPath || "/";
    this.#edits = compileHeaderEdits(config.headersToAdd, []);
  }

  request(info: StreamInfo): UpstreamRequest {
    const requestHeaders: HeaderList = [];
    applyHeaderEdits(this.#edits, requestHeaders, info);
    return {
      method: this.usesPost ? "POST" : "CONNECT",
      scheme: this.usesPost ? (info.connection.tls === null ? "http" : "https") : "",
      authority: typeof this.#hostname === "string" ? this.#hostname : this.#hostname(info),
      path: this.usesPost ? this.#path : "",
      requestHeaders,
    };
  }
}

export class TcpTunnel implements PoolWaiter {
  readonly request: UpstreamRequest;
  readonly upgrade: string;
  readonly priority = "default";
  readonly sniHost = "";
  readonly outlivesResponse = true;
  readonly #settings: TunnelSettings;
  readonly #sink: TunnelSink;
  #pool: StreamSource | null = null;
  #exchange: UpstreamExchange | null = null;
  #isOpen = false;
  /** The client's side has ended; the endpoint's. */
  #saidAll = false;
  #heardAll = false;
  #isOver = false;
  bytesRead = 0;
  bytesWritten = 0;

  constructor(settings: TunnelSettings, info: StreamInfo, sink: TunnelSink) {
    this.#settings = settings;
    this.#sink = sink;
    this.request = settings.request(info);
    this.upgrade = settings.usesPost ? "" : "connect";
  }

  /** Tells its sink how it ends, at once or later. */
  ask(pool: StreamSource): void {
    this.#pool = pool;
    pool.newStream(this);
  }

  // --- towards the endpoint ---

  /** False: wait for `tunnelDrained`. */
  write(chunk: Buffer): boolean {
    this.bytesWritten += chunk.length;
    return this.#exchange === null || this.#exchange.sendData(chunk, false);
  }

  /** The client will say no more. */
  end(): void {
    this.#saidAll = true;
    this.#exchange?.sendTrailers([]);
  }

  pause(): void {
    this.#exchange?.pauseReading();
  }

  start(): void {
    this.#exchange?.resumeReading();
  }

  /** Nobody is in it any more. */
  destroy(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const exchange = this.#exchange;
    this.#exchange = null;
    if (exchange !== null) {
      // What is still to be sent of both sides' last words goes out by itself.
      if (!this.#saidAll || !this.#heardAll) exchange.reset();
    } else if (!this.#heardAll) this.#pool?.cancel(this);
  }

  destroyWhenWritten(): void {
    this.destroy();
  }

  // --- PoolWaiter ---

  onPoolReady(exchange: UpstreamExchange): void {
    if (this.#isOver) {
      exchange.reset();
      return;
    }
    this.#exchange = exchange;
    this.#sink.tunnelAsked(exchange.connection);
    exchange.sendHeaders(false);
    exchange.flush();
  }

  onPoolFailure(reason: UpstreamReset, transportFailure: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#sink.tunnelFailed(reason, transportFailure);
  }

  // --- UpstreamStream ---

  onUpstreamHeaders(status: number, headers: HeaderList, endStream: boolean): void {
    const exchange = this.#exchange;
    if (exchange === null) return;
    if (this.#settings.tellsHeaders) this.#sink.tunnelToldOf(status, headers);
    // HTTP/1.1 knows several ways to say yes.
    const isYes = exchange.connection.protocol === "HTTP/2" ? status === 200 : status >= 200 && status < 300;
    if (!isYes || endStream) {
      this.#isOver = true;
      this.#exchange = null;
      if (!endStream) exchange.reset();
      this.#sink.tunnelRefused(status);
      return;
    }
    this.#isOpen = true;
    this.#sink.tunnelOpened();
  }

  onUpstreamData(chunk: Buffer): void {
    this.bytesRead += chunk.length;
    if (!this.#isOver) this.#sink.fromTunnel(chunk);
  }

  onUpstreamEnd(trailers: HeaderList | null): void {
    if (this.#isOver) return;
    this.#heardAll = true;
    // HTTP/1.1 has no half of a connection left.
    if (this.#exchange?.connection.protocol !== "HTTP/2") this.#exchange = null;
    if (trailers !== null && this.#settings.tellsTrailers) this.#sink.tunnelToldOf(0, trailers);
    this.#sink.tunnelEnded();
  }

  onUpstreamReset(): void {
    this.#exchange = null;
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#isOpen) this.#sink.tunnelLost();
    else this.#sink.tunnelRefused(0);
  }

  onUpstreamReadComplete(): void {
    // What was read has gone to the client's connection already.
  }

  onUpstreamDrain(): void {
    this.#sink.tunnelDrained();
  }
}
