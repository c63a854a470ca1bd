/** Envoy's command line as the proxy itself sees it; main.ts fills it from argv, the agent by hand. */
import { availableParallelism } from "node:os";
import type { Log } from "../lib/log.ts";
import { log as processLog } from "../lib/log.ts";
import type { PortSharing } from "../platform/port-sharing.ts";
import type { BootstrapSource, LoadedBootstrap } from "./config/bootstrap.ts";
import type { ResolveHost } from "./config/dns-resolver.ts";
import type { WorkerThread } from "./worker-thread.ts";

export type DrainStrategy = "immediate" | "gradual";

export interface ProxyServerOptions {
  readonly bootstrap: LoadedBootstrap;
  /** Where it came from, for /server_info. */
  readonly source?: BootstrapSource;
  /** Worker threads; 0 or absent: one per core. */
  readonly concurrency?: number;
  /** Threads that several proxies of this process share; default: a thread for each worker. Whoever started them ends them. */
  readonly workerThreads?: readonly WorkerThread[];
  readonly log?: Log;
  /** Initial level of all loggers, in Envoy's names. Default `info`. */
  readonly logLevel?: string;
  readonly componentLogLevel?: string;
  /** How long replaced and drained listeners keep their connections. Default 600 s. */
  readonly drainTimeMs?: number;
  readonly drainStrategy?: DrainStrategy;
  /** Access logs are flushed this often. Default 10 s. */
  readonly fileFlushIntervalMs?: number;
  readonly parentShutdownTimeMs?: number;
  /** Override what the bootstrap's node says. */
  readonly serviceNode?: string;
  readonly serviceCluster?: string;
  readonly serviceZone?: string;
  /** The admin interface's address is written there, `127.0.0.1:15000`. */
  readonly adminAddressPath?: string;
  /** Of the admin interface's port. Default: alone. */
  readonly adminSharing?: PortSharing;
  readonly localAddressIpVersion?: "v4" | "v6";
  /** Refuse resources with fields that the protos don't have. */
  readonly rejectUnknownDynamicFields?: boolean;
  /** Don't even count them; wins. */
  readonly ignoreUnknownDynamicFields?: boolean;
  /** Tags on every statistic. */
  readonly statsTags?: readonly { readonly name: string; readonly value: string }[];
  readonly baseId?: number;
  readonly disableHotRestart?: boolean;
  /** POST /quitquitquit. */
  readonly onQuit?: () => void;
  /** First pause before reconnecting to the control plane; for tests. */
  readonly xdsBackoffBaseMs?: number;
  /** Instead of the bootstrap's resolver; for tests. */
  readonly resolveHost?: ResolveHost;
}

/** As above with every default filled in, apart from what is truly optional. */
export type ResolvedServerOptions = Required<Omit<ProxyServerOptions, "resolveHost" | "xdsBackoffBaseMs" | "source" | "workerThreads">> &
  Pick<ProxyServerOptions, "resolveHost" | "xdsBackoffBaseMs" | "source" | "workerThreads">;

export function resolveServerOptions(options: ProxyServerOptions): ResolvedServerOptions {
  return {
    concurrency: availableParallelism(),
    log: processLog,
    logLevel: "info",
    componentLogLevel: "",
    drainTimeMs: 600_000,
    drainStrategy: "gradual",
    fileFlushIntervalMs: 10_000,
    parentShutdownTimeMs: 900_000,
    serviceNode: "",
    serviceCluster: "",
    serviceZone: "",
    adminAddressPath: "",
    adminSharing: "alone",
    localAddressIpVersion: "v4",
    rejectUnknownDynamicFields: false,
    ignoreUnknownDynamicFields: false,
    statsTags: [],
    baseId: 0,
    disableHotRestart: true,
    onQuit() {},
    ...options,
    ...(options.concurrency === 0 && { concurrency: availableParallelism() }),
  };
}
