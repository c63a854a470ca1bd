/**
 * A connected proxy as the control plane sees it: `node.id` is `<type>~<ip>~<id>~<dns domain>`, the rest is metadata.
 * Source: Istio pkg/model/proxy.go, pilot/pkg/model/context.go.
 */
import type { Node } from "./gen/envoy/config/core/v3/base_pb.js";
import { FilterConfigSchema as GrpcStatsSchema } from "./gen/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js";
import { MetadataExchangeSchema } from "./gen/envoy/tcp/metadataexchange/config/metadata_exchange_pb.js";
import { FilterConfigSchema as AlpnSchema } from "./gen/istio/alpn/config_pb.js";
import { ConfigSchema as PeerMetadataSchema } from "./gen/istio/http/peer_metadata/config_pb.js";
import { PluginConfigSchema as StatsSchema } from "./gen/istio/stats/plugin_config_pb.js";

/** Metadata of a node whose machine has been given another address: those by which the control plane may still know it. Ours; others pass over it. */
export const formerAddressesKey = "TOPSAIL_FORMER_ADDRESSES";

export type ProxyType = "sidecar" | "router";

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subZone: string;
}

export interface ProxyNode {
  /** The whole node id, `router~127.0.0.1~ingress.istio-system~istio-system.svc.cluster.local`. */
  readonly nodeId: string;
  readonly type: ProxyType;
  /** First address is the one in the id unless INSTANCE_IPS says more. */
  readonly ipAddresses: readonly string[];
  /** Of a machine with addresses of both families it listens to both, and all of them are captured. */
  readonly isDualStack: boolean;
  /** Third part of the id, by convention `<name>.<namespace>`; shown by proxy-status. */
  readonly id: string;
  readonly dnsDomain: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly locality: Locality;
  readonly clusterId: string;
  readonly network: string;
  readonly serviceAccount: string;
  readonly istioVersion: string;
  /** False for a proxy whose agent is told to do without certificates: it waits for none, and can neither show nor check any. */
  readonly hasIdentity: boolean;
  /** The proxy has Istio's own filters, which a stock Envoy refuses: istio.stats, istio.alpn and both of metadata exchange. */
  readonly hasIstioFilters: boolean;
  /** It has envoy.filters.http.grpc_stats, as every Envoy, which our proxy once had not. */
  readonly hasGrpcStats: boolean;
  /** It is to say nothing of its workload to servers outside of the mesh (proxyHeaders.metadataExchangeHeaders IN_MESH). */
  readonly tellsOnlyMesh: boolean;
  /** Certificates on the proxy's machine that it is to use in place of the mesh's: as a server, and as a client. */
  readonly serverFiles?: CertificateFiles | undefined;
  readonly clientFiles?: CertificateFiles | undefined;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** Paths; "" where the node names none. */
export interface CertificateFiles {
  readonly chain: string;
  readonly key: string;
  readonly roots: string;
}

/** Why a node can't be served; becomes InvalidArgument. */
export class NodeError extends Error {
  override readonly name = "NodeError";
}

const maxIdBytes = 1024;

export function parseNode(node: Node | undefined): ProxyNode {
  if (!node?.id) throw new NodeError("missing node information");
  if (node.id.length > maxIdBytes) throw new NodeError(`node id is longer than ${maxIdBytes} characters`);
  const parts = node.id.split("~");
  const [type, ip, id, dnsDomain] = parts;
  if (parts.length !== 4 || !type || id === undefined || dnsDomain === undefined) {
    throw new NodeError(`missing parts in the service node "${node.id}": want type~ip~id~domain`);
  }
  if (type !== "sidecar" && type !== "router") throw new NodeError(`invalid node type "${type}" in the service node "${node.id}"`);

  const metadata = node.metadata ?? {};
  const proxyConfig = metadata.PROXY_CONFIG as ProxyConfigOfNode | undefined;
  const labels = stringMap(metadata.LABELS);
  const instanceIps = text(metadata.INSTANCE_IPS).split(",").filter(Boolean);
  const ipAddresses = instanceIps.length > 0 ? instanceIps : ip ? [ip] : [];
  if (ipAddresses.length === 0) throw new NodeError(`no valid IP address in the service node "${node.id}"`);
  // Every Envoy lists the types that it can be configured with.
  const filterTypes = new Set(node.extensions.flatMap(({ typeUrls }) => typeUrls));
  return {
    nodeId: node.id,
    type,
    ipAddresses,
    isDualStack: metadata.DUAL_STACK === "true" || proxyConfig?.proxyMetadata?.ISTIO_DUAL_STACK === "true",
    id,
    dnsDomain,
    namespace: text(metadata.NAMESPACE) || namespaceOfDomain(dnsDomain),
    labels,
    locality: localityOf(labels, node),
    clusterId: text(metadata.CLUSTER_ID) || "Kubernetes",
    network: text(metadata.NETWORK),
    serviceAccount: text(metadata.SERVICE_ACCOUNT),
    istioVersion: text(metadata.ISTIO_VERSION),
    hasIdentity: proxyConfig?.controlPlaneAuthPolicy !== "NONE",
    hasIstioFilters: istioFilterTypes.every((filter) => filterTypes.has(filter)),
    // Who says nothing is taken for an Envoy.
    hasGrpcStats: node.extensions.length === 0 || filterTypes.has(GrpcStatsSchema.typeName),
    tellsOnlyMesh: proxyConfig?.proxyHeaders?.metadataExchangeHeaders?.mode === "IN_MESH",
    serverFiles: certificateFiles(metadata, "SERVER"),
    clientFiles: certificateFiles(metadata, "CLIENT"),
    metadata,
  };
}

/** TLS_SERVER_CERT_CHAIN, TLS_SERVER_KEY, TLS_SERVER_ROOT_CERT and the same of CLIENT, which count with a chain alone. */
function certificateFiles(metadata: Record<string, unknown>, side: "SERVER" | "CLIENT"): CertificateFiles | undefined {
  const [chain, key, roots] = ["CERT_CHAIN", "KEY", "ROOT_CERT"].map((name) => text(metadata[`TLS_${side}_${name}`])) as [
    string,
    string,
    string,
  ];
  return chain || (side === "SERVER" && roots) ? { chain, key, roots } : undefined;
}

/** What of a node's ProxyConfig is looked at here; nobody has checked it. */
interface ProxyConfigOfNode {
  readonly controlPlaneAuthPolicy?: unknown;
  readonly proxyMetadata?: { readonly ISTIO_DUAL_STACK?: unknown };
  readonly proxyHeaders?: { readonly metadataExchangeHeaders?: { readonly mode?: unknown } };
}

const istioFilterTypes = [PeerMetadataSchema.typeName, MetadataExchangeSchema.typeName, StatsSchema.typeName, AlpnSchema.typeName];

/** `region/zone/subzone`, missing parts left away; the form of Istio's `locality` fields. */
export function parseLocality(path: string, separator = "/"): Locality {
  const [region = "", zone = "", subZone = ""] = path.split(separator);
  return { region, zone, subZone };
}

export function formatLocality({ region, zone, subZone }: Locality): string {
  return [region, zone, subZone].join("/").replace(/\/+$/, "");
}

/** Of a flag in a node's metadata, which is text as a rule. Forms: Go's strconv.ParseBool. */
export function isTrue(value: unknown): boolean {
  return value === true || (typeof value === "string" && ["1", "t", "T", "true", "TRUE", "True"].includes(value));
}

function localityOf(labels: Record<string, string>, node: Node): Locality {
  const region = labels["topology.kubernetes.io/region"];
  if (region) {
    return { region, zone: labels["topology.kubernetes.io/zone"] ?? "", subZone: labels["topology.istio.io/subzone"] ?? "" };
  }
  const label = labels["istio-locality"];
  if (label) return label.includes("/") ? parseLocality(label) : parseLocality(label, ".");
  return { region: node.locality?.region ?? "", zone: node.locality?.zone ?? "", subZone: node.locality?.subZone ?? "" };
}

function namespaceOfDomain(domain: string): string {
  const first = domain.split(".", 1)[0];
  return first || "default";
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function stringMap(value: unknown): Record<string, string> {
  if (typeof value !== "object" || value === null) return {};
  return Object.fromEntries(Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}
