/**
 * Configuration tried out on the main thread, before any worker sees it: the workers' own compile functions, run for their
 * complaints alone. What they would count or open goes into things that nobody reads.
 */
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { Listener } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import type { RouteConfiguration } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import type { Secret } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { AccessLogSinks } from "../accesslog/sinks.ts";
import type { CompileContext } from "../compile-context.ts";
import { compilePerFilterConfig } from "../filters/http/index.ts";
import { compileListener } from "../listener/listener-config.ts";
import { compileRouteConfiguration } from "../router/route-table.ts";
import { StatsStore } from "../stats/store.ts";
import { compileSecret, SecretStore } from "../tls/secret.ts";
import { compileCluster } from "../upstream/cluster-config.ts";

export class ResourceValidator {
  #sinks = new AccessLogSinks({ flushIntervalMs: 1000, validateOnly: true });

  /** Each throws ConfigError for what can't be used. */
  cluster(message: Cluster): void {
    compileCluster(message, this.#context());
  }

  listener(message: Listener): void {
    const config = compileListener(message, this.#context());
    for (const log of config.accessLogs) log.close();
  }

  routes(message: RouteConfiguration): void {
    compileRouteConfiguration(message, this.#context());
  }

  secret(message: Secret): void {
    compileSecret(message);
  }

  /** A new one each time: the names that a compilation registers are forgotten with it. */
  #context(): CompileContext {
    const context: CompileContext = {
      stats: new StatsStore(),
      accessLog: { sinks: this.#sinks },
      clusters: new Map(),
      routes: new Map(),
      secrets: new SecretStore(),
      nodeId: "",
      nodeCluster: "",
      warn() {}, // the worker says it
      compilePerFilterConfig: (config) => compilePerFilterConfig(config, context),
    };
    return context;
  }
}
