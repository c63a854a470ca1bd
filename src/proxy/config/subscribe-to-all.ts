/** The subscription to everything of a type, clusters or listeners, with its statistics and the limit on the first wait. */

import type { XdsSubscription, XdsUpdate } from "../../ads/client.ts";
import type { ConfigSource } from "../../api/gen/envoy/config/core/v3/config_source_pb.js";
import type { TypeUrl } from "../../api/type-urls.ts";
import { type ConfigSources, fetchTimeoutMs } from "./config-sources.ts";
import type { WildcardUpdateStats } from "./wildcard-update-stats.ts";

export interface SubscribeToAllOptions {
  readonly typeUrl: TypeUrl;
  readonly source: ConfigSource;
  readonly sources: ConfigSources;
  readonly updates: WildcardUpdateStats;
  /** Resolves with the reason of a refusal. */
  readonly take: (update: XdsUpdate) => Promise<string | undefined>;
}

/** `answered` resolves with the first answer, or when it was waited for long enough. */
export function subscribeToAll(options: SubscribeToAllOptions): {
  readonly subscription: XdsSubscription;
  readonly answered: Promise<void>;
} {
  const { typeUrl, source, sources, updates, take } = options;
  const { promise: answered, resolve } = Promise.withResolvers<void>();
  sources.onStreamEnd(typeUrl, () => updates.failed());
  updates.asked();
  const onTimeout = () => {
    updates.timedOut();
    resolve();
  };
  const timeoutMs = fetchTimeoutMs(source);
  const timer = timeoutMs > 0 ? setTimeout(onTimeout, timeoutMs) : undefined;
  const subscription = sources.subscribe(typeUrl, source, true, async (update) => {
    try {
      return await updates.count(update.version, () => take(update));
    } finally {
      clearTimeout(timer);
      resolve();
    }
  });
  return { subscription, answered };
}
