/** Whether a peer's certificate, whose chain was verified, is one that the configuration wants: its names, and pins. */
import { createHash, X509Certificate } from "node:crypto";
import { certificateFields } from "../accesslog/certificate-fields.ts";
import { leafRevocationProblem } from "./leaf-revocations.ts";
import type { SanMatcher, ValidationSecret } from "./secret.ts";
import type { PeerChain } from "./trust-domains.ts";

/** Certificates of late, as DER. A client that comes again is the same buffer, so that what is known of it needn't be found out twice. */
const recent = new Map<string, Buffer>();
const maxRecent = 1000;

export function sameCertificate(der: Buffer): Buffer {
  const key = der.latin1Slice();
  let known = recent.get(key);
  if (known === undefined) {
    if (recent.size >= maxRecent) recent.delete(recent.keys().next().value!);
    known = der;
    recent.set(key, known);
  }
  return known;
}

const verdicts = new WeakMap<ValidationSecret, WeakMap<Buffer, string | null>>();

/** null when the certificate is acceptable, else what is wrong with it in Envoy's words. `der` is one of `sameCertificate`'s. */
export function checkPeer(secret: ValidationSecret, der: Buffer, chain: PeerChain): string | null {
  if (secret.leafRevocations !== null) {
    // A list may run out between two connections of a peer.
    const problem = leafRevocationProblem(secret.leafRevocations, der, Date.now());
    if (problem !== null) return `verify cert failed: X509_verify_cert: certificate verification error at depth 0: ${problem}`;
  }
  let known = verdicts.get(secret);
  if (known === undefined) {
    known = new WeakMap();
    verdicts.set(secret, known);
  }
  let verdict = known.get(der);
  if (verdict === undefined) {
    verdict = judge(secret, der, chain);
    known.set(der, verdict);
  }
  return verdict;
}

/** Of a certificate that was good once: a resumed session does not ask OpenSSL again. */
export function isExpired(der: Buffer, nowEpochMs: number): boolean {
  const fields = certificateFields(der);
  return fields === null || fields.validToEpochMs < nowEpochMs;
}

function judge(secret: ValidationSecret, der: Buffer, chain: PeerChain): string | null {
  const names = namesOf(der);
  const uris = names.flatMap(([type, name]) => (type === "uri" ? [name] : []));
  const problem = secret.trustDomains?.problem(der, uris, chain) ?? null;
  if (problem !== null) return `verify cert failed: ${problem}`;
  if (secret.sanMatchers.length > 0) {
    const matches = secret.sanMatchers.some((matcher) =>
      names.some(([type, name]) => (matcher.type === "any" || matcher.type === type) && matcher.test(name)),
    );
    if (!matches) return `verify cert failed: SAN matcher, certificate SANs are [${names.map(([, name]) => name).join(", ")}]`;
  }
  if (secret.spkiHashes.size === 0 && secret.certificateHashes.size === 0) return null;
  if (secret.certificateHashes.has(createHash("sha256").update(der).digest("hex"))) return null;
  if (secret.spkiHashes.size > 0 && secret.spkiHashes.has(spkiHash(der))) return null;
  return "verify cert failed: cert hash and spki";
}

function namesOf(der: Buffer): (readonly [SanMatcher["type"], string])[] {
  const fields = certificateFields(der);
  if (fields === null) return [];
  const named = (type: SanMatcher["type"], names: readonly string[]) => names.map((name) => [type, name] as const);
  return [
    ...named("dns", fields.dnsSans),
    ...named("uri", fields.uriSans),
    ...named("email", fields.emailSans),
    ...named("ip", fields.ipSans),
  ];
}

function spkiHash(der: Buffer): string {
  const key = new X509Certificate(der).publicKey.export({ type: "spki", format: "der" });
  return createHash("sha256").update(key).digest("base64");
}
