/**
 * Static bootstraps as tests write them: what matters of a file is in it, what every file would repeat is added here.
 *
 *     hcm: {...}              fields of the HttpConnectionManager of the one listener, `main`
 *     http_filters: [...]     before the router
 *     router: {...}           fields of the router filter
 *     virtual_hosts: [...]    default: one for all domains; `routes: [...]` are its routes
 *     clusters: {up: {...}}   name to fields; `endpoints: [PORT, ...]` stands for a load assignment
 *     listeners: [...]        instead of `main`
 *     log: {path, format}     an access log of the HttpConnectionManager
 *     rbac_hosts: {NAME: ..}  virtual hosts, each with an RBACPerRoute of its own; see RbacHost
 *     rbac_listeners: {..}    listeners, each with network RBAC filters of its own; see RbacListener
 *     connection_log: {..}    as `log`, of those listeners and of their tcp_proxy
 *
 * `"@type": Cors` is completed to its URL; `NetworkRBAC` is the network filter's message, `RBAC` the HTTP filter's. Listener ports are 0; who runs it asks for the real ones.
 */
export interface ShortBootstrap {
  readonly log?: { readonly path: string; readonly format: string };
  readonly rbac_hosts?: Record<string, RbacHost>;
  readonly rbac_listeners?: Record<string, RbacListener>;
  readonly connection_log?: { readonly path: string; readonly format: string };
  readonly hcm?: Record<string, unknown>;
  readonly http_filters?: readonly unknown[];
  readonly router?: Record<string, unknown>;
  readonly virtual_hosts?: readonly unknown[];
  readonly routes?: readonly unknown[];
  readonly clusters?: Record<string, Record<string, unknown> | null>;
  readonly listeners?: readonly Record<string, unknown>[];
  readonly main?: Record<string, unknown>;
  readonly secrets?: readonly unknown[];
}

/** Either the fields of an RBAC message, or the permissions or principals of its one policy, `p`, whose other half is `any`. */
export interface RbacHost {
  readonly rbac?: object;
  readonly permissions?: readonly unknown[];
  readonly principals?: readonly unknown[];
  readonly action?: "ALLOW" | "DENY" | "LOG";
  /** Fields of the virtual host's one route. */
  readonly route?: Record<string, unknown>;
}

/** RBAC before tcp_proxy; the statistics' prefix is the listener's name. */
export interface RbacListener extends Omit<RbacHost, "route"> {
  /** Instead of `rbac`: several. */
  readonly filters?: readonly Record<string, unknown>[];
  /** Network filters before them. */
  readonly before?: readonly unknown[];
  readonly cluster?: string;
  /** The file's HttpConnectionManager instead of tcp_proxy. */
  readonly http?: boolean;
  /** Paths of the server's certificate, without `.crt`, and of the client's issuer. */
  readonly tls?: { readonly certificate: string; readonly ca: string };
}

const packages: Record<string, string> = {
  HttpConnectionManager: "envoy.extensions.filters.network.http_connection_manager.v3",
  TcpProxy: "envoy.extensions.filters.network.tcp_proxy.v3",
  Router: "envoy.extensions.filters.http.router.v3",
  Cors: "envoy.extensions.filters.http.cors.v3",
  CorsPolicy: "envoy.extensions.filters.http.cors.v3",
  HTTPFault: "envoy.extensions.filters.http.fault.v3",
  ExtAuthz: "envoy.extensions.filters.http.ext_authz.v3",
  ExtAuthzPerRoute: "envoy.extensions.filters.http.ext_authz.v3",
  RateLimit: "envoy.extensions.filters.http.ratelimit.v3",
  RateLimitPerRoute: "envoy.extensions.filters.http.ratelimit.v3",
  LocalRateLimit: "envoy.extensions.filters.http.local_ratelimit.v3",
  JwtAuthentication: "envoy.extensions.filters.http.jwt_authn.v3",
  PerRouteConfig: "envoy.extensions.filters.http.jwt_authn.v3",
  FileAccessLog: "envoy.extensions.access_loggers.file.v3",
  DownstreamTlsContext: "envoy.extensions.transport_sockets.tls.v3",
  UpstreamTlsContext: "envoy.extensions.transport_sockets.tls.v3",
  TlsInspector: "envoy.extensions.filters.listener.tls_inspector.v3",
  HttpInspector: "envoy.extensions.filters.listener.http_inspector.v3",
  ProxyProtocol: "envoy.extensions.filters.listener.proxy_protocol.v3",
  ProxyProtocolUpstreamTransport: "envoy.extensions.transport_sockets.proxy_protocol.v3",
  RawBuffer: "envoy.extensions.transport_sockets.raw_buffer.v3",
  RBAC: "envoy.extensions.filters.http.rbac.v3",
  RBACPerRoute: "envoy.extensions.filters.http.rbac.v3",
  Action: "envoy.config.rbac.v3",
  FilterConfig: "envoy.config.route.v3",
  UriTemplateMatchConfig: "envoy.extensions.path.match.uri_template.v3",
  PreviousHostsPredicate: "envoy.extensions.retry.host.previous_hosts.v3",
};

