/**
 * Envoy's loggers and levels on top of our log scopes: `-l`, `--component-log-level` and POST /logging speak of these.
 * A logger's scope has its name; `trace` is our debug, `critical` our error, `off` our none.
 */

import { ConfigError } from "../api/config-error.ts";
import type { Log, LogLevel } from "../lib/log.ts";

const scopeLevels: Record<string, LogLevel> = {
  trace: "debug",
  debug: "debug",
  info: "info",
  warning: "warn",
  warn: "warn",
  error: "error",
  critical: "error",
  off: "none",
};

/** Envoy 1.40's loggers, in Envoy's order: tools name any of them, also those that have nothing to say here. */
const loggerNames =
  "a2a admin ai_protocol_manager alternate_protocols_cache aws assert backtrace basic_auth cache_filter client config connection conn_handler compression credential_injector decompression dns dubbo envoy_bug ext_authz ext_proc rocketmq file filter forward_proxy geolocation grpc happy_eyeballs hc health_checker http http2 hystrix init io jwt json_rpc kafka key_value_store lua local_rate_limit main matcher mcp misc mongo multi_connection notification oauth2 quic quic_stream pool rate_limit_quota rbac rds redis router runtime stats secret sse tap testing thrift tracing upstream udp wasm websocket golang stats_sinks dynamic_modules ip_tagging".split(
    " ",
  );

export function isEnvoyLogLevel(text: string): boolean {
  return Object.hasOwn(scopeLevels, text);
}

export class LoggerLevels {
  #log: Log;
  #levels: Map<string, string>;

  /** `components`: `upstream:debug,connection:trace`. Throws ConfigError for what is neither logger nor level. */
  constructor(log: Log, level: string, components: string) {
    this.#log = log;
    this.#levels = new Map(loggerNames.map((name) => [name, "info"]));
    this.setAll(level);
    for (const pair of components.split(",").filter(Boolean)) {
      const [name = "", componentLevel = ""] = pair.split(":");
      const reason = this.set(name, componentLevel);
      if (reason !== undefined) throw new ConfigError(`error: component log level not correctly specified '${pair}': ${reason}`);
    }
  }

  list(): readonly (readonly [name: string, level: string])[] {
    return [...this.#levels];
  }

  /** False when there is no such level. */
  setAll(level: string): boolean {
    if (!isEnvoyLogLevel(level)) return false;
    for (const name of this.#levels.keys()) this.set(name, level);
    return true;
  }

  /** The reason why not, in Envoy's words. */
  set(name: string, level: string): "unknown logger name" | "unknown logger level" | undefined {
    if (!isEnvoyLogLevel(level)) return "unknown logger level";
    if (!this.#levels.has(name)) return "unknown logger name";
    this.#levels.set(name, level === "warn" ? "warning" : level);
    this.#log.scope(name).level = scopeLevels[level]!;
    return undefined;
  }
}
