/**
 * Filters named without a typed_config.
 *
 * Since v3 Envoy finds an extension by the type of its configuration alone, and refuses a filter that has only a name. Old
 * tutorials, and the course that users of this product come from, show exactly that. Where the name is well known and an
 * empty configuration means something, we fill it in and say so.
 */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

const http = "type.googleapis.com/envoy.extensions.filters.http";
const listener = "type.googleapis.com/envoy.extensions.filters.listener";
const network = "type.googleapis.com/envoy.extensions.filters.network";

const defaults: Record<string, string> = {
  "envoy.filters.http.router": `${http}.router.v3.Router`,
  "envoy.router": `${http}.router.v3.Router`,
  "envoy.filters.http.cors": `${http}.cors.v3.Cors`,
  "envoy.cors": `${http}.cors.v3.Cors`,
  "envoy.filters.http.fault": `${http}.fault.v3.HTTPFault`,
  "envoy.fault": `${http}.fault.v3.HTTPFault`,
  "envoy.filters.http.grpc_web": `${http}.grpc_web.v3.GrpcWeb`,
  "envoy.grpc_web": `${http}.grpc_web.v3.GrpcWeb`,
  "envoy.filters.listener.tls_inspector": `${listener}.tls_inspector.v3.TlsInspector`,
  "envoy.listener.tls_inspector": `${listener}.tls_inspector.v3.TlsInspector`,
  "envoy.filters.listener.http_inspector": `${listener}.http_inspector.v3.HttpInspector`,
  "envoy.listener.http_inspector": `${listener}.http_inspector.v3.HttpInspector`,
  "envoy.filters.listener.original_dst": `${listener}.original_dst.v3.OriginalDst`,
  "envoy.listener.original_dst": `${listener}.original_dst.v3.OriginalDst`,
  "envoy.filters.listener.proxy_protocol": `${listener}.proxy_protocol.v3.ProxyProtocol`,
  "envoy.listener.proxy_protocol": `${listener}.proxy_protocol.v3.ProxyProtocol`,
  "envoy.filters.network.sni_cluster": `${network}.sni_cluster.v3.SniCluster`,
  "envoy.filters.network.echo": `${network}.echo.v3.Echo`,
};

const filterLists = new Set(["http_filters", "httpFilters", "listener_filters", "listenerFilters", "filters"]);

/** Fills in the configuration of well-known filters, in place. Returns the names that it was done for. */
export function completeWellKnownFilters(json: JsonValue): string[] {
  const completed: string[] = [];
  const visit = (node: JsonValue): void => {
    if (Array.isArray(node)) {
      for (const item of node) visit(item);
    } else if (typeof node === "object" && node !== null) {
      for (const [key, value] of Object.entries(node)) {
        if (filterLists.has(key) && Array.isArray(value)) {
          for (const filter of value) complete(filter);
        }
        visit(value as JsonValue);
      }
    }
  };
  const complete = (filter: JsonValue): void => {
    if (typeof filter !== "object" || filter === null || Array.isArray(filter)) return;
    const { name } = filter as JsonObject;
    const keys = Object.keys(filter);
    if (typeof name !== "string" || !Object.hasOwn(defaults, name)) return;
    if (keys.some((key) => /^(typed_?config|config_?discovery)$/i.test(key))) return;
    (filter as JsonObject).typed_config = { "@type": defaults[name]! };
    completed.push(name);
  };
  visit(json);
  return completed;
}
