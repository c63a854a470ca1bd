/**
 * envoy.config.route.v3.HeaderMatcher and QueryParameterMatcher as predicates over a stream.
 *
 * Where a header is repeated any single value may match. A header that is missing never matches a matcher that looks at the
 * value, not even an inverted one, unless it is told to treat it as empty.
 */
import { ConfigError } from "../../api/config-error.ts";
import type { HeaderMatcher, QueryParameterMatcher } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { compileRegex } from "../regex.ts";
import type { HeaderList, StreamInfo } from "../stream-info.ts";
import { compileStringMatcher, type StringPredicate } from "./string-matcher.ts";

export type RouteCondition = (info: StreamInfo) => boolean;

/** null: only presence is asked for, `present` says which. */
interface ValueMatch {
  readonly test: StringPredicate | null;
  readonly present: boolean;
}

function compileValueMatch(matcher: HeaderMatcher): ValueMatch {
  const specifier = matcher.headerMatchSpecifier;
  switch (specifier.case) {
    case undefined:
      return { test: null, present: true };
    case "presentMatch":
      return { test: null, present: specifier.value };
    case "exactMatch": {
      const wanted = specifier.value;
      return { test: (text) => text === wanted, present: true };
    }
    case "prefixMatch": {
      const wanted = specifier.value;
      return { test: (text) => text.startsWith(wanted), present: true };
    }
    case "suffixMatch": {
      const wanted = specifier.value;
      return { test: (text) => text.endsWith(wanted), present: true };
    }
    case "containsMatch": {
      const wanted = specifier.value;
      return { test: (text) => text.includes(wanted), present: true };
    }
    case "safeRegexMatch":
      return { test: compileRegex(specifier.value), present: true };
    case "stringMatch":
      return { test: compileStringMatcher(specifier.value), present: true };
    case "rangeMatch": {
      const { start, end } = specifier.value;
      return { test: (text) => /^[+-]?\d+$/.test(text) && BigInt(text) >= start && BigInt(text) < end, present: true };
    }
    default:
      return specifier satisfies never;
  }
}

function listMatches(headers: HeaderList, name: string, test: StringPredicate): boolean | undefined {
  let isPresent = false;
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] !== name) continue;
    if (test(headers[i + 1]!)) return true;
    isPresent = true;
  }
  return isPresent ? false : undefined;
}

/** What it reads is undefined where the request has no such header. */
export function pseudoHeader(name: string): ((info: StreamInfo) => string | undefined) | undefined {
  switch (name) {
    case ":method":
      return (info) => info.method;
    case ":path":
      // CONNECT has none.
      return (info) => (info.path === "" ? undefined : info.path);
    case ":authority":
    case "host":
      return (info) => info.authority;
    case ":scheme":
      return (info) => info.scheme;
    default:
      return undefined;
  }
}

/** The request's headers and pseudo headers. */
export function compileHeaderMatcher(matcher: HeaderMatcher): RouteCondition {
  const pseudo = pseudoHeader(matcher.name.toLowerCase());
  const onList = compileHeaderListMatcher(matcher);
  if (pseudo === undefined) return (info) => onList(info.requestHeaders);
  const { test, present } = compileValueMatch(matcher);
  const inverted = matcher.invertMatch;
  if (test === null) return (info) => (matcher.treatMissingHeaderAsEmpty || pseudo(info) !== undefined) === (present !== inverted);
  const missing = matcher.treatMissingHeaderAsEmpty ? test("") !== inverted : false;
  return (info) => {
    const value = pseudo(info);
    return value === undefined ? missing : test(value) !== inverted;
  };
}

/** Only what is in the list: for responses, trailers and access log filters. */
export function compileHeaderListMatcher(matcher: HeaderMatcher): (headers: HeaderList) => boolean {
  const name = matcher.name.toLowerCase();
  if (name === "") throw new ConfigError("HeaderMatcher: name is required");
  const { test, present } = compileValueMatch(matcher);
  const inverted = matcher.invertMatch;
  if (test === null) {
    const wanted = present !== inverted;
    // Where a missing header is as an empty one it is always there.
    if (matcher.treatMissingHeaderAsEmpty) return () => wanted;
    return (headers) => {
      for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) return wanted;
      return !wanted;
    };
  }
  const missing = matcher.treatMissingHeaderAsEmpty ? test("") !== inverted : false;
  return (headers) => {
    const found = listMatches(headers, name, test);
    return found === undefined ? missing : found !== inverted;
  };
}

/** `read`: by default raw text without percent-decoding; of a repeated key the first counts. */
export function compileQueryParameterMatcher(
  matcher: QueryParameterMatcher,
  read: (path: string, name: string) => string | undefined = queryParameter,
): RouteCondition {
  const name = matcher.name;
  if (name === "") throw new ConfigError("QueryParameterMatcher: name is required");
  const specifier = matcher.queryParameterMatchSpecifier;
  const test = specifier.case === "stringMatch" ? compileStringMatcher(specifier.value) : null;
  const wantsPresent = specifier.case === "presentMatch" ? specifier.value : true;
  return (info) => {
    const value = read(info.path, name);
    if (test === null) return (value !== undefined) === wantsPresent;
    return value !== undefined && test(value);
  };
}

export function queryParameter(path: string, name: string): string | undefined {
  const query = path.indexOf("?");
  if (query < 0) return undefined;
  const fragment = path.indexOf("#", query);
  const end = fragment < 0 ? path.length : fragment;
  let at = query + 1;
  while (at <= end) {
    let next = path.indexOf("&", at);
    if (next < 0 || next > end) next = end;
    const equals = path.indexOf("=", at);
    const keyEnd = equals < 0 || equals > next ? next : equals;
    if (keyEnd - at === name.length && path.startsWith(name, at)) return path.slice(Math.min(keyEnd + 1, next), next);
    at = next + 1;
  }
  return undefined;
}
