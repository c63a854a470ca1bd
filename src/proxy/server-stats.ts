/** The main thread's own statistics: the server as a whole, and what discovery does by name. */
import type { NamedResourceEvent } from "./config/named-resources.ts";
import type { ServerState } from "./server.ts";
import type { ResolvedServerOptions } from "./server-options.ts";
import type { StatsReader } from "./stats/stats-reader.ts";
import type { StatIndex, StatsStore } from "./stats/store.ts";

const stateNumbers: Record<ServerState, number> = { LIVE: 0, DRAINING: 1, PRE_INITIALIZING: 2, INITIALIZING: 3 };

const counterOf: Record<NamedResourceEvent, string> = {
  attempt: "update_attempt",
  success: "update_success",
  rejected: "update_rejected",
  timeout: "init_fetch_timeout",
};

/** Zeros that Envoy has as well, so that dashboards find them. */
const plainCounters = [
  "server.debug_assertion_failures",
  "server.dropped_stat_flushes",
  "server.dynamic_unknown_fields",
  "server.envoy_bug_failures",
  "server.envoy_notifications",
  "server.static_unknown_fields",
  "server.wip_protos",
  "runtime.deprecated_feature_use",
  "runtime.load_error",
  "runtime.load_success",
  "runtime.override_dir_exists",
  "runtime.override_dir_not_exists",
];
const plainGauges = ["runtime.admin_overrides_active", "runtime.num_keys"];

export class ServerStats {
  #store: StatsStore;
  #reader: StatsReader;
  #startedAtMs = performance.now();
  #at: Readonly<Record<string, StatIndex>>;
  #initialization: StatIndex;
  #routePrefixes = new Map<string, string>();

  constructor(store: StatsStore, reader: StatsReader, options: ResolvedServerOptions) {
    this.#store = store;
    this.#reader = reader;
    const source = reader.attach();
    // Names must be known the moment somebody reads, and this thread is the one that reads.
    store.onChange = () => queueMicrotask(() => source.take(store.takeChanges()));
    const gauge = (name: string) => [name, store.gauge(`server.${name}`)] as const;
    this.#at = Object.fromEntries(
      [
        "concurrency",
        "hot_restart_epoch",
        "live",
        "state",
        "memory_allocated",
        "memory_heap_size",
        "memory_physical_size",
        "parent_connections",
        "total_connections",
        "uptime",
        "version",
        "days_until_first_cert_expiring",
      ].map(gauge),
    );
    this.#initialization = store.histogram("server.initialization_time_ms");
    for (const name of plainCounters) store.counter(name);
    for (const name of plainGauges) store.gauge(name);
    store.set(this.#at.concurrency!, options.concurrency);
    store.add(store.counter("server.static_unknown_fields"), options.bootstrap.unknownFields);
    this.showState("PRE_INITIALIZING");
  }

  showState(state: ServerState): void {
    this.#store.set(this.#at.state!, stateNumbers[state]);
    this.#store.set(this.#at.live!, state === "LIVE" ? 1 : 0);
    // LIVE is 0, and who asks for readiness asks for what is used alone, as Istio's agent does.
    for (const name of ["server.state", "server.live"]) this.#reader.written(name);
  }

  initialized(): void {
    this.#store.record(this.#initialization, performance.now() - this.#startedAtMs);
  }

  /** Routes are counted under the prefix of the connection manager that refers to them. */
  nameRoute(name: string, statPrefix: string): void {
    this.#routePrefixes.set(name, `http.${statPrefix}.rds.${name}`);
  }

  countRoute(name: string, event: NamedResourceEvent): void {
    this.#count(this.#routePrefixes.get(name) ?? `rds.${name}`, event);
  }

  countSecret(name: string, event: NamedResourceEvent): void {
    this.#count(`sds.${name}`, event);
  }

  /** Numbers that are only worth taking when somebody reads them, and only those that he reads: who asks for readiness asks often. */
  refresh(isRead: (name: string) => boolean, daysUntilCertificateExpires: () => number): void {
    let memory: NodeJS.MemoryUsage | undefined;
    const usage = () => {
      memory ??= process.memoryUsage();
      return memory;
    };
    const values: Readonly<Record<string, () => number>> = {
      memory_allocated: () => usage().heapUsed + usage().external,
      memory_heap_size: () => usage().heapTotal,
      memory_physical_size: () => usage().rss,
      uptime: () => Math.floor((performance.now() - this.#startedAtMs) / 1000),
      total_connections: () => this.load().connections,
      days_until_first_cert_expiring: daysUntilCertificateExpires,
    };
    for (const [name, value] of Object.entries(values)) if (isRead(`server.${name}`)) this.#store.set(this.#at[name]!, value());
  }

  /** Open downstream connections, and what of them is at work: requests, and connections that carry no requests. */
  load(): { readonly connections: number; readonly busy: number } {
    let connections = 0;
    let http = 0;
    let requests = 0;
    for (const [name, value] of this.#reader.numbers((name) => /_(cx|rq)_active$/.test(name))) {
      if (/^listener\..*\.downstream_cx_active$/.test(name) && !name.includes(".worker_")) connections += value;
      else if (/^http\..*\.downstream_cx_active$/.test(name)) http += value;
      else if (/^http\..*\.downstream_rq_active$/.test(name)) requests += value;
    }
    return { connections, busy: requests + Math.max(0, connections - http) };
  }

  #count(prefix: string, event: NamedResourceEvent): void {
    this.#store.add(this.#store.counter(`${prefix}.${counterOf[event]}`), 1);
  }
}
