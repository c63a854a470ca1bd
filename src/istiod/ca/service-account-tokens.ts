/**
 * Tokens of service accounts: JWTs with Kubernetes' claims, for an audience, with an end. A token dies with its account.
 * The signing key is `token-key.pem` beside a plugged-in authority, the Secret `topsail-token-key`, or `ca/token-key.pem` (0600) in the data
 * directory.
 */
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, randomUUID } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { errors, exportJWK, type JWK, jwtVerify, SignJWT } from "jose";
import type { SpiffeId } from "../../api/spiffe.ts";
import { parsePrivateKey } from "../../lib/signing-key.ts";
import { writeWhole } from "../../lib/write-whole.ts";

/** Audience of the tokens that agents show to istiod. */
export const istioAudience = "istio-ca";
export const tokenIssuer = "https://kubernetes.default.svc.cluster.local";

/** Kubernetes' own limits. */
export const minTokenSeconds = 600;
const maxTokenSeconds = 2 ** 32;
const algorithm = "ES256";

export type Account = Omit<SpiffeId, "trustDomain">;

export class TokenError extends Error {
  override readonly name = "TokenError";
}

export class ServiceAccountTokens {
  readonly #key: KeyObject;
  readonly #publicKey: KeyObject;
  readonly #keyId: string;
  readonly #uidOf: (account: Account) => string | undefined;

  /** `uidOf` says which accounts there are. */
  constructor(key: KeyObject, uidOf: (account: Account) => string | undefined) {
    this.#key = key;
    this.#publicKey = createPublicKey(key);
    this.#keyId = createHash("sha256")
      .update(this.#publicKey.export({ type: "spki", format: "der" }))
      .digest("base64url");
    this.#uidOf = uidOf;
  }

  /** Throws TokenError for an account that there is not, and for a life out of bounds. */
  async issue(account: Account, audiences: readonly string[], seconds: number): Promise<{ token: string; expiresAt: Date }> {
    const uid = this.#uidOf(account);
    if (uid === undefined)
      throw new TokenError(`serviceaccounts "${account.serviceAccount}" not found in namespace "${account.namespace}"`);
    if (!(seconds >= minTokenSeconds)) throw new TokenError("may not specify a duration less than 10 minutes");
    if (seconds > maxTokenSeconds) throw new TokenError("may not specify a duration larger than 2^32 seconds");
    const issuedAt = Math.floor(Date.now() / 1000);
    const { namespace, serviceAccount } = account;
    const token = await new SignJWT({ "kubernetes.io": { namespace, serviceaccount: { name: serviceAccount, uid } } })
      .setProtectedHeader({ alg: algorithm, kid: this.#keyId })
      .setIssuer(tokenIssuer)
      .setSubject(`system:serviceaccount:${namespace}:${serviceAccount}`)
      .setAudience([...audiences])
      .setIssuedAt(issuedAt)
      .setNotBefore(issuedAt)
      .setExpirationTime(issuedAt + seconds)
      .setJti(randomUUID())
      .sign(this.#key);
    return { token, expiresAt: new Date((issuedAt + seconds) * 1000) };
  }

  /** Whose token it is. Throws TokenError; the message never holds the token. */
  async verify(token: string, audience: string): Promise<Account> {
    let claims: Record<string, unknown>;
    try {
      const options = { issuer: tokenIssuer, audience, algorithms: [algorithm], clockTolerance: 0, requiredClaims: ["exp", "sub"] };
      claims = (await jwtVerify(token, this.#publicKey, options)).payload;
    } catch (error) {
      throw new TokenError(error instanceof errors.JOSEError ? `the token is refused: ${error.message}` : "the token can't be read");
    }
    const bound = (claims["kubernetes.io"] as { serviceaccount?: { uid?: unknown } } | undefined)?.serviceaccount?.uid;
    const [system, kind, namespace, serviceAccount, more] = String(claims.sub).split(":");
    if (system !== "system" || kind !== "serviceaccount" || !namespace || !serviceAccount || more !== undefined)
      throw new TokenError("the token is not one of a service account");
    const account = { namespace, serviceAccount };
    if (this.#uidOf(account) !== bound) throw new TokenError("the token's service account is gone");
    return account;
  }

  async jwks(): Promise<{ keys: JWK[] }> {
    return { keys: [{ ...(await exportJWK(this.#publicKey)), kid: this.#keyId, alg: algorithm, use: "sig" }] };
  }
}

const keyFile = "token-key.pem";

/** Undefined when the directory holds none. */
export async function readTokenKey(directory: string): Promise<KeyObject | undefined> {
  try {
    return parsePrivateKey(await readFile(join(directory, keyFile), "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Loads the signing key or makes one; without a directory it lives as long as the process. */
export async function loadTokenKey(dataDir: string | undefined): Promise<KeyObject> {
  const make = () => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  if (!dataDir) return make();
  const directory = join(dataDir, "ca");
  const known = await readTokenKey(directory);
  if (known) return known;
  const key = make();
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await writeWhole(join(directory, keyFile), key.export({ type: "pkcs8", format: "pem" }) as string, 0o600);
  return key;
}
