/**
 * The environment variables that pilot-agent reads, all of them, each with its default and meaning; nothing else reads the
 * environment. Names are Istio's. Node metadata comes from the open-ended ISTIO_META_* and ISTIO_METAJSON_* families.
 */
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
   * Address to which what listens for the outside binds: 0.0.0.0. Ours, for meshes that live on loopback: one of 127.0.0.0/8 has
   * the admin interface as well.
   */
  readonly bindAddress: string | undefined;
  /** Address of the certificate authority; default the control plane's. */
  readonly caAddress: string | undefined;
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
  /** Whether probes call localhost instead of this machine's address. REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION. */
  readonly probesLocalhost: boolean;
  /** Node metadata by key, from ISTIO_META_KEY=text. */
  readonly metadata: Readonly<Record<string, string>>;
  /** JSON objects whose keys become node metadata, from ISTIO_METAJSON_NAME. */
  readonly metadataJson: Readonly<Record<string, Record<string, unknown>>>;
}

export class EnvironmentError extends Error {
  override readonly name = "EnvironmentError";
}

export function readEnvironment(env: Environment): AgentEnvironment {
  const metadata: Record<string, string> = {};
  const metadataJson: Record<string, Record<string, unknown>> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined) continue;
    if (name.startsWith("ISTIO_METAJSON_")) metadataJson[name.slice("ISTIO_METAJSON_".length)] = parseObject(name, value);
    else if (name.startsWith("ISTIO_META_")) metadata[name.slice("ISTIO_META_".length)] = value;
  }
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
    trustDomain: env.TRUST_DOMAIN || "cluster.local",
    provisionedCerts: env.PROV_CERT || undefined,
    outputCerts: env.OUTPUT_CERTS || undefined,
    xdsRoot: env.XDS_ROOT_CA || undefined,
    caRoot: env.CA_ROOT_CA || undefined,
    secretTtlSeconds: parseDuration("SECRET_TTL", env.SECRET_TTL, 24 * 3600),
    secretGraceRatio: parseRatio("SECRET_GRACE_PERIOD_RATIO", env.SECRET_GRACE_PERIOD_RATIO, 0.5),
    secretGraceJitter: parseRatio("SECRET_GRACE_PERIOD_RATIO_JITTER", env.SECRET_GRACE_PERIOD_RATIO_JITTER, 0.01),
    keyKind: parseKeyKind(env),
    probesLocalhost: parseBoolean("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", env.REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION, false),
    metadata,
    metadataJson,
  };
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
