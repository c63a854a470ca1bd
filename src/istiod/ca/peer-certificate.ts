/** The certificate that a caller has shown, with those above it: gRPC gives the first one alone. */
import { X509Certificate } from "node:crypto";
import { TLSSocket } from "node:tls";
import type { Call } from "./authenticator.ts";
import { isIssuedBy } from "./issued-by.ts";

/** How grpc-js holds the connection of a call, which it shows to nobody. */
interface Held {
  readonly call?: { readonly stream?: { readonly session?: { readonly socket?: unknown } } };
}

/** Undefined unless the certificate leads to one of the roots that the listener trusts. */
export function peerCertificateOf(call: Call): X509Certificate | undefined {
  const { sslPeerCertificate } = call.getAuthContext();
  if (!sslPeerCertificate) return undefined;
  const shown = new X509Certificate(sslPeerCertificate.raw);
  const socket = (call as Held).call?.stream?.session?.socket;
  // `socket` stands for a TLSSocket behind a proxy object, of which this much can be told.
  const withIssuers = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
  return withIssuers?.fingerprint256 === shown.fingerprint256 ? withIssuers : shown;
}

/** Whether the certificate, or one of those above it, is signed by one of the roots (PEM). */
export function leadsTo(certificate: X509Certificate, roots: readonly string[]): boolean {
  const trusted = roots.map(parsedRoot);
  const seen = new Set<string>();
  let current: X509Certificate | undefined = certificate;
  while (current && !seen.has(current.fingerprint256)) {
    const below: X509Certificate = current;
    seen.add(below.fingerprint256);
    if (trusted.some((root) => isIssuedBy(below, root))) return true;
    const issuer: X509Certificate | undefined = below.issuerCertificate;
    if (!issuer?.ca || !isIssuedBy(below, issuer)) return false;
    current = issuer;
  }
  return false;
}

/** Roots by their PEM, for they are the same for every caller. What is no root any more goes when many have been seen. */
const parsedRoots = new Map<string, X509Certificate>();
const maxParsedRoots = 256;

function parsedRoot(pem: string): X509Certificate {
  const known = parsedRoots.get(pem);
  if (known) return known;
  if (parsedRoots.size >= maxParsedRoots) parsedRoots.clear();
  const parsed = new X509Certificate(pem);
  parsedRoots.set(pem, parsed);
  return parsed;
}
