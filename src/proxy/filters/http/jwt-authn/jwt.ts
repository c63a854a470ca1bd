/** A token in its compact form (RFC 7519), taken apart. Nothing of it is to be believed before its signature is verified. */
import { type JwtStatus, jwtStatus } from "./status.ts";
import { decodeBase64Url, type JsonObject, parseStrictObject } from "./strict-json.ts";
import { type Algorithm, algorithms } from "./verify-signature.ts";

export interface Jwt {
  readonly header: JsonObject;
  readonly payload: JsonObject;
  readonly alg: string;
  readonly algorithm: Algorithm;
  /** "" when there is none. */
  readonly kid: string;
  readonly iss: string;
  readonly sub: string;
  readonly audiences: readonly string[];
  /** Seconds since the epoch; 0: not given. */
  readonly nbf: number;
  readonly exp: number;
  /** Base64url as it stands in the token. */
  readonly payloadText: string;
  /** What the signature is for. */
  readonly signed: string;
  readonly signature: Buffer;
}

/** Never throws. `token` is latin1, as header values are. */
export function parseJwt(token: string): Jwt | JwtStatus {
  // Dots without anything between them are passed over, as in Envoy.
  const parts = token.split(".").filter((part) => part !== "");
  if (parts.length !== 3) return jwtStatus.badFormat;
  const [headerText, payloadText, signatureText] = parts as [string, string, string];
  const headerBytes = decodeBase64Url(headerText);
  if (headerBytes === null) return jwtStatus.badHeaderBase64;
  const header = parseStrictObject(headerBytes);
  if (header === null) return jwtStatus.badHeaderJson;
  const alg = own(header, "alg", undefined);
  if (typeof alg !== "string") return jwtStatus.badAlg;
  const algorithm = algorithms.get(alg);
  if (algorithm === undefined) return jwtStatus.unknownAlg;
  const kid = own(header, "kid", "");
  if (typeof kid !== "string") return jwtStatus.badKid;

  const payloadBytes = decodeBase64Url(payloadText);
  if (payloadBytes === null) return jwtStatus.badPayloadBase64;
  const payload = parseStrictObject(payloadBytes);
  if (payload === null) return jwtStatus.badPayloadJson;
  const iss = own(payload, "iss", "");
  if (typeof iss !== "string") return jwtStatus.badIss;
  const sub = own(payload, "sub", "");
  if (typeof sub !== "string") return jwtStatus.badSub;
  const iat = seconds(own(payload, "iat", 0), jwtStatus.badIat, jwtStatus.iatOutOfRange);
  if (typeof iat !== "number") return iat;
  const nbf = seconds(own(payload, "nbf", 0), jwtStatus.badNbf, jwtStatus.nbfOutOfRange);
  if (typeof nbf !== "number") return nbf;
  const exp = seconds(own(payload, "exp", 0), jwtStatus.badExp, jwtStatus.expOutOfRange);
  if (typeof exp !== "number") return exp;
  if (typeof own(payload, "jti", "") !== "string") return jwtStatus.badJti;
  const aud = own(payload, "aud", []);
  const audiences = typeof aud === "string" ? [aud] : aud;
  if (!Array.isArray(audiences) || audiences.some((audience) => typeof audience !== "string")) return jwtStatus.badAud;

  const signature = decodeBase64Url(signatureText);
  if (signature === null) return jwtStatus.badSignatureBase64;
  const signed = `${headerText}.${payloadText}`;
  return { header, payload, alg, algorithm, kid, iss, sub, audiences, nbf, exp, payloadText, signed, signature };
}

function own(object: JsonObject, name: string, missing: unknown): unknown {
  return Object.hasOwn(object, name) ? object[name] : missing;
}

function seconds(claim: unknown, notNumber: JwtStatus, outOfRange: JwtStatus): number | JwtStatus {
  if (typeof claim !== "number") return notNumber;
  return claim < 0 || claim >= 2 ** 64 ? outOfRange : Math.trunc(claim);
}

/** Whether the token is in force, give or take `skewSeconds`. */
export function checkTime({ nbf, exp }: Jwt, nowSeconds: number, skewSeconds: number): JwtStatus {
  if (nowSeconds + skewSeconds < nbf) return jwtStatus.notYetValid;
  return exp !== 0 && nowSeconds > exp + skewSeconds ? jwtStatus.expired : jwtStatus.ok;
}
