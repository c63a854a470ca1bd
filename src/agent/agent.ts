/**
 * pilot-agent put together: certificates, xDS and SDS sockets, bootstrap, proxy, status port. DNS and traffic capture are not here yet.
 *
 *   proxy ──xDS──> configPath/XDS ──TLS──> control plane        proxy ──SDS──> workload-spiffe-uds/socket <── certificates <── CA
 *                                                               proxy ──SDS──> the same, or credential-uds/files-socket: files
 *   15021 readiness (a listener of the proxy) ──> 15020 status port of the agent ──> 15000 admin of the proxy
 *   15020 /stats/prometheus = agent's metrics + 15090 (a listener of the proxy) ──> 15000
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { ProxyConfig } from "../api/mesh/proxy-config.ts";
import type { ProxyType } from "../api/node.ts";
import { log } from "../lib/log.ts";
import { bootstrap, type ProxySockets } from "./bootstrap.ts";
import { controlPlaneAccess } from "./certificates/control-plane-access.ts";
import { Revocations } from "./certificates/revocations.ts";
import { SdsServer } from "./certificates/sds-server.ts";
import { isServed, openWorkloadIdentity } from "./certificates/workload-identity.ts";
import type { WorkloadSecrets } from "./certificates/workload-secrets.ts";
import { EmbeddedProxy } from "./embedded-proxy.ts";
import type { AgentEnvironment } from "./environment.ts";
import { EnvoyProcess } from "./envoy-process.ts";
import { nodeIdentity } from "./node.ts";
import { type AgentPaths, agentPaths } from "./paths.ts";
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
    const paths = agentPaths(options.root ?? ".");
    const hasCredentialSocket = await isServed(paths.credentialSds);
    if (hasCredentialSocket) scope.info("secrets of sds:// names come from another's socket", { path: paths.credentialSds });
    const node = nodeIdentity({
      type: options.type,
      domain: options.domain,
      environment,
      proxyConfig: config,
      proxyConfigJson: json,
      hasCredentialSocket,
      ...(options.addresses ? { addresses: options.addresses } : {}),
    });
    const admin = new ProxyAdmin(config.proxyAdminPort);
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
    const sockets = await startSockets(options, paths, node.id, parts);
    const credentialSocket = hasCredentialSocket ? paths.credentialSds : undefined;
    const start = {
      bootstrap: bootstrap({ node, environment, proxyConfig: config, sockets: { ...sockets, credentials: credentialSocket } }),
      directory: config.configPath,
      concurrency: options.concurrency || (config.concurrency ?? 0),
      logLevel: options.logLevel,
      drainTimeMs: config.drainDuration ?? 45_000,
    };
    scope.info("starting", {
      node: node.id,
      discovery: config.discoveryAddress,
      proxy: options.usesBinary ? config.binaryPath : "built in",
    });
    const running = parts.use(options.usesBinary ? await EnvoyProcess.start(config.binaryPath, start) : await EmbeddedProxy.start(start));
    const proxy: RunningProxy = {
      exited: Promise.race([running.exited, quit.promise]),
      [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
    };
    return new Agent(proxy, admin, config, parts.move());
  }

  /** Resolves when the proxy serves what the control plane gave it, or rejects with the signal's reason. */
  async ready(signal: AbortSignal): Promise<void> {
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

/** What the proxy calls: the control plane and the certificates, both by way of this agent. */
async function startSockets(
  options: AgentOptions,
  paths: AgentPaths,
  nodeId: string,
  parts: AsyncDisposableStack,
): Promise<Pick<ProxySockets, "xds" | "workload" | "files">> {
  const { environment } = options;
  const { config } = options.proxyConfig;
  const plaintext = config.controlPlaneAuthPolicy === "NONE";
  const { caAddress, caRoot, caHeaders, istiodName, xdsRoot, xdsHeaders } = environment;
  const common = { environment, paths, plaintext };
  // The control plane's name is not that of another authority.
  const authority = { address: caAddress ?? config.discoveryAddress, rootFile: caRoot, serverName: caAddress ? undefined : istiodName };
  const identity = await openWorkloadIdentity({
    ...common,
    nodeId,
    access: (present) => controlPlaneAccess({ ...common, ...authority, headers: caHeaders, present }),
  });
  const { secrets } = identity;
  if (secrets) parts.use(secrets);
  const revocations = parts.use(new Revocations(paths.crl));
  const files = identity.isServedElsewhere ? paths.filesSds : identity.socket;
  parts.use(await SdsServer.start({ path: files, secrets: identity.isServedElsewhere ? undefined : secrets, revocations }));
  const xds = join(config.configPath, "XDS");
  const controlPlane = { address: config.discoveryAddress, rootFile: xdsRoot, serverName: istiodName, headers: xdsHeaders };
  const present = (): WorkloadSecrets | undefined => secrets?.current;
  parts.use(
    await XdsProxy.start({
      path: xds,
      access: () => controlPlaneAccess({ ...common, ...controlPlane, present }),
      onTrust: (update) => {
        revocations.take(update.revocations);
        secrets?.trust(update.roots);
      },
    }),
  );
  return { xds, workload: identity.socket, files };
}
