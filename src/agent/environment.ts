/**
 * The environment variables that pilot-agent reads, all of them, each with its default and meaning; nothing else reads the
 * environment. Names are Istio's. Node metadata comes from the open-ended ISTIO_META_* and ISTIO_METAJSON_* families.
 */
import { basename } from "node:path";
import { parseDurationMs } from "../api/schema/duration.ts";
import type { KeyKind } from "./certificates/certificate-request.ts";

type Environment = Readonly<Record<string, string | undefined>>;

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
  /** Whether the bootstrap asks for delta xDS, default true. */
  readonly deltaXds: boolean;
  /**
   * Address to which what listens for the outside binds: 0.0.0.0. Ours, for a gateway on the control plane's machine, and for meshes that
   * live on loopback: one of 127.0.0.0/8 has the admin interface as well.
   */
  readonly bindAddress: string | undefined;
  /** Address of the certificate authority; default the control plane's. `CA_PROVIDER` can only be `Citadel`, the protocol of Istio's. */
  readonly caAddress: string | undefined;
  /** Name that the control plane's certificate must bear, where it is called by an address. */
  readonly istiodName: string | undefined;
  /** Headers that go with every call of the authority and of the control plane: CA_HEADER_NAME, XDS_HEADER_NAME. */
  readonly caHeaders: Readonly<Record<string, string>>;
  readonly xdsHeaders: Readonly<Record<string, string>>;
  /** File of another's socket in `workload-spiffe-uds`, which has to be there then; default `socket`, which is ours where nobody has it. */
  readonly workloadSocketFile: string;
  /** The workload's certificate is in `etc/certs`, and others renew it. */
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
  /**
   * Node metadata by key, from ISTIO_META_KEY=text. DNS_CAPTURE (false) and ENABLE_DNS_SERVER (false) start the DNS proxy too: the one for
   * a sidecar, the other for any proxy.
   */
  readonly metadata: Readonly<Record<string, string>>;
  /** JSON objects whose keys become node metadata, from ISTIO_METAJSON_NAME. */
  readonly metadataJson: Readonly<Record<string, Record<string, unknown>>>;
}

export class EnvironmentError extends Error {
  override readonly name = "EnvironmentError";
}

export const defaultSocketFile = "socket";

export function readEnvironment(env: Environment): AgentEnvironment {
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
  const fileMountedCerts = parseBoolean("FILE_MOUNTED_CERTS", env.FILE_MOUNTED_CERTS, false);
  if (fileMountedCerts && env.PROV_CERT) throw new EnvironmentError("FILE_MOUNTED_CERTS: can't be there together with PROV_CERT");
  for (const flag of ["ISTIO_META_DNS_CAPTURE", "ISTIO_META_ENABLE_DNS_SERVER"]) parseBoolean(flag, env[flag], false);
  return {
    instanceIp: env.INSTANCE_IP || undefined,
    podName: env.POD_NAME || undefined,
    podNamespace: env.POD_NAMESPACE || "default",
    serviceAccount: env.SERVICE_ACCOUNT || "default",
    proxyConfig: env.PROXY_CONFIG || undefined,
    statusListenerPort: parsePort("ENVOY_STATUS_PORT", env.ENVOY_STATUS_PORT, 15021),
    prometheusPort: parsePort("ENVOY_PROMETHEUS_PORT", env.ENVOY_PROMETHEUS_PORT, 15090),
    deltaXds: parseBoolean("ISTIO_DELTA_XDS", env.ISTIO_DELTA_XDS, true),
    bindAddress: env.TOPSAIL_BIND_ADDRESS || undefined,
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
    metadata,
    metadataJson,
  };
}

/** Lower case, as HTTP/2 wants it. */
function headerName(variable: string, prefix: string): string {
  const name = variable.slice(prefix.length).toLowerCase();
  if (!/^[a-z0-9_.-]+$/.test(name) || name.startsWith("grpc-"))
    throw new EnvironmentError(`${variable}: "${name}" can't be a header's name`);
  return name;
}

function parseFileName(name: string, text: string | undefined, fallback: string): string {
  if (!text) return fallback;
  if (basename(text) !== text || text === "." || text === "..")
    throw new EnvironmentError(`${name}: "${text}" is a path and not a file's name`);
  return text;
}

/** P-256, which costs a handshake a tenth of what RSA does, unless RSA is asked for by its size. */
function parseKeyKind(env: Environment): KeyKind {
  const { ECC_SIGNATURE_ALGORITHM: algorithm, ECC_CURVE: curve = "P256", WORKLOAD_RSA_KEY_SIZE: bits } = env;
  if (algorithm && algorithm !== "ECDSA") throw new EnvironmentError(`ECC_SIGNATURE_ALGORITHM: "${algorithm}" is not ECDSA`);
  if (bits && !algorithm) {
    if (!["2048", "3072", "4096"].includes(bits))
      throw new EnvironmentError(`WORKLOAD_RSA_KEY_SIZE: "${bits}" is none of 2048, 3072 and 4096`);
    return { type: "rsa", bits: Number(bits) };
  }
  if (curve !== "P256" && curve !== "P384") throw new EnvironmentError(`ECC_CURVE: "${curve}" is neither P256 nor P384`);
  return { type: "ec", curve: curve === "P256" ? "P-256" : "P-384" };
}

function parseRatio(name: string, text: string | undefined, fallback: number): number {
  if (!text) return fallback;
  const ratio = Number(text);
  if (!(ratio >= 0 && ratio <= 1)) throw new EnvironmentError(`${name}: "${text}" is no share between 0 and 1`);
  return ratio;
}

/** Go's form: `24h`, `1h30m`, `90s`. Seconds. */
function parseDuration(name: string, text: string | undefined, fallbackSeconds: number): number {
  if (!text) return fallbackSeconds;
  const units = { h: 3600, m: 60, s: 1 } as const;
  const parts = [...text.matchAll(/(?<count>\d+(?:\.\d+)?)(?<unit>[hms])/g)];
  const seconds = parts.reduce((sum, { groups }) => sum + Number(groups!.count) * units[groups!.unit as keyof typeof units], 0);
  if (parts.map(([part]) => part).join("") !== text || seconds < 1)
    throw new EnvironmentError(`${name}: "${text}" is no duration like 24h or 90s`);
  return seconds;
}

/** Up to a minute. */
function parseMilliseconds(name: string, text: string | undefined, fallback: number): number {
  if (!text) return fallback;
  const ms = parseDurationMs(text);
  if (ms === undefined || ms < 1 || ms > 60_000) throw new EnvironmentError(`${name}: "${text}" is no duration from 1ms to 1m`);
  return ms;
}

function parsePort(name: string, text: string | undefined, fallback: number): number {
  if (!text) return fallback;
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new EnvironmentError(`${name}: "${text}" is no port`);
  return port;
}

function parseBoolean(name: string, text: string | undefined, fallback: boolean): boolean {
  if (!text) return fallback;
  if (text === "true" || text === "1") return true;
  if (text === "false" || text === "0") return false;
  throw new EnvironmentError(`${name}: "${text}" is neither true nor false`);
}

function parseObject(name: string, text: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new EnvironmentError(`${name}: is no JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw new EnvironmentError(`${name}: is no JSON object`);
  return parsed as Record<string, unknown>;
}
