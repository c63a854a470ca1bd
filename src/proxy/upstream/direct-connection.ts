/** A connection to an endpoint for one CONNECT that ends here: what comes through the tunnel is the connection's bytes. */
import type { HeaderList } from "../stream-info.ts";
import { Transport, type TransportHandler } from "../transport.ts";
import type { Priority } from "./circuit-breakers.ts";
import { ClientLife, type ClientLifeOwner } from "./client-life.ts";
import type { ClientView } from "./client-view.ts";
import type { Cluster } from "./cluster.ts";
import { type AttemptOwner, ConnectAttempt, type Established } from "./connect-attempt.ts";
import type { Host } from "./host.ts";
import type { PoolWaiter, StreamSource, UpstreamConnection, UpstreamExchange, UpstreamReset } from "./upstream-stream.ts";

export class DirectConnection implements StreamSource, AttemptOwner {
  readonly cluster: Cluster;
  readonly host: Host;
  readonly protocol = "tcp";
  readonly alpnOffer = null;
  readonly client: ClientView | null;
  #waiter: PoolWaiter | null = null;
  #attempt: ConnectAttempt | null = null;

  constructor(cluster: Cluster, host: Host, client: ClientView | null) {
    this.cluster = cluster;
    this.host = host;
    this.client = client;
  }

  newStream(waiter: PoolWaiter): void {
    const { stats, resources } = this.cluster;
    if (!resources[waiter.priority].canConnect()) {
      stats.store.add(stats.at.upstream_cx_overflow, 1);
      stats.store.add(stats.at.upstream_rq_pending_overflow, 1);
      waiter.onPoolFailure("overflow", "");
      return;
    }
    this.#waiter = waiter;
    this.#attempt = new ConnectAttempt(this, waiter.priority, waiter.sniHost);
  }

  cancel(): void {
    this.#waiter = null;
    this.#attempt?.abandon();
  }

  connected(_: ConnectAttempt, established: Established): void {
    const waiter = this.#waiter;
    if (waiter !== null) waiter.onPoolReady(new DirectExchange(this, established, waiter));
  }

  connectFailed(_: ConnectAttempt, reason: UpstreamReset, transportFailure: string): void {
    this.#waiter?.onPoolFailure(reason, transportFailure);
  }
}

class DirectExchange implements UpstreamExchange, TransportHandler, ClientLifeOwner {
  readonly #life: ClientLife;
  readonly #transport: Transport;
  readonly #priority: Priority;
  #stream: PoolWaiter | null;
  #isClosed = false;

  constructor(tunnel: DirectConnection, established: Established, waiter: PoolWaiter) {
    this.#stream = waiter;
    this.#priority = waiter.priority;
    this.#life = new ClientLife(tunnel, established, this);
    this.#transport = new Transport(established.socket, this);
    this.#life.start(this.#transport);
    this.#life.requestBegan(waiter.priority);
  }

  get connection(): UpstreamConnection {
    return this.#life;
  }

  // --- UpstreamExchange ---

  /** The tunnel is open; nobody at the other end says so. */
  sendHeaders(): void {
    this.#stream!.onUpstreamHeaders(200, [], false);
    this.#stream?.onUpstreamReadComplete();
    this.#transport.start();
  }

  sendData(chunk: Buffer, endStream: boolean): boolean {
    const more = this.#transport.write(chunk);
    if (endStream) this.#transport.end();
    return more;
  }

  sendTrailers(_: HeaderList): void {
    this.#transport.end();
  }

  flush(): void {}

  pauseReading(): void {
    this.#transport.pause();
  }

  resumeReading(): void {
    this.#transport.start();
  }

  reset(): void {
    this.close("local");
  }

  abandonRequest(): void {
    this.close("local");
  }

  // --- TransportHandler ---

  onData(chunk: Buffer): void {
    const stream = this.#stream;
    stream?.onUpstreamData(chunk);
    stream?.onUpstreamReadComplete();
  }

  onEnd(): void {
    const stream = this.#stream;
    this.#stream = null;
    stream?.onUpstreamEnd(null);
    this.close("remote");
  }

  onClose(): void {
    const stream = this.#stream;
    this.#stream = null;
    this.close("remote");
    stream?.onUpstreamReset("connectionTermination");
  }

  onDrain(): void {
    this.#stream?.onUpstreamDrain();
  }

  // --- ClientLifeOwner ---

  readonly isIdle = false;

  retired(): void {
    // Its one request is what it is there for.
  }

  close(by: "local" | "remote"): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stream = null;
    this.#life.closed(by, true);
    this.#transport.destroy();
    this.#life.requestEnded(this.#priority);
  }
}
