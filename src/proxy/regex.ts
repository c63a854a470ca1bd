/** Regular expressions from configuration, with RE2's syntax and linear time: JavaScript's own can be made to hang. */
import { RE2JS } from "re2js";
import { ConfigError } from "../api/config-error.ts";
import type { RegexMatchAndSubstitute, RegexMatcher } from "../api/gen/envoy/type/matcher/v3/regex_pb.js";

function compile(pattern: string): RE2JS {
  try {
    return RE2JS.compile(pattern);
  } catch (cause) {
    throw new ConfigError(`Invalid regex '${pattern}': ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

/** A predicate that wants the whole text to match. */
export function compileRegex(matcher: RegexMatcher | undefined): (text: string) => boolean {
  if (matcher === undefined || matcher.regex === "") throw new ConfigError("RegexMatcher: regex is required");
  const regex = compile(matcher.regex);
  return (text) => regex.matches(text);
}

/** Replaces every match; the substitution knows `\0` to `\9`. */
export function compileSubstitution(rule: RegexMatchAndSubstitute): (text: string) => string {
  if (rule.pattern === undefined) throw new ConfigError("RegexMatchAndSubstitute: pattern is required");
  const regex = compile(rule.pattern.regex);
  // RE2JS writes groups as $1; everything else in the text stands for itself.
  const groups = regex.groupCount();
  const replacement = rule.substitution.replace(/\\(\d|\\)|\$|\\/g, (found, digit: string | undefined) => {
    if (found === "$") return "\\$";
    if (digit === "\\") return "\\\\";
    if (digit === undefined || Number(digit) > groups)
      throw new ConfigError(`invalid substitution string '${rule.substitution}' for regex '${rule.pattern?.regex}'`);
    return `\${${digit}}`;
  });
  // Braces are for named groups only in RE2JS; a numbered one is followed by what can't be part of the number.
  const numbered = replacement.replace(/\$\{(\d)\}/g, "$$$1");
  const hasAmbiguity = /\$\d\d/.test(numbered);
  if (!hasAmbiguity) return (text) => regex.matcher(text).replaceAll(numbered);
  return (text) => substituteByHand(regex, text, rule.substitution);
}

/** For `\1` that is followed by a digit, which RE2JS would read as a group of two digits. */
function substituteByHand(regex: RE2JS, text: string, substitution: string): string {
  const matcher = regex.matcher(text);
  let result = "";
  let from = 0;
  while (matcher.find()) {
    result += text.slice(from, matcher.start());
    result += substitution.replace(/\\(\d|\\)/g, (_, digit: string) => (digit === "\\" ? "\\" : (matcher.group(Number(digit)) ?? "")));
    from = matcher.end();
  }
  return result + text.slice(from);
}
