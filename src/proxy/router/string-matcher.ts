/** envoy.type.matcher.v3.StringMatcher as a predicate. */
import { ConfigError } from "../../api/config-error.ts";
import type { StringMatcher } from "../../api/gen/envoy/type/matcher/v3/string_pb.js";
import { compileRegex } from "../regex.ts";

export type StringPredicate = (text: string) => boolean;

export function compileStringMatcher(matcher: StringMatcher): StringPredicate {
  const pattern = matcher.matchPattern;
  const ignoreCase = matcher.ignoreCase;
  switch (pattern.case) {
    case "exact": {
      const wanted = ignoreCase ? pattern.value.toLowerCase() : pattern.value;
      return ignoreCase ? (text) => text.toLowerCase() === wanted : (text) => text === wanted;
    }
    case "prefix": {
      const wanted = ignoreCase ? pattern.value.toLowerCase() : pattern.value;
      return ignoreCase ? (text) => text.toLowerCase().startsWith(wanted) : (text) => text.startsWith(wanted);
    }
    case "suffix": {
      const wanted = ignoreCase ? pattern.value.toLowerCase() : pattern.value;
      return ignoreCase ? (text) => text.toLowerCase().endsWith(wanted) : (text) => text.endsWith(wanted);
    }
    case "contains": {
      const wanted = ignoreCase ? pattern.value.toLowerCase() : pattern.value;
      return ignoreCase ? (text) => text.toLowerCase().includes(wanted) : (text) => text.includes(wanted);
    }
    case "safeRegex":
      if (ignoreCase) throw new ConfigError("ignore_case has no effect for safe_regex.");
      return compileRegex(pattern.value);
    case "custom":
      throw new ConfigError(
        `Didn't find a registered implementation for '${pattern.value.name}' with type URL: '${pattern.value.typedConfig?.typeUrl.replace(/^.*\//, "") ?? ""}'`,
      );
    default:
      throw new ConfigError("StringMatcher: match_pattern is required");
  }
}
