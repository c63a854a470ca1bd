/**
 * TLS certificates and validation contexts, inline or from SDS. Whoever uses a secret asks for it when a connection begins,
 * so a new certificate is in force at once; the version tells whether what was made from it is stale.
 */
import { createHash, X509Certificate } from "node:crypto";
import * as tls from "node:tls";
import { ConfigError } from "../../api/config-error.ts";
import { spiffeTrustDomains } from "../../api/envoy/spiffe-validator.ts";
import {
  type CertificateValidationContext,
  CertificateValidationContext_TrustChainVerification,
  SubjectAltNameMatcher_SanType,
  type TlsCertificate,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import type { Secret as SecretMessage } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { SPIFFECertValidatorConfig_TrustDomain } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js";
import type { RevocationLists } from "../../lib/revocation-list.ts";
import { readDataSource } from "../data-source.ts";
import { compileStringMatcher, type StringPredicate } from "../router/string-matcher.ts";
import { compileLeafRevocations, leafRevocationProblem } from "./leaf-revocations.ts";

export interface CertificateSecret {
  readonly kind: "certificate";
  readonly chain: Buffer;
  /** PEM. Never logged. */
  readonly privateKey: Buffer;
  readonly passphrase: string | null;
  /** DNS names of the leaf in lower case, `*.suffix` included; the common name when it has none. */
  readonly dnsNames: readonly string[];
}

export interface SanMatcher {
  readonly type: "dns" | "uri" | "email" | "ip" | "any";
  readonly test: StringPredicate;
}

export interface ValidationSecret {
  readonly kind: "validation";
  readonly trustedCa: Buffer | null;
  /** What the peer's SPIFFE id must begin with, whatever else its names are to be; null: nothing. */
  readonly spiffePrefix: string | null;
  /** Of every authority in a chain. */
  readonly crl: Buffer | null;
  /** Of those that issue peers' certificates, where no more is asked for. */
  readonly leafRevocations: RevocationLists | null;
  readonly sanMatchers: readonly SanMatcher[];
  readonly spkiHashes: ReadonlySet<string>;
  /** sha256 of the certificate, hex in lower case without colons. */
  readonly certificateHashes: ReadonlySet<string>;
  readonly acceptsUntrusted: boolean;
  readonly allowsExpired: boolean;
}

export type Secret = CertificateSecret | ValidationSecret | { readonly kind: "generic" };

export class SecretStore {
  readonly #secrets = new Map<string, Secret>();
  /** Grows with every change. */
  version = 1;

  get(name: string): Secret | undefined {
    return this.#secrets.get(name);
  }

  set(name: string, secret: Secret): void {
    this.#secrets.set(name, secret);
    this.version++;
  }
}

export function compileSecret(message: SecretMessage): Secret {
  switch (message.type.case) {
    case "tlsCertificate":
      return compileCertificate(message.type.value);
    case "validationContext":
      return compileValidation(message.type.value);
    case "genericSecret":
      return { kind: "generic" };
    case "sessionTicketKeys":
      throw new ConfigError("session ticket keys are not supported by this proxy");
    default:
      throw new ConfigError("Secret: type is required");
  }
}

export function compileCertificate(message: TlsCertificate): CertificateSecret {
  const chain = readDataSource(message.certificateChain);
  const privateKey = readDataSource(message.privateKey);
  if (message.privateKeyProvider !== undefined) throw new ConfigError("private_key_provider is not supported by this proxy");
  if (chain === null || chain.length === 0)
    throw new ConfigError("Failed to load incomplete certificate from <inline>: certificate chain not set");
  if (privateKey === null || privateKey.length === 0) {
    throw new ConfigError("Failed to load incomplete private key from path: <inline>");
  }
  const passphrase = readDataSource(message.password)?.toString("utf8") ?? null;
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(chain);
  } catch (cause) {
    throw new ConfigError("Failed to load certificate chain from <inline>", { cause });
  }
  try {
    tls.createSecureContext({ cert: chain, key: privateKey, ...(passphrase === null ? {} : { passphrase }) });
  } catch (cause) {
    const mismatch = cause instanceof Error && /mismatch/i.test(cause.message);
    throw new ConfigError(
      mismatch ? "Failed to load private key from <inline>, Cause: key values mismatch" : "Failed to load private key from <inline>",
      { cause },
    );
  }
  return { kind: "certificate", chain, privateKey, passphrase, dnsNames: certificateNames(leaf) };
}

