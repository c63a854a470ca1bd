/**
 * The ProxyConfig in force: Istio's defaults, then the mesh configuration's defaultConfig, then PROXY_CONFIG of the environment. What
 * a later source sets replaces; proxyMetadata is merged by key. Source: Istio pilot/cmd/pilot-agent/config/config.go.
 */
import { parse } from "yaml";
import { ConfigError } from "../api/config-error.ts";
import { decodeMeshConfig } from "../api/mesh/decode-mesh.ts";
import type { ProxyConfig } from "../api/mesh/proxy-config.ts";

export interface EffectiveProxyConfig {
  readonly config: ProxyConfig;
  /** As written, for the node's metadata. */
  readonly json: Record<string, unknown>;
}

type Json = Record<string, unknown>;

const oneName = ["serviceCluster", "tracingServiceName"] as const;

/** Texts are YAML; an absent one says nothing. */
export function effectiveProxyConfig(
  meshConfig: { readonly file: string; readonly text: string } | undefined,
  proxyConfig: string | undefined,
): EffectiveProxyConfig {
  if (meshConfig) refuse(decodeMeshConfig(meshConfig.text, meshConfig.file).errors);
  const mesh = objectOf(meshConfig?.text);
  const own = objectOf(proxyConfig);
  const base = { ...(mesh.defaultConfig as Json | undefined) };
  // One of the two names the proxy: who sets one takes the other back. A machine always sets one, whatever its mesh does.
  if (oneName.some((field) => field in own)) for (const field of oneName) delete base[field];
  const json: Json = {
    ...base,
    ...own,
    ...(base.proxyMetadata || own.proxyMetadata
      ? { proxyMetadata: { ...(base.proxyMetadata as Json), ...(own.proxyMetadata as Json) } }
      : {}),
  };
  const { value, errors } = decodeMeshConfig(JSON.stringify({ defaultConfig: json }), "PROXY_CONFIG");
  refuse(errors);
  return { config: value!.defaultConfig, json };
}

function refuse(errors: readonly ConfigError[]): void {
  if (errors[0]) throw errors[0];
}

function objectOf(text: string | undefined): Json {
  if (!text) return {};
  let value: unknown;
  try {
    value = parse(text, { maxAliasCount: 100 });
  } catch (cause) {
    throw new ConfigError(`is no YAML: ${cause instanceof Error ? cause.message : String(cause)}`, {
      position: { file: "PROXY_CONFIG", line: 1 },
      cause,
    });
  }
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}
