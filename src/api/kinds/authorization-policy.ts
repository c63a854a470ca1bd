import { enumeration, type Infer, list, message, string } from "../schema/schema.ts";
import { ageColumn, defineIstioKind } from "./kind.ts";
import { policyTargetReferenceSchema, workloadSelectorSchema } from "./selectors.ts";

const sourceSchema = message("Source", {
  principals: list(string()),
  notPrincipals: list(string()),
  requestPrincipals: list(string()),
  notRequestPrincipals: list(string()),
  namespaces: list(string()),
  notNamespaces: list(string()),
  serviceAccounts: list(string()),
  notServiceAccounts: list(string()),
  ipBlocks: list(string()),
  notIpBlocks: list(string()),
  remoteIpBlocks: list(string()),
  notRemoteIpBlocks: list(string()),
  trustDomains: list(string()),
  notTrustDomains: list(string()),
});
export type Source = Infer<typeof sourceSchema>;

const ruleFromSchema = message("From", {
  source: sourceSchema,
});
export type RuleFrom = Infer<typeof ruleFromSchema>;

const operationSchema = message("Operation", {
  hosts: list(string()),
  notHosts: list(string()),
  ports: list(string()),
  notPorts: list(string()),
  methods: list(string()),
  notMethods: list(string()),
  paths: list(string()),
  notPaths: list(string()),
});
export type Operation = Infer<typeof operationSchema>;

const ruleToSchema = message("To", {
  operation: operationSchema,
});
export type RuleTo = Infer<typeof ruleToSchema>;

const conditionSchema = message("Condition", {
  key: string(),
  values: list(string()),
  notValues: list(string()),
});
export type Condition = Infer<typeof conditionSchema>;

const ruleSchema = message("Rule", {
  from: list(ruleFromSchema),
  to: list(ruleToSchema),
  when: list(conditionSchema),
});
export type Rule = Infer<typeof ruleSchema>;

const authorizationPolicyActionSchema = enumeration("ALLOW", "DENY", "AUDIT", "CUSTOM");
export type AuthorizationPolicyAction = Infer<typeof authorizationPolicyActionSchema>;

const authorizationPolicyExtensionProviderSchema = message("ExtensionProvider", {
  name: string(),
});
export type AuthorizationPolicyExtensionProvider = Infer<typeof authorizationPolicyExtensionProviderSchema>;

const authorizationPolicySchema = message("AuthorizationPolicy", {
  selector: workloadSelectorSchema,
  targetRef: policyTargetReferenceSchema,
  targetRefs: list(policyTargetReferenceSchema),
  rules: list(ruleSchema),
  action: authorizationPolicyActionSchema,
  provider: authorizationPolicyExtensionProviderSchema,
});
export type AuthorizationPolicy = Infer<typeof authorizationPolicySchema>;

export const authorizationPolicy = defineIstioKind({
  kind: "AuthorizationPolicy",
  group: "security.istio.io",
  versions: ["v1", "v1beta1"],
  plural: "authorizationpolicies",
  shortNames: ["ap"],
  columns: [{ name: "Action", type: "string", jsonPath: ".spec.action", description: "What a match leads to" }, ageColumn],
  schema: authorizationPolicySchema,
});
