/**
 * The proxy: builds its parts, brings them up in Envoy's order, and takes them down.
 *
 *     PRE_INITIALIZING   static clusters, CDS; every cluster warm (EDS, DNS, SDS)
 *     INITIALIZING       static listeners, LDS; every listener warm (RDS, SDS)
 *     LIVE               the workers bind; from now on listeners are bound as they become warm
 *     DRAINING           readiness fails, connections are asked to close; then it is disposed
 *
 * Everything here runs in the main thread and none of it is a request. Nothing is global: pilot-agent runs one of these
 * inside its own process, tests run several.
 */
import { writeFileSync } from "node:fs";
import { clone, create, toBinary } from "@bufbuild/protobuf";
import { ConfigError } from "../api/config-error.ts";
import { BootstrapSchema } from "../api/gen/envoy/config/bootstrap/v3/bootstrap_pb.js";
import type { Cluster } from "../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { NodeSchema } from "../api/gen/envoy/config/core/v3/base_pb.js";
import { RouteConfigurationSchema } from "../api/gen/envoy/config/route/v3/route_pb.js";
import { type Secret, SecretSchema } from "../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { typeUrls } from "../api/type-urls.ts";
import { AccessLogSinks } from "./accesslog/sinks.ts";
import { AdminServer } from "./admin/admin-server.ts";
import { daysUntilExpiry } from "./admin/certs.ts";
import { changeToCheck } from "./config/change-to-check.ts";
import { ClusterManager } from "./config/cluster-manager.ts";
import { ConfigSources } from "./config/config-sources.ts";
import { resolverOf } from "./config/dns-resolver.ts";
import { ListenerManager } from "./config/listener-manager.ts";
import { NamedResources } from "./config/named-resources.ts";
import { ResourceValidator } from "./config/resource-validator.ts";
import { UpdateQueue } from "./config/update-queue.ts";
import { checkNode } from "./config/validate-bootstrap.ts";
import { durationMs } from "./duration.ts";
import { nodeVersion } from "./envoy-version.ts";
import { nodeExtensions } from "./extensions.ts";
import { LoggerLevels } from "./logger-levels.ts";
import { type ProxyServerOptions, type ResolvedServerOptions, resolveServerOptions } from "./server-options.ts";
import { ServerStats } from "./server-stats.ts";
import { StatsReader } from "./stats/stats-reader.ts";
import { StatsStore } from "./stats/store.ts";
import { TagExtractor } from "./stats/tags.ts";
import { SecretStore } from "./tls/secret.ts";
import { makeSharedSessions } from "./tls/tls-sessions.ts";
import { WorkerGroup } from "./worker-group.ts";

export type ServerState = "PRE_INITIALIZING" | "INITIALIZING" | "LIVE" | "DRAINING";

export interface DrainListenersOptions {
  /** Go on accepting until the drain time is over. */
  readonly graceful: boolean;
  readonly inboundOnly: boolean;
  /** With graceful: never stop accepting. */
  readonly skipExit: boolean;
}

/** How often a drain looks whether there is anything left. */
const drainPollMs = 100;
/** Connections that stay open without a request get this long to hear that they should close. */
const idleGraceMs = 2000;

export class ProxyServer implements AsyncDisposable {
  readonly options: ResolvedServerOptions;
  readonly startedAt = new Date();
  readonly validator: ResourceValidator;
  readonly stats = new StatsReader();
  readonly tags: TagExtractor;
  readonly levels: LoggerLevels;
  readonly clusters: ClusterManager;
  readonly listeners: ListenerManager;
  readonly routes: NamedResources<typeof RouteConfigurationSchema>;
  readonly secrets: NamedResources<typeof SecretSchema>;
  readonly staticSecrets: readonly Secret[];
  /** Bootstrap with the node as it is sent to the control plane. */
  readonly bootstrap;
  /** Resolves when listeners are bound; rejects when the static configuration can't be brought up. */
  readonly live: Promise<void>;
  #state: ServerState = "PRE_INITIALIZING";
  #isHealthFailed = false;
  #workers: WorkerGroup;
  #sources: ConfigSources;
  #updates: UpdateQueue;
  readonly #eventSinks: AccessLogSinks;
  #serverStats: ServerStats;
  #admin: AdminServer | undefined;
  #flushTimer: NodeJS.Timeout;
  #stack = new AsyncDisposableStack();
  #isDisposed = false;
  #stopping = new AbortController();

