/**
 * istio.alpn: what a client of the mesh offers by ALPN says that it is one, and that HTTP is inside. The connection manager alone knows that
 * it is HTTP, so it says so for each request, over what the cluster's TLS settings offer. Source: Istio's proxy, source/extensions/filters/http/alpn.
 */
import { type FilterConfig, FilterConfigSchema, FilterConfig_Protocol as Protocol } from "../../../api/gen/istio/alpn/config_pb.js";
import { defineHttpFilter, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { type AlpnOffer, alpnOffer } from "../../upstream/alpn-offer.ts";

class AlpnFilter implements HttpFilter {
  readonly name: string;
  /** Upstreams of this proxy speak HTTP/1.1. */
  readonly #http1: AlpnOffer | null;

  constructor(config: FilterConfig, name: string) {
    this.name = name;
    const override = config.alpnOverride.find(({ upstreamProtocol }) => upstreamProtocol === Protocol.HTTP11);
    this.#http1 = override === undefined || override.alpnOverride.length === 0 ? null : alpnOffer(override.alpnOverride);
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    if (this.#http1 !== null && stream.cluster?.config.mesh.keepsAlpn === false) stream.alpnOffer = this.#http1;
    return "continue";
  }
}

export const alpn = defineHttpFilter({
  name: "istio.alpn",
  schema: FilterConfigSchema,
  create: (config, _context, name) => new AlpnFilter(config, name),
});