/** Where short names would be the same. */
const fullNames: Record<string, string> = {
  HttpHeaderMutation: "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
  HeaderMutationPerRoute: "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
  HttpSetMetadata: "envoy.extensions.filters.http.set_metadata.v3.Config",
  HttpSetFilterState: "envoy.extensions.filters.http.set_filter_state.v3.Config",
  NetworkSetFilterState: "envoy.extensions.filters.network.set_filter_state.v3.Config",
  NetworkExtAuthz: "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz",
  NetworkRateLimit: "envoy.extensions.filters.network.ratelimit.v3.RateLimit",
  NetworkLocalRateLimit: "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
  NetworkRBAC: "envoy.extensions.filters.network.rbac.v3.RBAC",
};

export function expandBootstrap(short: ShortBootstrap): Record<string, unknown> {
  const clusters = Object.entries({ up: { endpoints: [] }, ...short.clusters }).map(([name, fields]) => cluster(name, fields ?? {}));
  const listeners = (short.listeners ?? [{ name: "main" }]).map((listener) => expandListener(listener, short));
  return completeTypes({
    node: { id: "conformance", cluster: "conformance" },
    admin: { address: address(0) },
    static_resources: { listeners, clusters, ...(short.secrets && { secrets: short.secrets }) },
  }) as Record<string, unknown>;
}

function expandListener({ name, ...fields }: Record<string, unknown>, short: ShortBootstrap): Record<string, unknown> {
  return {
    name,
    address: address(0),
    ...(name === "main" && short.main),
    ...(!fields.filter_chains && !(name === "main" && short.main?.filter_chains) && { filter_chains: [{ filters: [http(short)] }] }),
    ...fields,
  };
}

/** `- http: {}` among the filters of a chain stands for the file's connection manager. */
function http(short: ShortBootstrap): Record<string, unknown> {
  const { hcm, http_filters = [], router = {}, routes, log } = short;
  const virtual_hosts = short.virtual_hosts ?? [
    ...Object.entries(short.rbac_hosts ?? {}).map(([name, host]) => rbacHost(name, host)),
    { name: "all", domains: ["*"], routes: routes ?? anyRoute },
  ];
  return {
    name: "envoy.filters.network.http_connection_manager",
    typed_config: {
      "@type": "HttpConnectionManager",
      stat_prefix: "in",
      ...(!hcm?.rds && {
        route_config: { name: "routes", virtual_hosts },
      }),
      ...(log && { access_log: [fileLog(log)] }),
      http_filters: [...http_filters, { name: "envoy.filters.http.router", typed_config: { "@type": "Router", ...router } }],
      ...hcm,
    },
  };
}

function fileLog({ path, format }: { path: string; format: string }): unknown {
  const log_format = { text_format_source: { inline_string: `${format}\n` } };
  return { name: "file", typed_config: { "@type": "FileAccessLog", path, log_format } };
}

