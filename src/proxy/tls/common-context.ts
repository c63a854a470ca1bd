/** What UpstreamTlsContext and DownstreamTlsContext share: certificates, validation, versions, ciphers, ALPN. */
import type * as tls from "node:tls";
import { ConfigError } from "../../api/config-error.ts";
import { type TlsParameters, TlsParameters_TlsProtocol } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import type { SdsSecretConfig } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { CommonTlsContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { type CertificateSecret, compileCertificate } from "./certificate-secret.ts";
import { compileSanMatchers, compileValidation, digestOf, type SecretStore, type ValidationSecret } from "./secret.ts";

/** Inline, or by the name under which SDS delivers it. */
type Source<T> = { readonly inline: T } | { readonly sds: string };

export interface CommonTls {
  readonly certificates: readonly Source<CertificateSecret>[];
  /** Both may be there: the SDS part then completes the inline defaults. */
  readonly validation: ValidationSecret | null;
  readonly validationSds: string | null;
  readonly alpnProtocols: readonly string[];
  /** Of TLS 1.2. */
  readonly suites: readonly string[];
  readonly options: tls.SecureContextOptions;
}

const versions: Record<TlsParameters_TlsProtocol, tls.SecureVersion | null> = {
  [TlsParameters_TlsProtocol.TLS_AUTO]: null,
  [TlsParameters_TlsProtocol.TLSv1_0]: "TLSv1",
  [TlsParameters_TlsProtocol.TLSv1_1]: "TLSv1.1",
  [TlsParameters_TlsProtocol.TLSv1_2]: "TLSv1.2",
  [TlsParameters_TlsProtocol.TLSv1_3]: "TLSv1.3",
};

const tls13Suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
const defaultSuites = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-RSA-CHACHA20-POLY1305",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
];

function compileParameters(
  parameters: TlsParameters | undefined,
  suites: readonly string[],
  defaultMax: tls.SecureVersion,
): tls.SecureContextOptions {
  const curves = parameters?.ecdhCurves ?? [];
  return {
    minVersion: versions[parameters?.tlsMinimumProtocolVersion ?? TlsParameters_TlsProtocol.TLS_AUTO] ?? "TLSv1.2",
    maxVersion: versions[parameters?.tlsMaximumProtocolVersion ?? TlsParameters_TlsProtocol.TLS_AUTO] ?? defaultMax,
    ciphers: `${tls13Suites}:${suites.join(":")}`,
    ecdhCurve: curves.length > 0 ? curves.map((curve) => (curve === "P-256" ? "prime256v1" : curve)).join(":") : "X25519:prime256v1",
    ...(parameters?.signatureAlgorithms.length ? { sigalgs: parameters.signatureAlgorithms.join(":") } : {}),
  };
}

function sdsName(config: SdsSecretConfig | undefined): string {
  if (config === undefined || config.name === "")
    throw new ConfigError("SdsSecretConfig: name: value length must be at least 1 characters");
  return config.name;
}

export function compileCommonTls(message: CommonTlsContext | undefined, defaultMax: tls.SecureVersion): CommonTls {
  const certificates: Source<CertificateSecret>[] = [];
  for (const certificate of message?.tlsCertificates ?? []) certificates.push({ inline: compileCertificate(certificate) });
  for (const config of message?.tlsCertificateSdsSecretConfigs ?? []) certificates.push({ sds: sdsName(config) });
  let validation: ValidationSecret | null = null;
  let validationSds: string | null = null;
  const type = message?.validationContextType;
  switch (type?.case) {
    case "validationContext":
      validation = compileValidation(type.value);
      break;
    case "validationContextSdsSecretConfig":
      validationSds = sdsName(type.value);
      break;
    case "combinedValidationContext": {
      // The CA usually comes by SDS, so names without a CA are no mistake here.
      const { defaultValidationContext, validationContextSdsSecretConfig } = type.value;
      validationSds = sdsName(validationContextSdsSecretConfig);
      if (defaultValidationContext !== undefined) {
        validation = {
          ...compileValidation({ ...defaultValidationContext, matchTypedSubjectAltNames: [], matchSubjectAltNames: [] }),
          sanMatchers: compileSanMatchers(defaultValidationContext),
        };
      }
      break;
    }
    case undefined:
      break;
    default:
      throw new ConfigError("certificate providers are not supported by this proxy");
  }
  if (message?.customHandshaker !== undefined) throw new ConfigError("custom_handshaker is not supported by this proxy");
  const suites = suitesOf(message?.tlsParams);
  return {
    certificates,
    validation,
    validationSds,
    alpnProtocols: message?.alpnProtocols ?? [],
    suites,
    options: compileParameters(message?.tlsParams, suites, defaultMax),
  };
}

/** BoringSSL's syntax allows equal-preference groups, `[A|B]`; OpenSSL has no such thing and takes them in order. */
function suitesOf(parameters: TlsParameters | undefined): readonly string[] {
  const suites = (parameters?.cipherSuites ?? []).flatMap((suite) => suite.replace(/^\[|\]$/g, "").split("|"));
  return suites.length > 0 ? suites : defaultSuites;
}

/** The certificates that are there now; null while SDS has not delivered all of them. */
export function currentCertificates(common: CommonTls, secrets: SecretStore): CertificateSecret[] | null {
  const found: CertificateSecret[] = [];
  for (const source of common.certificates) {
    const secret = "inline" in source ? source.inline : secrets.get(source.sds);
    if (secret === undefined || secret.kind !== "certificate") return null;
    found.push(secret);
  }
  return found;
}

/** `undefined` while SDS has not delivered it, null where no validation is configured. */
export function currentValidation(common: CommonTls, secrets: SecretStore): ValidationSecret | null | undefined {
  if (common.validationSds === null) return common.validation;
  const delivered = secrets.get(common.validationSds);
  if (delivered === undefined || delivered.kind !== "validation") return undefined;
  if (common.validation === null) return delivered;
  return {
    ...delivered,
    trustedCa: delivered.trustedCa ?? common.validation.trustedCa,
    sanMatchers: [...common.validation.sanMatchers, ...delivered.sanMatchers],
    digest: digestOf(common.validation.digest, delivered.digest),
  };
}

/** What OpenSSL needs to know; `certificate` null: none is shown. */
export function secureOptions(
  certificate: CertificateSecret | null,
  validation: ValidationSecret | null,
  common: CommonTls,
): tls.SecureContextOptions {
  return {
    ...common.options,
    ...(certificate && { cert: certificate.chain, key: certificate.privateKey }),
    ...(certificate?.passphrase != null && { passphrase: certificate.passphrase }),
    // An empty list: trust nobody, rather than the roots that Node brings.
    ca: validation?.trustedCa ?? [],
    ...(validation?.crl && { crl: validation.crl }),
  };
}
