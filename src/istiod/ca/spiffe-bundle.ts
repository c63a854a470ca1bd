/**
 * A SPIFFE bundle: the roots of a trust domain, as JSON. Only its X.509 part counts here.
 * Source: SPIFFE_Trust_Domain_and_Bundle.md (sections 4 and 5), Istio pkg/spiffe/spiffe.go (RetrieveSpiffeBundleRootCerts).
 */
import { X509Certificate } from "node:crypto";

export interface SpiffeBundle {
  /** PEM, each by itself. */
  readonly roots: readonly string[];
  /** How often the publisher wants to be asked; undefined: it does not say. */
  readonly refreshSeconds: number | undefined;
}

/** A trust domain has a handful. */
const maxRoots = 100;

/** Throws an Error whose message says what is wrong. */
export function parseSpiffeBundle(text: string): SpiffeBundle {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw new Error("the bundle is no JSON");
  }
  const { keys, spiffe_refresh_hint: hint } = (document ?? {}) as { keys?: unknown; spiffe_refresh_hint?: unknown };
  if (!Array.isArray(keys)) throw new Error('the bundle has no list "keys"');
  const roots = keys.flatMap((key: unknown, index) => rootOf(key, `keys[${index}]`) ?? []);
  if (roots.length === 0) throw new Error('the bundle has no key of use "x509-svid"');
  if (roots.length > maxRoots) throw new Error(`the bundle has more than ${maxRoots} roots`);
  return { roots, refreshSeconds: typeof hint === "number" && hint > 0 ? hint : undefined };
}

function rootOf(key: unknown, place: string): string | undefined {
  const { use, x5c } = (key ?? {}) as { use?: unknown; x5c?: unknown };
  if (use !== "x509-svid") return undefined;
  if (!Array.isArray(x5c) || x5c.length !== 1 || typeof x5c[0] !== "string") throw new Error(`${place}.x5c: must be one certificate`);
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(Buffer.from(x5c[0], "base64"));
  } catch {
    throw new Error(`${place}.x5c: is no certificate`);
  }
  if (!certificate.ca) throw new Error(`${place}.x5c: "${certificate.subject}" is not one of an authority`);
  return certificate.toString();
}
