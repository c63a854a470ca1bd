import type { PortSharing } from "../platform/port-sharing.ts";
import type { ConfigText } from "../proxy/config/config-text.ts";
import type { WorkerThread } from "../proxy/worker-thread.ts";
import type { AdminEndpoint } from "./admin-endpoint.ts";

/** The proxy under an agent, in this process or as a child. */
export interface RunningProxy extends AsyncDisposable {
  /** Resolves with the exit code when the proxy ends by itself. */
  readonly exited: Promise<number>;
  /** Resolves when it has begun to serve; absent where only its admin port can tell. */
  readonly live?: Promise<void>;
  readonly admin: AdminEndpoint;
  /**
   * Another proxy listens on the same ports: takes nothing new, asks whoever is connected to go, and resolves when all have, at the latest
   * after the drain time. Absent where two can't listen on the same ports.
   */
  retire?(): Promise<void>;
  /** Resolves when all of the proxy's threads have answered; does not while one hangs. */
  checkAlive(): Promise<void>;
}

export interface StartProxyOptions {
  /** Envoy v3 bootstrap, and what is laid over it. */
  readonly bootstrap: readonly ConfigText[];
  /** Where the proxy may keep files; exists. */
  readonly directory: string;
  /** Worker threads, 0 for one a core. */
  readonly concurrency: number;
  /** Of the proxy in this process: threads to run its workers in, beside those of others. */
  readonly workerThreads?: readonly WorkerThread[] | undefined;
  /** Envoy's level: trace, debug, info, warning, error, critical, off. */
  readonly logLevel: string;
  /** Of parts of it: `misc:error,upstream:debug`. */
  readonly componentLogLevel: string;
  readonly drainTimeMs: number;
  /** How long lines of an access log may wait for others, and how many kilobytes; 0: the proxy's own default. */
  readonly fileFlushIntervalMs: number;
  readonly fileFlushMinSizeKb: number;
  /** Of ports that are not listeners', which are always shared. */
  readonly sharing: PortSharing;
}
