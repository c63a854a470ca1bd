/** The AuthorizationPolicies and RequestAuthentications in force for each proxy. */
import type { AuthorizationPolicy, AuthorizationPolicyAction } from "../../api/kinds/authorization-policy.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { JWTRule, RequestAuthentication } from "../../api/kinds/request-authentication.ts";
import { type JwksSnapshot, jwksSourceOf } from "../jwks/jwks-source.ts";
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

const compared = new WeakMap<SelectedPolicies, { readonly to: SelectedPolicies; readonly isSame: boolean }>();

/** Whether two selections say the same, of two contexts: of one that stands unchanged the objects are often the same ones. */
export function isSameSelection(older: SelectedPolicies, newer: SelectedPolicies): boolean {
  const known = compared.get(newer);
  if (known?.to === older) return known.isSame;
  const isSame =
    sameList(older.jwtRules, newer.jwtRules, (rule) => rule) &&
    (["CUSTOM", "AUDIT", "DENY", "ALLOW"] as const).every((action) =>
      sameList(older.byAction[action], newer.byAction[action], ({ metadata, spec }) => [
        metadata.namespace,
        metadata.name,
        metadata.annotations,
        spec,
      ]),
    );
  compared.set(newer, { to: older, isSame });
  return isSame;
}

/** Whether the keys of the selection's rules are still the same. */
export function isSameKeys({ jwtRules }: SelectedPolicies, older: JwksSnapshot, newer: JwksSnapshot): boolean {
  return jwtRules.every((rule) => {
    const source = jwksSourceOf(rule);
    return !source || older.keys(source) === newer.keys(source);
  });
}

function sameList<T>(older: readonly T[], newer: readonly T[], essence: (item: T) => unknown): boolean {
  return (
    older.length === newer.length &&
    older.every((item, index) => item === newer[index] || JSON.stringify(essence(item)) === JSON.stringify(essence(newer[index]!)))
  );
}
