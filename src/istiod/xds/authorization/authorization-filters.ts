/**
 * The filters that AuthorizationPolicies become, in the order in which they act: CUSTOM, then AUDIT, DENY, ALLOW. Each action is a filter
 * of its own; between CUSTOM and the others tokens are checked, so that those can match by claims.
 *
 * A CUSTOM policy whose authorizer can't be asked denies what it takes, under names that say why.
 * Source: Istio pilot/pkg/security/authz/builder/builder.go.
 */
import { create } from "@bufbuild/protobuf";
import { type Filter, FilterSchema } from "../../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { type RBAC, RBAC_Action, RBACSchema } from "../../../api/gen/envoy/config/rbac/v3/rbac_pb.js";
import { RBACSchema as HttpRbacSchema } from "../../../api/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import type { HttpFilter } from "../../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { RBACSchema as TcpRbacSchema } from "../../../api/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import type { PushContext } from "../../push/push-context.ts";
import type { PolicyObject, SelectedPolicies } from "../../push/security-policies.ts";
import { any, httpFilter } from "../messages.ts";
import { type Authorizer, authorizer } from "./authorizers.ts";
import { customRulePrefix, customStatPrefix, httpExtAuthz, tcpExtAuthz } from "./ext-authz.ts";
import { type BuiltRules, buildRules, type RulesTarget } from "./rbac-rules.ts";
import { TrustDomains } from "./trust-domains.ts";

/** What a chain of requests or one of bytes is made of, and how. */
interface FilterKind<F> {
  readonly protocol: RulesTarget["protocol"];
  rbac(rules: Partial<BuiltRules>, shadowStatPrefix: string): F;
  /** Undefined where the authorizer can't be asked about such traffic: then it is not. */
  extAuthz(provider: string, authorizer: Authorizer): F | undefined;
}

const http: FilterKind<HttpFilter> = {
  protocol: "http",
  rbac: ({ enforced, shadow }, shadowRulesStatPrefix) =>
    httpFilter("envoy.filters.http.rbac", HttpRbacSchema, {
      ...(enforced ? { rules: enforced } : {}),
      ...(shadow ? { shadowRules: shadow, shadowRulesStatPrefix } : {}),
    }),
  extAuthz: httpExtAuthz,
};

const tcp: FilterKind<Filter> = {
  protocol: "tcp",
  rbac: ({ enforced, shadow }, shadowRulesStatPrefix) =>
    create(FilterSchema, {
      name: "envoy.filters.network.rbac",
      configType: {
        case: "typedConfig",
        value: any(TcpRbacSchema, {
          statPrefix: "tcp.",
          ...(enforced ? { rules: enforced } : {}),
          ...(shadow ? { shadowRules: shadow, shadowRulesStatPrefix } : {}),
        }),
      },
    }),
  extAuthz: (provider, found) => (found.kind === "grpc" ? tcpExtAuthz(provider, found) : undefined),
};

export interface AuthorizationFilters<F> {
  readonly custom: readonly F[];
  readonly others: readonly F[];
}

export function httpAuthorization(policies: SelectedPolicies, push: PushContext): AuthorizationFilters<HttpFilter> {
  return filtersOf(policies, push, http);
}

export function tcpAuthorization(policies: SelectedPolicies, push: PushContext): AuthorizationFilters<Filter> {
  return filtersOf(policies, push, tcp);
}

function filtersOf<F>({ byAction }: SelectedPolicies, push: PushContext, kind: FilterKind<F>): AuthorizationFilters<F> {
  const target: RulesTarget = { protocol: kind.protocol, trustDomains: new TrustDomains(push.mesh) };
  const filter = (action: RBAC_Action, policies: readonly PolicyObject[], shadowStatPrefix: string): F[] =>
    policies.length === 0 ? [] : [kind.rbac(buildRules(policies, action, target), shadowStatPrefix)];
  return {
    custom: customFilters(byAction.CUSTOM, target, push, kind),
    others: [
      ...filter(RBAC_Action.LOG, byAction.AUDIT, ""),
      ...filter(RBAC_Action.DENY, byAction.DENY, "istio_dry_run_deny_"),
      ...filter(RBAC_Action.ALLOW, byAction.ALLOW, "istio_dry_run_allow_"),
    ],
  };
}

function customFilters<F>(policies: readonly PolicyObject[], target: RulesTarget, push: PushContext, kind: FilterKind<F>): F[] {
  const providers = providersOf(policies);
  return providers.flatMap((provider) => {
    const own = policies.filter((policy) => providerOf(policy) === provider);
    const { enforced } = buildRules(own, RBAC_Action.DENY, { ...target, namePrefix: customRulePrefix(provider) });
    if (!enforced) return [];
    const found = authorizer(provider, push);
    if (providers.length > 1 || found.kind === "unusable") return [kind.rbac({ enforced: denying(enforced) }, "")];
    const asking = kind.extAuthz(provider, found);
    return asking === undefined ? [] : [kind.rbac({ shadow: enforced }, customStatPrefix), asking];
  });
}

/** Of CUSTOM policies, sorted. A workload may have one; with several nobody can tell who is to be asked. */
export function providersOf(policies: readonly PolicyObject[]): string[] {
  return [...new Set(policies.map(providerOf))].sort();
}

export function providerOf({ spec }: PolicyObject): string {
  return spec.provider?.name ?? "";
}

function denying({ action, policies }: RBAC): RBAC {
  const renamed = Object.entries(policies).map(([name, policy]) => [`${name}-deny-due-to-bad-CUSTOM-action`, policy] as const);
  return create(RBACSchema, { action, policies: Object.fromEntries(renamed) });
}
