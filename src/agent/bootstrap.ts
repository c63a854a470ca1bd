/**
 * The proxy's bootstrap: who it is, where the control plane is, and the two listeners that every proxy of the mesh has, readiness
 * and metrics. Genuine Envoy v3, accepted by a stock Envoy. Source: Istio tools/packaging/common/envoy_bootstrap.json.
 */
import type { ProxyConfig } from "../api/mesh/proxy-config.ts";
import { ownLoopback } from "../lib/loopback.ts";
import { wildcardAddresses } from "../lib/wildcard-address.ts";
import type { AgentEnvironment } from "./environment.ts";
import type { NodeIdentity } from "./node.ts";

export interface BootstrapOptions {
  readonly node: NodeIdentity;
  readonly environment: AgentEnvironment;
  readonly proxyConfig: ProxyConfig;
  readonly sockets: ProxySockets;
}

/** Unix sockets that the proxy calls. */
export interface ProxySockets {
  /** For configuration: the agent's. */
  readonly xds: string;
  /** For the workload's certificate: the agent's, or another's. */
  readonly workload: string;
  /** For files as secrets: the agent's. */
  readonly files: string;
  /** For what `sds://` names stand for: another's; undefined where nobody serves it. */
  readonly credentials: string | undefined;
}

type Json = Record<string, unknown>;
type Binds = readonly [string, ...string[]];

export function bootstrap({ node, environment, proxyConfig, sockets }: BootstrapOptions): Json {
  const { region, zone, subZone } = node.locality;
  const binds = environment.bindAddress ? ([environment.bindAddress] as const) : wildcardAddresses(node.addresses, environment.isDualStack);
  const loopback = ownLoopback(environment.bindAddress);
  return {
    node: {
      id: node.id,
      cluster: node.cluster,
      locality: { ...(region ? { region } : {}), ...(zone ? { zone } : {}), ...(subZone ? { sub_zone: subZone } : {}) },
      metadata: node.metadata,
    },
    layered_runtime: {
      layers: [
        { name: "global config", static_layer: runtimeValues(proxyConfig) },
        { name: "admin", admin_layer: {} },
      ],
    },
    stats_config: statsConfig(proxyConfig, environment.exitsWhenUnused),
    admin: {
      access_log: [fileAccessLog("/dev/null")],
      address: socketAddress(loopback, proxyConfig.proxyAdminPort),
    },
    dynamic_resources: {
      lds_config: adsSource,
      cds_config: adsSource,
      ads_config: {
        api_type: environment.deltaXds ? "DELTA_GRPC" : "GRPC",
        set_node_on_first_message_only: true,
        transport_api_version: "V3",
        grpc_services: [{ envoy_grpc: { cluster_name: "xds-grpc" } }],
      },
    },
    static_resources: {
      clusters: [
        loopbackCluster("prometheus_stats", loopback, proxyConfig.proxyAdminPort),
        // Which listens for the outside as well.
        loopbackCluster("agent", environment.bindAddress ?? loopback, proxyConfig.statusPort),
        socketCluster("xds-grpc", sockets.xds),
        socketCluster("sds-grpc", sockets.workload),
        socketCluster("sds-files-grpc", sockets.files),
        // Istio's control plane sends this one, by a path that holds in its containers alone; what the bootstrap has stays.
        ...(sockets.credentials === undefined ? [] : [socketCluster("sds-external", sockets.credentials)]),
      ],
      listeners: [
        staticListener(binds, environment.prometheusPort, "/stats/prometheus", "prometheus_stats", "stats"),
        staticListener(binds, environment.statusListenerPort, "/healthz/ready", "agent", "agent"),
        ...secureListeners(binds, environment),
      ],
    },
  };
}

const adsSource = { ads: {}, initial_fetch_timeout: "0s", resource_api_version: "V3" };

function socketAddress(address: string, port: number): Json {
  return { socket_address: { address, port_value: port } };
}

/** Where a listener listens; on a machine of IPv6 alone to IPv4 as well, by which the agent asks its proxy: at 127.0.0.1. */
function listensOn([first, ...others]: Binds, port: number): Json {
  if (first === "::") return { address: { socket_address: { address: first, port_value: port, ipv4_compat: true } } };
  const additional = others.map((address) => ({ address: socketAddress(address, port) }));
  return { address: socketAddress(first, port), ...(additional.length > 0 ? { additional_addresses: additional } : {}) };
}

/** The `;` ends the name for the tag regexes below. */
function loopbackCluster(name: string, address: string, port: number): Json {
  return {
    name,
    alt_stat_name: `${name};`,
    type: "STATIC",
    connect_timeout: "0.250s",
    lb_policy: "ROUND_ROBIN",
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(address, port) } }] }] },
  };
}

const http2Options = {
  "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    explicit_http_config: { http2_protocol_options: {} },
  },
};

/** gRPC to the agent itself, which calls the control plane. */
function socketCluster(name: string, path: string): Json {
  return {
    name,
    alt_stat_name: `${name};`,
    type: "STATIC",
    connect_timeout: "1s",
    lb_policy: "ROUND_ROBIN",
    typed_extension_protocol_options: http2Options,
    circuit_breakers: {
      thresholds: ["DEFAULT", "HIGH"].map((priority) => ({
        priority,
        max_connections: 100000,
        max_pending_requests: 100000,
        max_requests: 100000,
      })),
    },
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path } } } }] }] },
  };
}

