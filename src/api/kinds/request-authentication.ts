import { bool, duration, enumeration, type Infer, list, message, optional, string } from "../schema/schema.ts";
import { defineIstioKind } from "./kind.ts";
import { policyTargetReferenceSchema, workloadSelectorSchema } from "./selectors.ts";

const jwtHeaderSchema = message("JWTHeader", {
  name: string(),
  prefix: string(),
});
export type JWTHeader = Infer<typeof jwtHeaderSchema>;

const claimToHeaderSchema = message("ClaimToHeader", {
  header: string(),
  claim: string(),
});
export type ClaimToHeader = Infer<typeof claimToHeaderSchema>;

const jwtPresenceSchema = enumeration("OPTIONAL", "REQUIRED");
export type JWTPresence = Infer<typeof jwtPresenceSchema>;

const jwtRuleSchema = message("JWTRule", {
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
  presence: optional(jwtPresenceSchema),
});
export type JWTRule = Infer<typeof jwtRuleSchema>;

const requestAuthenticationSchema = message("RequestAuthentication", {
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
});
