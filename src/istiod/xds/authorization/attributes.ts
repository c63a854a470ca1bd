/**
 * The attributes that a policy can match by: of the request, which become permissions, and of its source, which become principals.
 * Fields of `from` and `to` and keys of `when` are names for the same attributes.
 * Source: Istio pilot/pkg/security/authz/model/generator.go.
 */
import { create } from "@bufbuild/protobuf";
import type { Permission, Principal } from "../../../api/gen/envoy/config/rbac/v3/rbac_pb.js";
import { UriTemplateMatchConfigSchema } from "../../../api/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { PathMatcherSchema } from "../../../api/gen/envoy/type/matcher/v3/path_pb.js";
import type { StringMatcher } from "../../../api/gen/envoy/type/matcher/v3/string_pb.js";
import { any } from "../messages.ts";
import { anyValue, claimMatcher, listValue, metadataMatcher, textClaim, textValue } from "./claim-matcher.ts";
import { type Algebra, authenticatedPrincipal, permission, permissions, principal, principals } from "./conditions.ts";
import type { TrustDomains } from "./trust-domains.ts";
import {
  anythingMatcher,
  cidrRange,
  exactMatcher,
  headerMatcher,
  prefixMatcher,
  principalMatcher,
  quoteRegex,
  regexMatcher,
  suffixMatcher,
  valueMatcher,
} from "./value-matchers.ts";

export interface RuleContext {
  readonly trustDomains: TrustDomains;
  /** Of the policy. */
  readonly namespace: string;
}

export interface Attribute<Condition> {
  /** A plain connection has no such thing. */
  readonly isHttpOnly: boolean;
  /** That it has one of the values, of which there is at least one. */
  oneOf(values: readonly string[], context: RuleContext): Condition;
}

/** Of which each value is a condition of its own. */
function byValue<Condition>(
  { or }: Algebra<Condition>,
  matches: (value: string, context: RuleContext) => Condition,
  { isHttpOnly = false } = {},
): Attribute<Condition> {
  return { isHttpOnly, oneOf: (values, context) => or(values.map((value) => matches(value, context))) };
}

const httpOnly = { isHttpOnly: true };

// --- the request ---

export const hosts = byValue(
  permissions,
  (host) => permission({ case: "header", value: headerMatcher(":authority", host, true) }),
  httpOnly,
);

export const methods = byValue(permissions, (method) => permission({ case: "header", value: headerMatcher(":method", method) }), httpOnly);

export const paths = byValue(permissions, pathPermission, httpOnly);

export const destinationPort = byValue(permissions, (port) => permission({ case: "destinationPort", value: Number(port) }));

export const destinationIp = byValue(permissions, (ip) => permission({ case: "destinationIp", value: cidrRange(ip) }));

export const sni = byValue(permissions, (name) => permission({ case: "requestedServerName", value: valueMatcher(name) }));

/** `{*}` stands for one segment, `{**}` for all that follow. */
function pathPermission(path: string): Permission {
  if (/\{\*\*?\}/.test(path)) {
    const template = path.replaceAll("{*}", "*").replaceAll("{**}", "**");
    return permission({
      case: "uriTemplate",
      value: { name: "uri-template", typedConfig: any(UriTemplateMatchConfigSchema, { pathTemplate: template }) },
    });
  }
  return permission({ case: "urlPath", value: create(PathMatcherSchema, { rule: { case: "path", value: valueMatcher(path) } }) });
}

/** What another filter left in the request's metadata; `[v]` is a list that has v. */
function filterMetadata(filter: string, key: string): Attribute<Permission> {
  const matches = (value: string) =>
    value.startsWith("[") && value.endsWith("]")
      ? listValue(textValue(valueMatcher(value.replaceAll(/^[[\]]+|[[\]]+$/g, ""))))
      : textValue(valueMatcher(value));
  return {
    isHttpOnly: false,
    oneOf: (values) => permission({ case: "metadata", value: metadataMatcher(filter, [key], anyValue(values.map(matches))) }),
  };
}

// --- its source ---

export const sourceIp = byValue(principals, (ip) => principal({ case: "directRemoteIp", value: cidrRange(ip) }));

/** The client's, where proxies in between are trusted. */
export const remoteIp = byValue(principals, (ip) => principal({ case: "remoteIp", value: cidrRange(ip) }));

export const sourcePrincipal: Attribute<Principal> = {
  isHttpOnly: false,
  oneOf: (values, { trustDomains }) =>
    principals.or(trustDomains.expandPrincipals(values).map((value) => authenticatedPrincipal(principalMatcher(value)))),
};

export const sourceNamespace = byValue(principals, (namespace) =>
  authenticatedPrincipal(regexMatcher(`.*/ns/${namespace.split("*").map(quoteRegex).join(".*")}/.*`)),
);

/** `account` of the policy's namespace, or `namespace/account`. Other pairs of words may stand before and behind it. */
export const sourceServiceAccount = byValue(principals, (value, context) => {
  const slash = value.indexOf("/");
  const [namespace, account] = slash < 0 ? [context.namespace, value] : [value.slice(0, slash), value.slice(slash + 1)];
  return authenticatedPrincipal(regexMatcher(`spiffe://.+/ns/${quoteRegex(namespace)}/(.+/|)sa/${quoteRegex(account)}(/.+)?`));
});

