/**
 * Envoy's command line. Options that Envoy has and that mean nothing to us (hot restart, CPU sets) are taken and have no
 * effect; what Envoy does not have is an error.
 */
import { ConfigError } from "../api/config-error.ts";
import type { BootstrapSource } from "./config/bootstrap.ts";
import { isEnvoyLogLevel } from "./logger-levels.ts";
import type { DrainStrategy, ProxyServerOptions } from "./server-options.ts";

export interface CommandLine {
  readonly help: boolean;
  readonly version: boolean;
  readonly mode: "serve" | "validate" | "init_only";
  readonly source: BootstrapSource;
  /** "" for stderr. */
  readonly logPath: string;
  readonly serviceNode: string;
  readonly serviceCluster: string;
  readonly server: Omit<ProxyServerOptions, "bootstrap">;
}

interface Option {
  readonly short?: string;
  /** What stands behind it; a flag has none. */
  readonly value?: string;
  readonly help: string;
}

const noEffect = "accepted for compatibility; no effect";

const options: Record<string, Option> = {
  "config-path": { short: "c", value: "FILE", help: "bootstrap file: YAML, or JSON by its suffix" },
  "config-yaml": { value: "YAML", help: "bootstrap text, merged over the file" },
  mode: { value: "MODE", help: "serve (default), validate, init_only" },
  concurrency: { value: "N", help: "worker threads; 0 or absent: one per core" },
  "log-level": { short: "l", value: "LEVEL", help: "trace, debug, info (default), warning, error, critical, off" },
  "component-log-level": { value: "LIST", help: "levels by logger: upstream:debug,config:trace" },
  "log-path": { value: "FILE", help: "log there instead of to stderr" },
  "log-format": { value: "FORMAT", help: noEffect },
  "log-format-escaped": { help: noEffect },
  "drain-time-s": { value: "SECONDS", help: "how long replaced listeners and drains keep connections (default 600)" },
  "drain-strategy": { value: "STRATEGY", help: "gradual (default) or immediate" },
  "parent-shutdown-time-s": { value: "SECONDS", help: noEffect },
  "service-cluster": { value: "NAME", help: "node.cluster, over the bootstrap's" },
  "service-node": { value: "ID", help: "node.id, over the bootstrap's" },
  "service-zone": { value: "ZONE", help: "node.locality.zone, over the bootstrap's" },
  "base-id": { value: "N", help: noEffect },
  "use-dynamic-base-id": { help: noEffect },
  "base-id-path": { value: "FILE", help: noEffect },
  "restart-epoch": { value: "N", help: noEffect },
  "admin-address-path": { value: "FILE", help: "the admin interface's address is written there" },
  "file-flush-interval-msec": { value: "MS", help: "access logs are flushed this often (default 10000)" },
  "file-flush-min-size-kb": { value: "KB", help: noEffect },
  "local-address-ip-version": { value: "VERSION", help: "v4 (default) or v6" },
  "allow-unknown-static-fields": { help: "unknown fields of the bootstrap are ignored, counted and logged" },
  "allow-unknown-fields": { help: "as --allow-unknown-static-fields" },
  "reject-unknown-dynamic-fields": { help: "unknown fields of resources are refused" },
  "ignore-unknown-dynamic-fields": { help: "unknown fields of resources are not even counted" },
  "disable-hot-restart": { help: noEffect },
  "enable-fine-grain-logging": { help: noEffect },
  "enable-mutex-tracing": { help: noEffect },
  "enable-core-dump": { help: noEffect },
  "cpuset-threads": { help: noEffect },
  "skip-deprecated-logs": { help: noEffect },
  "skip-hot-restart-on-no-parent": { help: noEffect },
  "skip-hot-restart-parent-stats": { help: noEffect },
  "socket-path": { value: "PATH", help: noEffect },
  "socket-mode": { value: "MODE", help: noEffect },
  "stats-tag": { value: "NAME:VALUE", help: "a tag on every statistic; may be repeated" },
  "disable-extensions": { value: "LIST", help: noEffect },
  "bootstrap-version": { value: "N", help: "3" },
  version: { help: "print the version" },
  help: { short: "h", help: "print this" },
};

export const usage = `Usage: envoy -c FILE [--config-yaml YAML] [OPTION...]

${Object.entries(options)
  .map(([name, { short, value, help }]) => {
    const left = `${short ? `-${short}, ` : "    "}--${name}${value ? ` ${value}` : ""}`;
    return `  ${left.padEnd(42)} ${help}`;
  })
  .join("\n")}
`;

const byShort = new Map(Object.entries(options).flatMap(([name, { short }]) => (short ? [[short, name]] : [])));

