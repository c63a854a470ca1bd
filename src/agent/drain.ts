/**
 * How long a proxy that drains may go on: a fixed time, or until nobody is connected any more. What bounds the latter is whoever stops the
 * agent, systemd's TimeoutStopSec. Source: Istio pkg/envoy/agent.go (terminate).
 */
import { setTimeout as delay } from "node:timers/promises";
import type { ProxyType } from "../api/node.ts";
import { log } from "../lib/log.ts";
import { type AgentEnvironment, listenerPorts } from "./environment.ts";
import type { DrainedListeners, ProxyAdmin } from "./proxy-admin.ts";
import type { EffectiveProxyConfig } from "./proxy-config.ts";

const scope = log.scope("agent");

/** Istio's. */
const defaultPeriodMs = 1_000;
const maxFailures = 5;

export interface UnusedOptions {
  /** It may be used this long at least: who has just been told to go needs to be seen going. */
  readonly minimumMs: number;
  readonly periodMs?: number;
  /** Undefined: the proxy does not count them. */
  readonly activeConnections: () => Promise<number | undefined>;
  readonly signal: AbortSignal;
}

/** Resolves when nobody is connected any more, or that can't be known. Rejects with the signal's reason. */
export async function whenUnused({ minimumMs, periodMs = defaultPeriodMs, activeConnections, signal }: UnusedOptions): Promise<void> {
  await delay(minimumMs, undefined, { signal });
  let failures = 0;
  let told = 0;
  for (;;) {
    await delay(periodMs, undefined, { signal });
    const count = await activeConnections().catch((error: unknown) => {
      failures++;
      scope.warn("the proxy does not say how many are connected", { reason: error instanceof Error ? error.message : error, failures });
      return "unknown" as const;
    });
    if (count === "unknown") {
      if (failures === maxFailures) return;
      continue;
    }
    failures = 0;
    if (count === undefined) scope.info("the proxy counts no connections: nobody is waited for");
    if (!count) return;
    if (count !== told) scope.info("connections are still open", { count });
    told = count;
  }
}

export interface DrainTimeOptions {
  readonly environment: AgentEnvironment;
  readonly proxyConfig: EffectiveProxyConfig;
  readonly admin: ProxyAdmin;
  readonly signal: AbortSignal;
}

/** Resolves when a proxy that drains may end. Rejects with the signal's reason. */
export async function drainTime({ environment, proxyConfig, admin, signal }: DrainTimeOptions): Promise<void> {
  const { exitsWhenUnused, minimumDrainMs: minimumMs } = environment;
  if (!exitsWhenUnused) return delay(proxyConfig.config.terminationDrainDuration ?? 5_000, undefined, { signal });
  await whenUnused({ minimumMs, activeConnections: () => admin.activeConnections(listenerPorts(environment)), signal });
}

/** An application that ends with its sidecar may call out until then. */
export function drainedListeners(type: ProxyType): DrainedListeners {
  return type === "sidecar" ? "inbound" : "all";
}
