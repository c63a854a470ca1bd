/** envoy.type.matcher.v3.MetadataMatcher and ValueMatcher as predicates over dynamic metadata. */
import { ConfigError } from "../../api/config-error.ts";
import type { MetadataMatcher } from "../../api/gen/envoy/type/matcher/v3/metadata_pb.js";
import type { DoubleMatcher } from "../../api/gen/envoy/type/matcher/v3/number_pb.js";
import type { ValueMatcher } from "../../api/gen/envoy/type/matcher/v3/value_pb.js";
import type { DynamicMetadata } from "../stream-info.ts";
import { compileStringMatcher } from "./string-matcher.ts";

export type MetadataPredicate = (metadata: DynamicMetadata | null) => boolean;

export function compileMetadataMatcher(matcher: MetadataMatcher): MetadataPredicate {
  const { filter, invert } = matcher;
  if (filter === "") throw new ConfigError("MetadataMatcher: filter: value length must be at least 1 characters");
  if (matcher.path.length === 0) throw new ConfigError("MetadataMatcher: path: value must contain at least 1 item(s)");
  if (matcher.value === undefined) throw new ConfigError("MetadataMatcher: value: value is required");
  const path = matcher.path.map(({ segment }) => segment.value ?? "");
  const matches = compileValueMatcher(matcher.value);
  return (metadata) => matches(valueAt(metadata?.get(filter), path)) !== invert;
}

/** undefined where there is nothing. */
function valueAt(value: unknown, path: readonly string[]): unknown {
  for (const key of path) {
    if (typeof value !== "object" || value === null || Array.isArray(value) || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

/** Values are JSON; undefined, which is no value, matches nothing. */
export function compileValueMatcher({ matchPattern }: ValueMatcher): (value: unknown) => boolean {
  switch (matchPattern.case) {
    case "nullMatch":
      return (value) => value === null;
    case "doubleMatch": {
      const matches = compileDoubleMatcher(matchPattern.value);
      return (value) => typeof value === "number" && matches(value);
    }
    case "stringMatch": {
      const matches = compileStringMatcher(matchPattern.value);
      return (value) => typeof value === "string" && matches(value);
    }
    case "boolMatch": {
      const wanted = matchPattern.value;
      return (value) => value === wanted;
    }
    case "presentMatch": {
      // Absence can't be asked for: `present_match: false` matches nothing.
      const wanted = matchPattern.value;
      return (value) => wanted && value !== undefined;
    }
    case "listMatch": {
      const { matchPattern: inner } = matchPattern.value;
      if (inner.case === undefined) throw new ConfigError("ListMatcher: match_pattern: value is required");
      const matches = compileValueMatcher(inner.value);
      return (value) => Array.isArray(value) && value.some(matches);
    }
    case "orMatch": {
      const all = matchPattern.value.valueMatchers.map(compileValueMatcher);
      return (value) => all.some((matches) => matches(value));
    }
    case undefined:
      throw new ConfigError("ValueMatcher: match_pattern: value is required");
    default:
      return matchPattern satisfies never;
  }
}

function compileDoubleMatcher({ matchPattern }: DoubleMatcher): (value: number) => boolean {
  switch (matchPattern.case) {
    case "range": {
      const { start, end } = matchPattern.value;
      return (value) => value >= start && value < end;
    }
    case "exact": {
      const wanted = matchPattern.value;
      return (value) => value === wanted;
    }
    case undefined:
      throw new ConfigError("DoubleMatcher: match_pattern: value is required");
    default:
      return matchPattern satisfies never;
  }
}
