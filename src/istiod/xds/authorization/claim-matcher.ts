/**
 * Claims of a verified token, which jwt_authn leaves in the request's metadata under `payload`. A claim that is a list matches by any of
 * its items. Source: Istio pilot/pkg/security/authz/model/util.go.
 */
import { create } from "@bufbuild/protobuf";
import { type MetadataMatcher, MetadataMatcherSchema } from "../../../api/gen/envoy/type/matcher/v3/metadata_pb.js";
import type { StringMatcher } from "../../../api/gen/envoy/type/matcher/v3/string_pb.js";
import { type ValueMatcher, ValueMatcherSchema } from "../../../api/gen/envoy/type/matcher/v3/value_pb.js";

export const jwtFilterName = "envoy.filters.http.jwt_authn";
/** Where in its metadata a token's payload is. */
export const jwtPayloadKey = "payload";

export function metadataMatcher(filter: string, path: readonly string[], value: ValueMatcher): MetadataMatcher {
  return create(MetadataMatcherSchema, { filter, path: path.map((key) => ({ segment: { case: "key" as const, value: key } })), value });
}

export function textValue(matcher: StringMatcher): ValueMatcher {
  return create(ValueMatcherSchema, { matchPattern: { case: "stringMatch", value: matcher } });
}

/** Of any kind. */
export function presentValue(): ValueMatcher {
  return create(ValueMatcherSchema, { matchPattern: { case: "presentMatch", value: true } });
}

export function listValue(item: ValueMatcher): ValueMatcher {
  return create(ValueMatcherSchema, {
    matchPattern: { case: "listMatch", value: { matchPattern: { case: "oneOf", value: item } } },
  });
}

export function anyValue(matchers: readonly ValueMatcher[]): ValueMatcher {
  const [only] = matchers;
  if (matchers.length === 1 && only) return only;
  return create(ValueMatcherSchema, { matchPattern: { case: "orMatch", value: { valueMatchers: [...matchers] } } });
}

/** A claim that is text, by one name. */
export function textClaim(name: string, matcher: StringMatcher): MetadataMatcher {
  return metadataMatcher(jwtFilterName, [jwtPayloadKey, name], textValue(matcher));
}

/** A claim, also nested, that is the value or a list that has it. */
export function claimMatcher(path: readonly string[], value: ValueMatcher): MetadataMatcher {
  return metadataMatcher(jwtFilterName, [jwtPayloadKey, ...path], anyValue([listValue(value), value]));
}
