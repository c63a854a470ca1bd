/**
 * One rule of an AuthorizationPolicy as a policy of Envoy's RBAC: one of the `to` and one of the `from`, and all of `when`. In each, all
 * fields must hold; of a field one of the values, and none of its not-form.
 *
 * On a plain connection an attribute of HTTP can't be had. A rule that would allow by it allows nothing; one that denies or audits does so
 * without it, to be on the safe side.
 * Source: Istio pilot/pkg/security/authz/model/model.go.
 */
import { create } from "@bufbuild/protobuf";
import { type Permission, type Policy, PolicySchema, type Principal } from "../../../api/gen/envoy/config/rbac/v3/rbac_pb.js";
import type { Operation, Rule, Source } from "../../../api/kinds/authorization-policy.ts";
import * as attributes from "./attributes.ts";
import { type Algebra, permissions, principals } from "./conditions.ts";

export interface RuleTarget extends attributes.RuleContext {
  readonly protocol: "http" | "tcp";
  /** What it leads to is the weaker for every rule that is left out. */
  readonly isAllow: boolean;
}

/** An attribute that must have one of the values and none of the others. */
interface Demand<Condition> {
  readonly attribute: attributes.Attribute<Condition>;
  readonly values: readonly string[];
  readonly notValues: readonly string[];
}

/** Undefined: the rule can't be expressed on such a connection. */
export function rulePolicy(rule: Rule, target: RuleTarget): Policy | undefined {
  const ofRequest: Demand<Permission>[] = [];
  const ofSource: Demand<Principal>[] = [];
  for (const { key, values, notValues } of rule.when) {
    const keyed = attributes.attributeOfKey(key);
    if (!keyed) return undefined;
    if (keyed.of === "request") ofRequest.push({ attribute: keyed.attribute, values, notValues });
    else ofSource.push({ attribute: keyed.attribute, values, notValues });
  }
  const operations = alternatives(
    rule.to.map(({ operation }) => [...operationDemands(operation), ...ofRequest]),
    ofRequest,
  );
  const sources = alternatives(
    rule.from.map(({ source }) => [...sourceDemands(source), ...ofSource]),
    ofSource,
  );
  const requested = operations.map((demands) => conjunction(demands, permissions, target));
  const asking = sources.map((demands) => conjunction(demands, principals, target));
  if (requested.includes(undefined) || asking.includes(undefined)) return undefined;
  return create(PolicySchema, { permissions: requested as Permission[], principals: asking as Principal[] });
}

/** Nothing asks for nothing, and nobody else: what a policy without rules comes to. */
export const neverPolicy: Policy = create(PolicySchema, {
  permissions: [permissions.not(permissions.any)],
  principals: [principals.not(principals.any)],
});

function alternatives<T>(list: readonly T[], none: T): readonly T[] {
  return list.length === 0 ? [none] : list;
}

function operationDemands(operation: Operation | undefined): Demand<Permission>[] {
  if (!operation) return [];
  return [
    { attribute: attributes.hosts, values: operation.hosts, notValues: operation.notHosts },
    { attribute: attributes.methods, values: operation.methods, notValues: operation.notMethods },
    { attribute: attributes.paths, values: operation.paths, notValues: operation.notPaths },
    { attribute: attributes.destinationPort, values: operation.ports, notValues: operation.notPorts },
  ];
}

function sourceDemands(source: Source | undefined): Demand<Principal>[] {
  if (!source) return [];
  return [
    { attribute: attributes.sourcePrincipal, values: source.principals, notValues: source.notPrincipals },
    { attribute: attributes.requestPrincipal, values: source.requestPrincipals, notValues: source.notRequestPrincipals },
    { attribute: attributes.sourceServiceAccount, values: source.serviceAccounts, notValues: source.notServiceAccounts },
    { attribute: attributes.sourceTrustDomain, values: source.trustDomains, notValues: source.notTrustDomains },
    { attribute: attributes.sourceNamespace, values: source.namespaces, notValues: source.notNamespaces },
    { attribute: attributes.remoteIp, values: source.remoteIpBlocks, notValues: source.notRemoteIpBlocks },
    { attribute: attributes.sourceIp, values: source.ipBlocks, notValues: source.notIpBlocks },
  ];
}

function conjunction<Condition>(
  demands: readonly Demand<Condition>[],
  algebra: Algebra<Condition>,
  target: RuleTarget,
): Condition | undefined {
  const conditions: Condition[] = [];
  for (const { attribute, values, notValues } of demands) {
    if (values.length + notValues.length === 0) continue;
    if (attribute.isHttpOnly && target.protocol === "tcp") {
      if (target.isAllow) return undefined;
      continue;
    }
    if (values.length > 0) conditions.push(attribute.oneOf(values, target));
    if (notValues.length > 0) conditions.push(algebra.not(attribute.oneOf(notValues, target)));
  }
  return algebra.and(conditions.length === 0 ? [algebra.any] : conditions);
}