export const sourceTrustDomain: Attribute<Principal> = {
  isHttpOnly: false,
  oneOf: (values, { trustDomains }) =>
    principals.or(trustDomains.expandDomains(values).map((value) => authenticatedPrincipal(trustDomainMatcher(value)))),
};

function trustDomainMatcher(value: string): StringMatcher {
  if (value === "*") return prefixMatcher("spiffe://");
  if (!value.includes("*")) return prefixMatcher(`spiffe://${value}/`);
  const star = value.indexOf("*");
  return regexMatcher(`spiffe://${quoteRegex(value.slice(0, star))}[^/]*${quoteRegex(value.slice(star + 1))}/.*`);
}

export const requestPrincipal: Attribute<Principal> = {
  isHttpOnly: true,
  oneOf(values) {
    const [only, ...more] = values.map((value) => {
      const { issuer, subject } = issuerAndSubject(value);
      return principals.and([
        principal({ case: "metadata", value: textClaim("iss", issuer) }),
        principal({ case: "metadata", value: textClaim("sub", subject) }),
      ]);
    });
    return more.length === 0 && only ? only : principals.or([only!, ...more]);
  },
};

/** `issuer/subject`, split at the last slash, because an issuer may be a URL; a wildcard at one end. */
function issuerAndSubject(value: string): { issuer: StringMatcher; subject: StringMatcher } {
  if (value === "*") return { issuer: anythingMatcher, subject: anythingMatcher };
  const slash = value.lastIndexOf("/");
  const [issuer, subject] = slash < 0 ? [value, ""] : [value.slice(0, slash), value.slice(slash + 1)];
  if (value.startsWith("*")) {
    if (slash < 0) return { issuer: anythingMatcher, subject: suffixMatcher(value.slice(1)) };
    return { issuer: issuer === "*" ? anythingMatcher : suffixMatcher(issuer.slice(1)), subject: exactMatcher(subject) };
  }
  if (value.endsWith("*")) {
    if (slash < 0) return { issuer: prefixMatcher(value.slice(0, -1)), subject: anythingMatcher };
    return { issuer: exactMatcher(issuer), subject: subject === "*" ? anythingMatcher : prefixMatcher(subject.slice(0, -1)) };
  }
  return { issuer: exactMatcher(issuer), subject: exactMatcher(subject) };
}

function requestClaim(path: readonly string[]): Attribute<Principal> {
  return {
    isHttpOnly: true,
    oneOf: (values) =>
      principal({ case: "metadata", value: claimMatcher(path, anyValue(values.map((value) => textValue(valueMatcher(value))))) }),
  };
}

function requestHeader(name: string): Attribute<Principal> {
  return byValue(principals, (value) => principal({ case: "header", value: headerMatcher(name, value) }), httpOnly);
}

// --- keys of `when` ---

export type KeyedAttribute =
  | { readonly of: "request"; readonly attribute: Attribute<Permission> }
  | { readonly of: "source"; readonly attribute: Attribute<Principal> };

const ofRequest = (attribute: Attribute<Permission>): KeyedAttribute => ({ of: "request", attribute });
const ofSource = (attribute: Attribute<Principal>): KeyedAttribute => ({ of: "source", attribute });

const fixedKeys: Readonly<Record<string, KeyedAttribute>> = {
  "destination.ip": ofRequest(destinationIp),
  "destination.port": ofRequest(destinationPort),
  "connection.sni": ofRequest(sni),
  "source.ip": ofSource(sourceIp),
  "remote.ip": ofSource(remoteIp),
  "source.namespace": ofSource(sourceNamespace),
  "source.trustDomain": ofSource(sourceTrustDomain),
  "source.serviceAccount": ofSource(sourceServiceAccount),
  "source.principal": ofSource(sourcePrincipal),
  "request.auth.principal": ofSource(requestPrincipal),
  "request.auth.audiences": ofSource(requestClaim(["aud"])),
  "request.auth.presenter": ofSource(requestClaim(["azp"])),
};

/** Undefined for a key that validation would not have let pass. */
export function attributeOfKey(key: string): KeyedAttribute | undefined {
  if (Object.hasOwn(fixedKeys, key)) return fixedKeys[key];
  const header = /^request\.headers\[(.+)\]$/.exec(key);
  if (header) return ofSource(requestHeader(header[1]!));
  const claim = /^request\.auth\.claims(\[.+\])$/.exec(key);
  if (claim) return ofSource(requestClaim(claimPath(claim[1]!)));
  const metadata = /^experimental\.(envoy\.filters\.[^[]*)\[(.+)\]$/.exec(key);
  if (metadata) return ofRequest(filterMetadata(metadata[1]!, metadata[2]!));
  return undefined;
}

/** `[a][b]` is b of a; a name that has brackets itself is one name. */
function claimPath(brackets: string): string[] {
  const isPath = /^(\[[^[\]]*\])+$/.test(brackets);
  return isPath ? brackets.slice(1, -1).split("][") : [brackets.slice(1, -1)];
}
