/**
 * pilot-agent put together: certificates, xDS and SDS sockets, bootstrap, proxy, status port, DNS proxy.
 *
 *   proxy ──xDS──> configPath/XDS ──TLS──> control plane        proxy ──SDS──> workload-spiffe-uds/socket <── certificates <── CA
 *                                                               proxy ──SDS──> the same, or credential-uds/files-socket: files
 *   15021 readiness (a listener of the proxy) ──> 15020 status port of the agent ──> 15000 admin of the proxy
 *   15053 DNS <── names of the mesh, by the proxy's xDS stream
 *   15020 /stats/prometheus = agent's metrics + 15090 (a listener of the proxy) ──> 15000, + the application's
 */
import { mkdir } from "node:fs/promises";
import { isIPv6 } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { ProxyConfig } from "../api/mesh/proxy-config.ts";
import type { ProxyType } from "../api/node.ts";
import { log } from "../lib/log.ts";
import { ownLoopback } from "../lib/loopback.ts";
import { wildcardAddresses } from "../lib/wildcard-address.ts";
import type { PortSharing } from "../platform/port-sharing.ts";
import type { WorkerThread } from "../proxy/worker-thread.ts";
import { bootstrap } from "./bootstrap.ts";
import { bootstrapTexts, loadBootstrapFiles } from "./bootstrap-file.ts";
import { isServed } from "./certificates/workload-identity.ts";
import { CurrentNode } from "./current-node.ts";
import { DnsProxy } from "./dns/dns-proxy.ts";
import { answersDns, dnsProxyOptions } from "./dns/dns-settings.ts";
import { drainedListeners, drainTime } from "./drain.ts";
import { EmbeddedProxy } from "./embedded-proxy.ts";
import type { AgentEnvironment } from "./environment.ts";
import { EnvoyProcess } from "./envoy-process.ts";
import { writeGrpcBootstrap } from "./grpc-bootstrap.ts";
import { AppProbes, parseAppProbes } from "./health/app-probes.ts";
import { HealthChecker } from "./health/health-checker.ts";
import { probeOf, targetsOf } from "./health/probe.ts";
import type { ConfigSource } from "./last-good/control-plane-choice.ts";
import { LastGoodConfig } from "./last-good/last-good-config.ts";
import { AddressWatch } from "./machine-addresses.ts";
import { metricsSources } from "./metrics/metrics-sources.ts";
import { NoProxy } from "./no-proxy.ts";
import { nodeIdentity } from "./node.ts";
import { agentPaths } from "./paths.ts";
import { ProxyAdmin } from "./proxy-admin.ts";
import type { EffectiveProxyConfig } from "./proxy-config.ts";
import { proxyLogLevels } from "./proxy-log-levels.ts";
import { ControlPlaneRelay } from "./relay/control-plane-relay.ts";
import { ownPorts } from "./relay/own-ports.ts";
import type { RunningProxy } from "./running-proxy.ts";
import { type Sockets, startSockets } from "./sockets.ts";
import { StatusServer } from "./status-server.ts";
import { Troubles } from "./troubles.ts";
import type { XdsProxy } from "./xds-proxy.ts";

const scope = log.scope("agent");

export interface AgentOptions {
  readonly type: ProxyType;
  readonly domain?: string | undefined;
  readonly environment: AgentEnvironment;
  readonly proxyConfig: EffectiveProxyConfig;
  /** Directory that Istio's places are relative to; default `.`. */
  readonly root?: string;
  /** Addresses of the node; default the machine's, which are followed when they change unless INSTANCE_IP fixes one. */
  readonly addresses?: readonly string[];
  /** `binaryPath` was written by the user: run that Envoy. Otherwise the proxy runs in this process. */
  readonly usesBinary: boolean;
  /** Overrides the ProxyConfig's; 0 leaves it. */
  readonly concurrency: number;
  /** Threads that the proxies of several agents in this process share; default: threads of its own. */
  readonly workerThreads?: readonly WorkerThread[];
  /** `warning`, or with parts of the proxy: `warning,misc:error`. */
  readonly logLevel: string;
  /** Of a bootstrap in the place of ours, where nothing else names one. */
  readonly templateFile?: string | undefined;
  /** Where the status port listens; default: on all addresses, of either family. */
  readonly statusHost?: string | undefined;
  /** Of all ports of the agent and its proxy. Default: alone. */
  readonly sharing?: PortSharing;
  /** Whoever serves the workload's certificate is somebody else; default true. Not so when a predecessor does. */
  readonly mayBeServedIdentity?: boolean;
}

