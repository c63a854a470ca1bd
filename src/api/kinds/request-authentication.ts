import { bool, duration, type Infer, list, message, string } from "../schema/schema.ts";
import { validateRequestAuthentication } from "../validation/request-authentication.ts";
import { defineIstioKind } from "./kind.ts";
import { policyTargetReferenceSchema, workloadSelectorSchema } from "./selectors.ts";

export const jwtHeaderSchema = message("JWTHeader", {
  name: string(),
  prefix: string(),
});
export type JWTHeader = Infer<typeof jwtHeaderSchema>;

export const claimToHeaderSchema = message("ClaimToHeader", {
  header: string(),
  claim: string(),
});
export type ClaimToHeader = Infer<typeof claimToHeaderSchema>;

export const jwtRuleSchema = message("JWTRule", {
  issuer: string(),
  audiences: list(string()),
  jwksUri: string(),
  jwks: string(),
  fromHeaders: list(jwtHeaderSchema),
  fromParams: list(string()),
  outputPayloadToHeader: string(),
  fromCookies: list(string()),
  forwardOriginalToken: bool(),
  outputClaimToHeaders: list(claimToHeaderSchema),
  timeout: duration(),
  spaceDelimitedClaims: list(string()),
});
export type JWTRule = Infer<typeof jwtRuleSchema>;

export const requestAuthenticationSchema = message("RequestAuthentication", {
  selector: workloadSelectorSchema,
  targetRef: policyTargetReferenceSchema,
  targetRefs: list(policyTargetReferenceSchema),
  jwtRules: list(jwtRuleSchema),
});
export type RequestAuthentication = Infer<typeof requestAuthenticationSchema>;

export const requestAuthentication = defineIstioKind({
  kind: "RequestAuthentication",
  group: "security.istio.io",
  versions: ["v1", "v1beta1"],
  plural: "requestauthentications",
  shortNames: ["ra"],
  schema: requestAuthenticationSchema,
  validate: validateRequestAuthentication,
});
