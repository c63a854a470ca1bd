/** DNS over UDP, on one address. */
import { createSocket, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";
import { log } from "../../lib/log.ts";
import type { Answerer } from "./answerer.ts";
import { noLookup } from "./no-lookup.ts";

const scope = log.scope("dns");

/** A burst of queries waits here, not in vain; the kernel may give less. */
const receiveBufferBytes = 1 << 20;

export class UdpListener implements AsyncDisposable {
  readonly #socket: Socket;
  #isClosed = false;

  private constructor(socket: Socket, answerer: Answerer) {
    this.#socket = socket;
    socket.on("message", (packet, { address, port }) => {
      // From nowhere: Node throws when it is to send there.
      if (port === 0) return;
      const answer = answerer.answer(packet, "udp", address, port);
      if (answer === "ignore") return;
      if (answer === "forward") answerer.forward(packet, "udp", (response) => this.#send(response, port, address));
      else this.#send(answer, port, address);
    });
    // An ICMP error of a client that has gone, for instance; nobody waits for it.
    socket.on("error", (error) => scope.debug("socket", { error }));
  }

  /** Rejects with the system's error. */
  static async start(host: string, port: number, answerer: Answerer): Promise<UdpListener> {
    const socket = createSocket({ type: isIPv6(host) ? "udp6" : "udp4", lookup: noLookup, recvBufferSize: receiveBufferBytes });
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.bind({ address: host, port, exclusive: true }, () => {
        socket.off("error", reject);
        resolve();
      });
    });
    return new UdpListener(socket, answerer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await new Promise<void>((resolve) => this.#socket.close(resolve));
  }

  #send(response: Buffer, port: number, address: string): void {
    if (!this.#isClosed) this.#socket.send(response, 0, response.length, port, address);
  }
}