function rbacOf({ rbac, permissions, principals, action = "ALLOW" }: RbacHost): object {
  const any = [{ any: true }];
  const policies = { p: { permissions: permissions ?? any, principals: principals ?? any } };
  return rbac ?? { rules: { action, policies } };
}

function rbacHost(name: string, { route, ...host }: RbacHost): unknown {
  return {
    name,
    domains: [name],
    routes: [{ match: { prefix: "/" }, route: { cluster: "up" }, ...route }],
    typed_per_filter_config: { rbac: { "@type": "RBACPerRoute", rbac: rbacOf(host) } },
  };
}

const anyRoute = [{ match: { prefix: "/" }, route: { cluster: "up" } }];

function cluster(name: string, { endpoints, ...fields }: Record<string, unknown>): Record<string, unknown> {
  return {
    name,
    connect_timeout: "2s",
    ...(Array.isArray(endpoints) && {
      load_assignment: {
        cluster_name: name,
        endpoints: [
          {
            lb_endpoints: endpoints.map((port: unknown) =>
              typeof port === "object" ? port : { endpoint: { address: address(port as number) } },
            ),
          },
        ],
      },
    }),
    ...fields,
  };
}

export function address(port: number, host = "127.0.0.1"): Record<string, unknown> {
  return { socket_address: { address: host, port_value: port } };
}

function completeTypes(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(completeTypes);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      if (key !== "@type" || typeof inner !== "string" || inner.includes("/")) return [key, completeTypes(inner)];
      const found = fullNames[inner] ?? (packages[inner] && `${packages[inner]}.${inner}`);
      if (!found) throw new Error(`no package is known for ${inner}`);
      return [key, `type.googleapis.com/${found}`];
    }),
  );
}

/** With the listeners of `rbac_listeners` written out. */
export function withRbacListeners<T extends ShortBootstrap>(short: T): T {
  if (!short.rbac_listeners) return short;
  const made = Object.entries(short.rbac_listeners).map(([name, listener]) => rbacListener(name, listener, short.connection_log));
  return { ...short, listeners: [...(short.listeners ?? []), ...made] };
}

function rbacListener(name: string, listener: RbacListener, log: ShortBootstrap["connection_log"]): Record<string, unknown> {
  const { filters = [rbacOf(listener)], before = [], cluster = "tcp", http: isHttp, tls } = listener;
  const logs = (what: string) => log && { access_log: [fileLog({ ...log, format: `${what} ${log.format}` })] };
  const rbac = filters.map((fields, index) => ({
    name: `rbac-${index}`,
    typed_config: { "@type": "NetworkRBAC", stat_prefix: name, ...fields },
  }));
  const tcp = { name: "tcp", typed_config: { "@type": "TcpProxy", stat_prefix: name, cluster, ...logs("tcp") } };
  const file = (filename: string) => ({ filename });
  const transport_socket = tls && {
    name: "tls",
    typed_config: {
      "@type": "DownstreamTlsContext",
      common_tls_context: {
        tls_certificates: [{ certificate_chain: file(`${tls.certificate}.crt`), private_key: file(`${tls.certificate}.key`) }],
        validation_context: { trusted_ca: file(tls.ca) },
      },
    },
  };
  return {
    name,
    ...(tls && { listener_filters: [{ name: "tls", typed_config: { "@type": "TlsInspector" } }] }),
    filter_chains: [{ name, filters: [...before, ...rbac, isHttp ? { http: {} } : tcp], ...(tls && { transport_socket }) }],
    ...logs("listener"),
  };
}

/** Puts the file's connection manager where a chain says `http: {}`. */
export function placeHttp(short: ShortBootstrap): ShortBootstrap {
  const place = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(place);
    if (typeof value !== "object" || value === null) return value;
    if ("http" in value && Object.keys(value).length === 1) return http(short);
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, place(inner)]));
  };
  return {
    ...short,
    ...(short.listeners && { listeners: place(short.listeners) as Record<string, unknown>[] }),
    ...(short.main && { main: place(short.main) as Record<string, unknown> }),
  };
}
