/**
 * What istio.stats has seen: for each service, peer and pair of principals the labels that they have in common, and for each outcome
 * its counters. A request finds its counters by what it has at hand; only a combination that is new is spelt out.
 */
import { flagText } from "../../accesslog/operators.ts";
import type { LabelledSeries, Series, SeriesShape } from "../../telemetry/labelled-series.ts";
import type { Principals } from "../../telemetry/principals.ts";
import type { ServiceLabels } from "../../telemetry/service-labels.ts";
import { type OwnWorkload, type Reporter, securityPolicyOf, trafficLabels } from "../../telemetry/traffic-labels.ts";
import type { WorkloadPeer } from "../../telemetry/workload-peer.ts";

/** Traffic of one kind. */
export interface Traffic {
  readonly service: ServiceLabels;
  readonly peer: WorkloadPeer | null;
  readonly principals: Principals;
  /** Without the outcome. */
  readonly labels: readonly string[];
  readonly byOutcome: Map<number | string, Series>;
}

export interface TrafficTableOptions {
  readonly reporter: Reporter;
  readonly own: OwnWorkload;
  readonly series: LabelledSeries;
  readonly shape: SeriesShape;
}

/** Peers come from outside; it starts afresh when it has seen that many. */
const maxTraffic = 16_384;

export class TrafficTable {
  readonly #options: TrafficTableOptions;
  #byService = new Map<ServiceLabels, Map<WorkloadPeer | null, Map<Principals, Traffic>>>();
  #size = 0;
  #generation = 0;
  /** Most requests are like the one before. */
  #last: Traffic | null = null;

  constructor(options: TrafficTableOptions) {
    this.#options = options;
  }

  /** Hot. */
  traffic(service: ServiceLabels, peer: WorkloadPeer | null, principals: Principals): Traffic {
    const last = this.#last;
    if (
      last !== null &&
      last.service === service &&
      last.peer === peer &&
      last.principals === principals &&
      this.#generation === this.#options.series.generation
    ) {
      return last;
    }
    if (this.#generation !== this.#options.series.generation || this.#size >= maxTraffic) this.#forget();
    const found = this.#byService.get(service)?.get(peer)?.get(principals) ?? this.#add(service, peer, principals);
    this.#last = found;
    return found;
  }

  /** Hot. */
  http(traffic: Traffic, status: number, flags: number): Series {
    // Flags are 30 bits, so that both fit into one number.
    const outcome = status * 2 ** 30 + flags;
    return (
      traffic.byOutcome.get(outcome) ??
      this.#addOutcome(traffic, outcome, "http", ["response_code", String(status), "grpc_response_status", ""], flags)
    );
  }

  grpc(traffic: Traffic, status: number, flags: number, grpcStatus: string): Series {
    const outcome = `${status} ${flags} ${grpcStatus}`;
    const labels = ["response_code", String(status), "grpc_response_status", grpcStatus];
    return traffic.byOutcome.get(outcome) ?? this.#addOutcome(traffic, outcome, "grpc", labels, flags);
  }

  /** Counted while a call lasts: of its outcome nothing is known. */
  messages(traffic: Traffic, shape: SeriesShape): Series {
    const found = traffic.byOutcome.get("messages");
    if (found !== undefined) return found;
    const { series } = this.#options;
    const made = series.find(shape, traffic.labels);
    if (this.#generation === series.generation) traffic.byOutcome.set("messages", made);
    return made;
  }

  tcp(traffic: Traffic, flags: number): Series {
    return traffic.byOutcome.get(flags) ?? this.#addOutcome(traffic, flags, "tcp", [], flags);
  }

  #addOutcome(traffic: Traffic, outcome: number | string, protocol: string, labels: readonly string[], flags: number): Series {
    const { series, shape, reporter } = this.#options;
    const made = series.find(shape, [
      ...traffic.labels,
      ...["request_protocol", protocol],
      ...labels,
      ...["response_flags", flagText(flags, 0, protocol === "tcp")],
      ...["connection_security_policy", securityPolicyOf(reporter, traffic.principals)],
    ]);
    // To find it may have cost others their place.
    if (this.#generation === series.generation) traffic.byOutcome.set(outcome, made);
    return made;
  }

  #add(service: ServiceLabels, peer: WorkloadPeer | null, principals: Principals): Traffic {
    const { reporter, own } = this.#options;
    const labels = trafficLabels(reporter, own, { service, peer, principals });
    const made: Traffic = { service, peer, principals, labels, byOutcome: new Map() };
    let byPeer = this.#byService.get(service);
    if (byPeer === undefined) {
      byPeer = new Map();
      this.#byService.set(service, byPeer);
    }
    let byPrincipals = byPeer.get(peer);
    if (byPrincipals === undefined) {
      byPrincipals = new Map();
      byPeer.set(peer, byPrincipals);
    }
    byPrincipals.set(principals, made);
    this.#size++;
    return made;
  }

  #forget(): void {
    this.#byService = new Map();
    this.#size = 0;
    this.#last = null;
    this.#generation = this.#options.series.generation;
  }
}
