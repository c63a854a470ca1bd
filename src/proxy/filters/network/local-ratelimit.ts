/** envoy.filters.network.local_ratelimit: so many connections in a time, for all workers together. The next one is closed at once. */
import { toBinary } from "@bufbuild/protobuf";
import { ConfigError } from "../../../api/config-error.ts";
import {
  type LocalRateLimit,
  LocalRateLimitSchema,
} from "../../../api/gen/envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit_pb.js";
import { TokenBucketSchema } from "../../../api/gen/envoy/type/v3/token_bucket_pb.js";
import { defineNetworkFilter, type NetworkFilterContext } from "../../listener/network-filter.ts";
import { responseFlags } from "../../stream-info.ts";
import { checkDefaultBucket } from "../ratelimit/local-limiter.ts";
import { TokenBucket, tokenBucketOptions } from "../ratelimit/token-bucket.ts";

/** Filters with the same share_key and bucket share it, wherever they stand. */
function bucketOf(config: LocalRateLimit, context: NetworkFilterContext): TokenBucket {
  if (config.tokenBucket === undefined) throw new ConfigError("LocalRateLimit: token_bucket: value is required");
  const options = tokenBucketOptions(config.tokenBucket);
  checkDefaultBucket(options);
  if (config.shareKey === "") return new TokenBucket(options, context.cells.cell(base64(toBinary(LocalRateLimitSchema, config))));
  const name = `${config.shareKey}\0${base64(toBinary(TokenBucketSchema, config.tokenBucket))}`;
  return new TokenBucket(options, context.cells.namedCell(name));
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}

export const localRateLimit = defineNetworkFilter({
  name: "envoy.filters.network.local_ratelimit",
  schema: LocalRateLimitSchema,
  create(config, context, name) {
    if (config.statPrefix === "") throw new ConfigError("LocalRateLimit: stat_prefix: value length must be at least 1 characters");
    const bucket = bucketOf(config, context);
    const isEnabled = config.runtimeEnabled?.defaultValue ?? true;
    const limited = context.stats.counter(`local_rate_limit.${config.statPrefix}.rate_limited`);
    return {
      name,
      onConnection(connection) {
        if (!isEnabled || bucket.consume()) return null;
        context.stats.add(limited, 1);
        // Envoy has no flag of its own for it either.
        connection.streamInfo.flags |= responseFlags.UpstreamRetryLimitExceeded;
        connection.info.localCloseReason = "local_ratelimit_close_over_limit";
        connection.destroy();
        return null;
      },
      dispose() {},
    };
  },
});
