/**
 * TLS certificates and validation contexts, inline or from SDS. Whoever uses a secret asks for it when a connection begins,
 * so a new certificate is in force at once; the version tells whether what was made from it is stale.
 */
import { createHash } from "node:crypto";
import * as tls from "node:tls";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { ConfigError } from "../../api/config-error.ts";
import {
  type CertificateValidationContext,
  CertificateValidationContext_TrustChainVerification,
  CertificateValidationContextSchema,
  SubjectAltNameMatcher_SanType,
  type TlsSessionTicketKeys,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { type Secret as SecretMessage, SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { RevocationLists } from "../../lib/revocation-list.ts";
import { readDataSource } from "../data-source.ts";
import { compileStringMatcher, type StringPredicate } from "../router/string-matcher.ts";
import { type CertificateSecret, compileCertificate, readCertificate } from "./certificate-secret.ts";
import { compileLeafRevocations } from "./leaf-revocations.ts";
import { compileTrustDomains, type TrustDomains } from "./trust-domains.ts";

export interface SanMatcher {
  readonly type: "dns" | "uri" | "email" | "ip" | "any";
  readonly test: StringPredicate;
}

export interface ValidationSecret {
  readonly kind: "validation";
  readonly trustedCa: Buffer | null;
  /** Of which trust domains the peer's SPIFFE id may be, whatever else its names are to be; null: of any, and it may have none. */
  readonly trustDomains: TrustDomains | null;
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
  /** Of all that decides on a peer: what was decided under another is worth nothing. */
  readonly digest: string;
}

/** Secrets that session tickets are made with; the first makes, all open. */
export interface TicketKeysSecret {
  readonly kind: "ticketKeys";
  readonly keys: readonly Buffer[];
}

export type Secret = CertificateSecret | ValidationSecret | TicketKeysSecret | { readonly kind: "generic" };

export class SecretStore {
  /** Bytes until somebody asks: of ten thousand certificates a worker uses few. */
  readonly #secrets = new Map<string, Secret | Uint8Array>();
  /** Grows with every change. */
  version = 1;

  get(name: string): Secret | undefined {
    const secret = this.#secrets.get(name);
    if (!(secret instanceof Uint8Array)) return secret;
    const read = readSecret(fromBinary(SecretSchema, secret));
    this.#secrets.set(name, read);
    return read;
  }

  /** Takes a Secret as protobuf bytes, which were checked by `compileSecret` before. */
  set(name: string, bytes: Uint8Array): void {
    this.#secrets.set(name, bytes);
    this.version++;
  }

  delete(name: string): void {
    this.#secrets.delete(name);
    this.version++;
  }
}

/** Throws ConfigError for what can't be used. */
export function compileSecret(message: SecretMessage): Secret {
  return message.type.case === "tlsCertificate" ? compileCertificate(message.type.value) : readSecret(message);
}

/** What was compiled once need not be looked at as closely again. */
function readSecret(message: SecretMessage): Secret {
  switch (message.type.case) {
    case "tlsCertificate":
      return readCertificate(message.type.value);
    case "validationContext":
      return compileValidation(message.type.value);
    case "genericSecret":
      return { kind: "generic" };
    case "sessionTicketKeys":
      return compileTicketKeys(message.type.value);
    default:
      throw new ConfigError("Secret: type is required");
  }
}

const ticketKeyBytes = 80;

export function compileTicketKeys(message: TlsSessionTicketKeys): TicketKeysSecret {
  const keys = message.keys.map((source) => readDataSource(source) ?? Buffer.alloc(0));
  if (keys.length === 0) throw new ConfigError("TlsSessionTicketKeys: keys: value must contain at least 1 item(s)");
  for (const key of keys) {
    if (key.length === ticketKeyBytes) continue;
    throw new ConfigError(`Incorrect TLS session ticket key length. Length ${key.length}, expected length ${ticketKeyBytes}.`);
  }
  return { kind: "ticketKeys", keys };
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
  const trustDomains = compileTrustDomains(message);
  const sanMatchers = compileSanMatchers(message);
  const trustedCa =
    message.systemRootCerts !== undefined
      ? Buffer.from(tls.rootCertificates.join("\n"))
      : trustDomains === null
        ? readDataSource(message.trustedCa)
        : trustDomains.roots;
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
    trustDomains,
    crl: message.onlyVerifyLeafCertCrl ? null : crl,
    leafRevocations: message.onlyVerifyLeafCertCrl && crl ? compileLeafRevocations(crl) : null,
    sanMatchers,
    spkiHashes: new Set(message.verifyCertificateSpki),
    certificateHashes: new Set(message.verifyCertificateHash.map((hash) => hash.replaceAll(":", "").toLowerCase())),
    acceptsUntrusted: message.trustChainVerification === CertificateValidationContext_TrustChainVerification.ACCEPT_UNTRUSTED,
    allowsExpired: message.allowExpiredCertificate,
    digest: digestOf(toBinary(CertificateValidationContextSchema, message), trustedCa, crl),
  };
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

export function digestOf(...parts: readonly (string | Uint8Array | null)[]): string {
  const hash = createHash("sha256");
  // Each with its length: two lists of parts that only run together alike are not the same.
  for (const part of parts) {
    hash.update(part === null ? "-" : `${part.length} `);
    if (part !== null) hash.update(part);
  }
  return hash.digest("base64url");
}
