/**
 * Envoy's validator of SPIFFE identities: a trust domain's peers are those that its own roots have signed for. OpenSSL is given the roots of all
 * domains; whose root a peer's chain ends at is looked at afterwards.
 * Source: Envoy source/extensions/transport_sockets/tls/cert_validator/spiffe/spiffe_validator.cc.
 */
import { X509Certificate } from "node:crypto";
import { ConfigError } from "../../api/config-error.ts";
import { spiffeTrustDomains } from "../../api/envoy/spiffe-validator.ts";
import type { CertificateValidationContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { splitCertificates } from "../../lib/pem.ts";
import { readDataSource } from "../data-source.ts";
import { maySign } from "./key-usage.ts";

/** A peer's chain as DER: its own certificate first, the root last. null: a resumed session, whose chain was good when it began. */
export type PeerChain = () => readonly Buffer[] | null;

export interface TrustDomains {
  /** PEM, of all domains; null: there is none, and nobody is trusted. */
  readonly roots: Buffer | null;
  /** null when the peer is of a domain whose root has signed for it, else what is wrong in Envoy's words. */
  problem(certificate: Buffer, uris: readonly string[], chain: PeerChain): string | null;
}

/** null where the context has no such validator. Throws ConfigError for another one, and for bundles that can't be read. */
export function compileTrustDomains(message: CertificateValidationContext): TrustDomains | null {
  if (message.customValidatorConfig === undefined) return null;
  const domains = spiffeTrustDomains(message);
  if (domains === undefined)
    throw new ConfigError(`Didn't find a registered implementation for '${message.customValidatorConfig.name}' as certificate validator`);
  const rootsOf = new Map<string, ReadonlySet<string>>();
  const bundles: Buffer[] = [];
  for (const { name, trustBundle } of domains) {
    if (rootsOf.has(name)) throw new ConfigError(`Multiple trust bundles are given for one trust domain for ${name}, workload:`);
    const bundle = readDataSource(trustBundle);
    if (bundle === null) throw new ConfigError(`Failed to load trusted CA certificate for ${name}`);
    rootsOf.set(name, fingerprints(name, bundle));
    bundles.push(bundle, newline);
  }
  return {
    roots: bundles.length === 0 ? null : Buffer.concat(bundles),
    problem(certificate, uris, chain) {
      // A workload that could sign would be an authority.
      if (isAuthority(certificate)) return "SPIFFE Certificate Precheck failed";
      const ids = uris.filter((uri) => uri.startsWith("spiffe://"));
      const trusted = ids.length === 1 ? rootsOf.get(trustDomainOf(ids[0]!)) : undefined;
      if (trusted === undefined) return noBundle;
      // With one domain OpenSSL has looked at nothing but its roots.
      return rootsOf.size === 1 || endsAt(trusted, chain()) ? null : noBundle;
    },
  };
}

const noBundle = "no trust bundle store";
const newline = Buffer.from("\n");

function isAuthority(certificate: Buffer): boolean {
  return new X509Certificate(certificate).ca || maySign(certificate);
}

function trustDomainOf(id: string): string {
  const end = id.indexOf("/", "spiffe://".length);
  return end < 0 ? "" : id.slice("spiffe://".length, end);
}

function fingerprints(domain: string, bundle: Buffer): ReadonlySet<string> {
  try {
    const blocks = splitCertificates(bundle.toString("latin1"));
    if (blocks.length === 0) throw new Error("no PEM block");
    return new Set(blocks.map((block) => new X509Certificate(block).fingerprint256));
  } catch (cause) {
    throw new ConfigError(`Failed to load trusted CA certificate for ${domain}`, { cause });
  }
}

/** Signature by signature: names alone can be anybody's. */
function endsAt(trusted: ReadonlySet<string>, chain: readonly Buffer[] | null): boolean {
  if (chain === null) return true;
  const certificates = chain.map((der) => new X509Certificate(der));
  const root = certificates.at(-1);
  if (root === undefined || !trusted.has(root.fingerprint256)) return false;
  return certificates.every((certificate, index) => certificate === root || certificate.verify(certificates[index + 1]!.publicKey));
}