interface Draining {
  /** By POST /drain: clients have been told to go. */
  isAsked: boolean;
}

interface AgentParts {
  readonly proxy: RunningProxy;
  readonly admin: ProxyAdmin;
  readonly troubles: Troubles;
  readonly options: Pick<AgentOptions, "type" | "environment" | "proxyConfig">;
  readonly draining: Draining;
  readonly sockets: Pick<Sockets, "hasCertificate" | "choice" | "servesIdentity">;
  readonly dns: DnsProxy | undefined;
  readonly openStatus: (() => Promise<StatusServer>) | undefined;
  readonly parts: AsyncDisposableStack;
  readonly voice: AsyncDisposableStack;
}

export class Agent implements AsyncDisposable {
  readonly proxy: RunningProxy;
  readonly admin: ProxyAdmin;
  readonly troubles: Troubles;
  readonly #options: AgentParts["options"];
  readonly #draining: Draining;
  readonly #stopped = new AbortController();
  readonly #sockets: AgentParts["sockets"];
  readonly #dns: DnsProxy | undefined;
  readonly #openStatus: AgentParts["openStatus"];
  readonly #parts: AsyncDisposableStack;
  /** What speaks for the workload, or writes its files: there is one of each, also while two processes run. */
  readonly #voice: AsyncDisposableStack;

  private constructor({ proxy, admin, troubles, options, draining, sockets, dns, openStatus, parts, voice }: AgentParts) {
    this.proxy = proxy;
    this.admin = admin;
    this.troubles = troubles;
    this.#options = options;
    this.#draining = draining;
    this.#sockets = sockets;
    this.#dns = dns;
    this.#openStatus = openStatus;
    this.#parts = parts;
    this.#voice = voice;
  }

