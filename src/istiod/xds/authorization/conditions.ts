/**
 * Permissions (what is asked for) and principals (who asks) of Envoy's RBAC, with what both can do: and, or, not.
 * Istio's `to` becomes the one, `from` the other.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Permission,
  PermissionSchema,
  type Principal,
  Principal_AuthenticatedSchema,
  PrincipalSchema,
} from "../../../api/gen/envoy/config/rbac/v3/rbac_pb.js";
import type { StringMatcher } from "../../../api/gen/envoy/type/matcher/v3/string_pb.js";

export interface Algebra<Condition> {
  readonly any: Condition;
  and(conditions: readonly Condition[]): Condition;
  or(conditions: readonly Condition[]): Condition;
  not(condition: Condition): Condition;
}

export function permission(rule: MessageInitShape<typeof PermissionSchema>["rule"] & object): Permission {
  return create(PermissionSchema, { rule });
}

export function principal(identifier: MessageInitShape<typeof PrincipalSchema>["identifier"] & object): Principal {
  return create(PrincipalSchema, { identifier });
}

/** By a name in the certificate that the peer showed. */
export function authenticatedPrincipal(name: StringMatcher): Principal {
  return principal({ case: "authenticated", value: create(Principal_AuthenticatedSchema, { principalName: name }) });
}

export const permissions: Algebra<Permission> = {
  any: permission({ case: "any", value: true }),
  and: (rules) => permission({ case: "andRules", value: { rules: [...rules] } }),
  or: (rules) => permission({ case: "orRules", value: { rules: [...rules] } }),
  not: (rule) => permission({ case: "notRule", value: rule }),
};

export const principals: Algebra<Principal> = {
  any: principal({ case: "any", value: true }),
  and: (ids) => principal({ case: "andIds", value: { ids: [...ids] } }),
  or: (ids) => principal({ case: "orIds", value: { ids: [...ids] } }),
  not: (id) => principal({ case: "notId", value: id }),
};
