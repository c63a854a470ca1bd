/** One of a cluster's health checks: a session for each host that is to be checked. Runs in the main thread. */
import type { JsonObject } from "@bufbuild/protobuf";
import { chooseTransportSocket, type TransportSockets } from "../upstream/transport-socket.ts";
import type { CheckedFlags } from "./check-verdicts.ts";
import { addressOf, endpointAddress } from "./endpoint-address.ts";
import { GrpcProbe } from "./grpc-probe.ts";
import type { HealthCheckConfig } from "./health-check-config.ts";
import { type CheckResult, type HealthCheckEvents, HealthCheckSession } from "./health-check-session.ts";
import type { HealthCheckStats } from "./health-check-stats.ts";
import type { HealthProbe, ProbeTarget } from "./health-probe.ts";
import { Http1Probe } from "./http1-probe.ts";
import { Http2Probe } from "./http2-probe.ts";
import type { MonitoredHost } from "./monitored-host.ts";
import { TcpProbe } from "./tcp-probe.ts";

export interface HealthCheckerOptions {
  readonly config: HealthCheckConfig;
  readonly clusterName: string;
  readonly socket: ProbeTarget["socket"];
  readonly transportSockets: TransportSockets;
  readonly stats: HealthCheckStats;
  readonly events: HealthCheckEvents | null;
  readonly hasTraffic: () => boolean;
  readonly onResult: (host: MonitoredHost, result: CheckResult) => void;
}

export class HealthChecker implements Disposable {
  readonly #options: HealthCheckerOptions;
  readonly #sessions = new Map<string, HealthCheckSession>();

  constructor(options: HealthCheckerOptions) {
    this.#options = options;
  }

  /** Begins to check the host. `flags`: what it has against it. */
  add(host: MonitoredHost, flags: CheckedFlags): void {
    const { config, stats, events, hasTraffic, onResult } = this.#options;
    const session = new HealthCheckSession({ config, host, flags, probe: this.#probe(host), stats, events, hasTraffic, onResult });
    this.#sessions.set(host.key, session);
    session.start();
  }

  remove(host: MonitoredHost): void {
    this.#sessions.get(host.key)?.close();
    this.#sessions.delete(host.key);
  }

  failPassively(host: MonitoredHost): void {
    this.#sessions.get(host.key)?.failPassively();
  }

  [Symbol.dispose](): void {
    for (const session of this.#sessions.values()) session.close();
    this.#sessions.clear();
  }

  #probe(host: MonitoredHost): HealthProbe {
    const { config, stats } = this.#options;
    const { check } = config;
    const target = this.#target(host);
    if (check.kind === "tcp") return new TcpProbe(check, target);
    if (check.kind === "grpc") return new GrpcProbe(check, target, config.timeoutMs);
    const onServiceName = () => stats.add("verify_cluster");
    return check.codec === "http2" ? new Http2Probe(check, target, onServiceName) : new Http1Probe(check, target, onServiceName);
  }

  #target({ key, endpoint }: MonitoredHost): ProbeTarget {
    const { config, clusterName, socket, transportSockets } = this.#options;
    const { check, socketCriteria, alpn, reusesConnection } = config;
    const own = endpoint.hostIdentifier.case === "endpoint" ? endpoint.hostIdentifier.value.healthCheckConfig : undefined;
    const serving = endpointAddress(endpoint)!;
    const { address } = addressOf(own?.address) ?? serving;
    const metadata: { readonly [namespace: string]: JsonObject } =
      socketCriteria === null ? (endpoint.metadata?.filterMetadata ?? {}) : { "envoy.transport_socket_match": socketCriteria };
    const { tls, announcement } = chooseTransportSocket(transportSockets, metadata);
    return {
      address,
      port: own?.portValue || serving.port,
      key,
      authority: own?.hostname || (check.kind === "tcp" ? "" : check.host) || clusterName,
      tls,
      announcement,
      alpn,
      socket,
      reusesConnection,
    };
  }
}
