/** What the agent asks of its proxy, through Envoy's admin interface: the same for our proxy and for an Envoy. */

const timeoutMs = 2_000;

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
  async drain(): Promise<void> {
    await this.#post("/drain_listeners?graceful");
  }

  async drainWithoutExit(): Promise<void> {
    await this.#post("/drain_listeners?graceful&skip_exit");
  }

  /** Connections to listeners that users talk to; the proxy's own two are left out. */
  async activeConnections(ownPorts: readonly number[]): Promise<number> {
    let sum = 0;
    for (const [name, value] of await this.#stats("^listener\\..*downstream_cx_active$")) {
      if (name.includes(".worker_") || name.includes("admin") || ownPorts.some((port) => name.includes(`_${port}.`))) continue;
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
