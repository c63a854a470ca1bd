/**
 * The filters by which a proxy enforces the policies in force for it: on its way in, that is on all chains of a gateway and on the inbound
 * ones of a sidecar. The same for all proxies that are selected by the same policies, and made once for them.
 * Source: Istio pilot/pkg/networking/core/listener_builder.go, networkfilter.go.
 */
import type { Filter } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { HttpFilter } from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import type { PushContext } from "../push/push-context.ts";
import type { SelectedPolicies } from "../push/security-policies.ts";
import { httpAuthorization, tcpAuthorization } from "./authorization/authorization-filters.ts";
import { jwtFilter } from "./request-authentication.ts";

export interface AuthFilters {
  /** Before all other filters of requests. */
  readonly http: readonly HttpFilter[];
  /** Before all other filters of a connection that carries no requests. */
  readonly tcp: readonly Filter[];
}

/** By context: keys of token issuers and the places of authorizers stand in them, which change while policies don't. */
const made = new WeakMap<PushContext, Map<SelectedPolicies, Map<ProxyNode["type"], AuthFilters>>>();

export function authFilters(proxy: ProxyNode, push: PushContext): AuthFilters {
  const policies = push.securityPolicies.forWorkload(proxy);
  const byPolicies = made.get(push) ?? new Map<SelectedPolicies, Map<ProxyNode["type"], AuthFilters>>();
  made.set(push, byPolicies);
  const byType = byPolicies.get(policies) ?? new Map<ProxyNode["type"], AuthFilters>();
  byPolicies.set(policies, byType);
  const known = byType.get(proxy.type);
  if (known) return known;
  const http = httpAuthorization(policies, push);
  const tcp = tcpAuthorization(policies, push);
  const jwt = jwtFilter(policies.jwtRules, push, proxy.type !== "sidecar");
  const filters = { http: [...http.custom, ...(jwt ? [jwt] : []), ...http.others], tcp: [...tcp.custom, ...tcp.others] };
  byType.set(proxy.type, filters);
  return filters;
}
