/**
 * What can be said of a token or a key set, in the words that clients read. The codes are Envoy's as well: they stand in
 * `failed_status_in_metadata`. What only concerns single keys of a set has no code, because no request ever hears of it.
 */
export interface JwtStatus {
  readonly code: number;
  readonly text: string;
}

const status = (code: number, text: string): JwtStatus => ({ code, text });

export const jwtStatus = {
  ok: status(0, "OK"),
  missing: status(1, "Jwt is missing"),
  notYetValid: status(2, "Jwt not yet valid"),
  expired: status(3, "Jwt is expired"),
  badFormat: status(4, "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"),
  badHeaderBase64: status(5, "Jwt header is an invalid Base64url encoded"),
  badHeaderJson: status(6, "Jwt header is an invalid JSON"),
  badAlg: status(7, "Jwt header [alg] field is required and must be a string"),
  unknownAlg: status(8, "Jwt header [alg] is not supported"),
  badKid: status(9, "Jwt header [kid] field is not a string"),
  badPayloadBase64: status(10, "Jwt payload is an invalid Base64url encoded"),
  badPayloadJson: status(11, "Jwt payload is an invalid JSON"),
  badIss: status(12, "Jwt payload [iss] field is not a string"),
  badSub: status(13, "Jwt payload [sub] field is not a string"),
  badIat: status(14, "Jwt payload [iat] field is not an integer"),
  iatOutOfRange: status(15, "Jwt payload [iat] field is not a positive 64 bit integer"),
  badNbf: status(16, "Jwt payload [nbf] field is not an integer"),
  nbfOutOfRange: status(17, "Jwt payload [nbf] field is not a positive 64 bit integer"),
  badExp: status(18, "Jwt payload [exp] field is not an integer"),
  expOutOfRange: status(19, "Jwt payload [exp] field is not a positive 64 bit integer"),
  badJti: status(20, "Jwt payload [jti] field is not a string"),
  badAud: status(21, "Jwt payload [aud] field is not a string or string list"),
  badSignatureBase64: status(22, "Jwt signature is an invalid Base64url encoded"),
  badEd25519Length: status(23, "Jwt ED25519 signature is wrong length"),
  unknownIssuer: status(24, "Jwt issuer is not configured"),
  audienceNotAllowed: status(25, "Audiences in Jwt are not allowed"),
  verificationFailed: status(26, "Jwt verification fails"),
  badJwksJson: status(28, "Jwks is an invalid JSON"),
  noKeysField: status(29, "Jwks does not have [keys] field"),
  badKeysField: status(30, "[keys] in Jwks is not an array"),
  noValidKeys: status(31, "Jwks doesn't have any valid public key"),
  noMatchingKey: status(32, "Jwks doesn't have key to match kid or alg from Jwt"),
  fetchFailed: status(40, "Jwks remote fetch is failed"),
} as const;
