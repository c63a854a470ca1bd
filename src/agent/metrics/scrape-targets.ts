/** Where a sidecar's application has its metrics. Source: Istio pilot/cmd/pilot-agent/status/server.go (PrometheusScrapeConfiguration). */
import { EnvironmentError } from "../environment-values.ts";

export interface ScrapeTarget {
  readonly port: number;
  /** Begins with a slash. */
  readonly path: string;
}

const variable = "ISTIO_PROMETHEUS_ANNOTATIONS";
const maxTargets = 32;
/** Of the agent and its proxy: no application is there, and to scrape 15020 would be to scrape oneself without end. */
const reserved: ReadonlySet<number> = new Set([15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090]);

/**
 * Reads `{"scrape": "true", "port": "9090", "path": "/metrics"}`, or with `"targets": [{"port": "9090", "path": "/metrics"}]` for several.
 * `ownPorts`: further ports of the agent and its proxy. Throws EnvironmentError.
 */
export function parseScrapeTargets(text: string | undefined, ownPorts: readonly number[]): ScrapeTarget[] {
  if (text === undefined) return [];
  let settings: unknown;
  try {
    settings = JSON.parse(text);
  } catch (cause) {
    throw wrong(`is no JSON: ${(cause as Error).message}`);
  }
  if (!isObject(settings)) throw wrong("is no JSON object");
  if (settings.scrape === "false" || settings.scrape === false) return [];
  const { targets = [] } = settings;
  if (!Array.isArray(targets)) throw wrong("targets: is no list");
  if (targets.length > maxTargets) throw wrong(`targets: more than ${maxTargets}`);
  return (targets.length > 0 ? targets : [{ port: settings.port || "80", path: settings.path }]).map((target: unknown) => {
    if (!isObject(target)) throw wrong("targets: holds what is no object");
    return { port: parsePort(target.port, ownPorts), path: parsePath(target.path) };
  });
}

function parsePort(value: unknown, ownPorts: readonly number[]): number {
  const port = /^\d{1,8}$/.test(String(value)) ? Number(value) : 0;
  if (port < 1 || port > 65535) throw wrong(`port: ${JSON.stringify(value)} is no port`);
  if (reserved.has(port) || ownPorts.includes(port)) throw wrong(`port: ${port} is the agent's or the proxy's own`);
  return port;
}

function parsePath(value: unknown): string {
  if (value === undefined || value === "") return "/metrics";
  if (typeof value !== "string" || !value.startsWith("/") || /[\s#]/.test(value)) throw wrong(`path: ${JSON.stringify(value)} is no path`);
  return value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wrong(reason: string): EnvironmentError {
  return new EnvironmentError(`${variable}: ${reason}`);
}
