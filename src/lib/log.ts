/**
 * Structured logs in scopes whose levels change at run time, as Istio's and Envoy's do.
 *
 * A line is `2026-11-24T15:04:05.123456Z\tinfo\txds\tmessage\tkey=value`, Istio's layout, or one JSON object per line.
 * Lines go to stderr; a test hands in its own sink. An error is logged once, where it is dealt with.
 */
import { journalPrefix } from "./journal.ts";

export type LogLevel = "debug" | "info" | "warn" | "error" | "none";

const rank: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3, none: 4 };

export type LogFields = Readonly<Record<string, unknown>>;

export interface LogScope {
  readonly name: string;
  level: LogLevel;
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** For work that is only worth doing when its line will be written. */
  enabled(level: LogLevel): boolean;
}

export interface Log {
  scope(name: string): LogScope;
  /** All scopes that exist, by name. */
  readonly scopes: ReadonlyMap<string, LogScope>;
  /** Sets the level of all scopes, also of those to come. */
  setLevel(level: LogLevel): void;
  /**
   * Istio's form of a `--log_output_level`: `info`, or `default:info,dns:debug`, where `all` and `default` stand for all scopes that have none
   * of their own. Undefined when it was taken, else the word that can't be; then nothing is changed.
   */
  setLevels(text: string): string | undefined;
  setFormat(format: LogFormat): void;
}

export type LogFormat = "text" | "json";

export interface LogOptions {
  readonly level?: LogLevel;
  readonly format?: LogFormat;
  readonly write?: (line: string) => void;
  readonly now?: () => Date;
}

export function createLog(options: LogOptions = {}): Log {
  const write = options.write ?? ((line: string) => void process.stderr.write(line));
  const prefix = options.write ? () => "" : journalPrefix;
  const now = options.now ?? (() => new Date());
  let format = options.format === "json" ? jsonLine : textLine;
  const scopes = new Map<string, LogScope>();
  let defaultLevel = options.level ?? "info";

  const scope = (name: string): LogScope => {
    const known = scopes.get(name);
    if (known) return known;
    const emit = (level: LogLevel, message: string, fields?: LogFields) => {
      if (made.enabled(level)) write(prefix(level) + format(now(), level, name, message, fields ?? {}));
    };
    const made: LogScope = {
      name,
      level: defaultLevel,
      enabled: (level) => rank[level] >= rank[made.level],
      debug: (message, fields) => emit("debug", message, fields),
      info: (message, fields) => emit("info", message, fields),
      warn: (message, fields) => emit("warn", message, fields),
      error: (message, fields) => emit("error", message, fields),
    };
    scopes.set(name, made);
    return made;
  };

  const setLevel = (level: LogLevel) => {
    defaultLevel = level;
    for (const made of scopes.values()) made.level = level;
  };
  return {
    scope,
    scopes,
    setLevel,
    setLevels(text) {
      const levels = new Map<string, LogLevel>();
      for (const word of text.split(",")) {
        const [name, level] = word.includes(":") ? (word.split(":", 2) as [string, string]) : ["default", word];
        if (!isLogLevel(level) || name === "") return word;
        levels.set(name === "all" ? "default" : name, level);
      }
      setLevel(levels.get("default") ?? defaultLevel);
      for (const [name, level] of levels) if (name !== "default") scope(name).level = level;
      return undefined;
    },
    setFormat(wanted) {
      format = wanted === "json" ? jsonLine : textLine;
    },
  };
}

/** The process's own log; a program's main.ts sets its level. */
export const log: Log = createLog();

function isLogLevel(text: string): text is LogLevel {
  return Object.hasOwn(rank, text);
}

function textLine(time: Date, level: LogLevel, scope: string, message: string, fields: LogFields): string {
  let line = `${time.toISOString()}\t${level}\t${scope}\t${oneLine(message)}`;
  for (const [key, value] of Object.entries(fields)) {
    if (value !== undefined) line += `\t${key}=${quoted(plain(value))}`;
  }
  return `${line}\n`;
}

function jsonLine(time: Date, level: LogLevel, scope: string, message: string, fields: LogFields): string {
  const extra = Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, value instanceof Error ? value.message : value]));
  return `${JSON.stringify({ level, time: time.toISOString(), scope, msg: message, ...extra })}\n`;
}

function plain(value: unknown): string {
  if (value instanceof Error) return value.message;
  return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
}

/** A value from outside must not be able to forge a line of the log. */
function oneLine(text: string): string {
  return text.replaceAll(/[\r\n]+/g, " ");
}

function quoted(text: string): string {
  return /[\s"=]/.test(text) || text === "" ? JSON.stringify(text) : text;
}
