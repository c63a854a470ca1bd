/**
 * What the control plane tells agents about trust at run time, in Istio's message for it. Istio distributes revocation lists as files; machines
 * have nobody to lay files down, so the list goes along, as metadata that other agents do not look at.
 */
import { create, fromBinary } from "@bufbuild/protobuf";
import { type ProxyConfig, ProxyConfigSchema } from "./gen/istio/mesh/v1alpha1/proxy_config_pb.js";

export interface TrustUpdate {
  /** PEM of the roots to be trusted, each by itself. */
  readonly roots: readonly string[];
  /** PEM of the authority's revocation lists; undefined: it has none. */
  readonly revocations: string | undefined;
}

const revocationsKey = "TOPSAIL_CA_CRL";

export function trustUpdateMessage({ roots, revocations }: TrustUpdate): ProxyConfig {
  const proxyMetadata = revocations === undefined ? {} : { [revocationsKey]: revocations };
  return create(ProxyConfigSchema, { caCertificatesPem: [...roots], proxyMetadata });
}

export function decodeTrustUpdate(bytes: Uint8Array): TrustUpdate {
  const { caCertificatesPem, proxyMetadata } = fromBinary(ProxyConfigSchema, bytes);
  return { roots: caCertificatesPem, revocations: proxyMetadata[revocationsKey] };
}
