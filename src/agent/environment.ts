/**
 * The environment variables that pilot-agent reads, all of them, each with its default and meaning; nothing else reads the
 * environment. Names are Istio's. Node metadata comes from the open-ended ISTIO_META_* and ISTIO_METAJSON_* families.
 */
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
  /** Address to which what listens for the outside binds: 0.0.0.0. Ours, for meshes that live on loopback. */
  readonly bindAddress: string | undefined;
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
    metadata,
    metadataJson,
  };
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
