/**
 * What is in the way of a security policy, in sentences for its owner: it is in force, but not as he meant it. Each says what becomes of
 * requests meanwhile. The discovery server logs each once, and /debug/push_status lists them.
 */
import { isKind, type ObjectOf } from "../../api/kinds/index.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { ProxyNode } from "../../api/node.ts";
import { jwksSourceOf } from "../jwks/jwks-source.ts";
import { problemOfJwks } from "../jwks/usable-keys.ts";
import { isGatewayTarget, targetsOf } from "../push/policy-index.ts";
import type { PushContext } from "../push/push-context.ts";
import { providersOf } from "./authorization/authorization-filters.ts";
import { authorizer } from "./authorization/authorizers.ts";

export function policyProblems(object: ConfigObject, push: PushContext): string[] {
  if (isKind(object, "AuthorizationPolicy")) return [...ofTargets(object.spec), ...ofProvider(object, push)];
  if (isKind(object, "RequestAuthentication")) return [...ofTargets(object.spec), ...ofKeys(object, push)];
  return [];
}

function ofTargets(spec: ObjectOf<"AuthorizationPolicy" | "RequestAuthentication">["spec"]): string[] {
  const strange = targetsOf(spec).filter((target) => !isGatewayTarget(target));
  return strange.map(({ kind, name }) => `target ${kind} ${name} is for waypoints, of which this mesh has none: it is enforced nowhere`);
}

function ofProvider({ spec }: ObjectOf<"AuthorizationPolicy">, push: PushContext): string[] {
  if (spec.action !== "CUSTOM") return [];
  const name = spec.provider?.name ?? "";
  const found = authorizer(name, push);
  return found.kind === "unusable" ? [`provider ${JSON.stringify(name)}: ${found.problem}; what the rules take is denied`] : [];
}

function ofKeys({ spec }: ObjectOf<"RequestAuthentication">, push: PushContext): string[] {
  return spec.jwtRules.flatMap((rule) => {
    const of = `issuer ${JSON.stringify(rule.issuer)}`;
    const source = jwksSourceOf(rule);
    if (!source) {
      const problem = problemOfJwks(rule.jwks);
      return problem ? [`${of}: jwks ${problem}; all its tokens are refused`] : [];
    }
    if (push.jwksFetchMode === "envoy" && rule.jwksUri !== "") return [];
    const problem = push.jwks.problem(source);
    if (problem === undefined) return [];
    return [
      push.jwks.keys(source) === undefined
        ? `${of}: no keys from ${source.url}: ${problem}; all its tokens are refused`
        : `${of}: no new keys from ${source.url}: ${problem}; the old ones stay in force`,
    ];
  });
}

/** Workloads for which CUSTOM policies name several providers, so that all that their rules take is denied. */
export function providerConflicts(proxies: readonly ProxyNode[], push: PushContext): { proxy: string; providers: string[] }[] {
  return proxies.flatMap((proxy) => {
    const providers = providersOf(push.securityPolicies.forWorkload(proxy).byAction.CUSTOM);
    return providers.length > 1 ? [{ proxy: proxy.id, providers }] : [];
  });
}