function certificateNames(leaf: X509Certificate): string[] {
  const names = [...(leaf.subjectAltName ?? "").matchAll(/DNS:([^,\s]+)/g)].map((match) => match[1]!.toLowerCase());
  if (names.length > 0) return names;
  const common = /^CN=(.*)$/m.exec(leaf.subject)?.[1];
  return common === undefined ? [] : [common.toLowerCase()];
}

const sanTypes: Record<SubjectAltNameMatcher_SanType, SanMatcher["type"] | null> = {
  [SubjectAltNameMatcher_SanType.SAN_TYPE_UNSPECIFIED]: null,
  [SubjectAltNameMatcher_SanType.EMAIL]: "email",
  [SubjectAltNameMatcher_SanType.DNS]: "dns",
  [SubjectAltNameMatcher_SanType.URI]: "uri",
  [SubjectAltNameMatcher_SanType.IP_ADDRESS]: "ip",
  [SubjectAltNameMatcher_SanType.OTHER_NAME]: null,
};

export function compileSanMatchers(message: CertificateValidationContext): SanMatcher[] {
  const sanMatchers: SanMatcher[] = message.matchTypedSubjectAltNames.map((entry) => {
    const type = sanTypes[entry.sanType];
    if (type === null || type === undefined) throw new ConfigError("SubjectAltNameMatcher: san_type is not supported");
    if (entry.matcher === undefined) throw new ConfigError("SubjectAltNameMatcher: matcher: value is required");
    return { type, test: type === "dns" ? dnsTest(entry.matcher) : compileStringMatcher(entry.matcher) };
  });
  for (const matcher of message.matchSubjectAltNames) sanMatchers.push({ type: "any", test: compileStringMatcher(matcher) });
  return sanMatchers;
}

export function compileValidation(message: CertificateValidationContext): ValidationSecret {
  const spiffe = compileSpiffe(message);
  const sanMatchers = compileSanMatchers(message);
  const trustedCa =
    message.systemRootCerts !== undefined
      ? Buffer.from(tls.rootCertificates.join("\n"))
      : readDataSource(spiffe?.trustBundle ?? message.trustedCa);
  if (trustedCa !== null) {
    try {
      tls.createSecureContext({ ca: trustedCa });
      if (!trustedCa.includes("-----BEGIN")) throw new Error("no PEM block");
    } catch (cause) {
      throw new ConfigError("Failed to load trusted CA certificates from <inline>", { cause });
    }
  }
  const crl = readDataSource(message.crl);
  if (trustedCa === null && sanMatchers.length > 0) {
    throw new ConfigError("SAN-based verification of peer certificates without trusted CA is insecure and not allowed");
  }
  return {
    kind: "validation",
    trustedCa,
    spiffePrefix: spiffe === null ? null : `spiffe://${spiffe.name}/`,
    crl: message.onlyVerifyLeafCertCrl ? null : crl,
    leafRevocations: message.onlyVerifyLeafCertCrl && crl ? compileLeafRevocations(crl) : null,
    sanMatchers,
    spkiHashes: new Set(message.verifyCertificateSpki),
    certificateHashes: new Set(message.verifyCertificateHash.map((hash) => hash.replaceAll(":", "").toLowerCase())),
    acceptsUntrusted: message.trustChainVerification === CertificateValidationContext_TrustChainVerification.ACCEPT_UNTRUSTED,
    allowsExpired: message.allowExpiredCertificate,
  };
}

