/**
 * Whether a token's signature is one of a key set's.
 *
 * Which keys are tried is Envoy's rule: those whose id and algorithm do not contradict the token's. Beyond Envoy, an algorithm is
 * only ever used with keys that are meant for it (RFC 8725, 3.1): Envoy would verify "RS256" by an EC key that says no `alg`.
 *
 * A verification takes 5 to 170 us and is done at once, because handing it to another thread costs as much. Only P-384, P-521 and long
 * RSA keys take longer (1.3 ms, 1.9 ms; other requests would have to wait), so those go to libuv's threads: `done` is then called later.
 */
import { constants, createHmac, timingSafeEqual, verify } from "node:crypto";
import type { Jwk } from "./jwks.ts";
import type { Jwt } from "./jwt.ts";
import { type JwtStatus, jwtStatus } from "./status.ts";

export interface Algorithm {
  readonly kind: Jwk["kind"];
  /** null: the algorithm has a hash of its own. */
  readonly hash: string | null;
  /** Of EC keys. */
  readonly curve: string;
  readonly isPss: boolean;
}

export const algorithms: ReadonlyMap<string, Algorithm> = new Map(
  [
    ...["RS256", "RS384", "RS512"].map((alg) => [alg, { kind: "RSA", curve: "", isPss: false }] as const),
    ...["PS256", "PS384", "PS512"].map((alg) => [alg, { kind: "RSA", curve: "", isPss: true }] as const),
    ...["HS256", "HS384", "HS512"].map((alg) => [alg, { kind: "oct", curve: "", isPss: false }] as const),
    ["ES256", { kind: "EC", curve: "P-256", isPss: false }] as const,
    ["ES384", { kind: "EC", curve: "P-384", isPss: false }] as const,
    ["ES512", { kind: "EC", curve: "P-521", isPss: false }] as const,
    ["EdDSA", { kind: "OKP", curve: "", isPss: false }] as const,
  ].map(([alg, parts]) => [alg, { ...parts, hash: alg === "EdDSA" ? null : `sha${alg.slice(2)}` }]),
);

const ed25519SignatureBytes = 64;

/** `done` is called once: before this returns, or later where a slow key had to be asked. */
export function verifySignature(jwt: Jwt, keys: readonly Jwk[], done: (status: JwtStatus) => void): void {
  tryKeys(jwt, keys, 0, jwtStatus.noMatchingKey, done);
}

function tryKeys(jwt: Jwt, keys: readonly Jwk[], from: number, failure: JwtStatus, done: (status: JwtStatus) => void): void {
  for (let i = from; i < keys.length; i++) {
    const jwk = keys[i]!;
    if (jwt.kid !== "" && jwk.kid !== "" && jwk.kid !== jwt.kid) continue;
    if (jwk.alg !== "" && jwk.alg !== jwt.alg) continue;
    failure = jwtStatus.verificationFailed;
    if (jwk.kind === "OKP" && jwt.signature.length !== ed25519SignatureBytes) {
      done(jwtStatus.badEd25519Length);
      return;
    }
    const { algorithm } = jwt;
    if (jwk.kind !== algorithm.kind || jwk.curve !== algorithm.curve) continue;
    if (jwk.isSlow) {
      verifyAside(jwt, jwk, (isGood) => {
        if (isGood) done(jwtStatus.ok);
        else tryKeys(jwt, keys, i + 1, jwtStatus.verificationFailed, done);
      });
      return;
    }
    if (isSignedBy(jwt, jwk)) {
      done(jwtStatus.ok);
      return;
    }
  }
  done(failure);
}

function optionsOf({ algorithm }: Jwt, { key, kind }: Jwk): Parameters<typeof verify>[2] {
  if (kind === "EC") return { key, dsaEncoding: "ieee-p1363" };
  return algorithm.isPss ? { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_AUTO } : key;
}

function isSignedBy(jwt: Jwt, jwk: Jwk): boolean {
  const { algorithm, signed, signature } = jwt;
  try {
    if (jwk.kind === "oct") {
      const wanted = createHmac(algorithm.hash!, jwk.key).update(signed, "latin1").digest();
      return wanted.length === signature.length && timingSafeEqual(wanted, signature);
    }
    return verify(algorithm.hash, Buffer.from(signed, "latin1"), optionsOf(jwt, jwk), signature);
  } catch {
    return false; // a signature that can't be read is none
  }
}

function verifyAside(jwt: Jwt, jwk: Jwk, done: (isGood: boolean) => void): void {
  try {
    verify(jwt.algorithm.hash, Buffer.from(jwt.signed, "latin1"), optionsOf(jwt, jwk), jwt.signature, (error, isGood) =>
      done(error === null && isGood),
    );
  } catch {
    done(false);
  }
}
