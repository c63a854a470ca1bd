/**
 * The environment variables that pilot-agent reads, all of them, each with its default and meaning; nothing else reads the
 * environment. Names are Istio's. Node metadata comes from the open-ended ISTIO_META_* and ISTIO_METAJSON_* families.
 */
import type { KeyKind } from "./certificates/certificate-request.ts";
import {
  EnvironmentError,
  headerName,
  parseBoolean,
  parseDuration,
  parseFileName,
  parseKeyKind,
  parseMilliseconds,
  parseObject,
  parsePort,
  parseRatio,
  parseThreads,
  type Variables,
} from "./environment-values.ts";

export interface AgentEnvironment {
  /** Address by which the mesh knows this workload; default: the machine's first that is not loopback, else 127.0.0.1. */
  readonly instanceIp: string | undefined;
  /** Second half of the proxy's id. Default: the host name. */
  readonly podName: string | undefined;
  readonly podNamespace: string;
  readonly serviceAccount: string;
  /** ProxyConfig as YAML, laid over mesh configuration's defaultConfig. */
  readonly proxyConfig: string | undefined;
  /** Port of the readiness listener, 15021. */
  readonly statusListenerPort: number;
  /** Port of the proxy's own metrics listener, 15090. */
  readonly prometheusPort: number;
  /** Further ports for metrics, by mutual TLS: of the proxy alone, and of all that the status port has. 0: none, the default. */
  readonly secureMetricsPort: number;
  readonly secureMergedMetricsPort: number;
  /** No proxy: applications have their configuration and certificates from the agent themselves. DISABLE_ENVOY, false. */
  readonly hasNoProxy: boolean;
  /** File for gRPC libraries that are their own proxy. GRPC_XDS_BOOTSTRAP; undefined: `grpc-bootstrap.json` in configPath; empty: none. */
  readonly grpcBootstrap: string | undefined;
  /** Probes of the application that the status port takes in its place, JSON. ISTIO_KUBE_APP_PROBERS. */
  readonly appProbers: string | undefined;
  /** How long files of certificates have to have been left alone before they are read again. FILE_DEBOUNCE_DURATION, 100 ms. */
  readonly fileDebounceMs: number;
  /** Whether the bootstrap asks for delta xDS, default true. */
  readonly deltaXds: boolean;
  /**
   * Address to which what listens for the outside binds: 0.0.0.0. Ours, for a gateway on the control plane's machine, and for meshes that
   * live on loopback: one of 127.0.0.0/8 has the admin interface as well.
   */
  readonly bindAddress: string | undefined;
  /** Whether a machine with addresses of both families is of IPv6 too, or of IPv4 alone. ISTIO_DUAL_STACK, true. */
  readonly isDualStack: boolean;
  /** Address of the certificate authority; default the control plane's. `CA_PROVIDER` can only be `Citadel`, the protocol of Istio's. */
  readonly caAddress: string | undefined;
  /** Name that the control plane's certificate must bear, where it is called by an address. */
  readonly istiodName: string | undefined;
  /** Headers that go with every call of the authority and of the control plane: CA_HEADER_NAME, XDS_HEADER_NAME. */
  readonly caHeaders: Readonly<Record<string, string>>;
  readonly xdsHeaders: Readonly<Record<string, string>>;
  /** File of another's socket in `workload-spiffe-uds`, which has to be there then; default `socket`, which is ours where nobody has it. */
  readonly workloadSocketFile: string;
  /** Certificates are files that others renew: of the workload, and by ISTIO_META_TLS_CLIENT_* of calls to the control plane. */
  readonly fileMountedCerts: boolean;
  /** Trust domain that a certificate request names; the authority decides by itself. */
  readonly trustDomain: string;
  /** Directory of a certificate to begin with, `cert-chain.pem`, `key.pem`, `root-cert.pem`. */
  readonly provisionedCerts: string | undefined;
  /** Directory where the workload's certificate is kept. */
  readonly outputCerts: string | undefined;
  /** File of the root by which the control plane, or the authority, is known; `SYSTEM` for the machine's own. */
  readonly xdsRoot: string | undefined;
  readonly caRoot: string | undefined;
  /** Of a certificate, 24 h. */
  readonly secretTtlSeconds: number;
  /** Share of a certificate's life that is left when it is renewed, and by how much agents differ. */
  readonly secretGraceRatio: number;
  readonly secretGraceJitter: number;
  readonly keyKind: KeyKind;
  /** Where the DNS proxy listens, UDP and TCP. DNS_PROXY_ADDR; default `localhost:15053`, to which capture redirects queries. */
  readonly dnsProxyAddress: string | undefined;
  /** Whether it asks all nameservers at once. DNS_FORWARD_PARALLEL, false. */
  readonly dnsForwardParallel: boolean;
  /** How long a nameserver may take. DNS_FORWARD_TIMEOUT, 5 s. */
  readonly dnsForwardTimeoutMs: number;
  /** File of the nameservers. TOPSAIL_RESOLV_CONF, ours; default `/etc/resolv.conf`. */
  readonly resolvConf: string | undefined;
  /** Whether probes call localhost instead of this machine's address. REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION. */
  readonly probesLocalhost: boolean;
  /** A stopping proxy ends when nobody is connected any more, and not after terminationDrainDuration. EXIT_ON_ZERO_ACTIVE_CONNECTIONS. */
  readonly exitsWhenUnused: boolean;
  /** ... but not before this time is over. MINIMUM_DRAIN_DURATION, 5 s. */
  readonly minimumDrainMs: number;
  /** File of a bootstrap in the place of ours. ISTIO_BOOTSTRAP. */
  readonly bootstrapFile: string | undefined;
  /** File that is laid over the bootstrap, in which `$(HOST_IP)` stands for HOST_IP. ISTIO_BOOTSTRAP_OVERRIDE. */
  readonly bootstrapOverride: string | undefined;
  readonly hostIp: string;
  /** Where a sidecar's application has its metrics, JSON. ISTIO_PROMETHEUS_ANNOTATIONS. */
  readonly prometheusAnnotations: string | undefined;
  /** Whether the status port's metrics have the proxy's. PILOT_AGENT_MERGE_ENVOY_STATS, true. */
  readonly mergesProxyMetrics: boolean;
  /** Whether the status port tells metrics to this machine alone. METRICS_LOCALHOST_ACCESS_ONLY, false. */
  readonly tellsMetricsLocally: boolean;
  /** Threads of the proxy where nothing else says how many. ISTIO_CPU_LIMIT, 0 for one a core. */
  readonly cpuLimit: number;
  /** Of connections to the control plane. GRPC_KEEPALIVE_INTERVAL and GRPC_KEEPALIVE_TIMEOUT, 30 s and 10 s. */
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
  /**
   * Node metadata by key, from ISTIO_META_KEY=text. DNS_CAPTURE (false) and ENABLE_DNS_SERVER (false) start the DNS proxy too: the one for
   * a sidecar, the other for any proxy.
   */
  readonly metadata: Readonly<Record<string, string>>;
  /** JSON objects whose keys become node metadata, from ISTIO_METAJSON_NAME. */
  readonly metadataJson: Readonly<Record<string, Record<string, unknown>>>;
}

