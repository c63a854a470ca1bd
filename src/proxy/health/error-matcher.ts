/** Which answers outlier detection takes for errors instead of 5xx: `HttpProtocolOptions.outlier_detection.error_matcher`. */
import { ConfigError } from "../../api/config-error.ts";
import type { HttpHeadersMatch, MatchPredicate } from "../../api/gen/envoy/config/common/matcher/v3/matcher_pb.js";
import { compileHeaderListMatcher } from "../router/header-matcher.ts";
import type { HeaderList } from "../stream-info.ts";

export type ErrorMatcher = (status: number, headers: HeaderList) => boolean;

type Predicate = (headers: HeaderList) => boolean;

export function compileErrorMatcher(message: MatchPredicate): ErrorMatcher {
  const matches = compile(message);
  return (status, headers) => matches([":status", String(status), ...headers]);
}

function compile({ rule }: MatchPredicate): Predicate {
  switch (rule.case) {
    case "orMatch": {
      const rules = rule.value.rules.map(compile);
      return (headers) => rules.some((matches) => matches(headers));
    }
    case "andMatch": {
      const rules = rule.value.rules.map(compile);
      return (headers) => rules.every((matches) => matches(headers));
    }
    case "notMatch": {
      const matches = compile(rule.value);
      return (headers) => !matches(headers);
    }
    case "anyMatch":
      return () => true;
    case "httpResponseHeadersMatch":
      return compileHeaders(rule.value);
    default:
      // Nothing else is known of an answer when its head has come.
      throw new ConfigError(`error_matcher: ${rule.case ?? "a rule"} is not supported; it goes by http_response_headers_match`);
  }
}

function compileHeaders({ headers: matchers }: HttpHeadersMatch): Predicate {
  const all = matchers.map(compileHeaderListMatcher);
  return (headers) => all.every((matches) => matches(headers));
}