/** With one trust domain the validator comes to that domain's roots and a prefix; several would need the whole chain of a peer. */
function compileSpiffe(message: CertificateValidationContext): SPIFFECertValidatorConfig_TrustDomain | null {
  if (message.customValidatorConfig === undefined) return null;
  const domains = spiffeTrustDomains(message);
  if (domains === undefined)
    throw new ConfigError(`Didn't find a registered implementation for '${message.customValidatorConfig.name}' as certificate validator`);
  const [domain, ...others] = domains;
  if (domain === undefined || others.length > 0)
    throw new ConfigError("SPIFFECertValidatorConfig: trust_domains: this proxy takes one, not several");
  return domain;
}

/** An exact DNS matcher honours wildcards in the certificate. */
function dnsTest(matcher: NonNullable<CertificateValidationContext["matchTypedSubjectAltNames"][number]["matcher"]>): StringPredicate {
  const plain = compileStringMatcher(matcher);
  if (matcher.matchPattern.case !== "exact") return plain;
  const wanted = matcher.matchPattern.value.toLowerCase();
  const dot = wanted.indexOf(".");
  const wildcard = dot > 0 ? `*${wanted.slice(dot)}` : null;
  return (name) => plain(name) || name.toLowerCase() === wildcard || name.toLowerCase() === wanted;
}

const sanPrefixes: Readonly<Record<string, SanMatcher["type"]>> = { DNS: "dns", URI: "uri", email: "email", "IP Address": "ip" };

/** null when the certificate is acceptable, else what is wrong with it in Envoy's words. The chain was verified before. */
export function checkPeer(secret: ValidationSecret, certificate: X509Certificate): string | null {
  if (secret.leafRevocations !== null) {
    const problem = leafRevocationProblem(secret.leafRevocations, certificate.raw, Date.now());
    if (problem !== null) return `verify cert failed: X509_verify_cert: certificate verification error at depth 0: ${problem}`;
  }
  if (secret.spiffePrefix !== null) {
    const ids = subjectAltNames(certificate).filter(([type, name]) => type === "uri" && name.startsWith("spiffe://"));
    if (ids.length !== 1 || !ids[0]![1].startsWith(secret.spiffePrefix)) return "verify cert failed: no trust bundle store";
  }
  if (secret.sanMatchers.length > 0) {
    const names = subjectAltNames(certificate);
    const matches = secret.sanMatchers.some((matcher) =>
      names.some(([type, name]) => (matcher.type === "any" || matcher.type === type) && matcher.test(name)),
    );
    if (!matches) return `verify cert failed: SAN matcher, certificate SANs are [${names.map(([, name]) => name).join(", ")}]`;
  }
  const hasPins = secret.spkiHashes.size > 0 || secret.certificateHashes.size > 0;
  if (!hasPins) return null;
  const fingerprint = certificate.fingerprint256.replaceAll(":", "").toLowerCase();
  if (secret.certificateHashes.has(fingerprint)) return null;
  if (secret.spkiHashes.size > 0 && secret.spkiHashes.has(spkiHash(certificate))) return null;
  return "verify cert failed: cert hash and spki";
}

function spkiHash(certificate: X509Certificate): string {
  const der = certificate.publicKey.export({ type: "spki", format: "der" });
  return createHash("sha256").update(der).digest("base64");
}

function subjectAltNames(certificate: X509Certificate): [SanMatcher["type"], string][] {
  const text = certificate.subjectAltName ?? "";
  const names: [SanMatcher["type"], string][] = [];
  for (const match of text.matchAll(/(?:^|, )(DNS|URI|email|IP Address):("(?:[^"\\]|\\.)*"|[^,]*)/g)) {
    const type = sanPrefixes[match[1]!];
    const raw = match[2]!;
    if (type !== undefined) names.push([type, raw.startsWith('"') ? (JSON.parse(raw) as string) : raw]);
  }
  return names;
}
