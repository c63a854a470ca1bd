/**
 * istio.alpn: what a client of the mesh offers by ALPN says that it is one, and that HTTP is inside. The connection manager alone knows that
 * it is HTTP, so it says so for each request, over what the cluster's TLS settings offer. Source: Istio's proxy, source/extensions/filters/http/alpn.
 */
import { type FilterConfig, FilterConfigSchema, FilterConfig_Protocol as Protocol } from "../../../api/gen/istio/alpn/config_pb.js";
import { defineHttpFilter, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { type AlpnOffers, alpnOffer } from "../../upstream/alpn-offer.ts";

class AlpnFilter implements HttpFilter {
  readonly name: string;
  readonly #offers: AlpnOffers;

  constructor(config: FilterConfig, name: string) {
    this.name = name;
    const offerFor = (protocol: Protocol) => {
      const protocols = config.alpnOverride.find(({ upstreamProtocol }) => upstreamProtocol === protocol)?.alpnOverride ?? [];
      return protocols.length === 0 ? null : alpnOffer(protocols);
    };
    this.#offers = { http1: offerFor(Protocol.HTTP11), http2: offerFor(Protocol.HTTP2) };
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    stream.alpnOffers = this.#offers;
    return "continue";
  }
}

export const alpn = defineHttpFilter({
  name: "istio.alpn",
  schema: FilterConfigSchema,
  create: (config, _context, name) => new AlpnFilter(config, name),
});