  static async start(options: AgentOptions): Promise<Agent> {
    const { environment } = options;
    const { config, json } = options.proxyConfig;
    const bootstrapFiles = loadBootstrapFiles({ environment, proxyConfig: config, templateFile: options.templateFile });
    const appProbers = parseAppProbes(environment.appProbers);
    const sources = metricsSources({ type: options.type, environment, proxyConfig: config });
    const { sharing = "alone", mayBeServedIdentity = true } = options;
    await using parts = new AsyncDisposableStack();
    await using voice = new AsyncDisposableStack();
    const paths = agentPaths(options.root ?? ".");
    const hasCredentialSocket = await isServed(paths.credentialSds);
    if (hasCredentialSocket) scope.info("secrets of sds:// names come from another's socket", { path: paths.credentialSds });
    const troubles = new Troubles();
    const addresses = voice.use(new AddressWatch());
    const node = nodeIdentity({
      type: options.type,
      domain: options.domain,
      environment,
      proxyConfig: config,
      proxyConfigJson: json,
      hasCredentialSocket,
      addresses: options.addresses ?? addresses.addresses,
    });
    const statusHost = options.statusHost ?? (node.addresses.some((address) => isIPv6(address)) ? "::" : "0.0.0.0");
    const current = new CurrentNode(node);
    const admin = new ProxyAdmin();
    const quit = Promise.withResolvers<number>();
    const draining: Draining = { isAsked: false };
    const dns = answersDns(node, options.type)
      ? parts.use(await DnsProxy.start(dnsProxyOptions(node, environment, paths, sharing)))
      : undefined;
    await mkdir(config.configPath, { recursive: true, mode: 0o700 });
    const lastGood = voice.use(await LastGoodConfig.load(join(config.configPath, "last-good"), node.id, troubles));
    const { xdsProxy, choice, access, hasCertificate, servesIdentity, ...ownSockets } = await startSockets(
      { config, environment, paths, node: current, troubles, dns, mayBeServedIdentity, lastGood, voice },
      parts,
    );
    const relay =
      config.controlPlaneAuthPolicy === "NONE"
        ? undefined
        : voice.use(ControlPlaneRelay.start({ access, node: current, ports: ownPorts({ environment, config, statusHost }) }));
    if (environment.instanceIp === undefined && options.addresses === undefined) {
      const isCaptured = options.type === "sidecar" && environment.metadata.INTERCEPTION_MODE !== "NONE";
      const captured = wildcardAddresses(addresses.addresses, environment.isDualStack);
      addresses.follow((now) => {
        const passes = wildcardAddresses(now, environment.isDualStack).some((wildcard) => !captured.includes(wildcard));
        if (isCaptured && passes)
          troubles.report(passesBy, "this machine had no address of it when the rules were made: systemctl reload istio");
        else troubles.clear(passesBy);
        current.moveTo(now);
        lastGood.rename(current.id);
        xdsProxy.reconnect("the addresses of this machine have changed");
        relay?.reconnect();
      });
    }
    const grpcFile = environment.grpcBootstrap ?? join(config.configPath, "grpc-bootstrap.json");
    if (grpcFile !== "") {
      const certificates = environment.outputCerts;
      await writeGrpcBootstrap(grpcFile, { node, socket: ownSockets.xds, certificates });
    }
    const applicationAt = () => targetsOf(current.addresses, environment.probesLocalhost ? "localhost" : undefined)("");
    const credentialSocket = hasCredentialSocket ? paths.credentialSds : undefined;
    const generated = bootstrap({ node, environment, proxyConfig: config, sockets: { ...ownSockets, credentials: credentialSocket } });
    const openStatus = () =>
      StatusServer.start({
        host: statusHost,
        port: config.statusPort,
        sharing,
        isReady: () => admin.isReady(),
        ...sources,
        onQuit: () => quit.resolve(0),
        onDrain: async () => {
          draining.isAsked = true;
          await admin.drainWithoutExit(drainedListeners(options.type));
        },
        dns,
        configSource: () => choice.source,
        troubles,
        appProbes: appProbers.size > 0 ? new AppProbes(appProbers, { target: applicationAt, statusPort: config.statusPort }) : undefined,
      });
    if (config.statusPort !== 0 && sharing !== "beside") voice.use(await openStatus());
    const start = {
      bootstrap: bootstrapTexts(bootstrapFiles, generated),
      directory: config.configPath,
      concurrency: options.concurrency || (config.concurrency ?? environment.cpuLimit),
      workerThreads: options.workerThreads,
      ...proxyLogLevels(options.logLevel),
      fileFlushIntervalMs: config.fileFlushInterval ?? 1_000,
      fileFlushMinSizeKb: config.fileFlushMinSizeKb,
      drainTimeMs: config.drainDuration ?? 45_000,
      sharing,
    };
    scope.info("starting", {
      node: node.id,
      discovery: config.discoveryAddress,
      proxy: environment.hasNoProxy ? "none" : options.usesBinary ? config.binaryPath : "built in",
    });
    const adminAddress = { host: ownLoopback(environment.bindAddress), port: config.proxyAdminPort };
    const startProxy = (): Promise<RunningProxy> =>
      options.usesBinary ? EnvoyProcess.start(config.binaryPath, adminAddress, start) : EmbeddedProxy.start(start);
    const running: RunningProxy = parts.use(environment.hasNoProxy ? new NoProxy() : await startProxy());
    admin.attach(running.admin);
    const health = startHealthChecks(config, environment, current, admin, xdsProxy);
    if (health) voice.use(health);
    const proxy: RunningProxy = {
      admin: running.admin,
      ...(running.live && { live: running.live }),
      ...(running.retire && { retire: () => running.retire!() }),
      exited: Promise.race([running.exited, quit.promise]),
      checkAlive: () => running.checkAlive(),
      [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
    };
    const sockets = { hasCertificate, choice, servesIdentity };
    const unopened = config.statusPort !== 0 && sharing === "beside" ? openStatus : undefined;
    return new Agent({
      proxy,
      admin,
      troubles,
      options,
      draining,
      sockets,
      dns,
      openStatus: unopened,
      parts: parts.move(),
      voice: voice.move(),
    });
  }

  /** Resolves when the proxy serves what the control plane gave it, or rejects with the signal's reason. */
  async ready(signal: AbortSignal): Promise<void> {
    const aborted = new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    // Before that, to ask would only take time from what it waits for.
    await Promise.race([this.proxy.live, aborted]);
    // Most are within two seconds; without a control plane it may take days.
    for (let asked = 1; !(await this.isReady()); asked++) await delay(asked < 40 ? 50 : 1_000, undefined, { signal });
  }

  /** The proxy serves with configuration from the control plane, and where it needs a certificate there is one. */
  async isReady(): Promise<boolean> {
    return this.#sockets.hasCertificate() && (await this.admin.isReady());
  }

  /** Where the proxy's configuration came from, most lately. */
  get configSource(): ConfigSource {
    return this.#sockets.choice.source;
  }

  /** Resolves when the proxy's threads have answered. */
  async checkAlive(): Promise<void> {
    await Promise.all([this.admin.checkAlive(), this.proxy.checkAlive()]);
  }

  /** Before an orderly end: clients are told to go, and get time for it. Rejects when this agent is disposed of meanwhile. */
  async drain(): Promise<void> {
    // Whoever asked for it has given them their time.
    if (this.#draining.isAsked) return;
    // Nobody has been served yet, or by others, so nobody needs to be told.
    if (this.#options.environment.hasNoProxy || !(await this.isReady())) return;
    try {
      await this.admin.drain(drainedListeners(this.#options.type));
    } catch (error) {
      scope.warn("proxy can't be told to drain", { error });
      return;
    }
    await drainTime({ ...this.#options, admin: this.admin, signal: this.#stopped.signal });
  }

  /** Beside another process: answers on the ports of status and DNS as well, where until now that one had the better answers. */
  async open(): Promise<void> {
    if (this.#openStatus) this.#voice.use(await this.#openStatus());
    await this.#dns?.open();
  }

  /** Whether another process can take over while this one still serves its connections. */
  get canRetire(): boolean {
    return this.proxy.retire !== undefined;
  }

  get servesIdentity(): boolean {
    return this.#sockets.servesIdentity;
  }

  /** Another process has taken over: says nothing more, and resolves when those who are still connected have gone, or their time is over. */
  async retire(): Promise<void> {
    await this.#voice.disposeAsync();
    await Promise.all([this.proxy.retire?.(), this.#dns?.retire()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort();
    await this.#voice.disposeAsync();
    await this.#parts.disposeAsync();
  }
}

const passesBy = "a family of addresses passes by the proxy";

/** Of the application, told to the control plane; undefined when its WorkloadGroup has no probe. */
function startHealthChecks(
  { readinessProbe: settings }: ProxyConfig,
  environment: AgentEnvironment,
  node: Pick<CurrentNode, "addresses">,
  admin: ProxyAdmin,
  xds: XdsProxy,
): HealthChecker | undefined {
  if (!settings) return undefined;
  // By the address that the machine has then.
  const probe = () => probeOf(settings, environment.probesLocalhost ? targetsOf(node.addresses, "localhost") : targetsOf(node.addresses));
  if (!probe()) {
    scope.warn("application is not checked: its readiness probe has no method");
    return undefined;
  }
  return HealthChecker.start({
    settings,
    probe: { check: async (signal) => probe()?.check(signal) },
    isProxyReady: () => admin.isReady(),
    onVerdict: (verdict) => xds.reportHealth(verdict),
  });
}
