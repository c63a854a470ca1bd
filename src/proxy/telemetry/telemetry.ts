/** What a worker's telemetry knows of its own workload and of others, and what it has counted; shared by all filters that report. */
import type { Node } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import type { StatsStore } from "../stats/store.ts";
import type { Host } from "../upstream/host.ts";
import { LabelledSeries } from "./labelled-series.ts";
import { PrincipalPairs } from "./principals.ts";
import { ServiceNames } from "./service-labels.ts";
import { type OwnWorkload, ownWorkload } from "./traffic-labels.ts";
import { peerFromEndpoint, peerFromMetadata, type WorkloadPeer } from "./workload-peer.ts";

const maxEndpointPeers = 4096;

export class Telemetry {
  readonly nodeId: string;
  readonly own: OwnWorkload;
  readonly series: LabelledSeries;
  readonly services = new ServiceNames();
  readonly principals = new PrincipalPairs();
  readonly #node: Node | undefined;
  #showsBuild = false;
  readonly #endpointPeers = new Map<string, WorkloadPeer | null>();

  constructor(node: Node | undefined, store: StatsStore) {
    this.#node = node;
    this.nodeId = node?.id ?? "";
    this.own = ownWorkload(node?.metadata ?? {});
    this.series = new LabelledSeries(store);
  }

  /** `istio_build{component="proxy",tag="1.30.0"} 1`: of which version this proxy is. */
  showBuild(): void {
    if (this.#showsBuild) return;
    this.#showsBuild = true;
    const version = this.#node?.metadata?.ISTIO_VERSION;
    const tag = typeof version === "string" && version !== "" ? version : "unknown";
    const { store } = this.series;
    store.set(store.addTagged("istiocustom.istio_build", "gauge", ["component", "proxy", "tag", tag]), 1);
  }

  /** The own workload as others are told of it. */
  self(additionalLabels: readonly string[]): WorkloadPeer {
    const { region = "", zone = "" } = this.#node?.locality ?? {};
    return peerFromMetadata(this.#node?.metadata ?? {}, additionalLabels, { region, zone });
  }

  /** What the control plane says of an endpoint's workload; the same object for the same text. */
  peerOfEndpoint(host: Host | null): WorkloadPeer | null {
    const encoded = host?.description.metadata.istio?.workload;
    if (typeof encoded !== "string") return null;
    const known = this.#endpointPeers.get(encoded);
    if (known !== undefined) return known;
    if (this.#endpointPeers.size >= maxEndpointPeers) this.#endpointPeers.clear();
    const peer = peerFromEndpoint(encoded) ?? null;
    this.#endpointPeers.set(encoded, peer);
    return peer;
  }
}
