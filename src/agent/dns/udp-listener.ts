/** DNS over UDP, on one address. */
import { createSocket, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";
import { setImmediate } from "node:timers/promises";
import { log } from "../../lib/log.ts";
import { isWildcard } from "../../lib/wildcard-address.ts";
import type { PortSharing } from "../../platform/port-sharing.ts";
import type { Answerer } from "./answerer.ts";
import { noLookup } from "./no-lookup.ts";

const scope = log.scope("dns");

/** A burst of queries waits here, not in vain; the kernel may give less. */
const receiveBufferBytes = 1 << 20;

/** Without a query, before a listener that retires is closed. */
const quietMs = 100;

export class UdpListener implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #host: string;
  readonly #closed = Promise.withResolvers<void>();
  #isClosed = false;
  #isRetiring = false;
  /** Queries that are with a nameserver. */
  #pending = 0;
  #closeTimer: NodeJS.Timeout | undefined;

  private constructor(socket: Socket, host: string, answerer: Answerer) {
    this.#socket = socket;
    this.#host = host;
    socket.on("message", (packet, { address, port }) => {
      // From nowhere: Node throws when it is to send there.
      if (port === 0) return;
      const answer = answerer.answer(packet, "udp", address, port);
      if (answer === "ignore") return;
      if (answer !== "forward") return void this.#send(answer, port, address);
      this.#pending++;
      answerer.forward(packet, "udp", (response) => {
        this.#pending--;
        this.#send(response, port, address);
      });
    });
    // An ICMP error of a client that has gone, for instance; nobody waits for it.
    socket.on("error", (error) => scope.debug("socket", { error }));
  }

  /** Rejects with the system's error. */
  static async start(host: string, port: number, sharing: PortSharing, answerer: Answerer): Promise<UdpListener> {
    const type = isIPv6(host) ? "udp6" : "udp4";
    const socket = createSocket({ type, lookup: noLookup, recvBufferSize: receiveBufferBytes, reusePort: sharing !== "alone" });
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.bind({ address: host, port, exclusive: true }, () => {
        socket.off("error", reject);
        resolve();
      });
    });
    return new UdpListener(socket, host, answerer);
  }

  /**
   * Another process listens on this port too, and gets all queries from now on. Resolves when those that this one has are answered: from this
   * socket, since a client takes answers from nowhere else.
   */
  async retire(): Promise<void> {
    if (!this.#isClosed && !this.#isRetiring) {
      this.#isRetiring = true;
      this.#turnAway();
    }
    await this.#closed.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
    await this.#closed.promise;
  }

  #send(response: Buffer, port: number, address: string): void {
    if (this.#isClosed) return;
    if (this.#isRetiring) this.#socket.disconnect();
    this.#socket.send(response, 0, response.length, port, address);
    if (this.#isRetiring) this.#turnAway();
  }

  /** The kernel gives a socket that has a peer only what that peer sends, and all else to the others on the port. What it has it keeps. */
  #turnAway(): void {
    const nobody = !isWildcard(this.#host) ? this.#host : isIPv6(this.#host) ? "::1" : "127.0.0.1";
    this.#socket.connect(discardPort, nobody);
    clearTimeout(this.#closeTimer);
    this.#closeTimer = setTimeout(() => void this.#closeOnceRead(), quietMs);
  }

  /** A process that stood still finds that the time is over before it has read what arrived meanwhile: it reads first. */
  async #closeOnceRead(): Promise<void> {
    const timer = this.#closeTimer;
    await setImmediate();
    // One that was answered now has begun the time anew.
    if (timer === this.#closeTimer && this.#pending === 0) this.#close();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#closeTimer);
    this.#socket.close(this.#closed.resolve);
  }
}

const discardPort = 9;
