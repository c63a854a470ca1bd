/**
 * envoy.filters.http.rbac: who may request what. First the shadow rules, which only count and tell, then the rules.
 *
 * Results go into dynamic metadata, where access logs and later filters find them: Istio's dry runs read the shadow result,
 * its CUSTOM action has ext_authz ask only where a shadow policy matched.
 */
import { ConfigError } from "../../../api/config-error.ts";
import {
  type RBAC,
  type RBACPerRoute,
  RBACPerRouteSchema,
  RBACSchema,
} from "../../../api/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { defineHttpFilter, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import type { StatsStore } from "../../stats/store.ts";
import { createRbacStats, type DecisionStats, type RbacStats } from "../rbac/rbac-stats.ts";
import { denialDetails, Rules } from "../rbac/rules.ts";
import { disabledFilter } from "./disabled-filter.ts";

const namespace = "envoy.filters.http.rbac";

interface Policy {
  readonly rules: Rules | null;
  readonly shadowRules: Rules | null;
  /** null without a prefix of its own: a route's policy then has the filter's. */
  readonly rulesKeys: MetadataKeys | null;
  readonly shadowKeys: MetadataKeys | null;
  readonly countsPolicies: boolean;
}

/** Under which a decision stands in dynamic metadata. */
interface MetadataKeys {
  readonly policy: string;
  readonly result: string;
}

function metadataKeys(prefix: string): MetadataKeys {
  return { policy: `${prefix}_effective_policy_id`, result: `${prefix}_engine_result` };
}

function compilePolicy(config: RBAC | undefined): Policy {
  if (config?.matcher !== undefined) throw new ConfigError("RBAC: matcher is not supported by this proxy");
  if (config?.shadowMatcher !== undefined) throw new ConfigError("RBAC: shadow_matcher is not supported by this proxy");
  return {
    rules: config?.rules === undefined ? null : new Rules(config.rules),
    shadowRules: config?.shadowRules === undefined ? null : new Rules(config.shadowRules),
    rulesKeys: config?.rulesStatPrefix ? metadataKeys(`${config.rulesStatPrefix}enforced`) : null,
    shadowKeys: config?.shadowRulesStatPrefix ? metadataKeys(`${config.shadowRulesStatPrefix}shadow`) : null,
    countsPolicies: config?.trackPerRuleStats ?? false,
  };
}

class RbacFilter implements HttpFilter {
  readonly name: string;
  readonly #standard: Policy;
  readonly #rulesKeys: MetadataKeys;
  readonly #shadowKeys: MetadataKeys;
  readonly #stats: RbacStats;

  constructor(name: string, config: RBAC, stats: StatsStore, statPrefix: string) {
    this.name = name;
    this.#standard = compilePolicy(config);
    this.#rulesKeys = this.#standard.rulesKeys ?? metadataKeys("enforced");
    this.#shadowKeys = this.#standard.shadowKeys ?? metadataKeys("shadow");
    this.#stats = createRbacStats(stats, { stat: statPrefix, rules: config.rulesStatPrefix, shadowRules: config.shadowRulesStatPrefix });
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    const override = stream.perFilterConfig(this.name);
    if (override === disabledFilter) return "continue";
    const { rules, shadowRules, rulesKeys, shadowKeys, countsPolicies } = (override as Policy | undefined) ?? this.#standard;
    if (shadowRules !== null) {
      const policy = shadowRules.matchRequest(stream);
      const isAllowed = shadowRules.allows(policy);
      note(stream, shadowKeys ?? this.#shadowKeys, policy, isAllowed);
      count(this.#stats.shadow, policy, isAllowed, countsPolicies);
    }
    if (rules === null) return "continue";
    const policy = rules.matchRequest(stream);
    const isAllowed = rules.allows(policy);
    if (rules.isLog) stream.info.setDynamicMetadata("envoy.common", "access_log_hint", policy !== null);
    note(stream, rulesKeys ?? this.#rulesKeys, policy, isAllowed);
    count(this.#stats.enforced, policy, isAllowed, countsPolicies);
    if (isAllowed) return "continue";
    stream.sendLocalReply(403, "RBAC: access denied", denialDetails(policy));
    return "stop";
  }
}

function note({ info }: HttpStream, keys: MetadataKeys, policy: string | null, isAllowed: boolean): void {
  if (policy) info.setDynamicMetadata(namespace, keys.policy, policy);
  info.setDynamicMetadata(namespace, keys.result, isAllowed ? "allowed" : "denied");
}

function count(stats: DecisionStats, policy: string | null, isAllowed: boolean, countsPolicies: boolean): void {
  stats.count(isAllowed);
  if (countsPolicies && policy) stats.countPolicy(policy, isAllowed);
}

export const rbac = defineHttpFilter({
  name: "envoy.filters.http.rbac",
  schema: RBACSchema,
  create: (config, context, name) => new RbacFilter(name, config, context.stats, context.statPrefix),
  perRoute: { schema: RBACPerRouteSchema, compile: ({ rbac: config }: RBACPerRoute) => compilePolicy(config) },
});