function staticListener(binds: Binds, port: number, prefix: string, cluster: string, statPrefix: string): Json {
  return {
    name: `${binds[0]}_${port}`,
    ...listensOn(binds, port),
    filter_chains: [{ filters: httpTo(statPrefix, [prefix], cluster) }],
  };
}

/** Metrics for a scraper that has a certificate of the mesh. What is no TLS finds no filter chain. */
function secureListeners(binds: Binds, { secureMetricsPort, secureMergedMetricsPort }: AgentEnvironment): Json[] {
  const secure = (port: number, filters: Json[]) => ({
    name: `${binds[0]}_${port}`,
    ...listensOn(binds, port),
    listener_filters: [
      {
        name: "envoy.filters.listener.tls_inspector",
        typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" },
      },
    ],
    filter_chains: [{ filter_chain_match: { transport_protocol: "tls" }, transport_socket: mutualTls, filters }],
  });
  return [
    ...(secureMetricsPort ? [secure(secureMetricsPort, httpTo("secure_stats", ["/stats/prometheus"], "prometheus_stats"))] : []),
    ...(secureMergedMetricsPort
      ? [secure(secureMergedMetricsPort, httpTo("secure_merged_stats", ["/stats/prometheus", "/metrics"], "agent"))]
      : []),
  ];
}

function sdsSecret(name: string): Json {
  return {
    name,
    sds_config: {
      api_config_source: {
        api_type: "GRPC",
        grpc_services: [{ envoy_grpc: { cluster_name: "sds-grpc" } }],
        set_node_on_first_message_only: true,
        transport_api_version: "V3",
      },
      resource_api_version: "V3",
    },
  };
}

const mutualTls = {
  name: "envoy.transport_sockets.tls",
  typed_config: {
    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    require_client_certificate: true,
    common_tls_context: {
      tls_certificate_sds_secret_configs: [sdsSecret("default")],
      combined_validation_context: {
        default_validation_context: {},
        validation_context_sds_secret_config: sdsSecret("ROOTCA"),
      },
    },
  },
};

function httpTo(statPrefix: string, prefixes: readonly string[], cluster: string): Json[] {
  const routes = prefixes.map((prefix) => ({ match: { prefix }, route: { cluster } }));
  return [
    {
      name: "envoy.filters.network.http_connection_manager",
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        codec_type: "AUTO",
        stat_prefix: statPrefix,
        route_config: { virtual_hosts: [{ name: "backend", domains: ["*"], routes }] },
        http_filters: [
          {
            name: "envoy.filters.http.router",
            typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
          },
        ],
      },
    },
  ];
}

function fileAccessLog(path: string): Json {
  return {
    name: "envoy.access_loggers.file",
    typed_config: { "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", path },
  };
}

function runtimeValues({ runtimeValues: given }: ProxyConfig): Json {
  const values: Json = { "re2.max_program_size.error_level": "32768" };
  for (const [key, value] of Object.entries(given)) {
    if (value === "") delete values[key];
    else values[key] = value === "true" ? true : value === "false" ? false : value;
  }
  return values;
}

/** Labels that Istio's dashboards expect: capture group 1 is cut out of the name, group 2 becomes the label's value. */
const statsTags: readonly (readonly [tag: string, regex: string])[] = [
  ["cluster_name", "^cluster(\\.(.+);)"],
  ["http_conn_manager_prefix", "^http\\.(([^;]*);\\.)"],
  ["tcp_prefix", "^tcp\\.(([^;]*);\\.)"],
  ["response_code", "_rq(_(\\d{3}))$"],
  ["response_code_class", "_rq(_(\\dxx))$"],
  ["listener_address", "^listener\\.(((?:[_.[:digit:]]*|[_\\[\\]aAbBcCdDeEfF[:digit:]]*))\\.)"],
  ["authz_enforce_result", "rbac(\\.(allowed|denied))"],
];

/** Without a matcher of the user's, only what Istio shows is kept: some 400 names a cluster would be too many. */
function statsConfig({ proxyStatsMatcher, extraStatTags }: ProxyConfig, countsConnections: boolean): Json {
  const prefixes = [
    "reporter=",
    ...(proxyStatsMatcher?.inclusionPrefixes ?? []),
    "cluster_manager",
    "listener_manager",
    "server",
    "cluster.xds-grpc",
    "wasm",
    "component",
    "istio",
  ];
  const suffixes = [
    ...(proxyStatsMatcher?.inclusionSuffixes ?? []),
    ...["rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied"],
    // By these a stopping agent sees who is still there.
    ...(countsConnections ? ["downstream_cx_active"] : []),
  ];
  const regexps = proxyStatsMatcher?.inclusionRegexps ?? [];
  return {
    use_all_default_tags: false,
    stats_tags: [...statsTags, ...extraStatTags.map((tag) => [tag, `(${tag}=\\.=(.*?);\\.;)`] as const)].map(([tag_name, regex]) => ({
      tag_name,
      regex,
    })),
    stats_matcher: {
      inclusion_list: {
        patterns: [
          ...prefixes.map((prefix) => ({ prefix })),
          ...suffixes.map((suffix) => ({ suffix })),
          ...regexps.map((regex) => ({ safe_regex: { regex } })),
        ],
      },
    },
  };
}
