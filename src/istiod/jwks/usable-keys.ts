/**
 * Whether a proxy can use a set of keys. One that it can't would make it refuse the whole listener, so such a set must not reach it.
 * What is looked at: a JSON Web Key Set (RFC 7517), or a map of key ids to PEM certificates, with a key for signatures that Envoy knows.
 */
import { createPublicKey, type JsonWebKeyInput, X509Certificate } from "node:crypto";

/** Undefined: it can be used; else why not. */
export function problemOfJwks(text: string): string | undefined {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return "is not JSON";
  }
  if (!isObject(document)) return "is not a JSON object";
  if (!("keys" in document)) return isCertificateMap(document) ? undefined : "has no keys";
  const { keys } = document;
  if (!Array.isArray(keys)) return "has keys that are not a list";
  return keys.some(isUsableKey) ? undefined : "has no key of a type that can be used: RSA, EC, OKP (Ed25519) or oct";
}

const curves: ReadonlySet<unknown> = new Set(["P-256", "P-384", "P-521"]);
const algorithms: Readonly<Record<string, RegExp>> = {
  RSA: /^(RS|PS)(256|384|512)$/,
  EC: /^ES(256|384|512)$/,
  OKP: /^EdDSA$/,
  oct: /^HS(256|384|512)$/,
};

function isUsableKey(key: unknown): boolean {
  if (!isObject(key) || typeof key.kty !== "string" || !Object.hasOwn(algorithms, key.kty)) return false;
  const { kty, alg, crv } = key;
  if (alg !== undefined && (typeof alg !== "string" || !algorithms[kty as string]!.test(alg))) return false;
  if (kty === "oct") return typeof key.k === "string" && /^[\w-]+$/.test(key.k);
  if (kty === "EC" && !curves.has(crv)) return false;
  if (kty === "OKP" && crv !== "Ed25519") return false;
  try {
    createPublicKey({ key: key as JsonWebKeyInput["key"], format: "jwk" });
    return true;
  } catch {
    return false;
  }
}

/** As Google publishes them. */
function isCertificateMap(document: Record<string, unknown>): boolean {
  const certificates = Object.values(document);
  return certificates.length > 0 && certificates.every(isRsaCertificate);
}

function isRsaCertificate(pem: unknown): boolean {
  if (typeof pem !== "string") return false;
  try {
    return new X509Certificate(pem).publicKey.asymmetricKeyType === "rsa";
  } catch {
    return false;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
