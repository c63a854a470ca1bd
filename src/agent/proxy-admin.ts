/** What the agent asks of its proxy, through Envoy's admin interface: the same for our proxy and for an Envoy. */

const timeoutMs = 2_000;

/** An application that ends with its sidecar may call out until then. */
export type DrainedListeners = "inbound" | "all";
const drainQuery: Readonly<Record<DrainedListeners, string>> = { inbound: "inboundonly&", all: "" };

export class ProxyAdmin {
  readonly #base: string;
  /** Once a proxy has its configuration it keeps it; asking again would only fail it for a moment's silence. */
  #hasConfiguration = false;
  #hasStarted = false;

  constructor(address: string, port: number) {
    this.#base = `http://${address}:${port}`;
  }

  /** Clusters and listeners came from the control plane, and the workers serve. */
  async isReady(): Promise<boolean> {
    try {
      if (!this.#hasConfiguration) {
        const stats = await this.#stats("^(cluster_manager\\.cds|listener_manager\\.lds)\\.update_success$");
        this.#hasConfiguration =
          (stats.get("cluster_manager.cds.update_success") ?? 0) > 0 && (stats.get("listener_manager.lds.update_success") ?? 0) > 0;
        if (!this.#hasConfiguration) return false;
      }
      const stats = await this.#stats("^(server\\.state|listener_manager\\.workers_started)$");
      const isLive = stats.get("server.state") === 0;
      this.#hasStarted ||= isLive && stats.get("listener_manager.workers_started") === 1;
      return this.#hasStarted && isLive;
    } catch {
      return false;
    }
  }

  /** Resolves when the proxy's main thread has answered. */
  async checkAlive(): Promise<void> {
    await this.#stats("^server\\.state$");
  }

  /** Ask clients to go: responses carry `connection: close` while new connections are still taken. */
  async drain(which: DrainedListeners): Promise<void> {
    await this.#post(`/drain_listeners?${drainQuery[which]}graceful`);
  }

  async drainWithoutExit(which: DrainedListeners): Promise<void> {
    await this.#post(`/drain_listeners?${drainQuery[which]}graceful&skip_exit`);
  }

  /** Connections to listeners that users talk to; the proxy's own two, on these ports, are left out. Undefined: they are not counted. */
  async activeConnections(ownPorts: readonly number[]): Promise<number | undefined> {
    const stats = await this.#stats("^listener\\..*downstream_cx_active$");
    if (stats.size === 0) return undefined;
    let sum = 0;
    for (const [name, value] of stats) {
      if (/\.worker_|^listener\.(admin\.|envoy_internal_)/.test(name) || ownPorts.some((port) => name.includes(`_${port}.`))) continue;
      sum += value;
    }
    return sum;
  }

  async #stats(filter: string): Promise<Map<string, number>> {
    const answer = await fetch(`${this.#base}/stats?filter=${encodeURIComponent(filter)}`, { signal: AbortSignal.timeout(timeoutMs) });
    if (!answer.ok) throw new Error(`admin answers ${answer.status}`);
    const lines = (await answer.text()).split("\n").filter(Boolean);
    return new Map(
      lines.map((line): [string, number] => {
        const colon = line.lastIndexOf(": ");
        return [line.slice(0, colon), Number(line.slice(colon + 2))];
      }),
    );
  }

  async #post(path: string): Promise<void> {
    const answer = await fetch(`${this.#base}${path}`, { method: "POST", signal: AbortSignal.timeout(timeoutMs) });
    if (!answer.ok) throw new Error(`admin answers ${answer.status} to ${path}`);
  }
}
