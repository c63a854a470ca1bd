/** Filter chains in a few words: what they take, and where it goes. Source: Istio istioctl/pkg/writer/envoy/configdump/listener.go. */
import { type JsonObject, numberAt, objectAt, objectsAt, textAt, textsAt } from "../output/json-fields.ts";
import { describeRouteConfig } from "./describe-route.ts";

const httpFilter = "envoy.filters.network.http_connection_manager";
const tcpFilter = "envoy.filters.network.tcp_proxy";

/** Lists of protocols that have a name. */
const protocolNames: Readonly<Record<string, string>> = {
  "http/1.0,http/1.1,h2c,istio-http/1.0,istio-http/1.1,istio-h2": "App: HTTP TLS",
  "istio,istio-http/1.0,istio-http/1.1,istio-h2": "App: Istio HTTP Plain",
  "istio-peer-exchange,istio": "App: TCP TLS",
  "http/1.0,http/1.1,h2c": "App: HTTP",
};

/** Of a FilterChainMatch. */
export function describeChainMatch(match: JsonObject): string {
  const names = textsAt(match, "server_names");
  const transport = textAt(match, "transport_protocol");
  const protocols = textsAt(match, "application_protocols").join(",");
  const port = match.destination_port === undefined ? "" : `:${numberAt(match, "destination_port")}`;
  const ranges = objectsAt(match, "prefix_ranges").map((range) => `${textAt(range, "address_prefix")}/${numberAt(range, "prefix_len")}`);
  const parts = [
    names.length > 0 && `SNI: ${names.join(",")}`,
    transport && `Trans: ${transport}`,
    protocols && (protocolNames[protocols] ?? `App: ${protocols}`),
    ranges.length > 0 ? `Addr: ${ranges.join(",")}${port}` : port && `Addr: *${port}`,
  ];
  return parts.filter(Boolean).join("; ") || "ALL";
}

/** Of the first filter that sends anything anywhere. */
export function describeDestination(chain: JsonObject): string {
  for (const filter of objectsAt(chain, "filters")) {
    const config = objectAt(filter, "typed_config");
    if (filter.name === httpFilter) {
      if (config.route_config !== undefined) return describeRouteConfig(objectAt(config, "route_config"));
      const name = textAt(config, "rds", "route_config_name");
      return name === "" ? "HTTP" : `Route: ${name}`;
    }
    if (filter.name === tcpFilter && !isBlackHole(filter)) {
      const cluster = textAt(config, "cluster");
      return cluster.includes("Cluster") ? cluster : `Cluster: ${cluster}`;
    }
  }
  return "Non-HTTP/Non-TCP";
}

export function listenerType(chains: readonly JsonObject[]): "HTTP" | "TCP" | "HTTP+TCP" | "UNKNOWN" {
  const filters = chains.flatMap((chain) => objectsAt(chain, "filters"));
  const hasHttp = filters.some(({ name }) => name === httpFilter);
  const hasTcp = filters.some((filter) => filter.name === tcpFilter && !isBlackHole(filter));
  if (hasHttp) return hasTcp ? "HTTP+TCP" : "HTTP";
  return hasTcp ? "TCP" : "UNKNOWN";
}

function isBlackHole(filter: JsonObject): boolean {
  return JSON.stringify(filter.typed_config ?? {}).includes("BlackHoleCluster");
}
