import { connect } from "node:net";
import type { TCPHealthCheckConfig } from "../../api/kinds/workload-group.ts";
import type { Probe, ProbeTarget } from "./probe.ts";

/** Well as soon as it takes a connection. */
export class TcpProbe implements Probe {
  readonly #port: number;
  readonly #target: ProbeTarget;

  constructor({ port }: TCPHealthCheckConfig, target: ProbeTarget) {
    this.#port = port;
    this.#target = target;
  }

  check(signal: AbortSignal): Promise<string | undefined> {
    const { host, from } = this.#target;
    return new Promise((resolve) => {
      const socket = connect({ host, port: this.#port, ...(from ? { localAddress: from } : {}), signal });
      socket.once("connect", () => {
        // Without the wait of an orderly end: a probe a second leaves no trail of closing connections.
        socket.resetAndDestroy();
        resolve(undefined);
      });
      socket.once("error", (error) => resolve(signal.aborted ? `no connection to ${host}:${this.#port} in time` : error.message));
    });
  }
}