  private constructor(options: ResolvedServerOptions) {
    this.options = options;
    const { log } = options;
    this.bootstrap = withNode(options);
    const { bootstrap } = this;
    const configLog = log.scope("config");
    this.validator = new ResourceValidator({
      warn: (message) => configLog.warn(message),
      hasCluster: (name) => this.clusters.has(name),
    });
    this.levels = new LoggerLevels(log, options.logLevel, options.componentLogLevel);
    this.tags = new TagExtractor(bootstrap.statsConfig, options.statsTags);
    const store = new StatsStore();
    this.#serverStats = new ServerStats(store, this.stats, options);
    this.#workers = this.#stack.use(
      WorkerGroup.start({
        concurrency: options.concurrency,
        threads: options.workerThreads,
        data: {
          bootstrap: toBinary(BootstrapSchema, { ...bootstrap, staticResources: undefined }),
          fileFlushIntervalMs: options.fileFlushIntervalMs,
          drainTimeMs: options.drainTimeMs,
          drainStrategy: options.drainStrategy,
          tlsSessions: makeSharedSessions(),
        },
        stats: this.stats,
        log,
        onHostEvent: (event) => this.clusters.onHostEvent(event),
      }),
    );
    const secrets = new SecretStore();
    this.#updates = new UpdateQueue((parts) => {
      // Health checks are made here, with the secrets that the workers have.
      for (const { name, bytes } of parts.secrets ?? []) secrets.set(name, bytes);
      for (const name of parts.removedSecrets ?? []) secrets.delete(name);
      return this.#workers.update(parts);
    });
    this.#eventSinks = this.#stack.use(
      new AccessLogSinks({
        flushIntervalMs: options.fileFlushIntervalMs,
        onError: (path, error) => log.scope("file").warn(`cannot write ${path}: ${error.message}`),
      }),
    );
    this.#sources = this.#stack.use(
      new ConfigSources({
        node: bootstrap.node!,
        adsConfig: bootstrap.dynamicResources?.adsConfig,
        clusters: new Map((bootstrap.staticResources?.clusters ?? []).map((cluster: Cluster) => [cluster.name, cluster])),
        log,
        stats: store,
        texts: this.stats,
        unknownFields: options.ignoreUnknownDynamicFields ? "ignore" : options.rejectUnknownDynamicFields ? "reject" : "count",
        ...(options.xdsBackoffBaseMs !== undefined && { backoffBaseMs: options.xdsBackoffBaseMs }),
      }),
    );
    this.staticSecrets = bootstrap.staticResources?.secrets ?? [];
    this.routes = new NamedResources({
      typeUrl: typeUrls.rds,
      schema: RouteConfigurationSchema,
      nameOf: ({ name }) => name,
      sources: this.#sources,
      validate: (message) => this.validator.routes(message),
      changeOf: changeToCheck,
      onChange: async ({ name, bytes }) => this.#applyOrThrow("route", name, { routes: [{ name, bytes }] }),
      onEvent: (name, event) => this.#serverStats.countRoute(name, event),
    });
    this.secrets = new NamedResources({
      typeUrl: typeUrls.sds,
      schema: SecretSchema,
      nameOf: ({ name }) => name,
      sources: this.#sources,
      validate: (message) => this.validator.secret(message),
      onChange: async ({ name, bytes }) => this.#applyOrThrow("secret", name, { secrets: [{ name, bytes }] }),
      // A proxy that is stopping has no workers to tell.
      onForgotten: (name) => void this.#updates.apply({ removedSecrets: [name] }).catch(() => {}),
      onEvent: (name, event) => this.#serverStats.countSecret(name, event),
    });
    const references = {
      routes: this.routes,
      secrets: this.secrets,
      staticSecrets: new Set(this.staticSecrets.map(({ name }) => name)),
      onRouteReference: (name: string, statPrefix: string) => this.#serverStats.nameRoute(name, statPrefix),
    };
    const resolveHost = options.resolveHost ?? resolverOf(bootstrap);
    this.clusters = this.#stack.use(
      new ClusterManager({
        sources: this.#sources,
        references,
        updates: this.#updates,
        validate: (cluster) => this.validator.cluster(cluster),
        stats: store,
        texts: this.stats,
        secrets,
        sinks: this.#eventSinks,
        outlierLogPath: bootstrap.clusterManager?.outlierDetection?.eventLogPath ?? "",
        log: log.scope("upstream"),
        ...(resolveHost && { resolveHost }),
      }),
    );
    this.listeners = this.#stack.use(
      new ListenerManager({
        sources: this.#sources,
        references,
        updates: this.#updates,
        validate: (listener) => this.validator.listener(listener),
        stats: store,
        texts: this.stats,
        log: log.scope("config"),
        drainTimeMs: options.drainTimeMs,
      }),
    );
    const flushMs = durationMs(bootstrap.statsFlushInterval, 5000);
    this.#flushTimer = setInterval(() => this.stats.flush(), flushMs).unref();
    this.live = this.#initialize();
    this.live.catch(() => {}); // main waits for it; the agent may not
  }

  /** Resolves when the admin interface is there and initialisation has begun. Throws ConfigError for a bad configuration. */
  static async start(options: ProxyServerOptions): Promise<ProxyServer> {
    const server = new ProxyServer(resolveServerOptions(options));
    try {
      await server.#startAdmin();
      server.#checkStatic();
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  /** Rejects when a worker has died. */
  get failed(): Promise<never> {
    return this.#workers.failed;
  }

  get state(): ServerState {
    return this.#isHealthFailed && this.#state === "LIVE" ? "DRAINING" : this.#state;
  }

  /** Resolves when every worker has answered. */
  checkAlive(): Promise<void> {
    return this.#workers.checkAlive();
  }

  /** Where the admin interface listens; undefined when the bootstrap has none. */
  get adminAddress(): { readonly address: string; readonly port: number } | undefined {
    return this.#admin?.address;
  }

  /** `ip_or_path:port` of a listener that is bound. */
  listenerPort(name: string): number | undefined {
    return this.listeners.addresses().find((listener) => listener.name === name)?.addresses[0]?.port;
  }

  /** Takes the numbers that are only taken when somebody reads them. */
  refreshStats(isRead: (name: string) => boolean): void {
    this.#serverStats.refresh(isRead, () => daysUntilExpiry(this));
  }

  setHealthFailed(failed: boolean): void {
    this.#isHealthFailed = failed;
    this.#workers.setHealthFailed(failed);
  }

  reopenLogs(): void {
    this.#eventSinks.reopen();
    this.#workers.reopenLogs();
  }

  /** Has the workers collect their heaps. */
  shrinkWorkers(): void {
    this.#workers.shrink();
  }

  async drainListeners({ graceful, inboundOnly, skipExit }: DrainListenersOptions): Promise<void> {
    const { drainTimeMs, drainStrategy } = this.options;
    const parts = { inboundOnly, drainTimeMs };
    if (!graceful) {
      this.listeners.stop(inboundOnly);
      await this.#workers.drain({ ...parts, strategy: "immediate", stopListening: true });
      return;
    }
    await this.#workers.drain({ ...parts, strategy: drainStrategy, stopListening: false });
    if (skipExit) return;
    const timer = setTimeout(() => {
      this.listeners.stop(inboundOnly);
      this.#workers.drain({ ...parts, strategy: "immediate", stopListening: true }).catch((error: unknown) => {
        this.options.log.scope("main").error("Cannot stop listening", { error });
      });
    }, drainTimeMs);
    this.#stack.defer(() => clearTimeout(timer));
  }

  /**
   * The end of a server's life, as far as its clients should notice it: readiness fails, nothing new is accepted, what is
   * open is asked to close. Resolves when nothing is left, or `withinMs` has passed. Whoever has nothing to ask is not told that he should
   * go: unless that is waited for, two seconds of it are enough.
   */
  async drain(withinMs: number, { waitsForIdle = false } = {}): Promise<void> {
    if (this.#state === "DRAINING") return;
    const wasLive = this.#state === "LIVE";
    this.#state = "DRAINING";
    this.#serverStats.showState("DRAINING");
    if (!wasLive) return;
    const deadline = performance.now() + withinMs;
    this.listeners.stop(false);
    await this.#workers.drain({ strategy: "immediate", stopListening: true, drainTimeMs: withinMs });
    let idleSince = Number.POSITIVE_INFINITY;
    while (performance.now() < deadline && !this.#stopping.signal.aborted) {
      const { connections, busy } = this.#serverStats.load();
      if (connections <= 0) return;
      if (busy > 0 || waitsForIdle) idleSince = Number.POSITIVE_INFINITY;
      else idleSince = Math.min(idleSince, performance.now());
      if (performance.now() - idleSince >= idleGraceMs) return;
      await new Promise((resolve) => setTimeout(resolve, drainPollMs));
    }
  }

  /**
   * Another process serves on the same addresses from now on, and has the admin interface. The configuration stays as it is. Resolves when all
   * who were connected have gone, or the drain time is over.
   */
  async retire(): Promise<void> {
    await this.#admin?.[Symbol.asyncDispose]();
    await this.#sources[Symbol.asyncDispose]();
    await this.drain(this.options.drainTimeMs, { waitsForIdle: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#stopping.abort();
    clearInterval(this.#flushTimer);
    await this.#admin?.[Symbol.asyncDispose]();
    await this.#stack.disposeAsync();
  }

  /** What is wrong with the static configuration, before anything waits for anything. */
  #checkStatic(): void {
    const resources = this.bootstrap.staticResources;
    for (const secret of this.staticSecrets) this.validator.secret(secret);
    this.clusters.addStatic(resources?.clusters ?? []);
    for (const listener of resources?.listeners ?? []) this.listeners.addStatic(listener);
    this.#begin();
  }

  /** Set by the constructor's promise; `start` calls it once the static configuration is known to be good. */
  #begin: () => void = () => {};

  async #initialize(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#begin = resolve;
    });
    const log = this.options.log.scope("main");
    const dynamic = this.bootstrap.dynamicResources;
    if (this.staticSecrets.length > 0) {
      await this.#updates.apply({
        secrets: this.staticSecrets.map((secret) => ({ name: secret.name, bytes: toBinary(SecretSchema, secret) })),
      });
    }
    // The control plane's own cluster may need DNS, so what is static comes first.
    const cds = dynamic?.cdsConfig ? this.clusters.subscribe(dynamic.cdsConfig) : Promise.resolve();
    await cds;
    await this.clusters.idle;
    this.#setState("INITIALIZING");
    log.info("all clusters initialized. initializing init manager");
    if (dynamic?.ldsConfig) await this.listeners.subscribe(dynamic.ldsConfig);
    await this.listeners.warm;
    log.info("all dependencies initialized. starting workers");
    const failures = await this.listeners.start();
    for (const [name, reason] of failures) {
      if (this.#isStaticListener(name)) throw new ConfigError(`error adding listener '${name}': ${reason}`);
    }
    this.#setState("LIVE");
    this.#serverStats.initialized();
  }

  #isStaticListener(name: string): boolean {
    return (this.bootstrap.staticResources?.listeners ?? []).some((listener) => listener.name === name);
  }

  #setState(state: ServerState): void {
    if (this.#state === "DRAINING") return;
    this.#state = state;
    this.#serverStats.showState(state);
  }

  async #startAdmin(): Promise<void> {
    const address = this.bootstrap.admin?.address;
    if (!address) return;
    this.#admin = await AdminServer.start(this, address);
    const { adminAddressPath } = this.options;
    if (adminAddressPath === "") return;
    try {
      writeFileSync(adminAddressPath, `${this.#admin.address.address}:${this.#admin.address.port}`);
    } catch (error) {
      this.options.log.scope("main").error("cannot open admin address output file for writing", { path: adminAddressPath, error });
    }
  }

  async #applyOrThrow(resource: "route" | "secret", name: string, change: Parameters<UpdateQueue["apply"]>[0]): Promise<void> {
    const outcome = await this.#updates.apply(change);
    const error = outcome.errors.find((candidate) => candidate.resource === resource && candidate.name === name);
    if (error) throw new ConfigError(error.message);
  }
}

/** The bootstrap as it is in force: command line over file, and the node as a control plane expects it. */
function withNode(options: ResolvedServerOptions) {
  const bootstrap = clone(BootstrapSchema, options.bootstrap.bootstrap);
  const node = bootstrap.node ?? create(NodeSchema);
  if (options.serviceNode !== "") node.id = options.serviceNode;
  if (options.serviceCluster !== "") node.cluster = options.serviceCluster;
  if (options.serviceZone !== "") node.locality = { ...(node.locality ?? emptyLocality()), zone: options.serviceZone };
  checkNode(bootstrap, node.id, node.cluster);
  node.extensions = nodeExtensions();
  node.userAgentName = "envoy";
  node.userAgentVersionType = { case: "userAgentBuildVersion", value: nodeVersion() };
  bootstrap.node = node;
  return bootstrap;
}

function emptyLocality() {
  return create(NodeSchema, { locality: {} }).locality!;
}
