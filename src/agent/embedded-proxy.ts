/** Topsail's own proxy inside the agent's process: its main thread is the agent's, traffic runs in worker threads. */

import { log } from "../lib/log.ts";
import { releaseMemory } from "../platform/release-memory.ts";
import { loadBootstrap } from "../proxy/config/bootstrap.ts";
import { ProxyServer } from "../proxy/server.ts";
import type { AdminEndpoint } from "./admin-endpoint.ts";
import type { RunningProxy, StartProxyOptions } from "./running-proxy.ts";

const scope = log.scope("proxy");

/** After the workers have collected their heaps, which brings back pages of the executable. */
const settleMs = 4000;

export class EmbeddedProxy implements RunningProxy {
  readonly exited: Promise<number>;
  readonly live: Promise<void>;
  readonly admin: AdminEndpoint;
  readonly #server: ProxyServer;

  private constructor(server: ProxyServer, exited: Promise<number>) {
    this.#server = server;
    this.exited = exited;
    this.live = server.live;
    this.admin = {
      numbers: async (names) => server.stats.numbers((name) => names.test(name)),
      drain: ({ inboundOnly, skipExit }) => server.drainListeners({ graceful: true, inboundOnly, skipExit }),
    };
  }

  static async start(options: StartProxyOptions): Promise<EmbeddedProxy> {
    const ended = Promise.withResolvers<number>();
    const server = await ProxyServer.start({
      // As an Envoy under Istio's agent is told: --allow-unknown-static-fields.
      bootstrap: loadBootstrap({ texts: options.bootstrap, allowUnknownFields: true }),
      concurrency: options.concurrency,
      ...(options.workerThreads && { workerThreads: options.workerThreads }),
      logLevel: options.logLevel,
      componentLogLevel: options.componentLogLevel,
      drainTimeMs: options.drainTimeMs,
      drainStrategy: "immediate",
      fileFlushIntervalMs: options.fileFlushIntervalMs,
      adminSharing: options.sharing,
      onQuit: () => ended.resolve(0),
    });
    const fail = (error: unknown) => {
      scope.error("proxy has failed", { error });
      ended.resolve(1);
    };
    server.failed.catch(fail);
    // Listeners that can't be bound are an end too: there is nothing to serve.
    // Who runs several gives memory back once, when all of them are up.
    // Nor does the way to readiness have time for it.
    const settle = () => void setTimeout(releaseMemory, settleMs).unref();
    server.live.then(options.workerThreads ? undefined : settle, fail);
    return new EmbeddedProxy(server, ended.promise);
  }

  checkAlive(): Promise<void> {
    return this.#server.checkAlive();
  }

  async retire(): Promise<void> {
    await this.#server.retire();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}
