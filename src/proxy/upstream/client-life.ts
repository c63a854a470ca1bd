/**
 * What connections to endpoints have in common beside their protocol: requests are counted, and the connection ends when it has been idle, has
 * lived or has carried enough.
 */
import { LazyTimer } from "../lazy-timer.ts";
import type { TlsInfo } from "../stream-info.ts";
import type { Transport } from "../transport.ts";
import type { Priority } from "./circuit-breakers.ts";
import type { AttemptOwner, Established } from "./connect-attempt.ts";
import type { UpstreamAccount } from "./upstream-account.ts";
import type { UpstreamConnection } from "./upstream-stream.ts";

const never = Number.POSITIVE_INFINITY;
let nextConnectionId = 1;

export interface ClientLifeOwner {
  readonly isIdle: boolean;
  close(by: "local" | "remote"): void;
  /** It takes no further request. */
  retired(): void;
}

/** As logs and filters write it; of bytes alone there is nothing to write. */
const protocolNames = { http1: "HTTP/1.1", http2: "HTTP/2", tcp: null } as const;

export class ClientLife implements UpstreamConnection {
  readonly id = nextConnectionId++;
  readonly protocol: UpstreamConnection["protocol"];
  readonly localAddress: string;
  readonly tlsInfo: TlsInfo | null;
  readonly account: UpstreamAccount;
  isRetired = false;
  readonly #pool: Pick<AttemptOwner, "cluster" | "host">;
  readonly #owner: ClientLifeOwner;
  #requests = 0;
  #idleTimer: LazyTimer | null = null;
  #durationTimer: NodeJS.Timeout | null = null;

  constructor(
    pool: Pick<AttemptOwner, "cluster" | "host">,
    { account, protocol, localAddress, tlsInfo }: Established,
    owner: ClientLifeOwner,
  ) {
    this.#pool = pool;
    this.#owner = owner;
    this.account = account;
    this.protocol = protocolNames[protocol];
    this.localAddress = localAddress;
    this.tlsInfo = tlsInfo;
  }

  start(transport: Transport): void {
    this.account.carriedBy(transport);
    const { stats, config } = this.#pool.cluster;
    if (config.maxConnectionDurationMs <= 0) return;
    this.#durationTimer = setTimeout(() => {
      stats.store.add(stats.at.upstream_cx_max_duration_reached, 1);
      this.retire();
    }, config.maxConnectionDurationMs);
    this.#durationTimer.unref();
  }

  /** Hot. */
  requestBegan(priority: Priority): void {
    const { cluster, host } = this.#pool;
    this.#requests++;
    this.#idleTimer?.set(never);
    cluster.resources[priority].addRequest(1);
    host.activeRequests++;
    const { values } = cluster.stats.store;
    values[cluster.stats.at.upstream_rq_active]! += 1;
    values[cluster.stats.at.upstream_rq_total]! += 1;
    values[host.at.rq_active]! += 1;
    values[host.at.rq_total]! += 1;
    const max = cluster.config.maxRequestsPerConnection;
    if (max > 0 && this.#requests >= max && !this.isRetired) {
      this.isRetired = true;
      values[cluster.stats.at.upstream_cx_max_requests]! += 1;
    }
  }

  /** Hot. */
  requestEnded(priority: Priority): void {
    const { cluster, host } = this.#pool;
    cluster.resources[priority].addRequest(-1);
    host.activeRequests--;
    const { values } = cluster.stats.store;
    values[cluster.stats.at.upstream_rq_active]! -= 1;
    values[host.at.rq_active]! -= 1;
  }

  /** How many requests it may still carry. */
  get requestsLeft(): number {
    if (this.isRetired) return 0;
    const max = this.#pool.cluster.config.maxRequestsPerConnection;
    return max > 0 ? max - this.#requests : never;
  }

  becameIdle(): void {
    const { idleTimeoutMs } = this.#pool.cluster.config;
    if (idleTimeoutMs <= 0) return;
    this.#idleTimer ??= new LazyTimer(() => this.#idleExpired());
    this.#idleTimer.set(performance.now() + idleTimeoutMs);
  }

  #idleExpired(): void {
    if (!this.#owner.isIdle) return;
    const { stats } = this.#pool.cluster;
    stats.store.add(stats.at.upstream_cx_idle_timeout, 1);
    this.#owner.close("local");
  }

  /** No further request: it closes now, or after those that it carries. */
  retire(): void {
    this.isRetired = true;
    if (this.#owner.isIdle) this.#owner.close("local");
    else this.#owner.retired();
  }

  closed(by: "local" | "remote", cutsOff: boolean): void {
    clearTimeout(this.#durationTimer ?? undefined);
    this.#idleTimer?.dispose();
    this.account.closed(by, cutsOff);
  }
}
