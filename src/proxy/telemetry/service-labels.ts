/** The service that traffic is meant for, as metrics name it; "" stands for what is not known. */
import type { Cluster } from "../upstream/cluster.ts";

export interface ServiceLabels {
  /** `reviews.default.svc.cluster.local` */
  readonly host: string;
  readonly name: string;
  readonly namespace: string;
}

const catchAllRoutes: Readonly<Record<string, string | undefined>> = { block_all: "BlackHoleCluster", allow_any: "PassthroughCluster" };
/** Services that have no more than a name: what clients wrote, of which there may be many. */
const maxNamed = 1024;

export class ServiceNames {
  readonly #named = new Map<string, ServiceLabels>();

  /**
   * The same object for the same service. `routeName` as Istio's control plane names its own routes; `host`: what the client wrote,
   * "" where that says nothing.
   */
  serviceOf(routeName: string, cluster: Cluster | undefined, host: string): ServiceLabels {
    const mesh = cluster?.config.mesh;
    const catchAll = catchAllRoutes[routeName] ?? mesh?.catchAll ?? "";
    if (catchAll === "" && mesh?.service) return mesh.service;
    const key = `${catchAll} ${host}`;
    const known = this.#named.get(key);
    if (known !== undefined) return known;
    if (this.#named.size >= maxNamed) this.#named.clear();
    const made = { host, name: catchAll || host, namespace: "" };
    this.#named.set(key, made);
    return made;
  }
}