/** Throws ConfigError for what is no option or no value. */
export function parseCommandLine(args: readonly string[]): CommandLine {
  const given = new Map<string, string>();
  const statsTags: string[] = [];
  const queue = [...args];
  for (let arg = queue.shift(); arg !== undefined; arg = queue.shift()) {
    const match = /^--([a-z0-9-]+)(?:=(.*))?$/s.exec(arg) ?? /^-([a-z])(?:=?(.+))?$/s.exec(arg);
    const name = match && (arg.startsWith("--") ? match[1]! : byShort.get(match[1]!));
    const option = name !== undefined && name !== null && Object.hasOwn(options, name) ? options[name] : undefined;
    if (!match || !name || !option) throw new ConfigError(`PARSE ERROR: Argument: ${arg}: Couldn't find match for argument`);
    let value = match[2];
    if (option.value === undefined) {
      if (value !== undefined) throw new ConfigError(`PARSE ERROR: Argument: --${name}: takes no value`);
      given.set(name, "true");
      continue;
    }
    value ??= queue.shift();
    if (value === undefined) throw new ConfigError(`PARSE ERROR: Argument: --${name}: Missing a value for this argument!`);
    if (name === "stats-tag") statsTags.push(value);
    else given.set(name, value);
  }
  const text = (name: string) => given.get(name) ?? "";
  const has = (name: string) => given.has(name);
  const level = given.get("log-level") ?? "info";
  if (!isEnvoyLogLevel(level)) throw new ConfigError(`error: unknown log level '${level}'`);
  const baseId = number(given, "base-id");
  const concurrency = number(given, "concurrency");
  const drainTimeS = number(given, "drain-time-s");
  const shutdownTimeS = number(given, "parent-shutdown-time-s");
  const flushMs = number(given, "file-flush-interval-msec");
  return {
    help: has("help"),
    version: has("version"),
    mode: choice(given, "mode", ["serve", "validate", "init_only"], "serve"),
    source: {
      ...(has("config-path") && { path: text("config-path") }),
      ...(has("config-yaml") && { yaml: text("config-yaml") }),
      allowUnknownFields: has("allow-unknown-static-fields") || has("allow-unknown-fields"),
    },
    logPath: text("log-path"),
    serviceNode: text("service-node"),
    serviceCluster: text("service-cluster"),
    server: {
      logLevel: level,
      componentLogLevel: text("component-log-level"),
      drainStrategy: choice<DrainStrategy>(given, "drain-strategy", ["gradual", "immediate"], "gradual"),
      serviceNode: text("service-node"),
      serviceCluster: text("service-cluster"),
      serviceZone: text("service-zone"),
      adminAddressPath: text("admin-address-path"),
      localAddressIpVersion: choice(given, "local-address-ip-version", ["v4", "v6"], "v4"),
      rejectUnknownDynamicFields: has("reject-unknown-dynamic-fields"),
      ignoreUnknownDynamicFields: has("ignore-unknown-dynamic-fields"),
      disableHotRestart: has("disable-hot-restart"),
      statsTags: statsTags.map(parseStatsTag),
      ...(concurrency !== undefined && { concurrency }),
      ...(drainTimeS !== undefined && { drainTimeMs: drainTimeS * 1000 }),
      ...(shutdownTimeS !== undefined && { parentShutdownTimeMs: shutdownTimeS * 1000 }),
      ...(flushMs !== undefined && { fileFlushIntervalMs: flushMs }),
      ...(baseId !== undefined && { baseId }),
    },
  };
}

function number(given: ReadonlyMap<string, string>, name: string): number | undefined {
  const text = given.get(name);
  if (text === undefined) return undefined;
  if (!/^\d{1,9}$/.test(text))
    throw new ConfigError(`PARSE ERROR: Argument: --${name}: Couldn't read argument value from string '${text}'`);
  return Number(text);
}

function choice<T extends string>(given: ReadonlyMap<string, string>, name: string, values: readonly T[], otherwise: T): T {
  const text = given.get(name)?.toLowerCase();
  if (text === undefined) return otherwise;
  const value = values.find((candidate) => candidate === text);
  if (value === undefined) throw new ConfigError(`error: unknown ${name.replaceAll("-", " ")} '${text}': ${values.join(", ")}`);
  return value;
}

function parseStatsTag(text: string): { readonly name: string; readonly value: string } {
  const colon = text.indexOf(":");
  if (colon <= 0) throw new ConfigError(`error: misformatted stats-tag '${text}': NAME:VALUE is expected`);
  return { name: text.slice(0, colon), value: text.slice(colon + 1) };
}
