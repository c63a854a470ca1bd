/**
 * The health of a cluster's hosts, where the cluster has outlier detection or health checks; runs in the main thread.
 *
 *     endpoints (EDS, DNS, static) ──> hosts, each with cells that all workers share ──> workers, along with the endpoints
 *     workers' events, health checks, sweeps ──> flags in the cells ──onHealthChange──> workers look at the flags again
 *
 * With health checks the cluster is warm when every host has answered once, or has not in time. A host that discovery does not name
 * any more stays while its checks pass, so `assignment` may have more endpoints than discovery has said.
 */
import { type Cluster, Cluster_DiscoveryType } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { LbEndpoint, LocalityLbEndpoints } from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import type { ClusterLoadAssignment } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { AccessLogSinks } from "../accesslog/sinks.ts";
import type { StatsStore } from "../stats/store.ts";
import type { SecretStore } from "../tls/secret.ts";
import type { ClusterConfig } from "../upstream/cluster-config.ts";
import { hostKey } from "../upstream/host.ts";
import { compileTransportSockets } from "../upstream/transport-socket.ts";
import { CheckVerdicts } from "./check-verdicts.ts";
import { addressOf, endpointAddress } from "./endpoint-address.ts";
import type { HealthCheckConfig } from "./health-check-config.ts";
import { HealthCheckEventLog } from "./health-check-event-log.ts";
import type { CheckResult } from "./health-check-session.ts";
import { CombinedCheckStats, HealthCheckStats } from "./health-check-stats.ts";
import { HealthChecker } from "./health-checker.ts";
import { CellBlocks, type CellsOfHost } from "./host-cells.ts";
import { hostFlags } from "./host-flags.ts";
import type { HostEvent } from "./host-monitor.ts";
import { MonitoredHost } from "./monitored-host.ts";
import { OutlierDetector, type SuccessRates } from "./outlier-detector.ts";
import { OutlierEventLog } from "./outlier-event-log.ts";
import { OutlierStats } from "./outlier-stats.ts";
import { withRetained } from "./retained-endpoints.ts";

export interface ClusterHealthOptions {
  readonly message: Cluster;
  readonly config: Pick<ClusterConfig, "name" | "statName" | "outlier" | "healthChecks" | "keepAlive" | "bindAddresses">;
  readonly stats: StatsStore;
  /** One counter or gauge of all threads. */
  readonly readStat: (name: string) => number;
  /** Of whatever connections to hosts need. */
  readonly secrets: SecretStore;
  /** For event logs. */
  readonly sinks: AccessLogSinks;
  /** `cluster_manager.outlier_detection.event_log_path`; "": none. */
  readonly outlierLogPath: string;
  /** Hosts are healthy, or ill, that were not. */
  readonly onHealthChange: () => void;
  /** A host is gone that was only kept because it was well. */
  readonly onHostsChange: () => void;
}

/** What discovery must have said of a host for it to stay when it is not named any more. */
const removedAtOnce = hostFlags.failedActiveCheck | hostFlags.failedEdsHealth | hostFlags.drainingByEds;

export class ClusterHealth implements Disposable {
  readonly #options: ClusterHealthOptions;
  readonly #hosts = new Map<string, MonitoredHost>();
  readonly #blocks = new CellBlocks();
  readonly #detector: OutlierDetector | null;
  /** Empty: hosts are well until proved otherwise. */
  readonly #checkers: readonly HealthChecker[];
  /** Where there are several checkers, what they think of each host. */
  readonly #verdicts = new Map<string, CheckVerdicts>();
  readonly #combined: CombinedCheckStats | null;
  readonly #stack = new DisposableStack();
  /** Whose first answer the cluster waits for, and to how many checks. */
  readonly #unanswered = new Map<string, number>();
  #onFirstRound: (() => void) | null = null;
  #discovered: ClusterLoadAssignment | null = null;
  #effective: ClusterLoadAssignment | null = null;
  #isStarted = false;

  /** Throws ConfigError for a log file that can't be opened. */
  constructor(options: ClusterHealthOptions) {
    this.#options = options;
    const { outlier, healthChecks } = options.config;
    const prefix = `cluster.${options.config.statName.replaceAll(":", "_")}.`;
    this.#detector = outlier === null ? null : this.#stack.use(this.#makeDetector(outlier, prefix));
    this.#checkers = healthChecks.map((check) => this.#stack.use(this.#makeChecker(check, prefix)));
    this.#combined = healthChecks.length > 1 ? new CombinedCheckStats(options.stats, prefix) : null;
  }

