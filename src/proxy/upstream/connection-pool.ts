/**
 * Connections from this worker to one endpoint, of one protocol. A request takes one that has room, or waits while a new one is made, within the
 * cluster's limits. An HTTP/1.1 connection has room for one request at a time, one of HTTP/2 for as many as both sides agree to.
 *
 *      newStream -> ready connection -> onPoolReady
 *                -> queue + connect  -> onPoolReady | onPoolFailure
 */
import type { AlpnOffer } from "./alpn-offer.ts";
import type { ClientView } from "./client-view.ts";
import type { Cluster } from "./cluster.ts";
import { type AttemptOwner, ConnectAttempt, type Established } from "./connect-attempt.ts";
import type { Host, PoolOwner } from "./host.ts";
import { Http1Client } from "./http1-client.ts";
import { Http2Client } from "./http2-client.ts";
import type { PoolWaiter, StreamSource, UpstreamExchange, UpstreamReset } from "./upstream-stream.ts";

/** `auto`: what TLS agrees on. */
export type PoolProtocol = "http1" | "http2" | "auto";

export interface PooledClient {
  /** How many more requests it takes now. */
  readonly freeStreams: number;
  readonly isIdle: boolean;
  /** A request takes a place. */
  begin(waiter: PoolWaiter): UpstreamExchange;
  start(): void;
  becameIdle(): void;
  close(by: "local" | "remote"): void;
}

/** Which of an endpoint's pools: none has another's connections. */
export interface PoolKey {
  readonly protocol: PoolProtocol;
  /** null: what the cluster's TLS settings offer. */
  readonly alpnOffer: AlpnOffer | null;
  /** Whom the endpoint may be shown or told of; null: the proxy itself asks. */
  readonly client: ClientView | null;
}

export class ConnectionPool implements PoolKey, AttemptOwner, StreamSource {
  readonly cluster: Cluster;
  readonly host: Host;
  readonly protocol: PoolProtocol;
  readonly alpnOffer: AlpnOffer | null;
  /** Whose connections these are, to the endpoint's eyes; null: the proxy's own. */
  readonly owner: PoolOwner | null;
  /** A client of the owner's. */
  readonly client: ClientView | null;
  /** With room; the last was used last. */
  readonly #ready: PooledClient[] = [];
  readonly #full = new Set<PooledClient>();
  readonly #waiting: PoolWaiter[] = [];
  /** And for how many requests each may be enough. */
  readonly #connecting = new Map<ConnectAttempt, number>();
  /** Sum of those. */
  #expected = 0;
  /** What `auto` came to last. */
  #spoken: "http1" | "http2" | null = null;
  #isDraining = false;

  constructor(cluster: Cluster, host: Host, { protocol, alpnOffer, client }: PoolKey) {
    this.cluster = cluster;
    this.host = host;
    this.protocol = protocol;
    this.alpnOffer = alpnOffer;
    this.owner = host.ownerFor(client);
    this.client = this.owner === null ? null : client;
  }

  get isUnused(): boolean {
    return this.#ready.length + this.#waiting.length + this.#connecting.size + this.#full.size === 0;
  }

  /** Answers at once or later. Hot. */
  newStream(waiter: PoolWaiter): void {
    const resources = this.cluster.resources[waiter.priority];
    const ready = this.#ready;
    if (ready.length > 0) {
      if (!resources.canRequest()) {
        this.#overflow(waiter);
        return;
      }
      const client = ready[ready.length - 1]!;
      const exchange = client.begin(waiter);
      if (client.freeStreams <= 0) {
        ready.pop();
        this.#full.add(client);
      }
      waiter.onPoolReady(exchange);
      return;
    }
    if (!resources.canWait()) {
      this.#overflow(waiter);
      return;
    }
    const { store, at } = this.cluster.stats;
    this.#waiting.push(waiter);
    resources.addPending(1);
    store.add(at.upstream_rq_pending_total, 1);
    store.add(at.upstream_rq_pending_active, 1);
    store.add(this.host.at.rq_pending_active, 1);
    this.#connectAsNeeded();
  }

  /** The request does not wait any more. */
  cancel(waiter: PoolWaiter): void {
    const index = this.#waiting.indexOf(waiter);
    if (index < 0) return;
    this.#waiting.splice(index, 1);
    this.#leftQueue(waiter);
    const { stats } = this.cluster;
    stats.store.add(stats.at.upstream_rq_cancelled, 1);
  }

