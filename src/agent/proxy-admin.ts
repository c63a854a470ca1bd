/** What the agent asks of its proxy, in Envoy's terms: the same for our proxy and for an Envoy. */
import type { AdminEndpoint } from "./admin-endpoint.ts";

export type DrainedListeners = "inbound" | "all";

export class ProxyAdmin {
  #endpoint: AdminEndpoint | undefined;
  /** Once a proxy has its configuration it keeps it; asking again would only fail it for a moment's silence. */
  #hasConfiguration = false;
  #hasStarted = false;

  /** The proxy is there. Until then it is not ready. */
  attach(endpoint: AdminEndpoint): void {
    this.#endpoint = endpoint;
  }

  /** Clusters and listeners came from the control plane, and the workers serve. */
  async isReady(): Promise<boolean> {
    try {
      if (!this.#hasConfiguration) {
        const numbers = await this.#attached.numbers(/^(cluster_manager\.cds|listener_manager\.lds)\.update_success$/);
        this.#hasConfiguration =
          (numbers.get("cluster_manager.cds.update_success") ?? 0) > 0 && (numbers.get("listener_manager.lds.update_success") ?? 0) > 0;
        if (!this.#hasConfiguration) return false;
      }
      const numbers = await this.#attached.numbers(/^(server\.state|listener_manager\.workers_started)$/);
      const isLive = numbers.get("server.state") === 0;
      this.#hasStarted ||= isLive && numbers.get("listener_manager.workers_started") === 1;
      return this.#hasStarted && isLive;
    } catch {
      return false;
    }
  }

  /** Resolves when the proxy's main thread has answered. */
  async checkAlive(): Promise<void> {
    await this.#attached.numbers(/^server\.state$/);
  }

  /** Ask clients to go: responses carry `connection: close` while new connections are still taken. */
  async drain(which: DrainedListeners): Promise<void> {
    await this.#attached.drain({ inboundOnly: which === "inbound", skipExit: false });
  }

  async drainWithoutExit(which: DrainedListeners): Promise<void> {
    await this.#attached.drain({ inboundOnly: which === "inbound", skipExit: true });
  }

  /** Connections to listeners that users talk to; the proxy's own two, on these ports, are left out. Undefined: they are not counted. */
  async activeConnections(ownPorts: readonly number[]): Promise<number | undefined> {
    const stats = await this.#attached.numbers(/^listener\..*downstream_cx_active$/);
    if (stats.size === 0) return undefined;
    let sum = 0;
    for (const [name, value] of stats) {
      if (/\.worker_|^listener\.(admin\.|envoy_internal_)/.test(name) || ownPorts.some((port) => name.includes(`_${port}.`))) continue;
      sum += value;
    }
    return sum;
  }

  get #attached(): AdminEndpoint {
    if (!this.#endpoint) throw new Error("the proxy has not been started");
    return this.#endpoint;
  }
}
