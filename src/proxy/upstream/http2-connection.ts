/**
 * One HTTP/2 connection from this worker to an endpoint, for the proxy's own gRPC calls. Calls come while it connects and wait, then share it.
 *
 *      connecting -> open -> closing (no new calls) -> closed
 */
import * as http2 from "node:http2";
import * as net from "node:net";
import type { Cluster } from "./cluster.ts";
import type { Host } from "./host.ts";
import { announce } from "./open-socket.ts";

export interface Http2Waiter {
  onConnected(session: http2.ClientHttp2Session): void;
  onConnectFailed(): void;
}

type State =
  | { readonly kind: "connecting"; readonly socket: net.Socket; readonly timer: NodeJS.Timeout; readonly waiting: Set<Http2Waiter> }
  | { readonly kind: "open" | "closing"; readonly session: http2.ClientHttp2Session }
  | { readonly kind: "closed" };

export class Http2Connection {
  readonly #cluster: Cluster;
  readonly #host: Host;
  readonly #startedAt = performance.now();
  #state: State;
  #calls = 0;

  constructor(cluster: Cluster, host: Host) {
    this.#cluster = cluster;
    this.#host = host;
    const { stats, config } = cluster;
    for (const stat of ["upstream_cx_total", "upstream_cx_http2_total", "upstream_cx_active"] as const) stats.store.add(stats.at[stat], 1);
    host.stats.add(host.at.cx_total, 1);
    host.stats.add(host.at.cx_active, 1);
    cluster.resources.default.addConnection(1);
    const { address, port } = host.description;
    const socket = port < 0 ? net.connect({ path: address }) : net.connect({ host: address, port, noDelay: true });
    announce(socket, host, null);
    const timer = setTimeout(() => {
      stats.store.add(stats.at.upstream_cx_connect_timeout, 1);
      this.#connectFailed();
    }, config.connectTimeoutMs);
    this.#state = { kind: "connecting", socket, timer, waiting: new Set() };
    socket.on("error", () => this.#connectFailed());
    const { tls } = host.transportSocket;
    if (tls === null) {
      socket.once("connect", () => this.#connected(socket));
      return;
    }
    const secured = tls.connect(socket, { peer: host.key, serverName: tls.sni, alpn: ["h2"], speaks: "http2" });
    if (secured === null) {
      process.nextTick(() => this.#connectFailed());
      return;
    }
    secured.on("error", () => this.#connectFailed());
    secured.once("close", () => this.#connectFailed());
    secured.once("secureConnect", () => {
      if (tls.verify(secured, "") !== null) {
        this.#connectFailed();
        return;
      }
      stats.ssl?.secured(tls.info(secured), secured.isSessionReused());
      this.#connected(secured);
    });
  }

  /** Takes no new calls: the next one needs another connection. */
  get isUsedUp(): boolean {
    return this.#state.kind === "closing" || this.#state.kind === "closed";
  }

  /** Answers at once or later; not for a connection that is used up. */
  use(waiter: Http2Waiter): void {
    const { maxRequestsPerConnection: max } = this.#cluster.config;
    const state = this.#state;
    this.#calls++;
    if (state.kind === "connecting") state.waiting.add(waiter);
    else if (state.kind !== "closed") waiter.onConnected(state.session);
    if (max > 0 && this.#calls >= max && state.kind === "open") this.drain();
  }

  cancel(waiter: Http2Waiter): void {
    if (this.#state.kind === "connecting") this.#state.waiting.delete(waiter);
  }

  /** Calls under way come to their end; then it closes. */
  drain(): void {
    const state = this.#state;
    if (state.kind === "open") {
      this.#state = { kind: "closing", session: state.session };
      state.session.close();
    } else if (state.kind === "connecting" && state.waiting.size === 0) this.#connectFailed();
  }

  #connected(socket: net.Socket): void {
    const state = this.#state;
    if (state.kind !== "connecting") return;
    clearTimeout(state.timer);
    const { stats, config } = this.#cluster;
    stats.store.record(stats.at.upstream_cx_connect_ms, Math.round(performance.now() - this.#startedAt));
    socket.removeAllListeners("close");
    const session = http2.connect("http://grpc", { createConnection: () => socket, settings: { enablePush: false } });
    session.on("error", () => {}); // its streams hear of it
    session.on("goaway", () => this.drain());
    session.once("close", () => this.#closed());
    if (config.idleTimeoutMs > 0) session.setTimeout(config.idleTimeoutMs, () => this.drain());
    this.#state = { kind: "open", session };
    for (const waiter of state.waiting) waiter.onConnected(session);
  }

  #connectFailed(): void {
    const state = this.#state;
    if (state.kind !== "connecting") return;
    clearTimeout(state.timer);
    const { stats } = this.#cluster;
    stats.store.add(stats.at.upstream_cx_connect_fail, 1);
    this.#host.stats.add(this.#host.at.cx_connect_fail, 1);
    state.socket.destroy();
    this.#closed();
    for (const waiter of state.waiting) waiter.onConnectFailed();
  }

  #closed(): void {
    this.#state = { kind: "closed" };
    const { stats, resources } = this.#cluster;
    resources.default.addConnection(-1);
    stats.store.add(stats.at.upstream_cx_active, -1);
    stats.store.add(stats.at.upstream_cx_destroy, 1);
    this.#host.stats.add(this.#host.at.cx_active, -1);
    if (this.#host.http2 === this) this.#host.http2 = null;
  }
}
