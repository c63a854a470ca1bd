/** Pieces of a static bootstrap, for what is asked of Envoy and of our proxy on one configuration. */
import { startOurProxy, startRealEnvoy } from "./proxies.ts";

export const proxies = [
  { name: "envoy", start: startRealEnvoy },
  { name: "topsail", start: startOurProxy },
] as const;

/** Of `typed_config`, from `envoy.extensions.` on. */
export const type = (name: string) => `type.googleapis.com/envoy.extensions.${name}`;

export const address = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });

/** Filters of a chain that answers every request with `in`. `more`: fields of the connection manager. */
export function answeringFilters(statPrefix: string, more: object = {}): object[] {
  const manager = {
    stat_prefix: statPrefix,
    ...more,
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          routes: [{ match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: "in" } } }],
        },
      ],
    },
    http_filters: [routerFilter],
  };
  return [managerFilter(manager)];
}

export const routerFilter = { name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } };

/** The network filter. `manager`: what its connection manager has beside the type. */
export function managerFilter(manager: object): object {
  const typed = { "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"), ...manager };
  return { name: "envoy.filters.network.http_connection_manager", typed_config: typed };
}

/** An access log; `format` has its own end of the line. */
export function fileLog(path: string, format: string): object {
  const log_format = { text_format_source: { inline_string: format } };
  return { name: "file", typed_config: { "@type": type("access_loggers.file.v3.FileAccessLog"), path, log_format } };
}

/** As Promise.all, but nothing is left running when one of them fails. */
export async function both<T>(runs: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(runs);
  return settled.map((each) => {
    if (each.status === "rejected") throw each.reason;
    return each.value;
  });
}

/** With endpoints on loopback. `http`: HttpProtocolOptions of the cluster. */
export function staticCluster(name: string, ports: readonly number[], http: object = http2Only, more: object = {}): object {
  return {
    name,
    type: "STATIC",
    load_assignment: {
      cluster_name: name,
      endpoints: ports.length === 0 ? [] : [{ lb_endpoints: ports.map((port) => ({ endpoint: { address: address(port) } })) }],
    },
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": { "@type": type("upstreams.http.v3.HttpProtocolOptions"), ...http },
    },
    ...more,
  };
}

export const http2Only = { explicit_http_config: { http2_protocol_options: {} } };

/** One listener, `in`, for HTTP. `manager`: what its connection manager has beside the type. */
export function httpBootstrap(clusters: readonly object[], manager: object): object {
  const filters = [managerFilter({ stat_prefix: "in", ...manager })];
  return staticBootstrap(clusters, [{ name: "in", address: address(0), filter_chains: [{ filters }] }]);
}

export function staticBootstrap(clusters: readonly object[], listeners: readonly object[]): object {
  return { node: { id: "static", cluster: "static" }, admin: { address: address(0) }, static_resources: { clusters, listeners } };
}
