/** The control plane put together: sources, discovery, ports. The only place that builds and connects its parts. */
import { mkdir, readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ServerCredentials } from "@grpc/grpc-js";
import { adsService } from "../ads/server.ts";
import { ConfigError } from "../api/config-error.ts";
import { decodeMeshConfig, defaultMesh, type EffectiveMeshConfig } from "../api/mesh/decode-mesh.ts";
import { AggregateStore } from "../config/aggregate.ts";
import { FilesStore } from "../config/files.ts";
import { MemoryStore } from "../config/memory.ts";
import { SqliteStore } from "../config/sqlite.ts";
import type { ConfigStore, WritableConfigStore } from "../config/store.ts";
import type { HostPort } from "../lib/host-port.ts";
import { log } from "../lib/log.ts";
import { watchFile } from "../lib/watch-file.ts";
import { MonitoringServer } from "./debug/http-server.ts";
import { DiscoveryServer } from "./discovery-server.ts";
import { GrpcServer } from "./grpc-server.ts";
import { JwksResolver } from "./jwks/jwks-resolver.ts";
import type { JwksFetchMode } from "./jwks/jwks-source.ts";
import { openClientAuthority, writeKubeconfig } from "./kubeapi/admin-access.ts";
import { KubeApiServer } from "./kubeapi/server.ts";
import { IstiodMetrics } from "./metrics.ts";
import { SecurePort } from "./secure-port.ts";
import { RegistrationMetrics } from "./workloads/registration-metrics.ts";
import { WorkloadRegistration } from "./workloads/workload-registration.ts";

const scope = log.scope("istiod");

export interface IstiodOptions {
  /** Directory of YAML files, watched; read-only to this process. */
  readonly configDir?: string | undefined;
  /** MeshConfig; may lie in the configuration directory, and may come to be later. */
  readonly meshConfig?: string | undefined;
  /** Where the embedded store is; absent: nothing is kept. */
  readonly dataDir?: string | undefined;
  /** Plaintext xDS, without authentication. */
  readonly grpc: HostPort;
  /** xDS and certificate authority over TLS; absent: not served. */
  readonly secureGrpc?: HostPort | undefined;
  /** Directory of a certificate authority that the operator brings; need not exist. */
  readonly authorityDir?: string | undefined;
  /** DNS names and addresses, beside Istio's usual ones, by which agents call the secure port. */
  readonly serverNames?: readonly string[];
  /** Kubernetes-compatible API; needs the secure port. */
  readonly kubeApi?: HostPort | undefined;
  /** Where the kubeconfig of the API's first user is written. */
  readonly kubeconfigOut?: string | undefined;
  /** Metrics, version, readiness and debug pages. */
  readonly monitoring: HostPort;
  /** `cluster.local` */
  readonly domain: string;
  readonly debounceQuietMs?: number;
  /** Who fetches the keys of token issuers; default `istiod`. */
  readonly jwksFetchMode?: JwksFetchMode;
  /** How often they are fetched anew; default 20 minutes. */
  readonly jwksRefreshMs?: number;
  /** How long WorkloadEntries outlive their agents' connections. */
  readonly registration?: { readonly graceMs?: number; readonly restartGraceMs?: number };
}

export class Istiod implements AsyncDisposable {
  readonly discovery: DiscoveryServer;
  readonly grpcPort: number;
  readonly monitoringPort: number;
  readonly secure: SecurePort | undefined;
  readonly kubeApiPort: number | undefined;
  readonly #parts: AsyncDisposableStack;

  private constructor(
    discovery: DiscoveryServer,
    grpc: GrpcServer,
    monitoring: MonitoringServer,
    secure: SecurePort | undefined,
    kubeApi: KubeApiServer | undefined,
    parts: AsyncDisposableStack,
  ) {
    this.discovery = discovery;
    this.grpcPort = grpc.port;
    this.monitoringPort = monitoring.port;
    this.secure = secure;
    this.kubeApiPort = kubeApi?.port;
    this.#parts = parts;
  }