/** Of the listeners that every proxy has by its bootstrap. */
export function listenerPorts({
  statusListenerPort,
  prometheusPort,
  secureMetricsPort,
  secureMergedMetricsPort,
}: Pick<AgentEnvironment, "statusListenerPort" | "prometheusPort" | "secureMetricsPort" | "secureMergedMetricsPort">): readonly number[] {
  return [statusListenerPort, prometheusPort, secureMetricsPort, secureMergedMetricsPort].filter((port) => port !== 0);
}

export const defaultSocketFile = "socket";

export function readEnvironment(env: Variables): AgentEnvironment {
  const metadata: Record<string, string> = {};
  const caHeaders: Record<string, string> = {};
  const xdsHeaders: Record<string, string> = {};
  const metadataJson: Record<string, Record<string, unknown>> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined) continue;
    if (name.startsWith("ISTIO_METAJSON_")) metadataJson[name.slice("ISTIO_METAJSON_".length)] = parseObject(name, value);
    else if (name.startsWith("ISTIO_META_")) metadata[name.slice("ISTIO_META_".length)] = value;
    else if (name.startsWith("CA_HEADER_")) caHeaders[headerName(name, "CA_HEADER_")] = value;
    else if (name.startsWith("XDS_HEADER_")) xdsHeaders[headerName(name, "XDS_HEADER_")] = value;
  }
  if (env.CA_PROVIDER && env.CA_PROVIDER !== "Citadel")
    throw new EnvironmentError(`CA_PROVIDER: "${env.CA_PROVIDER}" is not Citadel, which is the only protocol there is here`);
  if (env.CREDENTIAL_FETCHER_TYPE && env.CREDENTIAL_FETCHER_TYPE !== "JWT")
    throw new EnvironmentError(`CREDENTIAL_FETCHER_TYPE: "${env.CREDENTIAL_FETCHER_TYPE}" is not JWT: tokens come from their file alone`);
  const fileMountedCerts = parseBoolean("FILE_MOUNTED_CERTS", env.FILE_MOUNTED_CERTS, false);
  if (fileMountedCerts && env.PROV_CERT) throw new EnvironmentError("FILE_MOUNTED_CERTS: can't be there together with PROV_CERT");
  const exitsWhenUnused = parseBoolean("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", env.EXIT_ON_ZERO_ACTIVE_CONNECTIONS, false);
  for (const flag of ["ISTIO_META_DNS_CAPTURE", "ISTIO_META_ENABLE_DNS_SERVER"]) parseBoolean(flag, env[flag], false);
  return {
    instanceIp: env.INSTANCE_IP || undefined,
    podName: env.POD_NAME || undefined,
    podNamespace: env.POD_NAMESPACE || "default",
    serviceAccount: env.SERVICE_ACCOUNT || "default",
    proxyConfig: env.PROXY_CONFIG || undefined,
    statusListenerPort: parsePort("ENVOY_STATUS_PORT", env.ENVOY_STATUS_PORT, 15021),
    prometheusPort: parsePort("ENVOY_PROMETHEUS_PORT", env.ENVOY_PROMETHEUS_PORT, 15090),
    secureMetricsPort: parsePort("ENVOY_SECURE_METRICS_PORT", env.ENVOY_SECURE_METRICS_PORT, 0),
    secureMergedMetricsPort: parsePort("ENVOY_SECURE_MERGED_METRICS_PORT", env.ENVOY_SECURE_MERGED_METRICS_PORT, 0),
    hasNoProxy: parseBoolean("DISABLE_ENVOY", env.DISABLE_ENVOY, false),
    grpcBootstrap: env.GRPC_XDS_BOOTSTRAP,
    appProbers: env.ISTIO_KUBE_APP_PROBERS || undefined,
    fileDebounceMs: parseMilliseconds("FILE_DEBOUNCE_DURATION", env.FILE_DEBOUNCE_DURATION, 100),
    deltaXds: parseBoolean("ISTIO_DELTA_XDS", env.ISTIO_DELTA_XDS, true),
    bindAddress: env.TOPSAIL_BIND_ADDRESS || undefined,
    isDualStack: parseBoolean("ISTIO_DUAL_STACK", env.ISTIO_DUAL_STACK, true),
    caAddress: env.CA_ADDR || undefined,
    istiodName: env.ISTIOD_SAN || undefined,
    caHeaders,
    xdsHeaders,
    workloadSocketFile: parseFileName("WORKLOAD_IDENTITY_SOCKET_FILE", env.WORKLOAD_IDENTITY_SOCKET_FILE, defaultSocketFile),
    fileMountedCerts,
    trustDomain: env.TRUST_DOMAIN || "cluster.local",
    provisionedCerts: env.PROV_CERT || undefined,
    outputCerts: env.OUTPUT_CERTS || undefined,
    xdsRoot: env.XDS_ROOT_CA || undefined,
    caRoot: env.CA_ROOT_CA || undefined,
    secretTtlSeconds: parseDuration("SECRET_TTL", env.SECRET_TTL, 24 * 3600),
    secretGraceRatio: parseRatio("SECRET_GRACE_PERIOD_RATIO", env.SECRET_GRACE_PERIOD_RATIO, 0.5),
    secretGraceJitter: parseRatio("SECRET_GRACE_PERIOD_RATIO_JITTER", env.SECRET_GRACE_PERIOD_RATIO_JITTER, 0.01),
    keyKind: parseKeyKind(env),
    dnsProxyAddress: env.DNS_PROXY_ADDR || undefined,
    dnsForwardParallel: parseBoolean("DNS_FORWARD_PARALLEL", env.DNS_FORWARD_PARALLEL, false),
    dnsForwardTimeoutMs: parseMilliseconds("DNS_FORWARD_TIMEOUT", env.DNS_FORWARD_TIMEOUT, 5_000),
    resolvConf: env.TOPSAIL_RESOLV_CONF || undefined,
    probesLocalhost: parseBoolean("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", env.REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION, false),
    exitsWhenUnused,
    minimumDrainMs: parseMilliseconds("MINIMUM_DRAIN_DURATION", env.MINIMUM_DRAIN_DURATION, 5_000, 3_600_000),
    bootstrapFile: env.ISTIO_BOOTSTRAP || undefined,
    bootstrapOverride: env.ISTIO_BOOTSTRAP_OVERRIDE || undefined,
    hostIp: env.HOST_IP ?? "",
    prometheusAnnotations: env.ISTIO_PROMETHEUS_ANNOTATIONS || undefined,
    mergesProxyMetrics: parseBoolean("PILOT_AGENT_MERGE_ENVOY_STATS", env.PILOT_AGENT_MERGE_ENVOY_STATS, true),
    tellsMetricsLocally: parseBoolean("METRICS_LOCALHOST_ACCESS_ONLY", env.METRICS_LOCALHOST_ACCESS_ONLY, false),
    cpuLimit: parseThreads("ISTIO_CPU_LIMIT", env.ISTIO_CPU_LIMIT),
    keepaliveIntervalMs: parseMilliseconds("GRPC_KEEPALIVE_INTERVAL", env.GRPC_KEEPALIVE_INTERVAL, 30_000, 3_600_000),
    keepaliveTimeoutMs: parseMilliseconds("GRPC_KEEPALIVE_TIMEOUT", env.GRPC_KEEPALIVE_TIMEOUT, 10_000, 3_600_000),
    // A key of the node's metadata in Istio, though only the agent acts on it.
    metadata: exitsWhenUnused ? { ...metadata, EXIT_ON_ZERO_ACTIVE_CONNECTIONS: "true" } : metadata,
    metadataJson,
  };
}
