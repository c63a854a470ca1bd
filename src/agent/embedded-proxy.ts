/** Topsail's own proxy inside the agent's process: its main thread is the agent's, traffic runs in worker threads. */

import { log } from "../lib/log.ts";
import { loadBootstrap } from "../proxy/config/bootstrap.ts";
import { releaseMemoryOf } from "../proxy/release-memory.ts";
import { ProxyServer } from "../proxy/server.ts";
import type { AdminEndpoint } from "./admin-endpoint.ts";
import type { RunningProxy, StartProxyOptions } from "./running-proxy.ts";

const scope = log.scope("proxy");

export class EmbeddedProxy implements RunningProxy {
  readonly exited: Promise<number>;
  readonly live: Promise<void>;
  readonly admin: AdminEndpoint;
  readonly #server: ProxyServer;
  readonly #releasing: Disposable | undefined;

  private constructor(server: ProxyServer, exited: Promise<number>, releasing: Disposable | undefined) {
    this.#server = server;
    this.#releasing = releasing;
    this.exited = exited;
    this.live = server.live;
    this.admin = {
      numbers: async (names) =>
        new Map(
          server.stats.read((name) => names.test(name)).flatMap((stat) => ("value" in stat ? [[stat.name, Number(stat.value)]] : [])),
        ),
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
    server.live.catch(fail);
    // Who runs several gives memory back once, when all of them are up.
    return new EmbeddedProxy(server, ended.promise, options.workerThreads ? undefined : releaseMemoryOf(server));
  }

  checkAlive(): Promise<void> {
    return this.#server.checkAlive();
  }

  async retire(): Promise<void> {
    await this.#server.retire();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#releasing?.[Symbol.dispose]();
    await this.#server[Symbol.asyncDispose]();
  }
}
