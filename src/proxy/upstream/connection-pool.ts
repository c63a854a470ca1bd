/**
 * HTTP/1.1 connections from this worker to one endpoint. A connection carries one request at a time; a request takes an idle
 * one, or waits while a new one is made, within the cluster's limits.
 *
 *      newStream -> idle connection -> onPoolReady
 *                -> queue + connect -> onPoolReady | onPoolFailure
 */
import type { AlpnOffer } from "./alpn-offer.ts";
import type { Priority } from "./circuit-breakers.ts";
import type { ClientView } from "./client-view.ts";
import type { Cluster } from "./cluster.ts";
import type { Host, PoolOwner } from "./host.ts";
import { Http1Client, type UpstreamReset } from "./http1-client.ts";

/** A request that wants a connection. */
export interface PoolWaiter {
  readonly priority: Priority;
  /** Host of the request, for `auto_sni`. */
  readonly sniHost: string;
  onPoolReady(client: Http1Client): void;
  onPoolFailure(reason: UpstreamReset, transportFailure: string): void;
}

export class ConnectionPool {
  readonly cluster: Cluster;
  readonly host: Host;
  /** null: what the cluster's TLS settings offer. */
  readonly alpnOffer: AlpnOffer | null;
  /** Whose connections these are, to the endpoint's eyes; null: the proxy's own. */
  readonly owner: PoolOwner | null;
  /** A client of the owner's, to be shown or told of. */
  readonly client: ClientView | null;
  readonly #idle: Http1Client[] = [];
  readonly #waiting: PoolWaiter[] = [];
  readonly #connecting = new Set<Http1Client>();
  readonly #busy = new Set<Http1Client>();
  #isDraining = false;

  constructor(cluster: Cluster, host: Host, alpnOffer: AlpnOffer | null, client: ClientView | null) {
    this.cluster = cluster;
    this.host = host;
    this.alpnOffer = alpnOffer;
    this.owner = host.ownerFor(client);
    this.client = this.owner === null ? null : client;
  }

  get isUnused(): boolean {
    return this.#idle.length + this.#waiting.length + this.#connecting.size + this.#busy.size === 0;
  }

  /** Answers at once or later. Hot. */
  newStream(waiter: PoolWaiter): void {
    const resources = this.cluster.resources[waiter.priority];
    const { stats } = this.cluster;
    const idle = this.#idle.pop();
    if (idle !== undefined) {
      if (!resources.canRequest()) {
        this.#idle.push(idle);
        stats.store.add(stats.at.upstream_rq_pending_overflow, 1);
        waiter.onPoolFailure("overflow", "");
        return;
      }
      this.#attach(idle, waiter);
      return;
    }
    if (!resources.canWait()) {
      stats.store.add(stats.at.upstream_rq_pending_overflow, 1);
      waiter.onPoolFailure("overflow", "");
      return;
    }
    this.#waiting.push(waiter);
    resources.addPending(1);
    stats.store.add(stats.at.upstream_rq_pending_total, 1);
    stats.store.add(stats.at.upstream_rq_pending_active, 1);
    stats.store.add(this.host.at.rq_pending_active, 1);
    if (this.#connecting.size < this.#waiting.length) this.#connect(waiter);
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

  /** Idle connections close now, busy ones after their request. */
  drain(): void {
    this.#isDraining = true;
    for (const client of this.#idle.splice(0)) client.close("local");
    for (const client of this.#connecting) if (this.#waiting.length === 0) client.close("local");
    this.host.forgetPool(this);
  }

  // --- called by clients ---

  connected(client: Http1Client): void {
    this.#connecting.delete(client);
    this.#release(client);
  }

  connectFailed(client: Http1Client, reason: UpstreamReset, transportFailure: string): void {
    this.#connecting.delete(client);
    // Who waits for this endpoint hears of the failure, as in Envoy: each may have another endpoint to try.
    for (const waiter of this.#waiting.splice(0)) {
      this.#leftQueue(waiter);
      const { stats } = this.cluster;
      stats.store.add(stats.at.upstream_rq_pending_failure_eject, 1);
      waiter.onPoolFailure(reason, transportFailure);
    }
  }

  /** The client finished a request and can take another. Hot. */
  finished(client: Http1Client): void {
    this.#busy.delete(client);
    this.#release(client);
  }

  closed(client: Http1Client): void {
    this.#busy.delete(client);
    this.#connecting.delete(client);
    const index = this.#idle.indexOf(client);
    if (index >= 0) this.#idle.splice(index, 1);
    // The next in the queue may have waited for this connection's place.
    const next = this.#waiting[0];
    if (next !== undefined && this.#connecting.size < this.#waiting.length) this.#connect(next);
  }

  #release(client: Http1Client): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) {
      if (this.#isDraining) client.close("local");
      else {
        this.#idle.push(client);
        client.becameIdle();
      }
      return;
    }
    this.#leftQueue(waiter);
    if (!this.cluster.resources[waiter.priority].canRequest()) {
      const { stats } = this.cluster;
      stats.store.add(stats.at.upstream_rq_pending_overflow, 1);
      waiter.onPoolFailure("overflow", "");
      this.#release(client);
      return;
    }
    this.#attach(client, waiter);
  }

  #attach(client: Http1Client, waiter: PoolWaiter): void {
    this.#busy.add(client);
    client.begin(waiter.priority);
    waiter.onPoolReady(client);
  }

  #leftQueue(waiter: PoolWaiter): void {
    this.cluster.resources[waiter.priority].addPending(-1);
    const { stats } = this.cluster;
    stats.store.add(stats.at.upstream_rq_pending_active, -1);
    stats.store.add(this.host.at.rq_pending_active, -1);
  }

  #connect(waiter: PoolWaiter): void {
    const resources = this.cluster.resources[waiter.priority];
    const { stats } = this.cluster;
    if (!resources.canConnect()) {
      stats.store.add(stats.at.upstream_cx_overflow, 1);
      // An endpoint without any connection gets one all the same, or its queue would never move.
      if (this.#busy.size + this.#connecting.size + this.#idle.length > 0) return;
    }
    const client = new Http1Client(this, waiter.priority, waiter.sniHost);
    this.#connecting.add(client);
    client.connect();
  }
}
