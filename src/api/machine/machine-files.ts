/**
 * The five files that make a machine a workload of the mesh, from its WorkloadGroup and from what the control plane's namespace says. Pure.
 * Names, order and quoting are Istio's: istioctl/pkg/workload/workload.go.
 */
import { parse } from "yaml";
import { ConfigError } from "../config-error.ts";
import type { ObjectOf } from "../kinds/index.ts";
import { isPlainObject } from "../schema/decode.ts";
import { shellQuote } from "./shell-quote.ts";
import { yamlText } from "./yaml-text.ts";

export interface MachineOptions {
  readonly group: ObjectOf<"WorkloadGroup">;
  /** Of the mesh configuration, as it is kept for agents. */
  readonly meshYaml: string;
  readonly istioNamespace: string;
  readonly revision: string;
  readonly clusterId: string;
  readonly registers: boolean;
  readonly capturesDns: boolean;
  readonly internalIp?: string | undefined;
  readonly externalIp?: string | undefined;
}

type Json = Record<string, unknown>;

/** Part of a ProxyConfig; only what is set. */
export interface MachineConfig {
  readonly defaultConfig: Json;
  readonly proxyMetadata: Readonly<Record<string, string>>;
}

const configAnnotation = "proxy.istio.io/config";

export function isRevisioned(revision: string): boolean {
  return revision !== "" && revision !== "default";
}

export function istiodHost(istioNamespace: string, revision: string): string {
  return `istiod${isRevisioned(revision) ? `-${revision}` : ""}.${istioNamespace}.svc`;
}

function istiodAddress({ istioNamespace, revision }: MachineOptions): string {
  return `${istiodHost(istioNamespace, revision)}:15012`;
}

/** Throws ConfigError for YAML in the mesh configuration or in an annotation that is none. */
export function machineConfig(options: MachineOptions): MachineConfig {
  const { group, revision } = options;
  const mesh = yamlObject(options.meshYaml, "the mesh configuration");
  let config: Json = isPlainObject(mesh.defaultConfig) ? mesh.defaultConfig : {};
  if (isRevisioned(revision) && !config.discoveryAddress) config = { ...config, discoveryAddress: istiodAddress(options) };
  for (const annotations of [group.metadata.annotations, group.spec.metadata?.annotations ?? {}]) {
    const text = annotations[configAnnotation];
    if (text === undefined) continue;
    const own = yamlObject(text, `annotation ${configAnnotation}`);
    config = { ...config, ...own, proxyMetadata: { ...metadataOf(config), ...metadataOf(own) } };
  }
  const { readinessProbe: _, ...rest } = config;
  const rawSpec = isPlainObject(group.raw.spec) ? group.raw.spec : {};
  const proxyMetadata = { ...metadataOf(config), ...ownMetadata(options, text(mesh.trustDomain), text(config.meshId)) };
  return {
    proxyMetadata,
    // The group's probe holds, also when it has none and the mesh has one.
    defaultConfig: { ...rest, proxyMetadata, ...(rawSpec.probe === undefined ? {} : { readinessProbe: rawSpec.probe }) },
  };
}

export function meshFile({ defaultConfig }: MachineConfig): string {
  return yamlText({ defaultConfig });
}

/** Environment of the agent, one `KEY=value` a line. */
export function clusterEnvFile(options: MachineOptions, { proxyMetadata, defaultConfig }: MachineConfig): string {
  const { group, internalIp, externalIp } = options;
  const { name, namespace } = group.metadata;
  const ports = Object.values(group.spec.template?.ports ?? {}).sort((a, b) => a - b);
  const environment = {
    ...proxyMetadata,
    ISTIO_INBOUND_PORTS: ports.length > 0 ? ports.join(",") : "*",
    ISTIO_NAMESPACE: namespace,
    ISTIO_SERVICE: `${name}.${namespace}`,
    ISTIO_SERVICE_CIDR: "*",
    ISTIO_LOCAL_EXCLUDE_PORTS: excludedPorts(defaultConfig.statusPort),
    SERVICE_ACCOUNT: serviceAccountOf(group),
    ...(isRevisioned(options.revision) ? { CA_ADDR: istiodAddress(options) } : {}),
    ...(internalIp ? { ISTIO_SVC_IP: internalIp } : {}),
    ...(externalIp ? { ISTIO_SVC_IP: externalIp, REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION: "true" } : {}),
  };
  const lines = Object.entries(environment).map(([key, value]) => `${key}=${shellQuote(value)}`);
  return `${lines.sort((a, b) => (a < b ? -1 : 1)).join("\n")}\n`;
}

export function serviceAccountOf(group: ObjectOf<"WorkloadGroup">): string {
  return group.spec.template?.serviceAccount || "default";
}

/** So that nobody locks himself out, and what asks the agent reaches it. */
function excludedPorts(statusPort: unknown): string {
  const fixed = "22,15090,15021";
  if (statusPort === 15090 || statusPort === 15021) return fixed;
  return `${fixed},${typeof statusPort === "number" && statusPort !== 0 ? statusPort : 15020}`;
}

function ownMetadata({ group, clusterId, capturesDns, registers }: MachineOptions, trustDomain: string, meshId: string) {
  const { name, namespace } = group.metadata;
  const template = group.spec.template;
  const labels = { ...group.spec.metadata?.labels, ...template?.labels };
  const canonical = {
    service: labels["service.istio.io/canonical-name"] || labels["app.kubernetes.io/name"] || labels.app || name,
    revision: labels["service.istio.io/canonical-revision"] || labels["app.kubernetes.io/version"] || labels.version || "latest",
  };
  const ports = Object.entries(template?.ports ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    CANONICAL_SERVICE: canonical.service,
    CANONICAL_REVISION: canonical.revision,
    POD_NAMESPACE: namespace,
    SERVICE_ACCOUNT: serviceAccountOf(group),
    TRUST_DOMAIN: trustDomain,
    ISTIO_META_CLUSTER_ID: clusterId,
    ISTIO_META_MESH_ID: meshId,
    ISTIO_META_NETWORK: template?.network ?? "",
    ...(ports.length > 0
      ? { ISTIO_META_POD_PORTS: goJson(ports.map(([port, containerPort]) => ({ name: port, containerPort, protocol: "" }))) }
      : {}),
    ISTIO_META_WORKLOAD_NAME: name,
    ISTIO_METAJSON_LABELS: goJson(
      byKey({
        ...labels,
        "service.istio.io/canonical-name": canonical.service,
        "service.istio.io/canonical-revision": canonical.revision,
      }),
    ),
    ...(capturesDns ? { ISTIO_META_DNS_CAPTURE: "true" } : {}),
    ...(registers ? { ISTIO_META_AUTO_REGISTER_GROUP: name } : {}),
  };
}

function metadataOf(config: Json): Record<string, string> {
  if (!isPlainObject(config.proxyMetadata)) return {};
  return Object.fromEntries(Object.entries(config.proxyMetadata).map(([key, value]) => [key, String(value)]));
}

function yamlObject(source: string, what: string): Json {
  let value: unknown;
  try {
    value = parse(source, { maxAliasCount: 100 });
  } catch (cause) {
    throw new ConfigError(`${what} is no YAML: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  if (value === null || value === undefined) return {};
  if (!isPlainObject(value)) throw new ConfigError(`${what} is no object`);
  return value;
}

function byKey(map: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** As Go writes it, which takes what HTML reads for escapes. */
function goJson(value: unknown): string {
  return JSON.stringify(value).replace(/[<>&]/g, (character) => `\\u00${character.charCodeAt(0).toString(16)}`);
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
