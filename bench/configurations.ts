/** The configuration of each proxy for a case: the same work, said in the proxy's own words. */
import { generateKeyPairSync, sign } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodePeer, peerFromMetadata } from "../src/proxy/telemetry/workload-peer.ts";
import { type BenchCase, ports } from "./cases.ts";

export interface Material {
  /** Scratch directory of the run. */
  readonly directory: string;
  /** Of the servers, and of whoever is a client with a certificate. */
  readonly certificate: string;
  readonly key: string;
  /** That signed them. */
  readonly ca: string;
}

export interface ProxyUnderTest {
  readonly name: "envoy" | "topsail" | "haproxy" | "nginx";
  /** Writes what the proxy needs and gives its command line. */
  readonly command: (benchCase: BenchCase, material: Material) => readonly string[];
}

export function proxies(envoy: string, topsail: string): readonly ProxyUnderTest[] {
  const asEnvoy = (binary: readonly string[]) => (benchCase: BenchCase, material: Material) => {
    const file = join(material.directory, "envoy.json");
    writeFileSync(file, JSON.stringify(envoyBootstrap(benchCase, material)));
    return [...binary, "-c", file, "--concurrency", "1", "-l", "error", "--file-flush-interval-msec", "1000"];
  };
  return [
    { name: "envoy", command: asEnvoy([envoy, "--disable-hot-restart"]) },
    { name: "topsail", command: asEnvoy([topsail, "envoy"]) },
    {
      name: "haproxy",
      command: (benchCase, material) => {
        const file = join(material.directory, "haproxy.cfg");
        writeFileSync(file, haproxyConfiguration(benchCase, material));
        return ["haproxy", "-f", file, "-db"];
      },
    },
    {
      name: "nginx",
      command: (benchCase, material) => {
        const file = join(material.directory, "nginx.conf");
        writeFileSync(file, nginxConfiguration(benchCase, material));
        return ["nginx", "-c", file, "-p", material.directory];
      },
    },
  ];
}

/** Body for the upstream that all proxies stand before; with mutual TLS also for the client, because h2load has no certificate to show. */
export function upstreamConfiguration(benchCase: BenchCase, material: Material): string {
  const { directory } = material;
  const file = join(directory, "upstream.conf");
  writeFileSync(join(directory, "body"), "x".repeat(benchCase.bodyBytes));
  writeFileSync(
    file,
    `daemon off; worker_processes 1; pid ${directory}/upstream.pid; error_log ${directory}/upstream.err;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 3600s; tcp_nodelay on; open_file_cache max=10;
  ${temporaryPaths(directory, "upstream")}
  ${benchCase.isMutual ? frontServer(material) : ""}
  server { listen 127.0.0.1:${ports.upstream} reuseport backlog=4096${benchCase.upstream ? " http2" : ""}${benchCase.isMutual ? ` ssl; ${verifyingServer(material)}` : ";"}
    http2_max_requests 100000000; http2_max_concurrent_streams 1024;
    location / { root ${directory}; try_files /body =404; ${benchCase.upstream === "grpc" ? grpcAnswers : "default_type text/plain;"} } }
}`,
  );
  return file;
}

/** A file for a POST too, and a status behind it. */
const grpcAnswers = "default_type application/grpc; error_page 405 =200 /body; add_trailer grpc-status 0;";

function verifyingServer({ certificate, key, ca }: Material): string {
  return `ssl_certificate ${certificate}; ssl_certificate_key ${key}; ssl_client_certificate ${ca}; ssl_verify_client on;`;
}

/** To an upstream that wants a certificate. */
function verifiedClient({ certificate, key, ca }: Material): string {
  const own = `proxy_ssl_certificate ${certificate}; proxy_ssl_certificate_key ${key};`;
  return `${own} proxy_ssl_trusted_certificate ${ca}; proxy_ssl_verify on; proxy_ssl_name ${serverName};`;
}

function frontServer(material: Material): string {
  return `upstream proxied { server 127.0.0.1:${ports.proxy}; keepalive 64; }
  server { listen 127.0.0.1:${ports.front} reuseport backlog=4096; ${verifiedClient(material)} proxy_buffers 16 32k;
    location / { proxy_pass https://proxied; proxy_http_version 1.1; proxy_set_header Connection ""; } }`;
}

/** What the certificate is for. */
export const serverName = "bench.test";

function temporaryPaths(directory: string, name: string): string {
  return ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((part) => `${part}_temp_path ${directory}/${name}-${part};`).join(" ");
}