  static async start(options: IstiodOptions): Promise<Istiod> {
    await using parts = new AsyncDisposableStack();
    const store = parts.use(await openStore(options));
    const meshFile = options.meshConfig ? resolve(options.meshConfig) : undefined;
    const mesh = meshFile ? await loadMesh(meshFile) : defaultMesh();
    reportProblems(store);
    parts.use(store.watch(() => reportProblems(store)));

    const jwks = parts.use(
      await JwksResolver.start({
        cacheFile: options.dataDir && join(options.dataDir, "issuer-keys.json"),
        ...(options.jwksRefreshMs === undefined ? {} : { refreshMs: options.jwksRefreshMs }),
      }),
    );
    const metrics = new IstiodMetrics();
    const instanceId = hostname();
    const registration = parts.use(
      new WorkloadRegistration({ store, instanceId, metrics: new RegistrationMetrics(metrics.registry), ...options.registration }),
    );
    const discovery = parts.use(
      new DiscoveryServer({
        store,
        metrics,
        instanceId,
        registration,
        mesh,
        domain: options.domain,
        jwks,
        ...(options.jwksFetchMode === undefined ? {} : { jwksFetchMode: options.jwksFetchMode }),
        ...(options.debounceQuietMs === undefined ? {} : { debounceQuietMs: options.debounceQuietMs }),
      }),
    );
    await discovery.fetchKeys();
    discovery.markReady();
    if (meshFile) parts.use(watchFile(meshFile, () => void reloadMesh(meshFile, discovery)));
    const monitoring = parts.use(await MonitoringServer.start(discovery, options.monitoring.host || "0.0.0.0", options.monitoring.port));
    const grpc = parts.use(
      await GrpcServer.start({
        ...anywhere(options.grpc),
        credentials: ServerCredentials.createInsecure(),
        services: [adsService(discovery)],
      }),
    );
    const secure = options.secureGrpc
      ? parts.use(
          await SecurePort.start({
            ...anywhere(options.secureGrpc),
            discovery,
            dataDir: options.dataDir,
            authorityDir: options.authorityDir,
            serverNames: options.serverNames ?? [],
          }),
        )
      : undefined;
    const kubeApi = secure && options.kubeApi ? parts.use(await startKubeApi(secure, options.kubeApi, options)) : undefined;
    return new Istiod(discovery, grpc, monitoring, secure, kubeApi, parts.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
  }
}

async function startKubeApi(
  { identity, authority, tokens }: SecurePort,
  address: HostPort,
  options: IstiodOptions,
): Promise<KubeApiServer> {
  const clientAuthority = await openClientAuthority(options.dataDir);
  const server = await KubeApiServer.start({ ...anywhere(address), identity, clientRoots: clientAuthority.trustBundle, tokens });
  if (options.kubeconfigOut) {
    const { host } = address;
    await writeKubeconfig({ path: options.kubeconfigOut, host, port: server.port, clientAuthority, serverRoots: authority.trustBundle });
  }
  return server;
}

/** No host in an address means every one. */
function anywhere({ host, port }: HostPort): HostPort {
  return { host: host || "0.0.0.0", port };
}

async function openStore(options: IstiodOptions): Promise<WritableConfigStore> {
  await using opened = new AsyncDisposableStack();
  const sources: ConfigStore[] = [];
  if (options.dataDir) await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
  if (options.configDir) {
    const files = await FilesStore.start({
      directory: options.configDir,
      ...(options.meshConfig ? { exclude: [options.meshConfig] } : {}),
      dataDir: options.dataDir,
      log: log.scope("files"),
    });
    sources.push(opened.use(files));
  }
  const writable = opened.use(options.dataDir ? await SqliteStore.start({ dataDir: options.dataDir }) : new MemoryStore());
  sources.push(writable);
  opened.move();
  return new AggregateStore(sources, writable);
}

/** A mesh file that is wrong at the start is an error; one that isn't there yet means the defaults. */
async function loadMesh(file: string): Promise<EffectiveMeshConfig> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      throw new ConfigError(`can't be read: ${(error as Error).message}`, { position: { file, line: 1 }, cause: error });
    scope.info("mesh configuration is not there, defaults hold", { file });
    return defaultMesh();
  }
  const { value, errors, warnings } = decodeMeshConfig(text, file);
  for (const warning of warnings) scope.warn(warning.describe());
  if (!value) throw errors[0];
  return value;
}

/** While running, a wrong mesh file leaves the last good one in force. */
async function reloadMesh(file: string, discovery: DiscoveryServer): Promise<void> {
  // An editor that writes in place leaves the file empty for a moment.
  await delay(20);
  try {
    discovery.setMesh(await loadMesh(file));
    scope.info("mesh configuration read anew", { file });
  } catch (error) {
    scope.error("mesh configuration is refused, the last good one stays", {
      reason: error instanceof ConfigError ? error.describe() : error,
    });
  }
}

/** Each problem once, when it appears. */
const reported = new WeakMap<ConfigStore, Set<string>>();

function reportProblems(store: ConfigStore): void {
  const known = reported.get(store) ?? new Set();
  const now = new Set(store.problems.map((problem) => problem.describe()));
  for (const problem of now) if (!known.has(problem)) scope.warn("configuration is refused", { problem });
  reported.set(store, now);
}
