/**
 * Tokens for conformance files: keys are made anew for each run, so that none stands in a file. A file says
 *
 *     jwt:
 *       keys:                                     name: the `kid` of its JWK is its name
 *         rsa: {}                                 RSA of 2048 bits
 *         ec: { type: P-256 }                     P-384, P-521, Ed25519, oct, RSA-1024
 *       jwks:
 *         main: [rsa, { key: ec, kid: null }]     fields over those of the JWK; null leaves one out
 *         certificates: { x509: [rsa] }           a map of kid to certificate instead
 *       tokens:
 *         good: { key: rsa, claims: { iss: me, exp: now+3600 } }
 *         none: { key: rsa, header: { alg: none }, signature: "" }
 *
 * and writes `{{jwks:main}}` and `{{jwt:good}}` where their text is to stand. A token signs by its key's algorithm unless `alg` says
 * otherwise, its header is `{alg, kid, typ}` with `header` over it; `payload` is JSON text instead of `claims`.
 */
import { execFileSync } from "node:child_process";
import * as crypto from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface JwtSpec {
  readonly keys: Readonly<Record<string, { readonly type?: string } | null>>;
  readonly jwks?: Readonly<Record<string, readonly JwkSpec[] | { readonly x509: readonly string[] }>>;
  readonly tokens?: Readonly<Record<string, TokenSpec>>;
}

type JwkSpec = string | ({ readonly key: string } & Readonly<Record<string, unknown>>);

export interface TokenSpec {
  readonly key: string;
  /** How it is signed; what the header says may be something else. */
  readonly alg?: string;
  readonly header?: Readonly<Record<string, unknown>>;
  readonly claims?: Readonly<Record<string, unknown>>;
  /** Latin-1 text of the header or the payload, JSON or not. */
  readonly rawHeader?: string;
  readonly payload?: string;
  /** Signed with these bytes as an HMAC's key; `public`: the key's own PEM, which everybody knows. */
  readonly secret?: string;
  readonly signature?: string;
  /** So many characters of the signature are cut off. */
  readonly cut?: number;
  /** Of the finished token. */
  readonly replace?: readonly [from: string, to: string];
}

interface Key {
  readonly type: string;
  readonly private: crypto.KeyObject;
  readonly jwk: object;
  readonly publicPem: string;
}

const algorithms: Readonly<Record<string, string>> = {
  RSA: "RS256",
  "RSA-1024": "RS256",
  "P-256": "ES256",
  "P-384": "ES384",
  "P-521": "ES512",
  Ed25519: "EdDSA",
  oct: "HS256",
};

function makeKey(type: string): Key {
  if (type === "oct") {
    const secret = crypto.createSecretKey(crypto.randomBytes(48));
    return { type, private: secret, jwk: secret.export({ format: "jwk" }), publicPem: "" };
  }
  const pair = type.startsWith("RSA")
    ? crypto.generateKeyPairSync("rsa", { modulusLength: Number(type.slice(4)) || 2048 })
    : type === "Ed25519"
      ? crypto.generateKeyPairSync("ed25519")
      : crypto.generateKeyPairSync("ec", { namedCurve: type });
  const publicPem = pair.publicKey.export({ format: "pem", type: "spki" }) as string;
  return { type, private: pair.privateKey, jwk: pair.publicKey.export({ format: "jwk" }), publicPem };
}

/** Placeholder names and what they stand for: `jwks:NAME`, `jwt:NAME`. */
export function makeTokens(spec: JwtSpec): Record<string, string> {
  const keys = new Map(Object.entries(spec.keys).map(([name, key]) => [name, makeKey(key?.type ?? "RSA")]));
  const values: Record<string, string> = {};
  for (const [name, set] of Object.entries(spec.jwks ?? {})) {
    values[`jwks:${name}`] = JSON.stringify("x509" in set ? certificates(set.x509, keys) : { keys: set.map((jwk) => jwkOf(jwk, keys)) });
  }
  for (const [name, token] of Object.entries(spec.tokens ?? {})) values[`jwt:${name}`] = signToken(token, keyOf(token.key, keys));
  return values;
}

function keyOf(name: string, keys: ReadonlyMap<string, Key>): Key {
  const key = keys.get(name);
  if (!key) throw new Error(`there is no key ${name}`);
  return key;
}

function jwkOf(spec: JwkSpec, keys: ReadonlyMap<string, Key>): Record<string, unknown> {
  const { key: name, ...over } = typeof spec === "string" ? { key: spec } : spec;
  const { type, jwk } = keyOf(name, keys);
  const all: Record<string, unknown> = { kid: name, alg: algorithms[type], ...jwk, ...over };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null));
}

function certificates(names: readonly string[], keys: ReadonlyMap<string, Key>): Record<string, string> {
  const directory = mkdtempSync(join(tmpdir(), "topsail-jwt-"));
  try {
    return Object.fromEntries(
      names.map((name) => {
        const file = join(directory, "key.pem");
        writeFileSync(file, keyOf(name, keys).private.export({ format: "pem", type: "pkcs8" }));
        return [name, execFileSync("openssl", ["req", "-x509", "-key", file, "-days", "30", "-subj", `/CN=${name}`], { encoding: "utf8" })];
      }),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
}

export function signToken(spec: TokenSpec, key: Key): string {
  const alg = spec.alg ?? algorithms[key.type]!;
  const header = { alg, kid: spec.key, typ: "JWT", ...spec.header };
  const present = Object.fromEntries(Object.entries(header).filter(([, value]) => value !== null));
  const signed = `${encode(spec.rawHeader ?? JSON.stringify(present))}.${encode(spec.payload ?? utf8(JSON.stringify(timed(spec.claims ?? {}))))}`;
  let signature = spec.signature ?? sign(alg, signed, key, spec.secret).toString("base64url");
  if (spec.cut) signature = signature.slice(0, -spec.cut);
  const token = `${signed}.${signature}`;
  return spec.replace ? token.replace(spec.replace[0], spec.replace[1]) : token;
}

/** `now+60`, `now-60` become seconds since the epoch. */
function timed(value: unknown): unknown {
  if (typeof value === "string") {
    const match = /^now([+-]\d+)?$/.exec(value);
    return match ? Math.floor(Date.now() / 1000) + Number(match[1] ?? 0) : value;
  }
  if (Array.isArray(value)) return value.map(timed);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, timed(inner)]));
}

const utf8 = (text: string) => Buffer.from(text, "utf8").toString("latin1");
const encode = (text: string) => Buffer.from(text, "latin1").toString("base64url");

function sign(alg: string, signed: string, key: Key, secret: string | undefined): Buffer {
  const hash = `sha${alg.slice(2)}`;
  if (alg.startsWith("HS")) {
    const hmacKey = secret === "public" ? key.publicPem : (secret ?? key.private);
    return crypto.createHmac(hash, hmacKey).update(signed).digest();
  }
  const options = {
    key: key.private,
    ...(alg.startsWith("PS") && { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: crypto.constants.RSA_PSS_SALTLEN_DIGEST }),
    ...(key.type.startsWith("P-") && { dsaEncoding: "ieee-p1363" as const }),
  };
  return crypto.sign(key.type === "Ed25519" ? null : hash, Buffer.from(signed), options);
}
