/**
 * envoy.filters.network.rbac: who may connect to what.
 *
 * As in Envoy it is the first byte, or the end without one, that asks: by then the terminal filter has the connection, so
 * tcp_proxy has already connected to its endpoint, which then sees a connection come and go. A denied connection is closed
 * without a word.
 */
import { ConfigError } from "../../../api/config-error.ts";
import { envoyTypes } from "../../../api/envoy/type-registry.ts";
import { walkMessages } from "../../../api/envoy/walk-messages.ts";
import { HeaderMatcherSchema } from "../../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { type RBAC, RBAC_EnforcementType, RBACSchema } from "../../../api/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import { durationMs } from "../../duration.ts";
import type { DownstreamConnection } from "../../listener/downstream-connection.ts";
import { type ConnectionReader, defineNetworkFilter, type NetworkReadFilter, type ReadStatus } from "../../listener/network-filter.ts";
import type { StatsStore } from "../../stats/store.ts";
import { createRbacStats, type RbacStats } from "../rbac/rbac-stats.ts";
import { denialDetails, Rules } from "../rbac/rules.ts";
import type { Subject } from "../rbac/subject.ts";

const namespace = "envoy.filters.network.rbac";

class NetworkRbacFilter implements NetworkReadFilter {
  readonly name: string;
  readonly rules: Rules | null;
  readonly shadowRules: Rules | null;
  readonly shadowPrefix: string;
  readonly stats: RbacStats;
  readonly isContinuous: boolean;
  /** 0: closes at once. */
  readonly delayMs: number;

  constructor(name: string, config: RBAC, stats: StatsStore) {
    if (config.matcher !== undefined) throw new ConfigError("RBAC: matcher is not supported by this proxy");
    if (config.shadowMatcher !== undefined) throw new ConfigError("RBAC: shadow_matcher is not supported by this proxy");
    refuseHeaders(config);
    this.name = name;
    this.rules = config.rules === undefined ? null : new Rules(config.rules);
    this.shadowRules = config.shadowRules === undefined ? null : new Rules(config.shadowRules);
    this.shadowPrefix = `${config.shadowRulesStatPrefix}shadow`;
    this.stats = createRbacStats(stats, { stat: config.statPrefix, rules: "", shadowRules: config.shadowRulesStatPrefix });
    this.isContinuous = config.enforcementType === RBAC_EnforcementType.CONTINUOUS;
    this.delayMs = durationMs(config.delayDeny, 0);
    if (this.delayMs < 0) throw new ConfigError("RBAC: delay_deny: Expected positive duration");
  }

  onConnection(connection: DownstreamConnection): ConnectionReader | null {
    return this.rules === null && this.shadowRules === null ? null : new ConnectionDecision(this, connection);
  }

  dispose(): void {}
}

class ConnectionDecision implements ConnectionReader, Subject {
  readonly connection: DownstreamConnection;
  readonly info;
  readonly route = null;
  readonly #filter: NetworkRbacFilter;
  #isDenied = false;

  constructor(filter: NetworkRbacFilter, connection: DownstreamConnection) {
    this.connection = connection;
    this.info = connection.streamInfo;
    this.#filter = filter;
  }

  onData(): ReadStatus {
    if (this.#isDenied) return "stop";
    this.#decideShadow();
    if (this.#decide()) return this.#filter.isContinuous ? "continue" : "done";
    this.#isDenied = true;
    return "stop";
  }

  #decideShadow(): void {
    const { shadowRules: rules, shadowPrefix: prefix, stats } = this.#filter;
    if (rules === null) return;
    const policy = rules.match(this);
    const isAllowed = rules.allows(policy);
    stats.shadow.count(isAllowed);
    if (policy) this.info.setDynamicMetadata(namespace, `${prefix}_effective_policy_id`, policy);
    this.info.setDynamicMetadata(namespace, `${prefix}_engine_result`, isAllowed ? "allowed" : "denied");
  }

  #decide(): boolean {
    const { rules, stats } = this.#filter;
    if (rules === null) return true;
    const policy = rules.match(this);
    const isAllowed = rules.allows(policy);
    if (rules.isLog) this.info.setDynamicMetadata("envoy.common", "access_log_hint", policy !== null);
    stats.enforced.count(isAllowed);
    if (!isAllowed) this.#deny(policy);
    return isAllowed;
  }

  #deny(policy: string | null): void {
    const { connection } = this;
    connection.info.terminationDetails = denialDetails(policy);
    const close = () => {
      if (connection.isClosed) return;
      connection.info.localCloseReason = "rbac_deny_close";
      connection.shutdown(true);
    };
    if (this.#filter.delayMs === 0) {
      close();
      return;
    }
    // Nothing more is read: a client that retries at once would only be denied again.
    connection.transport?.pause();
    setTimeout(close, this.#filter.delayMs).unref();
  }
}

/** No connection has headers. */
function refuseHeaders(config: RBAC): void {
  walkMessages(RBACSchema, config, envoyTypes, ({ desc, message }) => {
    if (desc.typeName !== HeaderMatcherSchema.typeName) return;
    const { name } = message.message as unknown as { name: string };
    throw new ConfigError(`Found header(name: "${name}") rule,not supported by RBAC network filter`);
  });
}

export const rbac = defineNetworkFilter({
  name: "envoy.filters.network.rbac",
  schema: RBACSchema,
  create: (config, context, name) => new NetworkRbacFilter(name, config, context.stats),
});
