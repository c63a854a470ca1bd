/**
 * One `access_log` entry of a listener, HTTP connection manager or TCP proxy: filter, format and sink, compiled together.
 * A request hands in what is known of it; everything else was decided when the configuration was read.
 */

import { readFileSync } from "node:fs";
import type { JsonObject } from "@bufbuild/protobuf";
import { type Any, anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../../api/config-error.ts";
import { resolveTypedStruct } from "../../api/envoy/typed-struct.ts";
import type { AccessLog as AccessLogConfig } from "../../api/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import type { DataSource } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import type { SubstitutionFormatString } from "../../api/gen/envoy/config/core/v3/substitution_format_string_pb.js";
import { FileAccessLogSchema } from "../../api/gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { StderrAccessLogSchema, StdoutAccessLogSchema } from "../../api/gen/envoy/extensions/access_loggers/stream/v3/stream_pb.js";
import type { StreamInfo } from "../stream-info.ts";
import { type AccessLogFilterContext, compileAccessLogFilter } from "./access-log-filter.ts";
import { type CompiledFormat, compileFormat, compileJsonFormat, defaultTextFormat, type FormatOptions } from "./format.ts";
import type { AccessLogType } from "./operators.ts";
import type { AccessLogSinks } from "./sinks.ts";

export interface AccessLog {
  /** Writes a line if the filter lets it. `logType` defaults to `DownstreamEnd`. Hot. */
  write(info: StreamInfo, logType?: AccessLogType): void;
  close(): void;
}

export interface AccessLogContext extends AccessLogFilterContext {
  readonly sinks: AccessLogSinks;
  readonly environment?: Readonly<Record<string, string | undefined>>;
}

/** Throws ConfigError for what cannot be: unknown logger, bad format, a file that can't be opened. */
export function compileAccessLog(config: AccessLogConfig, context: AccessLogContext): AccessLog {
  const { path, format } = compileLogger(config, context);
  const passes = config.filter ? compileAccessLogFilter(config.filter, context) : undefined;
  const sink = context.sinks.open(path);
  return {
    write(info, logType = "DownstreamEnd") {
      if (passes === undefined || passes(info, logType)) sink.write(format(info, logType));
    },
    close: () => sink.release(),
  };
}

function compileLogger(config: AccessLogConfig, context: AccessLogContext): { path: string; format: CompiledFormat } {
  const any = config.configType.case === "typedConfig" ? resolveTypedStruct(config.configType.value) : undefined;
  const file = any && unpack(any, FileAccessLogSchema);
  if (file) return { path: file.path, format: compileFileFormat(file.accessLogFormat, context) };
  const stdout = any && unpack(any, StdoutAccessLogSchema);
  if (stdout) return { path: "/dev/stdout", format: compileFileFormat(stdout.accessLogFormat, context) };
  const stderr = any && unpack(any, StderrAccessLogSchema);
  if (stderr) return { path: "/dev/stderr", format: compileFileFormat(stderr.accessLogFormat, context) };
  throw new ConfigError(`Didn't find a registered implementation for '${config.name}' with type URL: '${typeName(any)}'`);
}

type AnySchema = typeof FileAccessLogSchema | typeof StdoutAccessLogSchema | typeof StderrAccessLogSchema;

function unpack<S extends AnySchema>(any: Any, schema: S) {
  return anyUnpack(any, schema);
}

function typeName(any: Any | undefined): string {
  return any ? any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1) : "";
}

type FileFormat =
  | { readonly case: "format"; readonly value: string }
  | { readonly case: "jsonFormat" | "typedJsonFormat"; readonly value: JsonObject }
  | { readonly case: "logFormat"; readonly value: SubstitutionFormatString }
  | { readonly case: undefined; readonly value?: undefined };

function compileFileFormat(format: FileFormat, context: AccessLogContext): CompiledFormat {
  const options = context.environment ? { environment: context.environment } : {};
  switch (format.case) {
    case undefined:
      return compileFormat(defaultTextFormat, options);
    case "format":
      return compileFormat(format.value === "" ? defaultTextFormat : format.value, options);
    case "jsonFormat":
    case "typedJsonFormat":
      return compileJsonFormat(format.value, options);
    case "logFormat":
      return compileSubstitutionFormat(format.value, options);
    default:
      return format satisfies never;
  }
}

const knownFormatters = new Set(["envoy.formatter.req_without_query", "envoy.formatter.metadata"]);

/** A SubstitutionFormatString, as access logs, local replies and header formats have it. */
export function compileSubstitutionFormat(config: SubstitutionFormatString, base: FormatOptions = {}): CompiledFormat {
  for (const { name } of config.formatters) {
    if (!knownFormatters.has(name)) throw new ConfigError(`Didn't find a registered implementation for '${name}' with type URL: ''`);
  }
  const options: FormatOptions = {
    ...base,
    omitEmpty: config.omitEmptyValues,
    formatters: new Set(config.formatters.map(({ name }) => name)),
  };
  switch (config.format.case) {
    case "textFormat":
      return compileFormat(config.format.value, options);
    case "textFormatSource":
      return compileFormat(readDataSource(config.format.value), options);
    case "jsonFormat":
      return compileJsonFormat(config.format.value, options);
    case undefined:
      throw new ConfigError("SubstitutionFormatString: format is required");
    default:
      return config.format satisfies never;
  }
}

/** Text of a DataSource; reads the file now, as Envoy does. */
function readDataSource(source: DataSource): string {
  switch (source.specifier.case) {
    case "inlineString":
      return source.specifier.value;
    case "inlineBytes":
      return Buffer.from(source.specifier.value).toString("utf8");
    case "filename":
      try {
        return readFileSync(source.specifier.value, "utf8");
      } catch (cause) {
        throw new ConfigError(`file ${source.specifier.value} does not exist`, { cause });
      }
    case "environmentVariable":
      throw new ConfigError("A data source from an environment variable is not supported by this proxy");
    case undefined:
      throw new ConfigError("DataSource: specifier is required");
    default:
      return source.specifier satisfies never;
  }
}
