/** The AuthorizationPolicies and RequestAuthentications in force for each proxy. */
import type { AuthorizationPolicy, AuthorizationPolicyAction } from "../../api/kinds/authorization-policy.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { JWTRule, RequestAuthentication } from "../../api/kinds/request-authentication.ts";
import { PolicyIndex, type PolicyTarget } from "./policy-index.ts";

export type PolicyObject = ConfigObject<AuthorizationPolicy>;

/** What is in force for a workload; one object for all workloads of a context for whom it is the same. */
export interface SelectedPolicies {
  readonly byAction: Readonly<Record<AuthorizationPolicyAction, readonly PolicyObject[]>>;
  /** By issuer, so that what is made of them doesn't depend on the age of objects. */
  readonly jwtRules: readonly JWTRule[];
}

export class SecurityPolicies {
  readonly #authorization: PolicyIndex<AuthorizationPolicy>;
  readonly #authentication: PolicyIndex<RequestAuthentication>;
  readonly #selected = new Map<readonly PolicyObject[], Map<readonly ConfigObject<RequestAuthentication>[], SelectedPolicies>>();

  /** Both lists oldest first. */
  constructor(
    authorization: readonly PolicyObject[],
    authentication: readonly ConfigObject<RequestAuthentication>[],
    rootNamespace: string,
  ) {
    this.#authorization = new PolicyIndex(authorization, rootNamespace);
    this.#authentication = new PolicyIndex(authentication, rootNamespace);
  }

  forWorkload(workload: PolicyTarget): SelectedPolicies {
    const authorization = this.#authorization.forWorkload(workload);
    const authentication = this.#authentication.forWorkload(workload);
    const byAuthentication: Map<readonly ConfigObject<RequestAuthentication>[], SelectedPolicies> =
      this.#selected.get(authorization) ?? new Map();
    this.#selected.set(authorization, byAuthentication);
    const known = byAuthentication.get(authentication);
    if (known) return known;
    const withAction = (action: AuthorizationPolicyAction) => authorization.filter(({ spec }) => spec.action === action);
    const selected: SelectedPolicies = {
      byAction: { CUSTOM: withAction("CUSTOM"), AUDIT: withAction("AUDIT"), DENY: withAction("DENY"), ALLOW: withAction("ALLOW") },
      jwtRules: authentication
        .flatMap(({ spec }) => spec.jwtRules)
        .sort((a, b) => (a.issuer < b.issuer ? -1 : a.issuer > b.issuer ? 1 : 0)),
    };
    byAuthentication.set(authentication, selected);
    return selected;
  }
}
