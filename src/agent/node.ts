/** Who this proxy is to the control plane: node id, cluster, locality and metadata. Source: Istio pkg/bootstrap/config.go. */
import { hostname } from "node:os";
import type { ProxyConfig } from "../api/mesh/proxy-config.ts";
import { type Locality, type ProxyType, parseLocality } from "../api/node.ts";
import { version } from "../lib/version.ts";
import type { AgentEnvironment } from "./environment.ts";

export interface NodeIdentity {
  /** Of this machine; the first one is its address in the mesh. */
  readonly addresses: readonly string[];
  readonly id: string;
  readonly cluster: string;
  readonly locality: Locality;
  readonly metadata: Record<string, unknown>;
}

export interface NodeOptions {
  readonly type: ProxyType;
  /** `--domain`; default `<namespace>.svc.cluster.local`. */
  readonly domain: string | undefined;
  readonly environment: AgentEnvironment;
  readonly proxyConfig: ProxyConfig;
  /** The effective ProxyConfig as it was written, which the control plane reads back. */
  readonly proxyConfigJson: Record<string, unknown>;
  /** Of this machine. */
  readonly addresses: readonly string[];
  /** Somebody serves what `sds://` names stand for. */
  readonly hasCredentialSocket: boolean;
}

export function nodeIdentity(options: NodeOptions): NodeIdentity {
  const { environment, type, proxyConfig } = options;
  const name = environment.podName ?? hostname();
  const namespace = environment.podNamespace;
  const addresses = [...new Set([...(environment.instanceIp ? [environment.instanceIp] : []), ...options.addresses])];
  const fromConfig = Object.fromEntries(
    Object.entries(proxyConfig.proxyMetadata)
      .filter(([key]) => key.startsWith("ISTIO_META_"))
      .map(([key, value]) => [key.slice("ISTIO_META_".length), value]),
  );
  // A label is metadata of its own as well, beside LABELS; later sources win, but never over what the agent knows itself.
  const flattened = Object.assign({}, ...Object.values(environment.metadataJson)) as Record<string, unknown>;
  const labels = (environment.metadataJson.LABELS ?? {}) as Record<string, string>;
  const metadata: Record<string, unknown> = {
    ...fromConfig,
    ...environment.metadata,
    ...flattened,
    NAME: name,
    NAMESPACE: namespace,
    SERVICE_ACCOUNT: environment.serviceAccount,
    LABELS: labels,
    INSTANCE_IPS: addresses.join(","),
    ISTIO_VERSION: environment.metadata.ISTIO_VERSION ?? version,
    ENVOY_STATUS_PORT: environment.statusListenerPort,
    ENVOY_PROMETHEUS_PORT: environment.prometheusPort,
    ...(environment.secureMetricsPort ? { ENVOY_SECURE_METRICS_PORT: environment.secureMetricsPort } : {}),
    ...(environment.secureMergedMetricsPort ? { ENVOY_SECURE_MERGED_METRICS_PORT: environment.secureMergedMetricsPort } : {}),
    PROXY_CONFIG: options.proxyConfigJson,
    // Files are had from this agent, which follows their changes; a proxy that reads them itself does so once. In Istio the name says that
    // only where the workload's certificate comes from another's socket, and the control plane takes the agent for granted.
    "file-credential": "true",
    ...(options.hasCredentialSocket ? { credential: "true" } : {}),
    ...(environment.dnsProxyAddress ? { DNS_PROXY_ADDR: environment.dnsProxyAddress } : {}),
    ...(environment.bindAddress ? { TOPSAIL_BIND_ADDRESS: environment.bindAddress } : {}),
    ...(environment.isDualStack && !environment.bindAddress ? { DUAL_STACK: "true" } : {}),
  };
  const localityLabel = labels["topology.istio.io/locality"] ?? labels["istio-locality"] ?? "";
  return {
    addresses,
    id: `${type}~${addresses[0]}~${name}.${namespace}~${options.domain || `${namespace}.svc.cluster.local`}`,
    cluster: clusterName(proxyConfig, labels, namespace, textOf(metadata.WORKLOAD_NAME) || noName),
    locality: parseLocality(localityLabel.includes("/") ? localityLabel : localityLabel.replaceAll(".", "/")),
    metadata,
  };
}

/** By what traces know the proxy. Source: Istio pkg/bootstrap/config.go (getServiceCluster). */
function clusterName(
  { serviceCluster, tracingServiceName }: ProxyConfig,
  labels: Readonly<Record<string, string>>,
  namespace: string,
  workload: string,
): string {
  const [app, name, canonical] = [labels.app, labels["app.kubernetes.io/name"], labels["service.istio.io/canonical-name"]];
  const canonicalName = canonical ?? name ?? app ?? workload;
  if (tracingServiceName === "CANONICAL_NAME_AND_NAMESPACE") return `${canonicalName}.${namespace}`;
  const configured = tracingServiceName === "CANONICAL_NAME_ONLY" ? canonicalName : serviceCluster;
  if (configured && configured !== noName) return configured;
  return `${app ?? name ?? canonical ?? workload}.${namespace}`;
}

/** Istio's, for what has none. */
const noName = "istio-proxy";

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
