/**
 * envoy.type.matcher.v3.ValueMatcher as a predicate over JSON values; undefined is a value that isn't there.
 *
 * A matcher only looks at its own kind: text never matches a list matcher, nor a list of text a string matcher. What isn't
 * there matches nothing, `present_match: false` included: Envoy's is no negation, it just never matches.
 */
import { ConfigError } from "../../api/config-error.ts";
import type { DoubleMatcher } from "../../api/gen/envoy/type/matcher/v3/number_pb.js";
import type { ValueMatcher } from "../../api/gen/envoy/type/matcher/v3/value_pb.js";
import { compileStringMatcher } from "./string-matcher.ts";

export type ValuePredicate = (value: unknown) => boolean;

export function compileValueMatcher(matcher: ValueMatcher): ValuePredicate {
  const pattern = matcher.matchPattern;
  switch (pattern.case) {
    case "nullMatch":
      return (value) => value === null;
    case "doubleMatch": {
      const test = compileDoubleMatcher(pattern.value);
      return (value) => typeof value === "number" && test(value);
    }
    case "stringMatch": {
      const test = compileStringMatcher(pattern.value);
      return (value) => typeof value === "string" && test(value);
    }
    case "boolMatch": {
      const wanted = pattern.value;
      return (value) => value === wanted;
    }
    case "presentMatch": {
      const wanted = pattern.value;
      return (value) => wanted && value !== undefined;
    }
    case "listMatch": {
      if (pattern.value.matchPattern.case === undefined) throw new ConfigError("ListMatcher: match_pattern: value is required");
      const test = compileValueMatcher(pattern.value.matchPattern.value);
      return (value) => Array.isArray(value) && value.some(test);
    }
    case "orMatch": {
      const tests = pattern.value.valueMatchers.map(compileValueMatcher);
      return (value) => tests.some((test) => test(value));
    }
    case undefined:
      throw new ConfigError("ValueMatcher: match_pattern: value is required");
    default:
      return pattern satisfies never;
  }
}

/** A range has its start and lacks its end. */
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
