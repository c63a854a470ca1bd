/**
 * pilot-agent put together: certificates, xDS and SDS sockets, bootstrap, proxy, status port. DNS and traffic capture are not here yet.
 *
 *   proxy ──xDS──> configPath/XDS ──TLS──> control plane        proxy ──SDS──> workload-spiffe-uds/socket <── certificates <── CA
 *   15021 readiness (a listener of the proxy) ──> 15020 status port of the agent ──> 15000 admin of the proxy
 *   15020 /stats/prometheus = agent's metrics + 15090 (a listener of the proxy) ──> 15000
 */
import { access as mayUse, mkdir } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { ProxyConfig } from "../api/mesh/proxy-config.ts";
import type { ProxyType } from "../api/node.ts";
import { formatSpiffeId } from "../api/spiffe.ts";
import { log } from "../lib/log.ts";
import { ownLoopback } from "../lib/loopback.ts";
import type { WorkerThread } from "../proxy/worker-thread.ts";
import { bootstrap } from "./bootstrap.ts";
import { controlPlaneAccess } from "./certificates/control-plane-access.ts";
import { SdsServer } from "./certificates/sds-server.ts";
import { WorkloadCertificates, type WorkloadSecrets } from "./certificates/workload-certificates.ts";
import { EmbeddedProxy } from "./embedded-proxy.ts";
import type { AgentEnvironment } from "./environment.ts";
import { EnvoyProcess } from "./envoy-process.ts";
import { HealthChecker } from "./health/health-checker.ts";
import { probeOf, targetsOf } from "./health/probe.ts";
import { nodeIdentity } from "./node.ts";
import { agentPaths } from "./paths.ts";
import { ProxyAdmin } from "./proxy-admin.ts";
import type { EffectiveProxyConfig } from "./proxy-config.ts";
import type { RunningProxy } from "./running-proxy.ts";
import { StatusServer } from "./status-server.ts";
import { XdsProxy } from "./xds-proxy.ts";

const scope = log.scope("agent");

export interface AgentOptions {
  readonly type: ProxyType;
  readonly domain?: string | undefined;
  readonly environment: AgentEnvironment;
  readonly proxyConfig: EffectiveProxyConfig;
  /** Directory that Istio's places are relative to; default `.`. */
  readonly root?: string;
  /** Addresses of the node; default the machine's. */
  readonly addresses?: readonly string[];
  /** `binaryPath` was written by the user: run that Envoy. Otherwise the proxy runs in this process. */
  readonly usesBinary: boolean;
  /** Overrides the ProxyConfig's; 0 leaves it. */
  readonly concurrency: number;
  /** Threads that the proxies of several agents in this process share; default: threads of its own. */
  readonly workerThreads?: readonly WorkerThread[];
  readonly logLevel: string;
  /** Where the status port listens. */
  readonly statusHost: string;
}

export class Agent implements AsyncDisposable {
  readonly proxy: RunningProxy;
  readonly admin: ProxyAdmin;
  readonly #config: ProxyConfig;
  readonly #parts: AsyncDisposableStack;

  private constructor(proxy: RunningProxy, admin: ProxyAdmin, config: ProxyConfig, parts: AsyncDisposableStack) {
    this.proxy = proxy;
    this.admin = admin;
    this.#config = config;
    this.#parts = parts;
  }

