/** Whether a listener's connections should end, and how firmly; shared by all connections of the listener. */
export class ListenerDrain {
  #startedAt = -1;
  #strategy: "immediate" | "gradual" = "immediate";
  #drainTimeMs = 0;
  /** /healthcheck/fail: every response closes its connection. */
  healthFailed = false;

  start(strategy: "immediate" | "gradual", drainTimeMs: number): void {
    if (this.#startedAt >= 0) return;
    this.#startedAt = performance.now();
    this.#strategy = strategy;
    this.#drainTimeMs = drainTimeMs;
  }

  get isDraining(): boolean {
    return this.#startedAt >= 0;
  }

  /** Asked once a response. Gradual: the chance grows to 1 over the drain time, in whole seconds. Hot. */
  shouldClose(): boolean {
    if (this.healthFailed) return true;
    if (this.#startedAt < 0) return false;
    if (this.#strategy === "immediate") return true;
    const elapsedSeconds = Math.floor((performance.now() - this.#startedAt) / 1000);
    return Math.random() * Math.floor(this.#drainTimeMs / 1000) < elapsedSeconds;
  }
}
