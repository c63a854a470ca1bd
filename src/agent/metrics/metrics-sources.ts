/** Whose metrics the status port tells, by the agent's settings. */
import type { ProxyConfig } from "../../api/mesh/proxy-config.ts";
import type { ProxyType } from "../../api/node.ts";
import { type AgentEnvironment, listenerPorts } from "../environment.ts";
import { parseScrapeTargets, type ScrapeTarget } from "./scrape-targets.ts";

export interface MetricsSources {
  /** Where the proxy's own are, `http://127.0.0.1:15090/stats/prometheus`; undefined: they are nobody's business there. */
  readonly proxyMetricsUrl: string | undefined;
  /** Where a sidecar's application has its. */
  readonly application: readonly ScrapeTarget[];
  readonly applicationHost: string;
  /** To this machine alone. */
  readonly tellsMetricsLocally: boolean;
}

export interface MetricsSettings {
  readonly type: ProxyType;
  readonly environment: AgentEnvironment;
  readonly proxyConfig: Pick<ProxyConfig, "statusPort" | "proxyAdminPort">;
}

/** A gateway's port is open to more than its operator: it tells nothing of an application. Throws EnvironmentError. */
export function metricsSources({ type, environment, proxyConfig }: MetricsSettings): MetricsSources {
  const { bindAddress, prometheusPort, mergesProxyMetrics, hasNoProxy, tellsMetricsLocally, prometheusAnnotations } = environment;
  const ownPorts = [...listenerPorts(environment), proxyConfig.statusPort, proxyConfig.proxyAdminPort];
  return {
    proxyMetricsUrl:
      mergesProxyMetrics && !hasNoProxy ? `http://${bindAddress ?? "127.0.0.1"}:${prometheusPort}/stats/prometheus` : undefined,
    application: type === "sidecar" ? parseScrapeTargets(prometheusAnnotations, ownPorts) : [],
    applicationHost: bindAddress?.startsWith("127.") ? bindAddress : "localhost",
    tellsMetricsLocally,
  };
}