function envoyBootstrap(benchCase: BenchCase, { directory, certificate, key, ca }: Material): unknown {
  const accessLog = [
    {
      name: "envoy.access_loggers.file",
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path: join(directory, "access.log"),
      },
    },
  ];
  const nameOf = (index: number) => (benchCase.manyClusters ? `upstream-${index}` : "upstream");
  const route = (prefix: string, index: number) => ({ match: { prefix }, route: { cluster: nameOf(index), timeout: "0s" } });
  const routes =
    benchCase.routes > 0 ? Array.from({ length: benchCase.routes }, (_, index) => route(`/route-${index}/`, index)) : [route("/", 0)];
  const http = {
    name: "envoy.filters.network.http_connection_manager",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      stat_prefix: "bench",
      codec_type: "AUTO",
      // s_time speaks HTTP/1.0, and waits for the end.
      ...(benchCase.connects && {
        http_protocol_options: { accept_http_10: true, default_host_for_http_10: "bench" },
        delayed_close_timeout: "0s",
      }),
      ...(benchCase.logsAccess ? { access_log: accessLog } : {}),
      route_config: { name: "bench", virtual_hosts: [{ name: "bench", domains: ["*"], routes }] },
      http_filters: [
        ...checkingFilters(benchCase),
        {
          name: "envoy.filters.http.router",
          typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        },
      ],
    },
  };
  const tcp = {
    name: "envoy.filters.network.tcp_proxy",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
      stat_prefix: "bench",
      cluster: "upstream",
    },
  };
  const tls_certificates = [{ certificate_chain: { filename: certificate }, private_key: { filename: key } }];
  const mutual = benchCase.isMutual && { validation_context: { trusted_ca: { filename: ca } } };
  const transportSocket = (type: string, config: object) => ({
    name: "envoy.transport_sockets.tls",
    typed_config: { "@type": `type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.${type}`, ...config },
  });
  const tls = transportSocket("DownstreamTlsContext", {
    ...(mutual && { require_client_certificate: true }),
    common_tls_context: { alpn_protocols: ["http/1.1"], tls_certificates, ...mutual },
  });
  const upstreamTls = transportSocket("UpstreamTlsContext", { sni: serverName, common_tls_context: { tls_certificates, ...mutual } });
  return {
    admin: { address: address(ports.admin) },
    static_resources: {
      listeners: [
        {
          name: "bench",
          traffic_direction: "INBOUND",
          address: address(ports.proxy),
          filter_chains: [
            { filters: [benchCase.kind === "tcp" ? tcp : http], ...(benchCase.kind === "https" ? { transport_socket: tls } : {}) },
          ],
        },
      ],
      clusters: Array.from({ length: benchCase.manyClusters ? benchCase.routes : 1 }, (_, index) => ({
        name: nameOf(index),
        type: "STATIC",
        connect_timeout: "1s",
        ...(mutual && { transport_socket: upstreamTls }),
        ...(benchCase.upstream && { typed_extension_protocol_options: http2Protocol }),
        load_assignment: {
          cluster_name: nameOf(index),
          endpoints: [{ lb_endpoints: [{ endpoint: { address: address(ports.upstream) } }] }],
        },
      })),
    },
  };
}

const http2Protocol = {
  "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    explicit_http_config: { http2_protocol_options: {} },
  },
};

/** Of a client's sidecar. */
const peer = {
  NAME: "web-v1-75d6b7577f-n22t6",
  NAMESPACE: "shop",
  WORKLOAD_NAME: "web-v1",
  CLUSTER_ID: "Kubernetes",
  OWNER: "kubernetes://apis/apps/v1/namespaces/shop/deployments/web-v1",
  LABELS: { app: "web", version: "v1", "service.istio.io/canonical-name": "web", "service.istio.io/canonical-revision": "v1" },
};
const peerHeaders = [
  "x-envoy-peer-metadata-id: sidecar~10.16.0.98~web-v1-75d6b7577f-n22t6.shop~shop.svc.cluster.local",
  `x-envoy-peer-metadata: ${Buffer.from(encodePeer(peerFromMetadata(peer))).toString("base64")}`,
];

const issuer = "bench.example.com";
const signingKeys = {
  RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }),
  ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
} as const;

/** Headers of every request that the checks let pass. */
export function headersOf({ checks, upstream }: BenchCase): readonly string[] {
  if (upstream === "grpc") return ["content-type: application/grpc", "te: trailers"];
  if (checks?.kind === "telemetry") return peerHeaders;
  return checks?.kind === "jwt" && checks.tokens === "one" ? [`authorization: Bearer ${makeToken(checks.algorithm, "bench")}`] : [];
}

