/** A client's connection in the statistics of its manager, from beginning to end, and the longest that it may take. */
import type { DownstreamConnection } from "../listener/downstream-connection.ts";
import type { Transport } from "../transport.ts";
import type { ConnectionManager } from "./connection-manager.ts";

type HttpProtocol = "http1" | "http2";

export class ConnectionAccount {
  readonly #manager: ConnectionManager;
  readonly #connection: DownstreamConnection;
  readonly #transport: Transport;
  readonly #startedAt = performance.now();
  /** null: it has said nothing yet. */
  #protocol: HttpProtocol | null = null;
  #onTooOld: () => void = () => {};
  #durationTimer: NodeJS.Timeout | null = null;
  #countedRead = 0;
  #countedWritten = 0;

  constructor(manager: ConnectionManager, connection: DownstreamConnection, transport: Transport) {
    this.#manager = manager;
    this.#connection = connection;
    this.#transport = transport;
  }

  /** `onTooOld`: it has been there for max_connection_duration. */
  open(onTooOld: () => void): void {
    const { store, at } = this.#manager.stats;
    store.add(at.downstream_cx_total, 1);
    store.add(at.downstream_cx_active, 1);
    if (this.#connection.isTls) {
      store.add(at.downstream_cx_ssl_total, 1);
      store.add(at.downstream_cx_ssl_active, 1);
    }
    this.#onTooOld = onTooOld;
    if (this.#manager.maxConnectionDurationMs <= 0) return;
    this.#durationTimer = setTimeout(() => {
      store.add(at.downstream_cx_max_duration_reached, 1);
      this.#onTooOld();
    }, this.#manager.maxConnectionDurationMs);
    this.#durationTimer.unref();
  }

  /** Its first bytes have come, or its handshake has said so. */
  speaks(protocol: HttpProtocol, onTooOld = this.#onTooOld): void {
    this.#protocol = protocol;
    this.#onTooOld = onTooOld;
    const { store, at } = this.#manager.stats;
    store.add(at[`downstream_cx_${protocol}_total`], 1);
    store.add(at[`downstream_cx_${protocol}_active`], 1);
  }

  /** Hot. */
  countBytes(): void {
    const { store, at } = this.#manager.stats;
    const transport = this.#transport;
    store.values[at.downstream_cx_rx_bytes_total]! += transport.bytesRead - this.#countedRead;
    store.values[at.downstream_cx_tx_bytes_total]! += transport.bytesWritten - this.#countedWritten;
    this.#countedRead = transport.bytesRead;
    this.#countedWritten = transport.bytesWritten;
  }

  /** `cutsOff`: requests were under way. */
  close(by: "local" | "remote", cutsOff: boolean): void {
    this.countBytes();
    clearTimeout(this.#durationTimer ?? undefined);
    const { store, at } = this.#manager.stats;
    if (cutsOff) {
      store.add(at.downstream_cx_destroy_active_rq, 1);
      store.add(at[`downstream_cx_destroy_${by}_active_rq`], 1);
    }
    store.add(at.downstream_cx_active, -1);
    if (this.#protocol !== null) store.add(at[`downstream_cx_${this.#protocol}_active`], -1);
    if (this.#connection.isTls) store.add(at.downstream_cx_ssl_active, -1);
    store.add(at.downstream_cx_destroy, 1);
    store.add(at[`downstream_cx_destroy_${by}`], 1);
    store.record(at.downstream_cx_length_ms, Math.round(performance.now() - this.#startedAt));
    this.#connection.closed();
  }
}
