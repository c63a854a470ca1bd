/**
 * The border between the proxy's main thread and its workers.
 *
 * The main thread subscribes (xDS, DNS, files), decides when a resource is warm, and tells every worker the same
 * updates in the same order; a worker decodes, compiles and swaps in, and answers with the update's number. Resources
 * travel as encoded protobuf, each exactly once per worker, and a worker keeps what an update does not mention.
 *
 *      main thread                                worker 0..N-1
 *      ClusterManager, ListenerManager   Update   ConfigApplier -> compiled snapshot -> requests
 *      admin, stats reader, health     <--------  Applied, StatsGrown, HostEvent
 *
 * One update is applied in the order secrets, clusters, endpoints, health, routes, listeners, so that what refers to something
 * finds it. Nothing here waits for requests: a stream that began under the old snapshot ends under it.
 */

import type { CellsOfHost } from "./health/host-cells.ts";
import type { HostEvent } from "./health/host-monitor.ts";
import type { SharedSessions } from "./tls/tls-sessions.ts";

/** A resource by name, as protobuf bytes of the message that the field's comment names. */
export interface NamedBytes {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface NamedCluster extends NamedBytes {
  /** Not only when somebody asks for it; see upstream/cluster-set.ts. */
  readonly isUsedAtOnce: boolean;
}

/** A cluster's endpoints, with what all threads know of its hosts together where it watches them (health/host-cells.ts). */
export interface NamedEndpoints extends NamedBytes {
  readonly cells?: readonly CellsOfHost[];
}

export interface WorkerUpdate {
  readonly type: "update";
  /** Counts up from 1; the worker answers with the same number. */
  readonly sequence: number;
  /** envoy.extensions.transport_sockets.tls.v3.Secret; replacing one changes the certificate of new connections at once. */
  readonly secrets?: readonly NamedBytes[];
  readonly removedSecrets?: readonly string[];
  /** envoy.config.cluster.v3.Cluster, only warm ones. Replacing a cluster drains the pools of the old one. */
  readonly clusters?: readonly NamedCluster[];
  readonly removedClusters?: readonly string[];
  /** envoy.config.endpoint.v3.ClusterLoadAssignment by *cluster* name: what EDS sent, the static load_assignment, or what DNS
   *  resolved to (socket addresses then are IP addresses, `hostname` the name that was resolved). */
  readonly endpoints?: readonly NamedEndpoints[];
  /** Names of clusters of whose hosts something else is known than before. */
  readonly health?: readonly string[];
  /** envoy.config.route.v3.RouteConfiguration, by RDS name. Inline route configurations stay in their listener. */
  readonly routes?: readonly NamedBytes[];
  /** envoy.config.listener.v3.Listener, only warm ones. A listener of that name is replaced and drained. */
  readonly listeners?: readonly NamedBytes[];
  readonly removedListeners?: readonly string[];
  /** For what its routes and listeners share between workers; see shared-cells.ts. Absent: they share nothing. */
  readonly cells?: SharedArrayBuffer;
}

/** Begin to drain: responses carry `connection: close` by the strategy; `stopListening` closes the listening sockets as well. */
export interface WorkerDrain {
  readonly type: "drain";
  readonly sequence: number;
  /** Absent: all listeners. */
  readonly listeners?: readonly string[];
  readonly inboundOnly?: boolean;
  readonly stopListening: boolean;
  readonly strategy: "immediate" | "gradual";
  /** How long until what is left is cut, in milliseconds. */
  readonly drainTimeMs: number;
}

/** /healthcheck/fail and /ok: while failed, every response carries `connection: close`. */
export interface WorkerHealth {
  readonly type: "health";
  readonly failed: boolean;
}

/** Reopen access log files (SIGUSR1, /reopen_logs). */
export interface WorkerReopenLogs {
  readonly type: "reopenLogs";
}

/** Collect the heap: a burst is over. */
export interface WorkerShrink {
  readonly type: "shrink";
}

/** Are you there? Answered by `alive` when the worker's event loop gets to it. */
export interface WorkerPing {
  readonly type: "ping";
  readonly sequence: number;
}

/** Close everything. Answered by the end of the worker's port. */
export interface WorkerStop {
  readonly type: "stop";
}

export type ToWorker = WorkerUpdate | WorkerDrain | WorkerHealth | WorkerReopenLogs | WorkerShrink | WorkerPing | WorkerStop;

/** The update is in force. `errors` names what could not be applied, such as a port that is taken; the rest stands. */
export interface WorkerApplied {
  readonly type: "applied";
  readonly sequence: number;
  readonly errors: readonly {
    readonly resource: "cluster" | "endpoints" | "route" | "listener" | "secret";
    readonly name: string;
    readonly message: string;
  }[];
  /** Listeners that are bound, with the port that the kernel gave where the configuration said 0. */
  readonly bound: readonly { readonly name: string; readonly address: string; readonly port: number }[];
}

export interface WorkerAlive {
  readonly type: "alive";
  readonly sequence: number;
}

/** New statistics were registered in this worker; see stats/store.ts. Sent at most once per event-loop turn. */
export interface WorkerStats {
  readonly type: "stats";
  /** Set when the block was replaced by a larger one. */
  readonly block?: SharedArrayBuffer;
  /** In the order in which they came. */
  readonly changes: readonly import("./stats/store.ts").StatChange[];
}

/** A log line of the worker, written by the main thread so that levels and format are decided in one place. */
export interface WorkerLog {
  readonly type: "log";
  readonly level: "trace" | "debug" | "info" | "warning" | "error" | "critical";
  readonly logger: string;
  readonly message: string;
}

/** Something happened with a host that the main thread decides about. */
export interface WorkerHostEvent {
  readonly type: "hostEvent";
  readonly cluster: string;
  /** `ip:port` */
  readonly host: string;
  readonly event: HostEvent;
}

export type FromWorker = WorkerApplied | WorkerAlive | WorkerStats | WorkerLog | WorkerHostEvent;

/** What its thread is told of a new worker: what it is, and the port by which it talks with its proxy's main thread. */
export interface WorkerStart {
  readonly data: WorkerData;
  readonly port: import("node:worker_threads").MessagePort;
}

export interface WorkerData {
  readonly index: number;
  readonly concurrency: number;
  /** envoy.config.bootstrap.v3.Bootstrap, for node, stats tags and the like; its static resources come as updates. */
  readonly bootstrap: Uint8Array;
  /** Access logs are flushed this often, and when `accessLogBufferBytes` are waiting. */
  readonly fileFlushIntervalMs: number;
  readonly drainTimeMs: number;
  readonly drainStrategy: "immediate" | "gradual";
  /** With which clients take up TLS sessions again, at whatever worker they come to. */
  readonly tlsSessions: SharedSessions;
}
