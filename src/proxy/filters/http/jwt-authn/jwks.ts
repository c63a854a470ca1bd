/**
 * JSON Web Key Sets (RFC 7517): RSA, EC, OKP (Ed25519) and oct keys, or, as some issuers publish them, a map from key id to X.509
 * certificate. A key that can't be used is passed over; a set needs one that can.
 *
 * Envoy hears in what words a set is refused, so the reasons are its own; none of them is ever a client's to read.
 */
import { createPublicKey, createSecretKey, type JsonWebKeyInput, type KeyObject, X509Certificate } from "node:crypto";
import { jwtStatus } from "./status.ts";
import { decodeBase64Url, type JsonObject, parseStrictObject } from "./strict-json.ts";

export interface Jwk {
  /** "" when there is none: it fits any token. */
  readonly kid: string;
  readonly alg: string;
  readonly kind: "RSA" | "EC" | "OKP" | "oct";
  /** P-256, P-384 or P-521 of EC keys. */
  readonly curve: string;
  readonly key: KeyObject;
  /** One verification takes more than about 200 us, so it is done in another thread. */
  readonly isSlow: boolean;
}

/** Gives the reason when the set can't be used. Never throws. */
export function parseJwks(text: Buffer): readonly Jwk[] | string {
  const set = parseStrictObject(text);
  if (set === null) return jwtStatus.badJwksJson.text;
  if (!Object.hasOwn(set, "keys")) return isCertificateMap(set) ? parseCertificates(set) : jwtStatus.noKeysField.text;
  if (!Array.isArray(set.keys)) return jwtStatus.badKeysField.text;
  const keys: Jwk[] = [];
  let firstReason: string | undefined;
  for (const entry of set.keys as unknown[]) {
    if (typeof entry !== "object" || entry === null || Array.isArray(entry)) continue;
    const key = parseJwk(entry as JsonObject);
    if (typeof key === "string") firstReason ??= key;
    else keys.push(key);
  }
  return keys.length > 0 ? keys : (firstReason ?? jwtStatus.noValidKeys.text);
}

function text(jwk: JsonObject, name: string): string | undefined {
  const value = Object.hasOwn(jwk, name) ? jwk[name] : undefined;
  return typeof value === "string" ? value : undefined;
}

function parseJwk(jwk: JsonObject): Jwk | string {
  const kty = text(jwk, "kty");
  if (kty === undefined) return Object.hasOwn(jwk, "kty") ? "[kty] is bad in [keys]" : "[kty] is missing in [keys]";
  switch (kty) {
    case "EC":
      return parseEc(jwk);
    case "RSA":
      return parseRsa(jwk);
    case "oct":
      return parseOct(jwk);
    case "OKP":
      return parseOkp(jwk);
    default:
      return "[kty] is not supported in [keys]";
  }
}

const named = (jwk: JsonObject) => ({ kid: text(jwk, "kid") ?? "", alg: text(jwk, "alg") ?? "" });

/** The member's text, or why it is not there. */
function member(jwk: JsonObject, name: string, of: string): { readonly text: string } | string {
  const value = text(jwk, name);
  if (value !== undefined) return { text: value };
  return Object.hasOwn(jwk, name) ? `[${name}] field is not string for ${of} key` : `[${name}] field is missing for ${of} key`;
}

function importKey(key: JsonWebKeyInput["key"]): KeyObject | null {
  try {
    return createPublicKey({ key, format: "jwk" });
  } catch {
    return null;
  }
}

const badRsa = "Jwks RSA [n] or [e] field is missing or has a parse error";
const [minRsaBits, maxRsaBits, slowRsaBits] = [512, 16_384, 4096];

function parseRsa(jwk: JsonObject): Jwk | string {
  const { kid, alg } = named(jwk);
  if (alg !== "" && !alg.startsWith("RS") && !alg.startsWith("PS")) return "[alg] is not started with [RS] or [PS] for an RSA key";
  const n = member(jwk, "n", "a RSA");
  if (typeof n === "string") return n;
  const e = member(jwk, "e", "a RSA");
  if (typeof e === "string") return e;
  const modulus = number(n.text);
  const exponent = number(e.text);
  if (modulus === null || exponent === null) return badRsa;
  const isUsual = exponent.equals(Buffer.from([3])) || exponent.equals(Buffer.from([1, 0, 1]));
  const bits = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24;
  const isOdd = modulus.length > 0 && (modulus[modulus.length - 1]! & 1) === 1;
  if (!isUsual || !isOdd || bits < minRsaBits || bits > maxRsaBits) return badRsa;
  const key = importKey({ kty: "RSA", n: modulus.toString("base64url"), e: exponent.toString("base64url") });
  return key === null ? badRsa : { kid, alg, kind: "RSA", curve: "", key, isSlow: bits > slowRsaBits };
}

