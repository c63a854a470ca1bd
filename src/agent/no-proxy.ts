/**
 * DISABLE_ENVOY: nobody's traffic passes here. Applications speak xDS themselves, by way of the agent's socket, and read the certificate's
 * files; the agent is ready, drained and alive as far as its own part goes.
 */
import type { AdminEndpoint } from "./admin-endpoint.ts";
import type { RunningProxy } from "./running-proxy.ts";

/** What a proxy that serves says of itself. */
const serving: ReadonlyMap<string, number> = new Map([
  ["cluster_manager.cds.update_success", 1],
  ["listener_manager.lds.update_success", 1],
  ["server.state", 0],
  ["listener_manager.workers_started", 1],
]);

export class NoProxy implements RunningProxy {
  readonly exited = new Promise<number>(() => undefined);
  readonly live = Promise.resolve();
  readonly admin: AdminEndpoint = { numbers: async () => serving, drain: async () => undefined };

  async checkAlive(): Promise<void> {}

  async retire(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}
}
