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

// Many policies ask about one request after the other: the same string, so that comparing is a pointer's work.
let lastPath = "";
let lastWithoutQuery = "";

/** Hot. */
function withoutQuery(path: string): string {
  if (path === lastPath) return lastWithoutQuery;
  lastPath = path;
  lastWithoutQuery = path.slice(0, endOfPath(path));
  return lastWithoutQuery;
}

function endOfPath(path: string): number {
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i);
    if (code === 63 /* ? */ || code === 35 /* # */) return i;
  }
  return path.length;
}