  static async start(options: AgentOptions): Promise<Agent> {
    const { environment } = options;
    const { config, json } = options.proxyConfig;
    await using parts = new AsyncDisposableStack();
    const node = nodeIdentity({
      type: options.type,
      domain: options.domain,
      environment,
      proxyConfig: config,
      proxyConfigJson: json,
      ...(options.addresses ? { addresses: options.addresses } : {}),
    });
    const admin = new ProxyAdmin(ownLoopback(environment.bindAddress), config.proxyAdminPort);
    const quit = Promise.withResolvers<number>();
    if (config.statusPort !== 0) {
      parts.use(
        await StatusServer.start({
          host: options.statusHost,
          port: config.statusPort,
          isReady: () => admin.isReady(),
          proxyMetricsUrl: `http://${environment.bindAddress ?? "127.0.0.1"}:${environment.prometheusPort}/stats/prometheus`,
          onQuit: () => quit.resolve(0),
          onDrain: () => admin.drainWithoutExit(),
        }),
      );
    }
    await mkdir(config.configPath, { recursive: true, mode: 0o700 });
    const sockets = await startSockets(options, parts);
    const { xds, ...socketPaths } = sockets;
    const start = {
      bootstrap: bootstrap({ node, environment, proxyConfig: config, ...socketPaths }),
      directory: config.configPath,
      concurrency: options.concurrency || (config.concurrency ?? 0),
      workerThreads: options.workerThreads,
      logLevel: options.logLevel,
      drainTimeMs: config.drainDuration ?? 45_000,
    };
    scope.info("starting", {
      node: node.id,
      discovery: config.discoveryAddress,
      proxy: options.usesBinary ? config.binaryPath : "built in",
    });
    if (options.usesBinary) await mayUse(config.binaryPath);
    const running: RunningProxy = parts.use(
      options.usesBinary ? await EnvoyProcess.start(config.binaryPath, start) : await EmbeddedProxy.start(start),
    );
    const health = startHealthChecks(config, environment, node.addresses, admin, xds);
    if (health) parts.use(health);
    const proxy: RunningProxy = {
      ...(running.live && { live: running.live }),
      exited: Promise.race([running.exited, quit.promise]),
      [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
    };
    return new Agent(proxy, admin, config, parts.move());
  }

  /** Resolves when the proxy serves what the control plane gave it, or rejects with the signal's reason. */
  async ready(signal: AbortSignal): Promise<void> {
    const aborted = new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    // Before that, to ask would only take time from what it waits for.
    await Promise.race([this.proxy.live, aborted]);
    while (!(await this.admin.isReady())) await delay(50, undefined, { signal });
  }

  /** Before an orderly end: clients are told to go, and get terminationDrainDuration for it. */
  async drain(): Promise<void> {
    try {
      await this.admin.drain();
    } catch (error) {
      scope.warn("proxy can't be told to drain", { error });
      return;
    }
    await delay(this.#config.terminationDrainDuration ?? 5_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
  }
}

interface Sockets {
  readonly xdsSocket: string;
  readonly sdsSocket: string;
  readonly xds: XdsProxy;
}

/** Of the application, told to the control plane; undefined when its WorkloadGroup has no probe. */
function startHealthChecks(
  { readinessProbe: settings }: ProxyConfig,
  environment: AgentEnvironment,
  addresses: readonly string[],
  admin: ProxyAdmin,
  xds: XdsProxy,
): HealthChecker | undefined {
  if (!settings) return undefined;
  const targets = environment.probesLocalhost ? targetsOf(addresses, "localhost") : targetsOf(addresses);
  const probe = probeOf(settings, targets);
  if (!probe) {
    scope.warn("application is not checked: its readiness probe has no method");
    return undefined;
  }
  return HealthChecker.start({
    settings,
    probe,
    isProxyReady: () => admin.isReady(),
    onVerdict: (verdict) => xds.reportHealth(verdict),
  });
}

/** What the proxy calls: the control plane and the certificates, both by way of this agent. */
async function startSockets(options: AgentOptions, parts: AsyncDisposableStack): Promise<Sockets> {
  const { environment } = options;
  const { config } = options.proxyConfig;
  const paths = agentPaths(options.root ?? ".");
  const plaintext = config.controlPlaneAuthPolicy === "NONE";
  const access = (address: string, rootFile: string | undefined, present: () => WorkloadSecrets | undefined) =>
    controlPlaneAccess({ address, environment, paths, plaintext, rootFile, present });
  let certificates: WorkloadCertificates | undefined;
  if (!plaintext) {
    certificates = parts.use(
      WorkloadCertificates.start({
        identity: formatSpiffeId({
          trustDomain: environment.trustDomain,
          namespace: environment.podNamespace,
          serviceAccount: environment.serviceAccount,
        }),
        keyKind: environment.keyKind,
        ttlSeconds: environment.secretTtlSeconds,
        graceRatio: environment.secretGraceRatio,
        graceJitter: environment.secretGraceJitter,
        outputDir: environment.outputCerts,
        access: (present) => access(environment.caAddress ?? config.discoveryAddress, environment.caRoot, present),
      }),
    );
  }
  if (await isServed(paths.sds)) scope.info("certificates come from another's socket", { path: paths.sds });
  else parts.use(await SdsServer.start({ path: paths.sds, certificates, crlPath: paths.crl }));
  const xdsSocket = join(config.configPath, "XDS");
  const xds = parts.use(
    await XdsProxy.start({
      path: xdsSocket,
      access: () => access(config.discoveryAddress, environment.xdsRoot, () => certificates?.current),
      onTrustBundle: (roots) => certificates?.trust(roots),
    }),
  );
  return { xdsSocket, sdsSocket: paths.sds, xds };
}

/** Whether somebody else (SPIRE's agent) answers on the socket; a file left behind does not. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
