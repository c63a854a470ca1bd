/** Our proxy in the test's own process, from bootstrap YAML or JSON, on ports of its own. */
import { createLog } from "../../src/lib/log.ts";
import { loadBootstrap } from "../../src/proxy/config/bootstrap.ts";
import { ProxyServer } from "../../src/proxy/server.ts";
import type { ProxyServerOptions } from "../../src/proxy/server-options.ts";

export interface TestProxy extends AsyncDisposable {
  readonly server: ProxyServer;
  /** Everything that was logged so far. */
  readonly log: string[];
  admin(path: string, method?: "GET" | "POST"): Promise<{ status: number; body: string }>;
  /** Resolves when a line of the log holds the text. */
  logged(text: string): Promise<void>;
}

export async function startProxyServer(bootstrap: unknown, options: Partial<ProxyServerOptions> = {}): Promise<TestProxy> {
  const lines: string[] = [];
  const waiting: { readonly text: string; readonly resolve: () => void }[] = [];
  const log = createLog({
    write(line) {
      lines.push(line);
      for (const { text, resolve } of waiting) if (line.includes(text)) resolve();
    },
  });
  const server = await ProxyServer.start({
    bootstrap: loadBootstrap({ yaml: typeof bootstrap === "string" ? bootstrap : JSON.stringify(bootstrap) }),
    concurrency: 1,
    log,
    drainTimeMs: 1000,
    drainStrategy: "immediate",
    xdsBackoffBaseMs: 10,
    ...options,
  });
  return {
    server,
    log: lines,
    async admin(path, method = "GET") {
      const address = server.adminAddress;
      if (!address) throw new Error("the bootstrap has no admin interface");
      const response = await fetch(`http://127.0.0.1:${address.port}${path}`, { method });
      return { status: response.status, body: await response.text() };
    },
    logged: (text) =>
      lines.some((line) => line.includes(text)) ? Promise.resolve() : new Promise((resolve) => waiting.push({ text, resolve })),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** A bootstrap that gets everything from an ADS server on loopback. */
export function adsBootstrap(port: number, options: { isDelta?: boolean; fetchTimeout?: string } = {}) {
  const ads = { ads: {}, resource_api_version: "V3", ...(options.fetchTimeout && { initial_fetch_timeout: options.fetchTimeout }) };
  return {
    node: { id: "router~127.0.0.1~gw.default~default.svc.cluster.local", cluster: "gw" },
    admin: { address: { socket_address: { address: "127.0.0.1", port_value: 0 } } },
    dynamic_resources: {
      ads_config: {
        api_type: options.isDelta ? "DELTA_GRPC" : "GRPC",
        transport_api_version: "V3",
        set_node_on_first_message_only: true,
        grpc_services: [{ envoy_grpc: { cluster_name: "xds-grpc" } }],
      },
      cds_config: ads,
      lds_config: ads,
    },
    static_resources: {
      clusters: [
        {
          name: "xds-grpc",
          type: "STATIC",
          connect_timeout: "1s",
          load_assignment: { cluster_name: "xds-grpc", endpoints: [{ lb_endpoints: [{ endpoint: { address: socket(port) } }] }] },
        },
      ],
    },
  };
}

export function socket(port: number) {
  return { socket_address: { address: "127.0.0.1", port_value: port } };
}
