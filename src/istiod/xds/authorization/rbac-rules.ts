/**
 * The rules of AuthorizationPolicies with one action, as rules of Envoy's RBAC: in force, and those of a dry run apart.
 * Source: Istio pilot/pkg/security/authz/builder/builder.go.
 */
import { create } from "@bufbuild/protobuf";
import {
  RBAC_Action as Action,
  type Policy,
  type RBAC,
  type RBAC_Action,
  RBACSchema,
} from "../../../api/gen/envoy/config/rbac/v3/rbac_pb.js";
import type { PolicyObject } from "../../push/security-policies.ts";
import { neverPolicy, rulePolicy } from "./rule.ts";
import type { TrustDomains } from "./trust-domains.ts";

export interface RulesTarget {
  readonly protocol: "http" | "tcp";
  readonly trustDomains: TrustDomains;
  /** Before the rules' names. */
  readonly namePrefix?: string;
}

/** Of policies with that action; without policies, rules that are undefined: the action is not there at all. */
export interface BuiltRules {
  readonly enforced: RBAC | undefined;
  readonly shadow: RBAC | undefined;
}

export function buildRules(policies: readonly PolicyObject[], action: RBAC_Action, target: RulesTarget): BuiltRules {
  const [dry, real] = [policies.filter(isDryRun), policies.filter((policy) => !isDryRun(policy))];
  return { enforced: rulesOf(real, action, target), shadow: rulesOf(dry, action, target) };
}

function rulesOf(policies: readonly PolicyObject[], action: RBAC_Action, target: RulesTarget): RBAC | undefined {
  if (policies.length === 0) return undefined;
  const rules: Record<string, Policy> = {};
  for (const { metadata, spec } of policies) {
    const { namespace } = metadata;
    const nameOf = (index: number) => `${target.namePrefix ?? ""}ns[${namespace}]-policy[${metadata.name}]-rule[${index}]`;
    if (spec.rules.length === 0) rules[nameOf(0)] = neverPolicy;
    for (const [index, rule] of spec.rules.entries()) {
      const policy = rulePolicy(rule, { ...target, namespace, isAllow: action === Action.ALLOW });
      if (policy) rules[nameOf(index)] = policy;
    }
  }
  return create(RBACSchema, { action, policies: rules });
}

/** As Go reads truth from text. */
function isDryRun({ metadata }: PolicyObject): boolean {
  return /^(1|t|T|TRUE|true|True)$/.test(metadata.annotations["istio.io/dry-run"] ?? "");
}
