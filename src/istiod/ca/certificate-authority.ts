/**
 * Signs workload certificates. What it signs with can be exchanged while it runs; whoever keeps the trust bundle is told.
 * Source: Istio security/pkg/pki/ca/ca.go, security/pkg/pki/util/crypto.go.
 */
import { X509Certificate as Certificate, type KeyObject } from "node:crypto";
import { joinCertificates } from "../../lib/pem.ts";
import { algorithmOf } from "../../lib/signing-key.ts";
import type { AlternativeName, Name } from "../../lib/x509-der.ts";
import { makeEndEntityCertificate, readIssuer } from "./end-entity-certificate.ts";
import { isIssuedBy } from "./issued-by.ts";
import { keyOfRequest } from "./signing-request.ts";

/** What an authority signs with, PEM throughout. */
export interface SigningMaterial {
  readonly certificate: string;
  readonly key: KeyObject;
  /** From the signing certificate up to, and without, the root; empty when the root signs itself. */
  readonly intermediates: readonly string[];
  /** All roots that workloads shall trust, the one in use among them. */
  readonly roots: readonly string[];
  /** Revoked certificates, where the operator keeps such a list. */
  readonly crl?: string;
}

export interface IssuedCertificate {
  /** PEM: the certificate, then the intermediates. */
  readonly chain: readonly string[];
  readonly notAfter: Date;
}

/** Becomes InvalidArgument for the caller. */
export class RequestRefused extends Error {
  override readonly name = "RequestRefused";
}

export interface AuthorityOptions {
  /** Of a request that asks for none; Istio DEFAULT_WORKLOAD_CERT_TTL, 24 h. */
  readonly defaultTtlSeconds?: number;
  /** More than this is an error; Istio MAX_WORKLOAD_CERT_TTL, 90 d. */
  readonly maxTtlSeconds?: number;
}

const maxRequestBytes = 16 * 1024;
/** Clocks of machines differ. */
const backdatedMs = 2 * 60_000;

export class CertificateAuthority {
  readonly #defaultTtlSeconds: number;
  readonly #maxTtlSeconds: number;
  readonly #listeners = new Set<() => void>();
  #material: SigningMaterial;
  /** Of the material, made when it is first needed. */
  #signer: Signer | undefined;

  constructor(material: SigningMaterial, { defaultTtlSeconds = 24 * 3600, maxTtlSeconds = 90 * 24 * 3600 }: AuthorityOptions = {}) {
    this.#material = material;
    this.#defaultTtlSeconds = defaultTtlSeconds;
    this.#maxTtlSeconds = maxTtlSeconds;
  }

  /** PEM of all roots, in one text. */
  get trustBundle(): string {
    return joinCertificates(this.#material.roots);
  }

  /** PEM of all roots, each by itself. */
  get roots(): readonly string[] {
    return this.#material.roots;
  }

  get crl(): string | undefined {
    return this.#material.crl;
  }

  get signingCertificate(): string {
    return this.#material.certificate;
  }

  #readSigner(): Signer {
    if (this.#signer?.material !== this.#material) this.#signer = signerOf(this.#material);
    return this.#signer;
  }

  /** Signs with `material` from now on. */
  replace(material: SigningMaterial): void {
    this.#material = material;
    for (const listener of this.#listeners) listener();
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  /**
   * Signs the key of a PKCS #10 request in PEM for the caller's identity. Whatever else the request asks for does not count.
   * `ttlSeconds` 0 or less: the default. Throws RequestRefused.
   */
  async signRequest(csr: string, subjects: readonly AlternativeName[], ttlSeconds: number): Promise<IssuedCertificate> {
    if (csr.length > maxRequestBytes) throw new RequestRefused(`the certificate request is longer than ${maxRequestBytes} bytes`);
    let publicKey: KeyObject;
    try {
      publicKey = keyOfRequest(csr);
      algorithmOf(publicKey);
    } catch (error) {
      throw new RequestRefused(`the certificate request can't be used: ${error instanceof Error ? error.message : String(error)}`);
    }
    return this.sign(publicKey, subjects, ttlSeconds);
  }

  /** Throws RequestRefused for a life that is too long. The certificate never outlives its issuer. */
  async sign(publicKey: KeyObject, subjects: readonly AlternativeName[], ttlSeconds: number, name: Name = {}): Promise<IssuedCertificate> {
    const ttl = ttlSeconds > 0 ? ttlSeconds : this.#defaultTtlSeconds;
    if (ttl > this.#maxTtlSeconds)
      throw new RequestRefused(`requested TTL ${ttl}s is greater than the max allowed TTL ${this.#maxTtlSeconds}s`);
    const { issuer, endsAtMs, intermediates } = this.#readSigner();
    const now = Date.now();
    if (endsAtMs <= now) throw new Error("the signing certificate has expired");
    const notAfter = new Date(Math.min(now + ttl * 1000, endsAtMs));
    const certificate = await makeEndEntityCertificate(issuer, {
      publicKey,
      subject: name,
      alternativeNames: subjects,
      notBefore: new Date(now - backdatedMs),
      notAfter,
    });
    return { chain: [certificate, ...intermediates], notAfter };
  }
}

/** What all certificates of one material have in common: to read it anew for each would take a third of the time. */
function signerOf(material: SigningMaterial) {
  const certificate = new Certificate(material.certificate);
  const issuer = readIssuer(certificate, material.key);
  return { material, issuer, endsAtMs: certificate.validToDate.getTime(), intermediates: material.intermediates };
}

type Signer = ReturnType<typeof signerOf>;

/** Why the material can't be signed with: undefined when it can. `now` in milliseconds. */
export function problemOf({ certificate, key, intermediates, roots }: SigningMaterial, now: number): string | undefined {
  const signer = new Certificate(certificate);
  if (!signer.checkPrivateKey(key)) return "the key does not belong to the certificate";
  if (!signer.ca) return "the certificate is not one of an authority (basic constraints CA)";
  if (signer.validToDate.getTime() <= now) return `the certificate expired at ${signer.validToDate.toISOString()}`;
  let current = signer;
  for (const next of intermediates.map((pem) => new Certificate(pem))) {
    if (next.fingerprint256 === current.fingerprint256) continue;
    if (!isIssuedBy(current, next)) return `the chain is broken: "${current.subject}" is not signed by "${next.subject}"`;
    current = next;
  }
  if (roots.length === 0) return "there is no root certificate";
  if (!roots.some((pem) => isIssuedBy(current, new Certificate(pem)))) return `"${current.subject}" is signed by none of the roots`;
  return undefined;
}
