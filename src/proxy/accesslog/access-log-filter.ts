/** Which streams an access log writes: Envoy's AccessLogFilter, compiled into one predicate. */
import { ConfigError } from "../../api/config-error.ts";
import { type AccessLogFilter, type ComparisonFilter, ComparisonFilter_Op } from "../../api/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import type { RuntimeUInt32 } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { AccessLogType as AccessLogTypeNumber } from "../../api/gen/envoy/data/accesslog/v3/accesslog_pb.js";
import { type FractionalPercent, FractionalPercent_DenominatorType } from "../../api/gen/envoy/type/v3/percent_pb.js";
import { compileHeaderMatcher } from "../router/header-matcher.ts";
import { responseFlagNames, responseFlags, type StreamInfo } from "../stream-info.ts";
import { type AccessLogType, grpcStatus } from "./operators.ts";

export type AccessLogPredicate = (info: StreamInfo, logType: AccessLogType) => boolean;

export interface AccessLogFilterContext {
  /** Value of a runtime key, undefined where no layer sets it. Default: no runtime. */
  readonly runtime?: (key: string) => number | undefined;
  /** In [0, 1). Default Math.random. */
  readonly random?: () => number;
}

export function compileAccessLogFilter(filter: AccessLogFilter, context: AccessLogFilterContext): AccessLogPredicate {
  const specifier = filter.filterSpecifier;
  switch (specifier.case) {
    case "statusCodeFilter": {
      const compare = compileComparison(specifier.value.comparison, context);
      return (info) => compare(info.responseCode);
    }
    case "durationFilter": {
      const compare = compileComparison(specifier.value.comparison, context);
      return (info) => compare((info.endTime < 0 ? performance.now() : info.endTime) - info.startTime);
    }
    case "notHealthCheckFilter":
      return (info) => !info.isHealthCheck;
    case "runtimeFilter":
      return compileRuntimeFilter(specifier.value.runtimeKey, specifier.value.percentSampled, context);
    case "andFilter": {
      const parts = specifier.value.filters.map((part) => compileAccessLogFilter(part, context));
      return (info, logType) => parts.every((part) => part(info, logType));
    }
    case "orFilter": {
      const parts = specifier.value.filters.map((part) => compileAccessLogFilter(part, context));
      return (info, logType) => parts.some((part) => part(info, logType));
    }
    case "headerFilter": {
      if (!specifier.value.header) throw new ConfigError("HeaderFilter.Header: value is required");
      return compileHeaderMatcher(specifier.value.header);
    }
    case "responseFlagFilter": {
      const mask = specifier.value.flags.reduce((bits, flag) => bits | flagBit(flag), 0);
      return mask === 0 ? (info) => info.flags !== 0 : (info) => (info.flags & mask) !== 0;
    }
    case "grpcStatusFilter": {
      const { statuses, exclude } = specifier.value;
      const wanted = new Set<number>(statuses);
      return (info) => wanted.has(grpcStatus(info) ?? 2) !== exclude;
    }
    case "logTypeFilter": {
      const { types, exclude } = specifier.value;
      const wanted = new Set(types.map((type) => AccessLogTypeNumber[type]));
      return (_info, logType) => wanted.has(logType) !== exclude;
    }
    case "traceableFilter":
    case "metadataFilter":
    case "extensionFilter":
      throw new ConfigError(`Access log filter "${specifier.case}" is not supported by this proxy`);
    case undefined:
      throw new ConfigError("AccessLogFilter: filter_specifier is required");
    default:
      return specifier satisfies never;
  }
}

function compileComparison(comparison: ComparisonFilter | undefined, context: AccessLogFilterContext): (value: number) => boolean {
  if (!comparison?.value) throw new ConfigError("ComparisonFilter.Value: value is required");
  const limit = runtimeValue(comparison.value, context);
  switch (comparison.op) {
    case ComparisonFilter_Op.EQ:
      return (value) => value === limit;
    case ComparisonFilter_Op.GE:
      return (value) => value >= limit;
    case ComparisonFilter_Op.LE:
      return (value) => value <= limit;
    default:
      throw new ConfigError(`Access log comparison "${comparison.op}" is not supported by this proxy`);
  }
}

function runtimeValue(value: RuntimeUInt32, context: AccessLogFilterContext): number {
  return context.runtime?.(value.runtimeKey) ?? value.defaultValue;
}

function compileRuntimeFilter(key: string, percent: FractionalPercent | undefined, context: AccessLogFilterContext): AccessLogPredicate {
  const random = context.random ?? Math.random;
  const override = context.runtime?.(key);
  const ratio = override === undefined ? percentRatio(percent) : override / 100;
  return () => random() < ratio;
}

function percentRatio(percent: FractionalPercent | undefined): number {
  if (!percent) return 0;
  const { HUNDRED, TEN_THOUSAND } = FractionalPercent_DenominatorType;
  return percent.numerator / (percent.denominator === HUNDRED ? 100 : percent.denominator === TEN_THOUSAND ? 10_000 : 1_000_000);
}

function flagBit(short: string): number {
  const names = responseFlagNames.find(([name]) => name === short);
  if (!names) throw new ConfigError(`Response flag "${short}" is unknown`);
  return responseFlags[names[1]];
}
