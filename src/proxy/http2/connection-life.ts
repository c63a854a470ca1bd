/**
 * The life of a client's connection beside its streams: it is counted, told when to go, and ends.
 *
 *      open ──drain, idle, too old, too many requests──> announced ──drain timeout──> final ──last stream ends──> closed
 *
 * A client with requests on their way hears first that it should go, and later which of them counted.
 */
import type { ConnectionAccount } from "../http/connection-account.ts";
import type { ConnectionManager } from "../http/connection-manager.ts";
import type { DownstreamConnection } from "../listener/downstream-connection.ts";

const never = Number.POSITIVE_INFINITY;

type Counted =
  | "downstream_cx_drain_close"
  | "downstream_cx_idle_timeout"
  | "downstream_cx_max_requests_reached"
  | "downstream_cx_protocol_error"
  | "downstream_flow_control_paused_reading_total"
  | "downstream_flow_control_resumed_reading_total"
  | "downstream_rq_too_large"
  | "downstream_rq_too_many_premature_resets";

export interface ConnectionLifeOwner {
  /** GOAWAY: `isFinal`, streams that begin now count for nothing. */
  sayGoAway(isFinal: boolean): void;
  /** Nothing is under way. */
  readonly isIdle: boolean;
  /** It ends, since nothing is under way. */
  end(): void;
  schedule(deadline: number): void;
}

export class ConnectionLife {
  phase: "open" | "announced" | "final" | "closed" = "open";
  /** performance.now() milliseconds. */
  idleDeadline = never;
  readonly #manager: ConnectionManager;
  readonly #connection: DownstreamConnection;
  readonly #account: ConnectionAccount;
  readonly #owner: ConnectionLifeOwner;
  #requests = 0;
  #drainTimer: NodeJS.Timeout | null = null;

  constructor(manager: ConnectionManager, connection: DownstreamConnection, account: ConnectionAccount, owner: ConnectionLifeOwner) {
    this.#manager = manager;
    this.#connection = connection;
    this.#account = account;
    this.#owner = owner;
  }

  count(name: Counted): void {
    const { store, at } = this.#manager.stats;
    store.add(at[name], 1);
  }

  /** Hot. */
  requestBegan(): void {
    const { values } = this.#manager.stats.store;
    const { at } = this.#manager.stats;
    values[at.downstream_rq_total]! += 1;
    values[at.downstream_rq_http2_total]! += 1;
    values[at.downstream_rq_active]! += 1;
    this.#requests++;
    this.idleDeadline = never;
  }

  /** Nothing is under way any more. */
  becameIdle(): void {
    this.#account.countBytes();
    if (this.phase === "final") {
      this.#owner.end();
      return;
    }
    const { idleTimeoutMs } = this.#manager;
    if (idleTimeoutMs <= 0) return;
    this.idleDeadline = performance.now() + idleTimeoutMs;
    this.#owner.schedule(this.idleDeadline);
  }

  /** Asked when the head of a response is finished. */
  decideClose(): void {
    if (this.phase !== "open") return;
    const { maxRequestsPerConnection } = this.#manager;
    if (this.#connection.drain.shouldClose()) this.#drainClose();
    else if (maxRequestsPerConnection > 0 && this.#requests >= maxRequestsPerConnection) {
      this.count("downstream_cx_max_requests_reached");
      this.startDrain();
    }
  }

  /**
   * Nothing new is taken where it came in: a client that only has long streams would not hear so by a response. One that has just connected has
   * requests on their way that it could not send any more; it hears by the first answer.
   */
  drainAnnounced(): void {
    if (this.#requests > 0) this.#drainClose();
  }

  #drainClose(): void {
    if (this.phase !== "open") return;
    this.count("downstream_cx_drain_close");
    this.startDrain();
  }

  expire(now: number): void {
    if (this.idleDeadline > now || !this.#owner.isIdle) return;
    this.idleDeadline = never;
    this.count("downstream_cx_idle_timeout");
    this.startDrain();
  }

  startDrain(): void {
    if (this.phase !== "open") return;
    this.phase = "announced";
    this.#owner.sayGoAway(false);
    this.#drainTimer = setTimeout(() => this.finishDrain(), this.#manager.drainTimeoutMs);
    this.#drainTimer.unref();
  }

  finishDrain(): void {
    if (this.phase === "final" || this.phase === "closed") return;
    this.phase = "final";
    this.#owner.sayGoAway(true);
    if (this.#owner.isIdle) this.#owner.end();
  }

  /** `cutsOff`: requests were under way. */
  closed(by: "local" | "remote", cutsOff: boolean): void {
    this.phase = "closed";
    clearTimeout(this.#drainTimer ?? undefined);
    this.#account.close(by, cutsOff);
  }
}
