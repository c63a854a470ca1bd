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
    "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
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
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  return [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }];
}

/** As Promise.all, but nothing is left running when one of them fails. */
export async function both<T>(runs: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(runs);
  return settled.map((each) => {
    if (each.status === "rejected") throw each.reason;
    return each.value;
  });
}
