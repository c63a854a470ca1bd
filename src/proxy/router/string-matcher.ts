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

/** True where one of the matchers takes the text. However many of them are exact, those cost one look-up together. */
export function compileStringMatchers(matchers: readonly StringMatcher[]): StringPredicate {
  if (matchers.length === 1) return compileStringMatcher(matchers[0]!);
  const exact = new Set<string>();
  const others: StringPredicate[] = [];
  for (const matcher of matchers) {
    if (matcher.matchPattern.case === "exact" && !matcher.ignoreCase) exact.add(matcher.matchPattern.value);
    else others.push(compileStringMatcher(matcher));
  }
  return (text) => {
    if (exact.has(text)) return true;
    for (let i = 0; i < others.length; i++) if (others[i]!(text)) return true;
    return false;
  };
}
