/** An accepted connection, from the end of its handshake to its close: what filters need to know of it. */
import type { AcceptedSocket } from "../accepted-socket.ts";
import type { HttpStream } from "../http/http-stream.ts";
import { RequestInfo } from "../http/request-info.ts";
import { noTlvs, type Tlv } from "../proxy-protocol/wire.ts";
import type { ConnectionInfo, TlsInfo } from "../stream-info.ts";
import { Transport, type TransportHandler, type TransportSocket } from "../transport.ts";
import type { ClientView, OriginalSource } from "../upstream/client-view.ts";
import type { ListenerDrain } from "./listener-drain.ts";
import type { ConnectionReader } from "./network-filter.ts";
import { ReaderGate } from "./network-filter-chain.ts";

/** A client that must wait is not listened to for longer than this. */
const maxWaitingBytes = 64 * 1024;

/** Of an AcceptedSocket, what a connection needs. */
export type ConnectionSocket = Pick<AcceptedSocket, "readFirst" | "stopReading" | "destroy" | "applicationProtocol"> & TransportSocket;

export interface DownstreamConnectionParts {
  readonly id: number;
  /** Wall clock. */
  readonly acceptedAtEpochMs: number;
  readonly socket: ConnectionSocket;
  readonly remoteIp: string;
  readonly remotePort: number;
  readonly localIp: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly directRemoteAddress: string;
  readonly localAddress: string;
  readonly directLocalAddress: string;
  readonly isRedirected: boolean;
  readonly originalSource: OriginalSource | null;
  readonly requestedServerName: string;
  readonly filterChainName: string;
  readonly tls: TlsInfo | null;
  readonly drain: ListenerDrain;
  readonly onClosed: (connection: DownstreamConnection) => void;
}

export class DownstreamConnection implements ClientView {
  readonly info: ConnectionInfo;
  readonly socket: ConnectionSocket;
  readonly remoteIp: string;
  readonly remotePort: number;
  readonly remoteIsLoopback: boolean;
  readonly localIp: string;
  readonly localPort: number;
  /** The local address is where it was meant to go, and not the listener that was given it. */
  readonly isRedirected: boolean;
  /** What endpoints shall see as the client; null: the proxy. */
  readonly originalSource: OriginalSource | null;
  /** Filled before a filter has the connection. */
  passedTlvs: readonly Tlv[] = noTlvs;
  readonly isTls: boolean;
  readonly drain: ListenerDrain;
  /** performance.now() of the event that is being handled; saves asking the clock for every header. */
  now = performance.now();
  transport: Transport | null = null;
  /** What network filters before the terminal one want to see of it; filled before the transport is opened. */
  readers: ConnectionReader[] | null = null;
  /** What a network filter says to the client before anybody else does; set before the transport is opened. */
  greeting: Buffer | null = null;
  /** Called when it is over. */
  onceClosed: (() => void) | null = null;
  /** Decides, when response headers are finished, whether the connection ends with this response; set by the codec. */
  decideClose: (stream: HttpStream) => void = () => {};
  /** Closes when idle or after the present request: a drain that has run out of patience closes at once. */
  shutdown: (isForced: boolean) => void = () => this.destroy();
  /** Tells the client to go where its protocol has a word for that; what it has under way goes on. */
  announceDrain: () => void = () => {};
  /** Set by a filter that lets the connection wait: it is closed before it could proceed. */
  onGoneWaiting: (() => void) | null = null;
  readonly #acceptedAtEpochMs: number;
  readonly #onClosed: (connection: DownstreamConnection) => void;
  #streamInfo: RequestInfo | null = null;
  #gate: ReaderGate | null = null;
  #proceed: (() => void) | null = null;
  #isClosed = false;
  #whenGone: (() => void)[] | null = null;

  constructor(parts: DownstreamConnectionParts) {
    this.socket = parts.socket;
    this.remoteIp = parts.remoteIp;
    this.remotePort = parts.remotePort;
    this.remoteIsLoopback = parts.remoteIp.startsWith("127.") || parts.remoteIp === "::1";
    this.localIp = parts.localIp;
    this.localPort = parts.localPort;
    this.isRedirected = parts.isRedirected;
    this.originalSource = parts.originalSource;
    this.isTls = parts.tls !== null;
    this.drain = parts.drain;
    this.#acceptedAtEpochMs = parts.acceptedAtEpochMs;
    this.#onClosed = parts.onClosed;
    this.info = {
      id: parts.id,
      remoteAddress: parts.remoteAddress,
      directRemoteAddress: parts.directRemoteAddress,
      localAddress: parts.localAddress,
      directLocalAddress: parts.directLocalAddress,
      requestedServerName: parts.requestedServerName,
      filterChainName: parts.filterChainName,
      tls: parts.tls,
      localCloseReason: "",
      transportFailureReason: "",
      terminationDetails: "",
      filterState: null,
    };
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Of the connection itself: of tcp_proxy, of network filters and of the listener's log. Requests have their own. */
  get streamInfo(): RequestInfo {
    if (this.#streamInfo === null) {
      this.#streamInfo = new RequestInfo(this.info);
      this.#streamInfo.startTimeEpochMs = this.#acceptedAtEpochMs;
      this.#streamInfo.startTime = performance.now() - (Date.now() - this.#acceptedAtEpochMs);
    }
    return this.#streamInfo;
  }

  /** No filter has the transport yet; meanwhile it is heard when the client is gone. */
  wait(proceed: () => void): void {
    this.#proceed = proceed;
    this.socket.readFirst({
      onBytes: (bytes) => {
        if (bytes.length >= maxWaitingBytes) this.socket.stopReading();
      },
      onEnd() {},
      onGone: () => {
        this.socket.destroy("lost");
        this.closed();
      },
    });
  }

  /** Where a filter has let the connection wait, it goes to those behind. */
  proceed(): void {
    const proceed = this.#proceed;
    if (proceed === null || this.#isClosed) return;
    this.#proceed = null;
    this.onGoneWaiting = null;
    this.socket.stopReading();
    proceed();
  }

  /** Opened once, by the terminal filter; `handler` gets what the readers let through. */
  openTransport(handler: TransportHandler): Transport {
    const gate = this.readers === null ? null : new ReaderGate(this.readers, handler);
    const transport = new Transport(this.socket, gate ?? handler);
    if (gate !== null) gate.transport = transport;
    this.#gate = gate;
    this.transport = transport;
    if (this.greeting !== null) transport.write(this.greeting);
    return transport;
  }

  /** A reader that has answered `hold` lets what it held go on. */
  continueReading(): void {
    if (!this.#isClosed) this.#gate?.continueReading();
  }

  whenGone(forget: () => void): void {
    this.#whenGone ??= [];
    this.#whenGone.push(forget);
  }

  /** The owner of the transport tells that it is closed. */
  closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.onceClosed?.();
    if (this.#whenGone !== null) for (const forget of this.#whenGone) forget();
    if (this.#proceed !== null) {
      this.#proceed = null;
      this.onGoneWaiting?.();
    }
    this.#onClosed(this);
  }

  destroy(reset = false): void {
    if (this.transport !== null) this.transport.destroy(reset);
    else this.socket.destroy();
    this.closed();
  }
}