export function makeToken(algorithm: keyof typeof signingKeys, subject: string): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: algorithm, kid: "bench" })}.${part({ iss: issuer, sub: subject, exp: 4_102_444_800 })}`;
  const key = { key: signingKeys[algorithm].privateKey, dsaEncoding: "ieee-p1363" } as const;
  return `${signed}.${sign("sha256", Buffer.from(signed), key).toString("base64url")}`;
}

/** Policies as an AuthorizationPolicy makes them, of which the last allows; or a token that must be good. */
function checkingFilters({ checks }: BenchCase): unknown[] {
  const filter = (name: string, type: string, config: object) => ({
    name: `envoy.filters.http.${name}`,
    typed_config: { "@type": `type.googleapis.com/envoy.extensions.filters.http.${name}.v3.${type}`, ...config },
  });
  switch (checks?.kind) {
    case undefined:
      return [];
    case "telemetry": {
      if (!checks.counts) return [];
      const byHeaders = [{ istio_headers: {} }];
      const istio = (name: string, type: string, config: object) => ({
        name,
        typed_config: { "@type": `type.googleapis.com/${type}`, ...config },
      });
      const config = { downstream_discovery: byHeaders, downstream_propagation: byHeaders };
      return [
        istio("istio.metadata_exchange", "io.istio.http.peer_metadata.Config", config),
        filter("grpc_stats", "FilterConfig", { emit_filter_state: true, stats_for_all_methods: false }),
        istio("istio.stats", "stats.PluginConfig", { disable_host_header_fallback: true }),
      ];
    }
    case "jwt": {
      const jwk = { ...signingKeys[checks.algorithm].publicKey.export({ format: "jwk" }), kid: "bench", alg: checks.algorithm };
      const provider = {
        issuer,
        local_jwks: { inline_string: JSON.stringify({ keys: [jwk] }) },
        payload_in_metadata: "payload",
        // Ours remembers tokens by itself; Envoy is told to.
        jwt_cache_config: {},
        from_headers: [{ name: "authorization", value_prefix: "Bearer " }],
        from_params: ["token"],
      };
      const rules = [{ match: { prefix: "/" }, requires: { provider_name: "bench" } }];
      return [filter("jwt_authn", "JwtAuthentication", { providers: { bench: provider }, rules })];
    }
    case "policies": {
      const policy = (path: string) => ({
        permissions: [
          {
            and_rules: {
              rules: [{ url_path: { path: { prefix: path } } }, { header: { name: ":method", string_match: { exact: "GET" } } }],
            },
          },
        ],
        principals: [{ any: true }],
      });
      const names = Array.from({ length: checks.count }, (_, index) => String(index).padStart(5, "0"));
      const policies = Object.fromEntries(names.map((name, index) => [name, policy(index === checks.count - 1 ? "/" : `/never/${name}/`)]));
      return [filter("rbac", "RBAC", { rules: { action: "ALLOW", policies } })];
    }
    default:
      return checks satisfies never;
  }
}

function address(port: number) {
  return { socket_address: { address: "127.0.0.1", port_value: port } };
}

function haproxyConfiguration(benchCase: BenchCase, { directory, certificate, key, ca }: Material): string {
  const pem = join(directory, "haproxy.pem");
  if (benchCase.kind === "https") writeFileSync(pem, `${readText(certificate)}${readText(key)}`);
  const bind = `bind 127.0.0.1:${ports.proxy}${benchCase.kind === "https" ? ` ssl crt ${pem} alpn http/1.1` : ""}${benchCase.isMutual ? ` ca-file ${ca} verify required` : ""}`;
  const upstreamTls = benchCase.isMutual ? ` ssl crt ${pem} ca-file ${ca} verify required sni str(${serverName})` : "";
  const routes = Array.from({ length: benchCase.routes }, (_, index) => `  use_backend upstream if { path_beg /route-${index}/ }`).join(
    "\n",
  );
  return `global
  nbthread 1
  maxconn 4096
  ${benchCase.logsAccess ? "log stdout format raw local0" : ""}
defaults
  mode ${benchCase.kind === "tcp" ? "tcp" : "http"}
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  ${benchCase.logsAccess ? "log global\n  option httplog" : ""}
frontend bench
  ${bind}
${routes}
  ${benchCase.routes > 0 ? "" : "default_backend upstream"}
backend upstream
  ${benchCase.kind === "tcp" ? "" : "http-reuse always"}
  server one 127.0.0.1:${ports.upstream}${upstreamTls}
`;
}

function nginxConfiguration(benchCase: BenchCase, material: Material): string {
  const { directory, certificate, key } = material;
  const head = `daemon off; worker_processes 1; pid ${directory}/nginx.pid; error_log ${directory}/nginx.err;
events { worker_connections 4096; }`;
  if (benchCase.kind === "tcp") {
    return `load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n${head}
stream { server { listen 127.0.0.1:${ports.proxy}; proxy_pass 127.0.0.1:${ports.upstream}; } }`;
  }
  const scheme = benchCase.isMutual ? `${verifiedClient(material)} proxy_pass https` : "proxy_pass http";
  const pass = `${scheme}://up; proxy_http_version 1.1; proxy_set_header Connection "";`;
  const locations =
    benchCase.routes > 0
      ? Array.from({ length: benchCase.routes }, (_, index) => `location /route-${index}/ { ${pass} }`).join("\n")
      : `location / { ${pass} }`;
  const plainTls = benchCase.kind === "https" ? `ssl_certificate ${certificate}; ssl_certificate_key ${key};` : "";
  const tls = benchCase.isMutual ? verifyingServer(material) : plainTls;
  return `${head}
http {
  access_log ${benchCase.logsAccess ? `${directory}/nginx.log` : "off"}; keepalive_requests 100000000; proxy_buffers 16 32k;
  ${temporaryPaths(directory, "nginx")}
  upstream up { server 127.0.0.1:${ports.upstream}; keepalive 64; }
  server { listen 127.0.0.1:${ports.proxy}${benchCase.kind === "https" ? " ssl" : ""}; ${tls}
${locations}
  }
}`;
}

function readText(file: string): string {
  return readFileSync(file, "utf8");
}
