/**
 * MeshConfig and MeshNetworks from YAML, with Istio's defaults. A field that is written replaces its default as a whole,
 * with two exceptions, as in Istio: `defaultConfig` is merged field by field, and `extensionProviders` by name.
 */
import { LineCounter } from "yaml";
import { ConfigError } from "../config-error.ts";
import { parseYamlDocument } from "../documents/parse-yaml.ts";
import { toPlainValue } from "../documents/plain-value.ts";
import { positionAt, SourceLocator } from "../documents/source-locator.ts";
import { decode, isPlainObject, jsonName } from "../schema/decode.ts";
import { FieldReport, formatPath } from "../schema/field-report.ts";
import type { Schema } from "../schema/schema.ts";
import { type MeshConfig, meshConfigSchema } from "./mesh-config.ts";
import { type MeshNetworks, meshNetworksSchema } from "./mesh-networks.ts";
import { validateMeshConfig, validateMeshNetworks } from "./validate-mesh.ts";

export interface DecodedMesh<T> {
  /** Absent when there are errors. */
  readonly value?: T;
  readonly errors: readonly ConfigError[];
  readonly warnings: readonly ConfigError[];
}

type Present<T, K extends keyof T> = T & { readonly [Field in K]-?: NonNullable<T[Field]> };

/** MeshConfig after its defaults: what has one is always there. */
export type EffectiveMeshConfig = Present<
  MeshConfig,
  "connectTimeout" | "protocolDetectionTimeout" | "outboundTrafficPolicy" | "inboundTrafficPolicy" | "dnsRefreshRate" | "defaultConfig"
>;

const defaultProxyConfig = {
  configPath: "./etc/istio/proxy",
  binaryPath: "/usr/local/bin/envoy",
  serviceCluster: "istio-proxy",
  drainDuration: "45s",
  terminationDrainDuration: "5s",
  proxyAdminPort: 15000,
  controlPlaneAuthPolicy: "MUTUAL_TLS",
  discoveryAddress: "istiod.istio-system.svc:15012",
  statNameLength: 189,
  statusPort: 15020,
};

const defaultMeshConfig = {
  enableTracing: true,
  protocolDetectionTimeout: "0s",
  ingressService: "istio-ingressgateway",
  ingressControllerMode: "STRICT",
  ingressClass: "istio",
  trustDomain: "cluster.local",
  enableAutoMtls: true,
  outboundTrafficPolicy: { mode: "ALLOW_ANY" },
  inboundTrafficPolicy: { mode: "PASSTHROUGH" },
  localityLbSetting: { enabled: true },
  rootNamespace: "istio-system",
  proxyListenPort: 15001,
  proxyInboundListenPort: 15006,
  connectTimeout: "10s",
  defaultServiceExportTo: ["*"],
  defaultVirtualServiceExportTo: ["*"],
  defaultDestinationRuleExportTo: ["*"],
  dnsRefreshRate: "60s",
  enablePrometheusMerge: true,
  // As the chart of Istio installs it.
  defaultProviders: { metrics: ["prometheus"] },
  extensionProviders: [
    { name: "prometheus", prometheus: {} },
    { name: "stackdriver", stackdriver: {} },
    { name: "envoy", envoyFileAccessLog: { path: "/dev/stdout" } },
  ],
};

/** The mesh configuration of a mesh that says nothing. */
export function defaultMesh(): EffectiveMeshConfig {
  const { value, errors } = decodeMeshConfig("", "defaults");
  if (!value) throw errors[0];
  return value;
}

export function decodeMeshConfig(text: string, file: string): DecodedMesh<EffectiveMeshConfig> {
  return decodeMesh(text, file, meshConfigSchema as Schema<EffectiveMeshConfig>, withDefaults, validateMeshConfig);
}

export function decodeMeshNetworks(text: string, file: string): DecodedMesh<MeshNetworks> {
  return decodeMesh(text, file, meshNetworksSchema, (written) => written, validateMeshNetworks);
}

function decodeMesh<T>(
  text: string,
  file: string,
  schema: Schema<T>,
  complete: (written: Record<string, unknown>) => Record<string, unknown>,
  check: (value: T, report: FieldReport) => void,
): DecodedMesh<T> {
  const failed = (message: string, line = 1) => ({ errors: [new ConfigError(message, { position: { file, line } })], warnings: [] });
  const lines = new LineCounter();
  const document = parseYamlDocument(text, lines);
  if (typeof document === "string") return failed(document);
  const [syntaxError] = document.errors;
  if (syntaxError)
    return failed(
      syntaxError.code === "DUPLICATE_KEY" ? syntaxError.message : `is not YAML: ${syntaxError.message}`,
      positionAt(file, lines, syntaxError.pos[0], 1).line,
    );
  const written = toPlainValue(document) ?? {};
  if (written instanceof Error) return failed(written.message);
  if (!isPlainObject(written)) return failed("is not an object");

  const report = new FieldReport();
  const value = decode(schema, complete(written), report);
  if (!report.hasErrors) check(value, report);
  const locator = new SourceLocator(file, text, 1, [], { document, lines });
  const ofSeverity = (severity: "error" | "warning") =>
    report.problems
      .filter((problem) => problem.severity === severity)
      .map((problem) => new ConfigError(problem.message, { field: formatPath(problem.path), position: locator.locate(problem.path) }));
  const errors = ofSeverity("error");
  return { ...(errors.length === 0 ? { value } : {}), errors, warnings: ofSeverity("warning") };
}

function withDefaults(written: Record<string, unknown>): Record<string, unknown> {
  const mesh = { ...defaultMeshConfig, ...camelKeys(written) } as Record<string, unknown>;
  const own = camelKeys(written);
  mesh.defaultConfig = isPlainObject(own.defaultConfig)
    ? mergedProxyConfig(camelKeys(own.defaultConfig))
    : (own.defaultConfig ?? defaultProxyConfig);
  if (Array.isArray(own.extensionProviders)) mesh.extensionProviders = mergedProviders(own.extensionProviders);
  for (const [field, value] of Object.entries(mesh)) {
    // null means that nothing was said.
    if (value === null) mesh[field] = (defaultMeshConfig as Record<string, unknown>)[field];
  }
  return mesh;
}

function mergedProxyConfig(own: Record<string, unknown>): Record<string, unknown> {
  const { serviceCluster, ...others } = defaultProxyConfig;
  return { ...others, ...(own.tracingServiceName === undefined ? { serviceCluster } : {}), ...own };
}

/** Written providers take the place of the default ones with their name; their own order is kept behind. */
function mergedProviders(own: readonly unknown[]): unknown[] {
  const nameOf = (provider: unknown) => (isPlainObject(provider) ? provider.name : undefined);
  const defaults = defaultMeshConfig.extensionProviders;
  const replaced = defaults.map((provider) => own.find((candidate) => nameOf(candidate) === provider.name) ?? provider);
  return [...replaced, ...own.filter((provider) => !defaults.some(({ name }) => name === nameOf(provider)))];
}

/** Top-level names in camelCase, so that defaults and written fields meet whichever notation was used. */
function camelKeys(object: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [jsonName(key), value]));
}
