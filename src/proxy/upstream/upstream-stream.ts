/**
 * A request on its way to an endpoint, whatever protocol carries it: who sends it (UpstreamStream), and what it is sent by (UpstreamExchange).
 *
 *      pool.newStream(waiter) -> onPoolReady(exchange) -> sendHeaders, sendData..., sendTrailers
 *                                                      <- onUpstreamHeaders, onUpstreamData..., onUpstreamEnd | onUpstreamReset
 */
import type { HeaderList, TlsInfo } from "../stream-info.ts";
import type { Priority } from "./circuit-breakers.ts";

/** Why a request lost its connection, or never got one; Envoy's words for it are the router's. */
export type UpstreamReset =
  | "connectionFailure"
  | "connectionTimeout"
  | "connectionTermination"
  | "protocolError"
  | "overflow"
  | "localReset"
  | "remoteReset"
  | "remoteRefusedStream";

/** As it is when it is sent: a retry may differ. */
export interface UpstreamRequest {
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  readonly path: string;
  readonly requestHeaders: HeaderList;
}

/** Those that Envoy passes on; others of 1xx say nothing to anybody. */
export function isInterim(status: number): boolean {
  return status === 100 || (status >= 102 && status <= 104);
}

/** The sender. */
export interface UpstreamStream {
  readonly request: UpstreamRequest;
  /** The protocol that the request asks to go on with, in lower case; "" for none. */
  readonly upgrade: string;
  /** The request goes on when the response is complete, where the protocol lets it: it is a tunnel's other direction. */
  readonly outlivesResponse?: boolean;
  /** A response that announces another (100, 103). */
  onUpstreamInterim?(status: number, headers: HeaderList): void;
  /** `endStream`: the exchange may already be somebody else's. */
  onUpstreamHeaders(status: number, headers: HeaderList, endStream: boolean): void;
  onUpstreamData(chunk: Buffer): void;
  onUpstreamEnd(trailers: HeaderList | null): void;
  onUpstreamReset(reason: UpstreamReset): void;
  /** Everything that one read brought has been handed over. */
  onUpstreamReadComplete(): void;
  /** The connection takes data again. */
  onUpstreamDrain(): void;
}

/** A sender that wants a connection. */
export interface PoolWaiter extends UpstreamStream {
  readonly priority: Priority;
  /** Host of the request, for `auto_sni`. */
  readonly sniHost: string;
  onPoolReady(exchange: UpstreamExchange): void;
  onPoolFailure(reason: UpstreamReset, transportFailure: string): void;
}

/** Where an exchange comes from. */
export interface StreamSource {
  /** Answers at once or later. */
  newStream(waiter: PoolWaiter): void;
  /** The sender does not wait any more. */
  cancel(waiter: PoolWaiter): void;
}

/** What carries one request, from `onPoolReady` to the end of its response. */
export interface UpstreamExchange {
  readonly connection: UpstreamConnection;
  /** Sends the stream's request as it is now; waits for company unless it ends with the head. */
  sendHeaders(endStream: boolean): void;
  /** False: wait for `onUpstreamDrain`. */
  sendData(chunk: Buffer, endStream: boolean): boolean;
  /** The end, behind all that was sent; `trailers` may be empty. */
  sendTrailers(trailers: HeaderList): void;
  /** Pushes out what waits for company. */
  flush(): void;
  pauseReading(): void;
  resumeReading(): void;
  /** The sender gives the request up. No call follows. */
  reset(): void;
  /** The response was complete before the request, whose rest is not sent. */
  abandonRequest(): void;
}

/** Of the connection below, for logs and filters. */
export interface UpstreamConnection {
  readonly id: number;
  /** null: of bytes alone. */
  readonly protocol: "HTTP/1.1" | "HTTP/2" | null;
  readonly localAddress: string;
  readonly tlsInfo: TlsInfo | null;
}
