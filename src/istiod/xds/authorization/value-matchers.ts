/**
 * Values as policies write them, as Envoy's matchers: `x` is exact, `x*` a prefix, `*x` a suffix, `*` anything but nothing.
 * Source: Istio pilot/pkg/security/authz/matcher.
 */
import { create } from "@bufbuild/protobuf";
import { type CidrRange, CidrRangeSchema } from "../../../api/gen/envoy/config/core/v3/address_pb.js";
import { type HeaderMatcher, HeaderMatcherSchema } from "../../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { type StringMatcher, StringMatcherSchema } from "../../../api/gen/envoy/type/matcher/v3/string_pb.js";

export function exactMatcher(exact: string, ignoreCase = false): StringMatcher {
  return create(StringMatcherSchema, { ignoreCase, matchPattern: { case: "exact", value: exact } });
}

export function prefixMatcher(prefix: string, ignoreCase = false): StringMatcher {
  return create(StringMatcherSchema, { ignoreCase, matchPattern: { case: "prefix", value: prefix } });
}

export function suffixMatcher(suffix: string, ignoreCase = false): StringMatcher {
  return create(StringMatcherSchema, { ignoreCase, matchPattern: { case: "suffix", value: suffix } });
}

/** The whole value must match, in RE2's syntax. */
export function regexMatcher(regex: string): StringMatcher {
  return create(StringMatcherSchema, { matchPattern: { case: "safeRegex", value: { regex } } });
}

export const anythingMatcher = regexMatcher(".+");

export function valueMatcher(value: string): StringMatcher {
  if (value === "*") return anythingMatcher;
  return wildcardMatcher(value, false);
}

function wildcardMatcher(value: string, ignoreCase: boolean): StringMatcher {
  if (value.startsWith("*")) return suffixMatcher(value.slice(1), ignoreCase);
  if (value.endsWith("*")) return prefixMatcher(value.slice(0, -1), ignoreCase);
  return exactMatcher(value, ignoreCase);
}

/** Identities are written without the `spiffe://` that certificates have. */
export function principalMatcher(value: string): StringMatcher {
  if (value === "*") return anythingMatcher;
  if (value.startsWith("*")) return regexMatcher(`spiffe://.*${quoteRegex(value.slice(1))}`);
  return wildcardMatcher(`spiffe://${value}`, false);
}

/** `*` is the header's presence, be it empty. */
export function headerMatcher(name: string, value: string, ignoreCase = false): HeaderMatcher {
  return create(HeaderMatcherSchema, {
    name,
    headerMatchSpecifier:
      value === "*" ? { case: "presentMatch", value: true } : { case: "stringMatch", value: wildcardMatcher(value, ignoreCase) },
  });
}

/** `10.0.0.0/8`, or an address. */
export function cidrRange(value: string): CidrRange {
  const [addressPrefix = "", length] = value.split("/");
  return create(CidrRangeSchema, { addressPrefix, prefixLen: length === undefined ? (value.includes(":") ? 128 : 32) : Number(length) });
}

export function quoteRegex(text: string): string {
  return text.replaceAll(/[\\.+*?()|[\]{}^$]/g, "\\$&");
}
