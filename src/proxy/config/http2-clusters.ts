/**
 * Clusters that speak HTTP/2, of which this proxy has only what gRPC clients need: its own (xDS) and those of filters. Whoever sends
 * requests to one is to be told, and nobody else: a cluster comes before what says whom it is for.
 */
import { envoyTypes } from "../../api/envoy/type-registry.ts";
import { walkMessages } from "../../api/envoy/walk-messages.ts";
import { type HttpUri, HttpUriSchema } from "../../api/gen/envoy/config/core/v3/http_uri_pb.js";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { type RouteAction, RouteActionSchema } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "../../api/gen/envoy/config/route/v3/route_pb.js";

export class Http2Clusters {
  readonly #speaking = new Set<string>();
  /** To which requests are sent. */
  readonly #used = new Set<string>();

  /** Of a cluster that is added or changed: a sentence where it concerns somebody. */
  onCluster(name: string, speaksHttp2: boolean): string[] {
    if (!speaksHttp2) {
      this.#speaking.delete(name);
      return [];
    }
    this.#speaking.add(name);
    return this.#used.has(name) ? [sentence(name)] : [];
  }

  /** Of a route configuration, which is large and holds nothing else that sends requests. */
  onRoutes({ virtualHosts }: RouteConfiguration): string[] {
    const found = new Set<string>();
    for (const { routes } of virtualHosts) {
      for (const { action } of routes) if (action.case === "route") this.#use(clustersOfRoute(action.value), found);
    }
    return [...found].map(sentence);
  }

  /** Of a listener: inline routes, and filters that ask by HTTP. */
  onListener(message: Listener): string[] {
    const found = new Set<string>();
    walkMessages(ListenerSchema, message, envoyTypes, ({ desc, message: inner }) => {
      if (desc.typeName === RouteActionSchema.typeName) this.#use(clustersOfRoute(inner.message as RouteAction), found);
      else if (desc.typeName === HttpUriSchema.typeName) {
        const { httpUpstreamType: to } = inner.message as HttpUri;
        if (to.case === "cluster") this.#use([to.value], found);
      }
    });
    return [...found].map(sentence);
  }

  #use(names: readonly string[], found: Set<string>): void {
    for (const name of names) {
      this.#used.add(name);
      if (this.#speaking.has(name)) found.add(name);
    }
  }
}

function sentence(cluster: string): string {
  return `cluster '${cluster}': HTTP/2 is not spoken to upstreams by this proxy, but by gRPC clients of filters: requests to it are answered 502`;
}

function clustersOfRoute({ clusterSpecifier: to }: RouteAction): string[] {
  if (to.case === "cluster") return [to.value];
  return to.case === "weightedClusters" ? to.value.clusters.map(({ name }) => name) : [];
}