  /** Idle connections close now, others after their requests. */
  drain(): void {
    this.#isDraining = true;
    for (const client of [...this.#ready]) if (client.isIdle) client.close("local");
    if (this.#waiting.length === 0) {
      for (const attempt of [...this.#connecting.keys()]) {
        this.#leave(attempt);
        attempt.abandon();
      }
    }
    this.host.forgetPool(this);
  }

  // --- called by attempts ---

  connected(attempt: ConnectAttempt, established: Established): void {
    this.#leave(attempt);
    this.#spoken = established.protocol === "http2" ? "http2" : "http1";
    const client = this.#spoken === "http2" ? new Http2Client(this, established) : new Http1Client(this, established);
    // Full until it is known to live: it may find an end, or bytes that nobody asked for.
    this.#full.add(client);
    client.start();
    this.changed(client);
    this.#connectAsNeeded();
  }

  connectFailed(attempt: ConnectAttempt, reason: UpstreamReset, transportFailure: string): void {
    this.#leave(attempt);
    // Who waits for this endpoint hears of the failure, as in Envoy: each may have another endpoint to try.
    for (const waiter of this.#waiting.splice(0)) {
      this.#leftQueue(waiter);
      const { stats } = this.cluster;
      stats.store.add(stats.at.upstream_rq_pending_failure_eject, 1);
      waiter.onPoolFailure(reason, transportFailure);
    }
  }

  // --- called by clients ---

  /** A request on it is over, or it has learned how many it may carry. Hot. */
  changed(client: PooledClient): void {
    if (client.freeStreams > 0) this.#offer(client);
    else this.#retire(client);
    if (!client.isIdle) return;
    if (this.#isDraining && this.#waiting.length === 0) client.close("local");
    else client.becameIdle();
  }

  closed(client: PooledClient): void {
    this.#full.delete(client);
    const index = this.#ready.indexOf(client);
    if (index >= 0) this.#ready.splice(index, 1);
    // The next in the queue may have waited for this connection's place.
    this.#connectAsNeeded();
  }

  /** It takes no more requests for now. */
  #retire(client: PooledClient): void {
    const index = this.#ready.indexOf(client);
    if (index < 0) return;
    this.#ready.splice(index, 1);
    this.#full.add(client);
    this.#connectAsNeeded();
  }

  /** It stays among the full ones until nobody waits any more: what happens meanwhile can close it, or fill it. */
  #offer(client: PooledClient): void {
    while (this.#waiting.length > 0 && client.freeStreams > 0 && this.#full.has(client)) {
      const waiter = this.#waiting.shift()!;
      this.#leftQueue(waiter);
      if (this.cluster.resources[waiter.priority].canRequest()) waiter.onPoolReady(client.begin(waiter));
      else this.#overflow(waiter);
    }
    if (client.freeStreams > 0 && this.#full.delete(client)) this.#ready.push(client);
  }

  #overflow(waiter: PoolWaiter): void {
    const { stats } = this.cluster;
    stats.store.add(stats.at.upstream_rq_pending_overflow, 1);
    waiter.onPoolFailure("overflow", "");
  }

  #leftQueue(waiter: PoolWaiter): void {
    this.cluster.resources[waiter.priority].addPending(-1);
    const { stats } = this.cluster;
    stats.store.add(stats.at.upstream_rq_pending_active, -1);
    stats.store.add(this.host.at.rq_pending_active, -1);
  }

  #leave(attempt: ConnectAttempt): void {
    this.#expected -= this.#connecting.get(attempt) ?? 0;
    this.#connecting.delete(attempt);
  }

  #connectAsNeeded(): void {
    while (this.#expected < this.#waiting.length) {
      const waiter = this.#waiting[0]!;
      const { stats, resources } = this.cluster;
      if (!resources[waiter.priority].canConnect()) {
        stats.store.add(stats.at.upstream_cx_overflow, 1);
        // An endpoint without any connection gets one all the same, or its queue would never move.
        if (this.#full.size + this.#connecting.size + this.#ready.length > 0) return;
      }
      const streams = this.#streamsOfOne;
      const attempt = new ConnectAttempt(this, waiter.priority, waiter.sniHost);
      this.#connecting.set(attempt, streams);
      this.#expected += streams;
    }
  }

  /** As many requests as a new connection is likely to carry at once. */
  get #streamsOfOne(): number {
    if (this.protocol === "http1" || this.#spoken === "http1") return 1;
    const { http2, maxRequestsPerConnection: max } = this.cluster.config;
    return max > 0 ? Math.min(max, http2.maxConcurrentStreams) : http2.maxConcurrentStreams;
  }
}
