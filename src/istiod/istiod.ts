/** The control plane put together: sources, discovery, ports. The only place that builds and connects its parts. */
import { mkdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { ServerCredentials } from "@grpc/grpc-js";
import { adsService } from "../ads/server.ts";
import type { ConfigObject } from "../api/kinds/object.ts";
import { AggregateStore } from "../config/aggregate.ts";
import { FilesStore } from "../config/files.ts";
import { MemoryStore } from "../config/memory.ts";
import { SqliteStore } from "../config/sqlite.ts";
import type { ConfigStore } from "../config/store.ts";
import type { HostPort } from "../lib/host-port.ts";
import { log } from "../lib/log.ts";
import { isWildcard } from "../lib/wildcard-address.ts";
import { AddressAllocator } from "./addresses/address-allocator.ts";
import type { ForeignBundles } from "./ca/trust-bundle.ts";
import { MonitoringServer } from "./debug/http-server.ts";
import { DiscoveryServer } from "./discovery-server.ts";
import type { ProxyEnvironment } from "./fetch/proxy-environment.ts";
import { GrpcServer } from "./grpc-server.ts";
import { JwksResolver } from "./jwks/jwks-resolver.ts";
import type { JwksFetchMode } from "./jwks/jwks-source.ts";
import { defaultServiceRange } from "./kubeapi/admission/cluster-addresses.ts";
import { startKubeApi } from "./kubeapi/start.ts";
import { startMeshConfig, startMeshNetworks } from "./mesh-source.ts";
import { IstiodMetrics } from "./metrics.ts";
import { ProblemReport } from "./problem-report.ts";
import { SecurePort, type SecurePortOptions } from "./secure-port.ts";
import { RegistrationMetrics } from "./workloads/registration-metrics.ts";
import { WorkloadRegistration } from "./workloads/workload-registration.ts";

export interface IstiodOptions {
  /** Directory of YAML files, watched; read-only to this process. */
  readonly configDir?: string | undefined;
  /** MeshConfig; may lie in the configuration directory, and may come to be later. */
  readonly meshConfig?: string | undefined;
  /** MeshNetworks; may come to be later. */
  readonly networksConfig?: string | undefined;
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
  /** Where the roots of other trust domains are published, whose workloads may call the secure port. */
  readonly foreignBundles?: ForeignBundles;
  /** By which documents of others, keys and roots, are fetched; absent: by none. */
  readonly proxies?: ProxyEnvironment;
  /** How published roots are fetched. */
  readonly bundles?: SecurePortOptions["bundles"];
  /** Kubernetes-compatible API; needs the secure port. */
  readonly kubeApi?: HostPort | undefined;
  /** Where the kubeconfig of the API's first user is written. */
  readonly kubeconfigOut?: string | undefined;
  /** From which Services made through the API get their addresses; default 240.241.0.0/16. */
  readonly serviceRange?: string;
  /** Metrics, version, readiness and debug pages. */
  readonly monitoring: HostPort;
  /** `cluster.local` */
  readonly domain: string;
  readonly debounceQuietMs?: number;
  /** Who fetches the keys of token issuers; default `istiod`. */
  readonly jwksFetchMode?: JwksFetchMode;
  /** How often they are fetched anew; default 20 minutes. */
  readonly jwksRefreshMs?: number;
  /** Addresses for ServiceEntries without, kept in their status; false: hashed, for proxies with DNS_AUTO_ALLOCATE. Default true. */
  readonly allocatesAddresses?: boolean;
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
    kubeApi: { readonly port: number } | undefined,
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
    const mesh = parts.use(await startMeshConfig(meshFile, store));
    const networksFile = options.networksConfig ? resolve(options.networksConfig) : undefined;
    const networks = parts.use(await startMeshNetworks(networksFile, store));
    parts.use(new ProblemReport(store));

    const { allocatesAddresses = true, domain } = options;
    const isWritable = (object: ConfigObject) => store.isWritable(object);
    if (allocatesAddresses) parts.use(await AddressAllocator.start({ store, domain, isWritable }));

    const jwks = parts.use(
      await JwksResolver.start({
        cacheFile: options.dataDir && join(options.dataDir, "issuer-keys.json"),
        proxies: options.proxies,
        ...(options.jwksRefreshMs === undefined ? {} : { refreshMs: options.jwksRefreshMs }),
      }),
    );
    const metrics = new IstiodMetrics();
    const instanceId = hostname();
    const registration = parts.use(
      new WorkloadRegistration({
        store,
        instanceId,
        // SQLite's file is its process's alone. A host's name may change from start to start, as a container's does.
        isShared: false,
        metrics: new RegistrationMetrics(metrics.registry),
        ...options.registration,
      }),
    );
    const discovery = parts.use(
      new DiscoveryServer({
        store,
        metrics,
        instanceId,
        registration,
        mesh: mesh.value,
        networks: networks.value,
        domain,
        allocation: { isWritten: allocatesAddresses ? isWritable : () => false, isOnDemand: !allocatesAddresses },
        jwks,
        ...(options.jwksFetchMode === undefined ? {} : { jwksFetchMode: options.jwksFetchMode }),
        ...(options.debounceQuietMs === undefined ? {} : { debounceQuietMs: options.debounceQuietMs }),
      }),
    );
    await discovery.fetchKeys();
    discovery.markReady();
    parts.use(mesh.onChange(() => discovery.setMesh(mesh.value)));
    parts.use(networks.onChange(() => discovery.setNetworks(networks.value)));
    const monitoring = parts.use(await MonitoringServer.start(discovery, options.monitoring.host || "0.0.0.0", options.monitoring.port));
    const grpc = parts.use(
      await GrpcServer.start({
        ...options.grpc,
        credentials: ServerCredentials.createInsecure(),
        services: [adsService(discovery)],
        newcomers: discovery.newcomers,
      }),
    );
    const secure = options.secureGrpc
      ? parts.use(
          await SecurePort.start({
            ...options.secureGrpc,
            discovery,
            dataDir: options.dataDir,
            authorityDir: options.authorityDir,
            serverNames: serverNames(options),
            foreignBundles: options.foreignBundles,
            bundles: { proxies: options.proxies, ...options.bundles },
            store,
          }),
        )
      : undefined;
    const { kubeApi: address, dataDir, kubeconfigOut, serviceRange = defaultServiceRange } = options;
    const kubeApi =
      secure && address
        ? parts.use(
            await startKubeApi({
              address,
              store,
              discovery,
              secure,
              secureHost: options.secureGrpc?.host ?? "",
              mesh,
              networks,
              dataDir,
              kubeconfigOut,
              serviceRange,
            }),
          )
        : undefined;
    return new Istiod(discovery, grpc, monitoring, secure, kubeApi, parts.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
  }
}

/** By what a client may know it: what it is told, and where it listens, for there the kubeconfig that it writes leads. */
function serverNames({ serverNames: told = [], secureGrpc, kubeApi }: IstiodOptions): string[] {
  const hosts = [secureGrpc, kubeApi].flatMap((address) => (address ? [address.host] : []));
  return [...new Set([...told, ...hosts.filter((host) => host !== "" && !isWildcard(host))])];
}

async function openStore(options: IstiodOptions): Promise<AggregateStore> {
  await using opened = new AsyncDisposableStack();
  const sources: ConfigStore[] = [];
  if (options.dataDir) await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
  if (options.configDir) {
    const files = await FilesStore.start({
      directory: options.configDir,
      exclude: [options.meshConfig, options.networksConfig].filter((file) => file !== undefined),
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
