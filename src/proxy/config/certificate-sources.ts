/**
 * Where the certificates of a TLS context come from: what of it /certs shows, and what the gauge of their expiry is about. Thousands of
 * clusters differ in the names that they accept and have the same sources.
 */
import type { DataSource } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import type { CommonTlsContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";

export interface CertificateSources {
  /** A file or text, or a secret's name. */
  readonly chains: readonly (DataSource | string | undefined)[];
  /** The secret's name, whose content is preferred, and what there is else. */
  readonly trustedCa: { readonly secret: string | undefined; readonly source: DataSource | undefined };
}

export function certificateSources({
  tlsCertificates,
  tlsCertificateSdsSecretConfigs,
  validationContextType: validation,
}: CommonTlsContext): CertificateSources {
  return shared({
    chains: [...tlsCertificates.map(({ certificateChain }) => certificateChain), ...tlsCertificateSdsSecretConfigs.map(({ name }) => name)],
    trustedCa: {
      secret:
        validation.case === "validationContextSdsSecretConfig"
          ? validation.value.name
          : validation.case === "combinedValidationContext"
            ? validation.value.validationContextSdsSecretConfig?.name
            : undefined,
      source:
        validation.case === "validationContext"
          ? validation.value.trustedCa
          : validation.case === "combinedValidationContext"
            ? validation.value.defaultValidationContext?.trustedCa
            : undefined,
    },
  });
}

/** Those that say the same are one object; begun anew when there are too many. */
const maxKnown = 1000;
const known = new Map<string, CertificateSources>();

function shared(sources: CertificateSources): CertificateSources {
  const key = JSON.stringify(sources, (_, value: unknown) => (value instanceof Uint8Array ? Buffer.from(value).toString("base64") : value));
  const same = known.get(key);
  if (same) return same;
  if (known.size >= maxKnown) known.clear();
  known.set(key, sources);
  return sources;
}
