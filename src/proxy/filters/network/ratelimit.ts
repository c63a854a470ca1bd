/**
 * envoy.filters.network.ratelimit: a service that counts for many proxies says whether a connection may be. Until it has, the filters
 * behind don't know of the connection, so that nothing is read of it and nobody is connected for it.
 */
import { ConfigError } from "../../../api/config-error.ts";
import { type RateLimit, RateLimitSchema } from "../../../api/gen/envoy/extensions/filters/network/ratelimit/v3/rate_limit_pb.js";
import { type CompiledFormat, compileFormat } from "../../accesslog/format.ts";
import { durationMs } from "../../duration.ts";
import type { DownstreamConnection } from "../../listener/downstream-connection.ts";
import { defineNetworkFilter, type NetworkFilterContext, type NetworkReadFilter } from "../../listener/network-filter.ts";
import type { Descriptor } from "../../router/rate-limit-policy.ts";
import type { StatIndex, StatsStore } from "../../stats/store.ts";
import type { StreamInfo } from "../../stream-info.ts";
import { GrpcService } from "../../upstream/grpc-service.ts";
import { RateLimitClient, type RateLimitVerdict } from "../ratelimit/rate-limit-client.ts";

const statNames = ["cx_closed", "error", "failure_mode_allowed", "ok", "over_limit", "total"] as const;
type StatName = (typeof statNames)[number] | "active";
const metadataNamespace = "envoy.filters.network.ratelimit";
const defaultTimeoutMs = 20;

class NetworkRateLimitFilter implements NetworkReadFilter {
  readonly name: string;
  readonly #client: RateLimitClient;
  readonly #domain: string;
  readonly #describe: (info: StreamInfo) => Descriptor[];
  readonly #deniesOnFailure: boolean;
  readonly #stats: StatsStore;
  readonly #at: Readonly<Record<StatName, StatIndex>>;

  constructor(name: string, config: RateLimit, { clusters, stats }: NetworkFilterContext) {
    if (config.statPrefix === "") throw new ConfigError("RateLimit: stat_prefix: value length must be at least 1 characters");
    if (config.domain === "") throw new ConfigError("RateLimit: domain: value length must be at least 1 characters");
    this.name = name;
    const timeoutMs = durationMs(config.timeout, defaultTimeoutMs);
    this.#client = new RateLimitClient(new GrpcService(config.rateLimitService?.grpcService, clusters, timeoutMs));
    this.#domain = config.domain;
    this.#describe = compileDescriptors(config.descriptors);
    this.#deniesOnFailure = config.failureModeDeny;
    this.#stats = stats;
    const prefix = `ratelimit.${config.statPrefix}.`;
    const at: Record<string, StatIndex> = { active: stats.gauge(`${prefix}active`) };
    for (const stat of statNames) at[stat] = stats.counter(prefix + stat);
    this.#at = at as Record<StatName, StatIndex>;
  }

  onConnection(connection: DownstreamConnection): "wait" {
    this.#count("total");
    this.#count("active");
    const call = this.#client.ask(this.#domain, this.#describe(connection.streamInfo), connection.streamInfo, (verdict) => {
      connection.onGoneWaiting = null;
      this.#count("active", -1);
      this.#conclude(connection, verdict);
    });
    connection.onGoneWaiting = () => {
      call.cancel();
      this.#count("active", -1);
    };
    return "wait";
  }

  dispose(): void {}

  #conclude(connection: DownstreamConnection, verdict: RateLimitVerdict): void {
    if (verdict.kind === "failed") {
      this.#count("error");
      if (this.#deniesOnFailure) {
        this.#close(connection, "ratelimit_error_failure_mode_connection_close");
        return;
      }
      this.#count("failure_mode_allowed");
      connection.proceed();
      return;
    }
    for (const [key, value] of Object.entries(verdict.metadata)) connection.streamInfo.setDynamicMetadata(metadataNamespace, key, value);
    if (verdict.kind === "overLimit") {
      this.#count("over_limit");
      this.#close(connection, "ratelimit_close_over_limit");
      return;
    }
    this.#count("ok");
    connection.proceed();
  }

  #close(connection: DownstreamConnection, reason: string): void {
    this.#count("cx_closed");
    connection.info.localCloseReason = reason;
    connection.destroy();
  }

  #count(name: StatName, amount: 1 | -1 = 1): void {
    this.#stats.add(this.#at[name], amount);
  }
}

/** Values of entries may be formats. */
function compileDescriptors(messages: RateLimit["descriptors"]): (info: StreamInfo) => Descriptor[] {
  if (messages.length === 0) throw new ConfigError("RateLimit: descriptors: value must contain at least 1 item(s)");
  const compiled = messages.map(({ entries }): readonly (readonly [key: string, value: CompiledFormat])[] =>
    entries.map(({ key, value }) => [key, compileFormat(value)] as const),
  );
  return (info) =>
    compiled.map((entries) => ({
      entries: entries.map(([key, value]) => ({ key, value: value(info) })),
      limit: null,
      hits: null,
      tellsLimits: null,
    }));
}

export const rateLimit = defineNetworkFilter({
  name: "envoy.filters.network.ratelimit",
  schema: RateLimitSchema,
  create: (config, context, name) => new NetworkRateLimitFilter(name, config, context),
});