/** Big-endian without leading zeros. */
function number(base64: string): Buffer | null {
  const bytes = decodeBase64Url(base64);
  if (bytes === null) return null;
  let zeros = 0;
  while (bytes[zeros] === 0) zeros++;
  return bytes.subarray(zeros);
}

const curves: Readonly<Record<string, { readonly alg: string; readonly bytes: number }>> = {
  "P-256": { alg: "ES256", bytes: 32 },
  "P-384": { alg: "ES384", bytes: 48 },
  "P-521": { alg: "ES512", bytes: 66 },
};

function parseEc(jwk: JsonObject): Jwk | string {
  const { kid, alg } = named(jwk);
  if (alg !== "" && !alg.startsWith("ES")) return "[alg] is not started with [ES] for an EC key";
  const crv = text(jwk, "crv") ?? "";
  if (crv === "" && Object.hasOwn(jwk, "crv") && jwk.crv !== "") return "[crv] field is not string for an EC key";
  if (alg !== "" && crv !== "" && curves[crv]?.alg !== alg) return "[crv] field specified is not compatible with [alg] for an EC key";
  const curve = crv || (alg === "" ? "P-256" : (Object.keys(curves).find((name) => curves[name]!.alg === alg) ?? ""));
  if (!Object.hasOwn(curves, curve)) return "[crv] or [alg] field is not supported for an EC key";
  const x = member(jwk, "x", "an EC");
  if (typeof x === "string") return x;
  const y = member(jwk, "y", "an EC");
  if (typeof y === "string") return y;
  const [point, ordinate] = [number(x.text), number(y.text)];
  if (point === null || ordinate === null) return "Jwks EC [x] or [y] field is an invalid Base64.";
  const { bytes } = curves[curve]!;
  const badPoint = "Jwks EC [x] and [y] fields have a parse error.";
  if (point.length > bytes || ordinate.length > bytes) return badPoint;
  const full = (value: Buffer) => Buffer.concat([Buffer.alloc(bytes - value.length), value]).toString("base64url");
  const key = importKey({ kty: "EC", crv: curve, x: full(point), y: full(ordinate) });
  return key === null ? badPoint : { kid, alg, kind: "EC", curve, key, isSlow: curve !== "P-256" };
}

function parseOct(jwk: JsonObject): Jwk | string {
  const { kid, alg } = named(jwk);
  if (alg !== "" && !/^HS(256|384|512)$/.test(alg)) return "[alg] does not start with [HS] for an HMAC key";
  const k = member(jwk, "k", "an HMAC");
  if (typeof k === "string") return k;
  const secret = decodeBase64Url(k.text);
  if (secret === null || secret.length === 0) return "Jwks Oct key is an invalid Base64";
  return { kid, alg, kind: "oct", curve: "", key: createSecretKey(secret), isSlow: false };
}

function parseOkp(jwk: JsonObject): Jwk | string {
  const { kid, alg } = named(jwk);
  if (alg !== "" && alg !== "EdDSA") return "[alg] is not [EdDSA] for an OKP key";
  const crv = member(jwk, "crv", "an OKP");
  if (typeof crv === "string") return crv;
  if (crv.text !== "Ed25519") return "[crv] field is not supported for an OKP key";
  const x = member(jwk, "x", "an OKP");
  if (typeof x === "string") return x;
  const point = decodeBase64Url(x.text);
  if (point === null) return "Jwks OKP [x] field is an invalid Base64.";
  if (point.length !== 32) return "Jwks OKP [x] field is wrong length.";
  const key = importKey({ kty: "OKP", crv: "Ed25519", x: point.toString("base64url") });
  return key === null ? "Jwks OKP [x] field is an invalid Base64." : { kid, alg, kind: "OKP", curve: "", key, isSlow: false };
}

function isCertificateMap(set: JsonObject): boolean {
  const entries = Object.entries(set);
  return (
    entries.length > 0 &&
    entries.every(
      ([kid, value]) =>
        kid !== "" &&
        typeof value === "string" &&
        value.startsWith("-----BEGIN CERTIFICATE-----\n") &&
        value.endsWith("\n-----END CERTIFICATE-----\n"),
    )
  );
}

/** All of them, or none: what isn't a certificate for an RSA key spoils the map. */
function parseCertificates(set: JsonObject): readonly Jwk[] | string {
  const keys: Jwk[] = [];
  for (const [kid, pem] of Object.entries(set)) {
    let key: KeyObject;
    try {
      key = new X509Certificate(pem as string).publicKey;
    } catch {
      return "X509 parse pubkey fails";
    }
    if (key.asymmetricKeyType !== "rsa") return "X509 parse pubkey internal fails: get pubkey";
    keys.push({ kid, alg: "", kind: "RSA", curve: "", key, isSlow: (key.asymmetricKeyDetails?.modulusLength ?? 0) > slowRsaBits });
  }
  return keys;
}
