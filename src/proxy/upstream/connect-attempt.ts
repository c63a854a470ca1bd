/** A connection to an endpoint that is being made: TCP, then TLS where the endpoint has it, within the cluster's timeout. */
import type * as net from "node:net";
import type * as tls from "node:tls";
import { connectFailure } from "../node-error.ts";
import type { TlsInfo } from "../stream-info.ts";
import type { AlpnOffer } from "./alpn-offer.ts";
import type { Priority } from "./circuit-breakers.ts";
import type { ClientView } from "./client-view.ts";
import type { Cluster } from "./cluster.ts";
import { ConnectedSocket } from "./connected-socket.ts";
import type { PoolProtocol } from "./connection-pool.ts";
import type { Host } from "./host.ts";
import { openSocket } from "./open-socket.ts";
import { UpstreamAccount } from "./upstream-account.ts";
import type { UpstreamReset } from "./upstream-stream.ts";

export interface Established {
  readonly socket: ConnectedSocket;
  readonly protocol: "http1" | "http2" | "tcp";
  readonly localAddress: string;
  readonly tlsInfo: TlsInfo | null;
  readonly account: UpstreamAccount;
}

/** Who wants the connection, and for what. */
export interface AttemptOwner {
  readonly cluster: Cluster;
  readonly host: Host;
  /** `tcp`: bytes alone. */
  readonly protocol: PoolProtocol | "tcp";
  readonly alpnOffer: AlpnOffer | null;
  /** Whom the endpoint is shown or told of. */
  readonly client: ClientView | null;
  connected(attempt: ConnectAttempt, established: Established): void;
  connectFailed(attempt: ConnectAttempt, reason: UpstreamReset, transportFailure: string): void;
}

/** What is offered where neither the request nor the endpoint's TLS says. */
const protocolsOf = { http1: ["http/1.1"], http2: ["h2"], auto: ["h2", "http/1.1"], tcp: [] } as const;

export class ConnectAttempt {
  readonly #owner: AttemptOwner;
  readonly #sniHost: string;
  readonly #account: UpstreamAccount;
  readonly #timer: NodeJS.Timeout;
  #socket: net.Socket;
  #isOver = false;

  /** Tells its owner how it ends, later. `sniHost` for `auto_sni`, may be "". */
  constructor(owner: AttemptOwner, priority: Priority, sniHost: string) {
    this.#owner = owner;
    this.#sniHost = sniHost;
    const { cluster, host, protocol } = owner;
    const { stats, config } = cluster;
    this.#account = new UpstreamAccount(cluster, host, priority);
    if (protocol === "http1" || protocol === "http2") this.#account.speaks(protocol);
    this.#timer = setTimeout(() => {
      stats.store.add(stats.at.upstream_cx_connect_timeout, 1);
      this.#failed("connectionTimeout", "");
    }, config.connectTimeoutMs);
    const socket = openSocket(host, { config, client: owner.client });
    this.#socket = socket;
    socket.on("error", (error: NodeJS.ErrnoException) => this.#failed("connectionFailure", connectFailure(error)));
    if (host.transportSocket.tls === null) socket.once("connect", () => this.#connected(socket, null));
    else this.#secure(socket);
  }

  #secure(socket: net.Socket): void {
    const { cluster, host, protocol, alpnOffer } = this.#owner;
    const { autoSni, autoSanValidation } = cluster.config;
    const tls = host.transportSocket.tls!;
    const serverName = autoSni && this.#sniHost !== "" ? this.#sniHost : tls.sni;
    const secured = tls.connect(socket, {
      peer: host.key,
      serverName,
      offer: alpnOffer,
      alpn: protocolsOf[protocol],
      speaksHttp2: protocol === "http2" || protocol === "auto",
    });
    if (secured === null) {
      process.nextTick(() => this.#failed("connectionFailure", "TLS_error:_Secret_is_not_supplied_by_SDS"));
      return;
    }
    this.#socket = secured;
    secured.on("error", (error: NodeJS.ErrnoException) => this.#failed("connectionFailure", connectFailure(error)));
    secured.once("close", () => this.#failed("connectionFailure", "connection_termination"));
    secured.once("secureConnect", () => {
      const problem = tls.verify(secured, autoSanValidation ? this.#sniHost : "");
      if (problem !== null) this.#failed("connectionFailure", problem);
      else this.#connected(secured, tls.info(secured));
    });
  }

  #connected(socket: net.Socket, tlsInfo: TlsInfo | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    const { ssl } = this.#owner.cluster.stats;
    this.#account.connected();
    socket.removeAllListeners("error");
    socket.removeAllListeners("close");
    let protocol = this.#owner.protocol;
    if (tlsInfo !== null) {
      ssl?.secured(tlsInfo, (socket as tls.TLSSocket).isSessionReused());
      // What the connection showed of itself can't be asked any more when it has failed.
      void tlsInfo.localCertificate;
    }
    if (protocol === "auto") {
      protocol = tlsInfo !== null && (socket as tls.TLSSocket).alpnProtocol === "h2" ? "http2" : "http1";
      this.#account.speaks(protocol);
    }
    this.#owner.connected(this, {
      socket: new ConnectedSocket(socket, tlsInfo !== null),
      protocol,
      localAddress: socket.localAddress === undefined ? "" : `${socket.localAddress}:${socket.localPort}`,
      tlsInfo,
      account: this.#account,
    });
  }

  #failed(reason: UpstreamReset, transportFailure: string): void {
    if (this.#isOver) return;
    this.#account.connectFailed();
    if (transportFailure.startsWith("TLS_error")) this.#owner.cluster.stats.ssl?.failed(transportFailure);
    this.#end(reason === "connectionTimeout" ? "local" : "remote");
    this.#owner.connectFailed(this, reason, transportFailure);
  }

  /** Nobody wants it any more. */
  abandon(): void {
    if (!this.#isOver) this.#end("local");
  }

  #end(by: "local" | "remote"): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#socket.on("error", () => {});
    this.#socket.destroy();
    this.#account.closed(by, false);
  }
}
