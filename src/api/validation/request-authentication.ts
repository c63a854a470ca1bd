import type { ConfigObject } from "../kinds/object.ts";
import type { JWTRule, RequestAuthentication } from "../kinds/request-authentication.ts";
import { isPlainObject } from "../schema/decode.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkDuration } from "./scalars.ts";
import { checkAttachment } from "./selection.ts";

const keyTypes = new Set(["RSA", "EC", "oct", "OKP"]);

export function validateRequestAuthentication({ spec }: ConfigObject<RequestAuthentication>, report: FieldReport): void {
  checkAttachment(spec, report);
  for (const [index, rule] of spec.jwtRules.entries()) checkJwtRule(rule, report.at("jwtRules", index));
}

function checkJwtRule(rule: JWTRule, report: FieldReport): void {
  if (rule.issuer === "" && rule.jwksUri === "") report.error("needs an issuer or a jwksUri");
  for (const field of ["audiences", "fromParams", "fromCookies", "spaceDelimitedClaims"] as const) {
    for (const [index, value] of rule[field].entries()) if (value === "") report.at(field, index).error("is empty");
  }
  for (const [index, { name }] of rule.fromHeaders.entries()) if (name === "") report.at("fromHeaders", index, "name").error("is missing");
  checkJwksUri(rule.jwksUri, report.at("jwksUri"));
  checkJwks(rule.jwks, report.at("jwks"));
  for (const [index, { header, claim }] of rule.outputClaimToHeaders.entries()) {
    const place = report.at("outputClaimToHeaders", index);
    if (claim === "") place.at("claim").error("is missing");
    if (!/^[-_A-Za-z0-9]+$/.test(header))
      place.at("header").error(`${JSON.stringify(header)} is not a header's name: letters, digits, "-" and "_"`);
  }
  checkDuration(rule.timeout, report.at("timeout"));
}

function checkJwksUri(uri: string, report: FieldReport): void {
  if (uri === "") return;
  const protocol = URL.canParse(uri) ? new URL(uri).protocol : undefined;
  if (protocol !== "http:" && protocol !== "https:") report.error(`${JSON.stringify(uri)} is not an http or https URL`);
}

/** RFC 7517: a set of keys, or one key. */
function checkJwks(text: string, report: FieldReport): void {
  if (text === "") return;
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    report.error("is not a JSON Web Key Set: it is not JSON");
    return;
  }
  const keys = isPlainObject(parsed) && "keys" in parsed ? parsed.keys : [parsed];
  if (!Array.isArray(keys)) {
    report.error("is not a JSON Web Key Set: keys is not a list");
    return;
  }
  for (const [index, key] of keys.entries()) {
    if (!isPlainObject(key) || !keyTypes.has(String(key.kty))) report.error(`key ${index} has no type kty of ${[...keyTypes].join(", ")}`);
    else if (key.d !== undefined || key.kty === "oct")
      report.warn(`key ${index} is a private one: tokens are checked by public keys, and a private one is not for here`);
  }
}
