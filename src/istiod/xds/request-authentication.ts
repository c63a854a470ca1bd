/**
 * RequestAuthentications as Envoy's jwt_authn. A request without a token passes, one with a bad token gets 401; what a good token says is
 * left in the request's metadata, for policies and routes to match by.
 * Source: Istio pilot/pkg/security/authn/policy_applier.go.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import { outboundCluster } from "../../api/cluster-name.ts";
import { DataSourceSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import {
  JwtAuthenticationSchema,
  type JwtProvider,
  JwtProviderSchema,
  type JwtRequirement,
  JwtRequirementSchema,
  RemoteJwksSchema,
} from "../../api/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import type { HttpFilter } from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { JWTRule } from "../../api/kinds/request-authentication.ts";
import { type JwksSource, jwksSourceOf } from "../jwks/jwks-source.ts";
import { problemOfJwks } from "../jwks/usable-keys.ts";
import type { PushContext } from "../push/push-context.ts";
import { jwtFilterName, jwtPayloadKey } from "./authorization/claim-matcher.ts";
import { duration, httpFilter } from "./messages.ts";

/** Undefined without rules. `clearsRouteCache`: routes are chosen anew when the claims are known. */
export function jwtFilter(rules: readonly JWTRule[], push: PushContext, clearsRouteCache: boolean): HttpFilter | undefined {
  if (rules.length === 0) return undefined;
  const names = rules.map((_, index) => `origins-${index}`);
  const providers = rules.map((rule, index) => [names[index]!, jwtProvider(rule, push, clearsRouteCache)] as const);
  return httpFilter(jwtFilterName, JwtAuthenticationSchema, {
    providers: Object.fromEntries(providers),
    rules: [
      {
        match: { pathSpecifier: { case: "prefix", value: "/" } },
        requirementType: { case: "requires", value: requirementOf(names, rules) },
      },
    ],
    bypassCorsPreflight: true,
  });
}

/**
 * Each rule for itself: a good token of its issuer, or none. Of several rules that look at the same place all but one would refuse any
 * token; so a good one of any issuer is enough.
 */
function requirementOf(names: readonly string[], rules: readonly JWTRule[]): JwtRequirement {
  const eachForItself = names.map((name, index) =>
    rules[index]!.presence === "REQUIRED"
      ? provider(name)
      : anyOf([provider(name), requirement({ case: "allowMissing", value: create(EmptySchema) })]),
  );
  const [only, ...more] = eachForItself;
  if (only && more.length === 0) return only;
  return anyOf([...names.map(provider), requirement({ case: "requiresAll", value: { requirements: eachForItself } })]);
}

function requirement(requiresType: MessageInitShape<typeof JwtRequirementSchema>["requiresType"] & object): JwtRequirement {
  return create(JwtRequirementSchema, { requiresType });
}

const provider = (name: string) => requirement({ case: "providerName", value: name });
const anyOf = (requirements: JwtRequirement[]) => requirement({ case: "requiresAny", value: { requirements } });

function jwtProvider(rule: JWTRule, push: PushContext, clearRouteCache: boolean): JwtProvider {
  return create(JwtProviderSchema, {
    issuer: rule.issuer,
    audiences: rule.audiences,
    jwksSourceSpecifier: keysOf(rule, push),
    forward: rule.forwardOriginalToken,
    forwardPayloadHeader: rule.outputPayloadToHeader,
    claimToHeaders: rule.outputClaimToHeaders.map(({ header, claim }) => ({ headerName: header, claimName: claim })),
    fromHeaders: rule.fromHeaders.map(({ name, prefix }) => ({ name, valuePrefix: prefix })),
    fromParams: rule.fromParams,
    fromCookies: rule.fromCookies,
    payloadInMetadata: jwtPayloadKey,
    normalizePayloadInMetadata: { spaceDelimitedClaims: [...new Set(["permission", "scope", ...rule.spaceDelimitedClaims])].sort() },
    clearRouteCache,
  });
}

type KeysOf = JwtProvider["jwksSourceSpecifier"];

function keysOf(rule: JWTRule, push: PushContext): KeysOf {
  const source = jwksSourceOf(rule);
  if (!source) return local(problemOfJwks(rule.jwks) === undefined ? rule.jwks : nobodysKey);
  return remoteKeys(rule, source, push) ?? local(push.jwks.keys(source) ?? nobodysKey);
}

function local(jwks: string): KeysOf {
  return { case: "localJwks", value: create(DataSourceSchema, { specifier: { case: "inlineString", value: jwks } }) };
}

const remoteCacheMs = 300_000;

/** When proxies are to fetch themselves, and can: they need a service for it. */
function remoteKeys({ jwksUri }: JWTRule, { timeoutMs }: JwksSource, push: PushContext): KeysOf | undefined {
  if (push.jwksFetchMode === "istiod" || jwksUri === "") return undefined;
  const { hostname, port, protocol } = new URL(jwksUri);
  const number = port === "" ? (protocol === "https:" ? 443 : 80) : Number(port);
  const services = push.registry.byHost(hostname);
  if (services.length !== 1 && push.jwksFetchMode === "hybrid") return undefined;
  return {
    case: "remoteJwks",
    value: create(RemoteJwksSchema, {
      httpUri: {
        uri: jwksUri,
        httpUpstreamType: { case: "cluster", value: outboundCluster(hostname, number) },
        timeout: duration(timeoutMs),
      },
      cacheDuration: duration(remoteCacheMs),
    }),
  };
}

/** Stands in for keys that can't be had: its private half was thrown away when it was made, so no token is good by it. */
const nobodysKey = JSON.stringify({
  keys: [
    {
      kty: "RSA",
      e: "AQAB",
      n: "29gkQYwjgamGQSuIU0Fi5XsELUi8Z0tCrpBG58gRtcqmNZzvdZtOUmGmEUJorD5ETD24ONNmKfmBNwTuMuzxVXfRIOFUMvD0vU64dmF6qmgWBxTQ4nxtrCsXpYn-OP780C83teQEZEJXTeloKH6niKx1tKMu5BHkQt8mtDC4pja5ImhhINQzdpBM2s_WpsHbpv5mFkStTZcWIG3zCwdnHgKgOiiLrCJVV-iIFexna5IoaUeVzUbHz7I-nIsECE1oJ_VUX2Z14NuLuaPBl957mn5vhSRqnbUehbfbt6ZuaiV_eUbnt__-y2-G8n2lbZdTD5aliC1smK-fOx8rHHdebw",
    },
  ],
});
