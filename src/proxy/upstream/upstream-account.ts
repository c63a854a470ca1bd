/** A connection to an endpoint in the statistics and limits of its cluster, from the attempt to its end. */
import type { Transport } from "../transport.ts";
import type { Priority } from "./circuit-breakers.ts";
import type { Cluster } from "./cluster.ts";
import type { Host } from "./host.ts";

export class UpstreamAccount {
  readonly #cluster: Cluster;
  readonly #host: Host;
  readonly #priority: Priority;
  readonly #startedAt = performance.now();
  #transport: Transport | null = null;
  #countedRead = 0;
  #countedWritten = 0;

  /** `priority`: of the request that it is opened for, whose limits count it. */
  constructor(cluster: Cluster, host: Host, priority: Priority) {
    this.#cluster = cluster;
    this.#host = host;
    this.#priority = priority;
    const { store, at } = cluster.stats;
    store.add(at.upstream_cx_total, 1);
    store.add(at.upstream_cx_active, 1);
    store.add(host.at.cx_total, 1);
    store.add(host.at.cx_active, 1);
    cluster.resources[priority].addConnection(1);
  }

  speaks(protocol: "http1" | "http2"): void {
    const { store, at } = this.#cluster.stats;
    store.add(at[`upstream_cx_${protocol}_total`], 1);
  }

  connected(): void {
    const { store, at } = this.#cluster.stats;
    store.record(at.upstream_cx_connect_ms, Math.round(performance.now() - this.#startedAt));
  }

  /** From here on its bytes and its life are counted too. */
  carriedBy(transport: Transport): void {
    this.#transport = transport;
  }

  connectFailed(): void {
    const { store, at } = this.#cluster.stats;
    store.add(at.upstream_cx_connect_fail, 1);
    store.add(this.#host.at.cx_connect_fail, 1);
  }

  /** Hot. */
  countBytes(): void {
    const transport = this.#transport;
    if (transport === null) return;
    const { store, at } = this.#cluster.stats;
    store.values[at.upstream_cx_rx_bytes_total]! += transport.bytesRead - this.#countedRead;
    store.values[at.upstream_cx_tx_bytes_total]! += transport.bytesWritten - this.#countedWritten;
    this.#countedRead = transport.bytesRead;
    this.#countedWritten = transport.bytesWritten;
  }

  /** `cutsOff`: requests were under way. */
  closed(by: "local" | "remote", cutsOff: boolean): void {
    this.countBytes();
    const { store, at } = this.#cluster.stats;
    this.#cluster.resources[this.#priority].addConnection(-1);
    store.add(at.upstream_cx_active, -1);
    store.add(this.#host.at.cx_active, -1);
    store.add(at.upstream_cx_destroy, 1);
    store.add(by === "local" ? at.upstream_cx_destroy_local : at.upstream_cx_destroy_remote, 1);
    if (cutsOff) {
      store.add(at.upstream_cx_destroy_with_active_rq, 1);
      store.add(by === "local" ? at.upstream_cx_destroy_local_with_active_rq : at.upstream_cx_destroy_remote_with_active_rq, 1);
    }
    if (this.#transport !== null) store.record(at.upstream_cx_length_ms, Math.round(performance.now() - this.#startedAt));
  }
}
