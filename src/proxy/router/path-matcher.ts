/** envoy.type.matcher.v3.PathMatcher: the path without query and fragment. */
import { ConfigError } from "../../api/config-error.ts";
import type { PathMatcher } from "../../api/gen/envoy/type/matcher/v3/path_pb.js";
import { compileStringMatchers, type StringPredicate } from "./string-matcher.ts";

/** True where one of the matchers takes the path. `path`: as in the request. */
export function compilePathMatchers(matchers: readonly PathMatcher[]): StringPredicate {
  const test = compileStringMatchers(
    matchers.map(({ rule }) => {
      if (rule.case === undefined) throw new ConfigError("PathMatcher: rule: value is required");
      return rule.value;
    }),
  );
  return (path) => test(withoutQuery(path));
}

function withoutQuery(path: string): string {
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i);
    if (code === 63 /* ? */ || code === 35 /* # */) return path.slice(0, i);
  }
  return path;
}
