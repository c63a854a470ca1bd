/**
 * `tunneling_config` of tcp_proxy over HTTP/1.1: the endpoint is a proxy that is asked for a tunnel, by CONNECT, or by a POST whose body and
 * answer are the two directions. Nothing is read from the client before the answer is there.
 *
 *      ask -> (1xx)* -> 2xx: opened, bytes both ways    |    anything else: refused
 */
import { ConfigError } from "../../../api/config-error.ts";
import type { TcpProxy_TunnelingConfig } from "../../../api/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { Http1Parser, type Http1ParserSink } from "../../http/http1-parser.ts";
import {
  applyHeaderEdits,
  compileHeaderEdits,
  compileHeaderValue,
  type HeaderEdit,
  type HeaderValueFormat,
} from "../../router/header-mutation.ts";
import type { HeaderList, StreamInfo } from "../../stream-info.ts";
import type { Transport } from "../../transport.ts";

/** Who is in the tunnel. */
export interface TunnelSink {
  tunnelOpened(): void;
  /** The answer is no, or none at all. */
  tunnelRefused(): void;
  /** A view of what was read, valid during the call. */
  fromTunnel(bytes: Buffer): void;
  tunnelEnded(): void;
}

const parserOptions = {
  kind: "response",
  maxHeadBytes: 60 * 1024,
  maxHeaders: 100,
  keepsTrailers: false,
  allowsChunkedLength: false,
  allowsCustomMethods: true,
  underscores: "allow",
} as const;

export class TunnelSettings {
  readonly usesPost: boolean;
  readonly #hostname: HeaderValueFormat;
  readonly #path: string;
  readonly #edits: readonly HeaderEdit[];

  constructor(config: TcpProxy_TunnelingConfig) {
    if (config.hostname === "") throw new ConfigError("TcpProxy.TunnelingConfig: hostname: value length must be at least 1 characters");
    if (config.postPath !== "" && !config.usePost) throw new ConfigError("Can't set a post path when POST method isn't used");
    this.usesPost = config.usePost;
    this.#hostname = compileHeaderValue(config.hostname);
    this.#path = config.postPath || "/";
    this.#edits = compileHeaderEdits(config.headersToAdd, []);
  }

  /** The request's head, as latin1. */
  head(info: StreamInfo): string {
    const host = typeof this.#hostname === "string" ? this.#hostname : this.#hostname(info);
    const headers: HeaderList = [];
    applyHeaderEdits(this.#edits, headers, info);
    let text = this.usesPost ? `POST ${this.#path} HTTP/1.1\r\nhost: ${host}\r\n` : `CONNECT ${host} HTTP/1.1\r\nhost: ${host}\r\n`;
    for (let i = 0; i < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`;
    return `${text}${this.usesPost ? "transfer-encoding: chunked\r\n" : ""}\r\n`;
  }
}

export class TcpTunnel implements Http1ParserSink {
  readonly #transport: Transport;
  readonly #sink: TunnelSink;
  readonly #usesPost: boolean;
  readonly #parser: Http1Parser;
  #isOpen = false;
  #isOver = false;

  constructor(settings: TunnelSettings, info: StreamInfo, transport: Transport, sink: TunnelSink) {
    this.#transport = transport;
    this.#sink = sink;
    this.#usesPost = settings.usesPost;
    this.#parser = new Http1Parser(parserOptions, this);
    transport.writeParts(settings.head(info), null, "");
  }

  // --- towards the endpoint ---

  /** As `Transport.write`. */
  write(chunk: Buffer): boolean {
    return this.#usesPost ? this.#transport.writeParts(`${chunk.length.toString(16)}\r\n`, chunk, "\r\n") : this.#transport.write(chunk);
  }

  /** The client will say no more. */
  end(): void {
    if (this.#usesPost) this.#transport.writeParts("0\r\n\r\n", null, "");
    else this.#transport.end();
  }

  // --- from the endpoint ---

  read(chunk: Buffer): void {
    this.#parser.execute(chunk);
  }

  /** The endpoint's connection has ended. */
  ended(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#parser.stop();
    if (this.#isOpen) this.#sink.tunnelEnded();
    else this.#sink.tunnelRefused();
  }

  onHead(parser: Http1Parser): void {
    const { status } = parser;
    if (status < 200) {
      parser.skipBody();
      return;
    }
    if (status >= 300) {
      this.#refuse();
      return;
    }
    this.#isOpen = true;
    if (!this.#usesPost) parser.switchToRaw();
    this.#sink.tunnelOpened();
  }

  onBody(chunk: Buffer): void {
    if (!this.#isOver) this.#sink.fromTunnel(chunk);
  }

  onMessageEnd(parser: Http1Parser): void {
    if (!this.#isOpen) parser.next();
    else this.ended();
  }

  onParseError(): void {
    if (this.#isOpen) this.ended();
    else this.#refuse();
  }

  #refuse(): void {
    this.#isOver = true;
    this.#parser.stop();
    this.#sink.tunnelRefused();
  }
}
