/**
 * istio.metadata_exchange for HTTP (envoy.filters.http.peer_metadata): a client's proxy says in two headers which workload it is of, and
 * the server's answers in kind. Both are taken out of what the applications see. Source: Istio's proxy, source/extensions/filters/http/peer_metadata.
 */
import {
  type Config,
  type Config_DiscoveryMethod,
  type Config_PropagationMethod,
  ConfigSchema,
} from "../../../api/gen/istio/http/peer_metadata/config_pb.js";
import { getHeader, removeHeaders, setHeader } from "../../http/header-list.ts";
import { defineHttpFilter, type FilterCompileContext, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import type { HeaderList } from "../../stream-info.ts";
import { PeerHeaders } from "../../telemetry/peer-headers.ts";

const valueHeader = "x-envoy-peer-metadata";
const idHeader = "x-envoy-peer-metadata-id";
const exchangeHeaders: ReadonlySet<string> = new Set([valueHeader, idHeader]);

/** Which of its two headers a client has sent, and so wants to have answered. */
const asked = { id: 1, value: 2 } as const;

class PeerMetadataFilter implements HttpFilter {
  readonly name: string;
  readonly #slot: number;
  readonly #readsRequests: boolean;
  readonly #readsResponses: boolean;
  readonly #answersClients: boolean;
  readonly #tellsServers: boolean;
  readonly #spareOutsiders: { readonly servers: boolean; readonly clients: boolean };
  readonly #id: string;
  readonly #value: string;
  readonly #peers: PeerHeaders;

  constructor(config: Config, context: FilterCompileContext, name: string) {
    this.name = name;
    this.#slot = context.slot;
    this.#readsRequests = config.downstreamDiscovery.some(isByHeaders);
    this.#readsResponses = config.upstreamDiscovery.some(isByHeaders);
    this.#answersClients = config.downstreamPropagation.some(isByHeaders);
    this.#tellsServers = config.upstreamPropagation.some(isByHeaders);
    this.#spareOutsiders = { servers: skipsExternal(config.upstreamPropagation), clients: skipsExternal(config.downstreamPropagation) };
    this.#id = context.telemetry.nodeId;
    this.#peers = new PeerHeaders(config.additionalLabels);
    this.#value = this.#peers.write(context.telemetry.self(config.additionalLabels));
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    const { info } = stream;
    const headers = info.requestHeaders;
    if (this.#readsRequests) {
      const found = asksWhat(headers);
      if (found !== 0) {
        stream.filterState ??= [];
        stream.filterState[this.#slot] = found;
        info.downstreamPeer = this.#peers.read(getHeader(headers, valueHeader) ?? "") ?? info.downstreamPeer;
        removeHeaders(headers, exchangeHeaders);
      }
    }
    if (this.#tellsServers && this.#mayTell(stream, this.#spareOutsiders.servers)) {
      setHeader(headers, idHeader, this.#id);
      setHeader(headers, valueHeader, this.#value);
    }
    return "continue";
  }

  onResponseHeaders(stream: HttpStream): FilterStatus {
    const { info } = stream;
    const headers = info.responseHeaders;
    if (this.#readsResponses) {
      info.upstreamPeer = this.#peers.read(getHeader(headers, valueHeader) ?? "") ?? info.upstreamPeer;
      removeHeaders(headers, exchangeHeaders);
    }
    if (this.#answersClients) {
      const wanted = (stream.filterState?.[this.#slot] ?? 0) as number;
      if (wanted !== 0 && this.#mayTell(stream, this.#spareOutsiders.clients)) {
        if (wanted & asked.id) setHeader(headers, idHeader, this.#id);
        if (wanted & asked.value) setHeader(headers, valueHeader, this.#value);
      }
    }
    return "continue";
  }

  #mayTell({ cluster }: HttpStream, spares: boolean): boolean {
    const mesh = cluster?.config.mesh;
    if (mesh === undefined) return true;
    if (mesh.refusesExchange) return false;
    return !spares || !(mesh.isExternal || mesh.catchAll === "PassthroughCluster");
  }
}

function isByHeaders({ methodSpecifier }: Config_DiscoveryMethod | Config_PropagationMethod): boolean {
  return methodSpecifier.case === "istioHeaders";
}

function skipsExternal(methods: readonly Config_PropagationMethod[]): boolean {
  return methods.some(({ methodSpecifier: method }) => method.case === "istioHeaders" && method.value.skipExternalClusters);
}

function asksWhat(headers: HeaderList): number {
  let found = 0;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    if (name === valueHeader) found |= asked.value;
    else if (name === idHeader) found |= asked.id;
  }
  return found;
}

export const peerMetadata = defineHttpFilter({
  name: "envoy.filters.http.peer_metadata",
  schema: ConfigSchema,
  create: (config, context, name) => new PeerMetadataFilter(config, context, name),
});