  get hosts(): ReadonlyMap<string, MonitoredHost> {
    return this.#hosts;
  }

  /** null without outlier detection. */
  get rates(): { readonly external: SuccessRates; readonly localOrigin: SuccessRates } | null {
    return this.#detector?.rates ?? null;
  }

  get isStarted(): boolean {
    return this.#isStarted;
  }

  /** Endpoints as discovery has said them, and those that are kept. */
  get assignment(): ClusterLoadAssignment {
    return this.#effective!;
  }

  get cells(): readonly CellsOfHost[] {
    return [...this.#hosts.values()].map(({ key, cells }) => ({ key, cells }));
  }

  /** Resolves when the hosts' health is known well enough to begin. */
  async start(assignment: ClusterLoadAssignment): Promise<void> {
    this.#isStarted = true;
    this.update(assignment);
    this.#detector?.start();
    if (this.#unanswered.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#onFirstRound = resolve;
    });
  }

  /** What discovery says now. */
  update(assignment: ClusterLoadAssignment): void {
    const named = new Set<string>();
    const isFirst = this.#discovered === null;
    this.#discovered = assignment;
    for (const locality of assignment.endpoints) {
      for (const endpoint of endpointsOf(locality)) {
        const key = keyOf(endpoint);
        if (key === undefined || named.has(key)) continue;
        named.add(key);
        this.#put(key, endpoint, locality, isFirst);
      }
    }
    for (const host of [...this.#hosts.values()]) {
      if (named.has(host.key)) continue;
      if (this.#outlivesDiscovery(host)) host.set(hostFlags.pendingRemoval);
      else this.#remove(host);
    }
    this.#combine();
  }

  onHostEvent(key: string, event: HostEvent): void {
    const host = this.#hosts.get(key);
    if (host === undefined) return;
    if (event === "immediateHealthCheckFail") for (const checker of this.#checkers) checker.failPassively(host);
    else this.#detector?.onConsecutive(host, event);
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
    this.#onFirstRound?.();
  }

  #put(key: string, endpoint: LbEndpoint, locality: LocalityLbEndpoints, isFirst: boolean): void {
    const known = this.#hosts.get(key);
    if (known !== undefined) {
      if (isCheckedAlike(known.endpoint, endpoint)) {
        known.endpoint = endpoint;
        known.locality = locality;
        known.clear(hostFlags.pendingRemoval);
        return;
      }
      this.#remove(known);
    }
    const host = new MonitoredHost(key, this.#blocks.take(), endpoint, locality);
    this.#hosts.set(key, host);
    if (this.#checkers.length === 0 || !isChecked(endpoint)) return;
    host.set(hostFlags.failedActiveCheck);
    const { message } = this.#options;
    if (message.commonLbConfig?.ignoreNewHostsUntilFirstHc && isDiscovered(message)) host.set(hostFlags.pendingActiveCheck);
    if (isFirst) this.#unanswered.set(key, this.#checkers.length);
    const combined = this.#combined;
    if (combined === null) {
      this.#checkers[0]!.add(host, host);
      return;
    }
    const verdicts = new CheckVerdicts(host, (gauge, amount) => combined.add(gauge, amount));
    this.#verdicts.set(key, verdicts);
    for (const checker of this.#checkers) checker.add(host, verdicts.add());
  }

  #remove(host: MonitoredHost): void {
    this.#hosts.delete(host.key);
    this.#detector?.forget(host);
    for (const checker of this.#checkers) checker.remove(host);
    this.#verdicts.get(host.key)?.close();
    this.#verdicts.delete(host.key);
    this.#answered(host, true);
  }

  #outlivesDiscovery(host: MonitoredHost): boolean {
    const { message } = this.#options;
    if (this.#checkers.length === 0 || !isDiscovered(message) || message.ignoreHealthOnHostRemoval) return false;
    return isChecked(host.endpoint) && !host.has(removedAtOnce);
  }

  #combine(): void {
    const retained = [...this.#hosts.values()].filter((host) => host.has(hostFlags.pendingRemoval));
    this.#effective = withRetained(this.#discovered!, retained);
  }

  /** To one check, or to all that are outstanding. */
  #answered({ key }: MonitoredHost, isDone = false): void {
    const outstanding = this.#unanswered.get(key);
    if (outstanding === undefined) return;
    if (outstanding > 1 && !isDone) {
      this.#unanswered.set(key, outstanding - 1);
      return;
    }
    this.#unanswered.delete(key);
    if (this.#unanswered.size > 0) return;
    this.#onFirstRound?.();
    this.#onFirstRound = null;
  }

  #onCheckResult(host: MonitoredHost, { transition, hasPassed, isFirst }: CheckResult): void {
    if (hasPassed && !host.has(hostFlags.failedActiveCheck)) this.#detector?.onCheckPassed(host);
    if (transition === "changed") {
      if (host.has(hostFlags.pendingRemoval) && host.has(hostFlags.failedActiveCheck)) {
        this.#remove(host);
        this.#combine();
        this.#options.onHostsChange();
      } else this.#options.onHealthChange();
    }
    if (isFirst) this.#answered(host);
  }

  #makeDetector(config: NonNullable<ClusterConfig["outlier"]>, prefix: string): OutlierDetector {
    const { stats, sinks, outlierLogPath, onHealthChange } = this.#options;
    const sink = outlierLogPath === "" ? null : sinks.open(outlierLogPath);
    if (sink !== null) this.#stack.defer(() => sink.release());
    return new OutlierDetector({
      config,
      hosts: this.#hosts,
      stats: new OutlierStats(stats, prefix),
      events: sink === null ? null : new OutlierEventLog(sink, this.#options.config.name),
      onChange: onHealthChange,
    });
  }

  #makeChecker(config: HealthCheckConfig, prefix: string): HealthChecker {
    const { message, stats, readStat, secrets, sinks } = this.#options;
    const { name, keepAlive, bindAddresses } = this.#options.config;
    const logs = config.logPaths.map((path) => {
      const sink = sinks.open(path);
      this.#stack.defer(() => sink.release());
      return sink;
    });
    return new HealthChecker({
      config,
      clusterName: name,
      socket: { keepAlive, bindAddresses },
      transportSockets: compileTransportSockets(message, { secrets, stats }),
      stats: new HealthCheckStats(stats, prefix, config.name),
      events: logs.length === 0 ? null : new HealthCheckEventLog(logs, name, config.check.kind),
      hasTraffic: () => readStat(`${prefix}upstream_cx_total`) > 0,
      onResult: (host, result) => this.#onCheckResult(host, result),
    });
  }
}

function isDiscovered({ clusterDiscoveryType }: Cluster): boolean {
  if (clusterDiscoveryType.case !== "type") return false;
  const type = clusterDiscoveryType.value;
  return type === Cluster_DiscoveryType.EDS || type === Cluster_DiscoveryType.STRICT_DNS;
}

export function endpointsOf({ lbConfig, lbEndpoints }: LocalityLbEndpoints): readonly LbEndpoint[] {
  return lbConfig.case === "loadBalancerEndpoints" ? lbConfig.value.lbEndpoints : lbEndpoints;
}

function keyOf(endpoint: LbEndpoint): string | undefined {
  const place = endpointAddress(endpoint);
  return place && hostKey(place.address, place.port);
}

function isChecked({ hostIdentifier }: LbEndpoint): boolean {
  return hostIdentifier.case !== "endpoint" || hostIdentifier.value.healthCheckConfig?.disableActiveHealthCheck !== true;
}

/** Another place to ask, or to be asked at all, makes it another host. */
function isCheckedAlike(a: LbEndpoint, b: LbEndpoint): boolean {
  const [one, other] = [a, b].map(({ hostIdentifier }) =>
    hostIdentifier.case === "endpoint" ? hostIdentifier.value.healthCheckConfig : undefined,
  );
  return JSON.stringify(placeOfChecks(one)) === JSON.stringify(placeOfChecks(other));
}

type CheckPlace = NonNullable<Extract<LbEndpoint["hostIdentifier"], { case: "endpoint" }>["value"]["healthCheckConfig"]>;

function placeOfChecks(config: CheckPlace | undefined): unknown[] {
  const place = addressOf(config?.address);
  return [config?.portValue ?? 0, config?.hostname ?? "", place ?? null, config?.disableActiveHealthCheck ?? false];
}
