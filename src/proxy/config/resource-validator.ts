/**
 * Configuration tried out on the main thread, before any worker sees it: the workers' own compile functions, run for their
 * complaints alone. What they would count or open goes into things that nobody reads.
 */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import { type Cluster, ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import type { Secret } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { AccessLogSinks } from "../accesslog/sinks.ts";
import type { CompileContext } from "../compile-context.ts";
import { compilePerFilterConfig } from "../filters/http/index.ts";
import { compileListener } from "../listener/listener-config.ts";
import { compileRouteConfiguration } from "../router/route-table.ts";
import { SharedCells } from "../shared-cells.ts";
import { StatsStore } from "../stats/store.ts";
import { Telemetry } from "../telemetry/telemetry.ts";
import { compileSecret, SecretStore } from "../tls/secret.ts";
import { makeSharedSessions, TlsSessions } from "../tls/tls-sessions.ts";
import { type ClusterConfig, compileCluster } from "../upstream/cluster-config.ts";
import { warningsOf } from "./fields-without-effect.ts";
import { checkRouteClusters } from "./route-clusters.ts";

export interface ResourceValidatorOptions {
  /** Hears what is accepted and odd, or has no effect; the same words once. */
  readonly warn?: (message: string) => void;
  /** Clusters that there are, warm or not; absent: routes may name any. */
  readonly hasCluster?: (name: string) => boolean;
}

/** Most resources count little or nothing. */
const fewSlots = 128;
/** So many different warnings are remembered; a control plane that invents names must not fill the memory. */
const maxRemembered = 10_000;

export class ResourceValidator {
  #sinks = new AccessLogSinks({ flushIntervalMs: 1000, validateOnly: true });
  readonly #options: ResourceValidatorOptions;
  /** Nobody connects here. */
  #tlsSessions = new TlsSessions(makeSharedSessions());
  /** The same for all, as in a worker: what is made of it once is the same for all that share it. */
  #telemetry = new Telemetry(undefined, new StatsStore(fewSlots));
  #warned = new Set<string>();

  constructor(options: ResourceValidatorOptions = {}) {
    this.#options = options;
  }

  /** Each throws ConfigError for what can't be used. */
  cluster(message: Cluster): ClusterConfig {
    const config = compileCluster(message, this.#context());
    this.#warnOf(ClusterSchema, message);
    return config;
  }

  listener(message: Listener): void {
    const config = compileListener(message, this.#context());
    for (const log of config.accessLogs) log.close();
    this.#checkClusters(ListenerSchema, message, true);
    this.#warnOf(ListenerSchema, message);
  }

  routes(message: RouteConfiguration): void {
    compileRouteConfiguration(message, this.#context());
    this.#checkClusters(RouteConfigurationSchema, message, false);
    this.#warnOf(RouteConfigurationSchema, message);
  }

  secret(message: Secret): void {
    compileSecret(message);
  }

  #checkClusters(schema: DescMessage, message: Message, byDefault: boolean): void {
    const { hasCluster } = this.#options;
    if (hasCluster) checkRouteClusters(schema, message, hasCluster, { byDefault });
  }

  #warnOf(schema: DescMessage, message: Message): void {
    if (!this.#options.warn) return;
    for (const warning of warningsOf(schema, message)) this.#warn(warning);
  }

  #warn(message: string): void {
    if (this.#warned.has(message)) return;
    if (this.#warned.size >= maxRemembered) this.#warned.clear();
    this.#warned.add(message);
    this.#options.warn?.(message);
  }

  /** A new one each time: the names that a compilation registers are forgotten with it. */
  #context(): CompileContext {
    const stats = new StatsStore(fewSlots);
    const context: CompileContext = {
      stats,
      accessLog: { sinks: this.#sinks },
      clusters: new Map(),
      routes: new Map(),
      secrets: new SecretStore(),
      tlsSessions: this.#tlsSessions,
      nodeId: "",
      nodeCluster: "",
      telemetry: this.#telemetry,
      cells: new SharedCells(null),
      warn: (message) => this.#warn(message),
      compilePerFilterConfig: (config) => compilePerFilterConfig(config, context),
    };
    return context;
  }
}
