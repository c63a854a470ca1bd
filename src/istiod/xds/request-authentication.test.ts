/** What rules become; what it means is in test/conformance/request-authentication.test.ts. */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { objectsOf, pushContextOf, routerNode, sidecarNode } from "../../../test/support/mesh.ts";
import { JwtAuthenticationSchema, type JwtProvider } from "../../api/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { defaultMesh } from "../../api/mesh/decode-mesh.ts";
import type { ProxyNode } from "../../api/node.ts";
import type { JwksFetchMode } from "../jwks/jwks-source.ts";
import { PushContext } from "../push/push-context.ts";
import { authFilters } from "./auth-filters.ts";

const rules = (jwtRules: string) =>
  `{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: jwt, namespace: default}, spec: {jwtRules: ${jwtRules}}}\n---\n`;
const keys = '{"keys":[{"kty":"oct","k":"AA"}]}';

function jwtOf(push: PushContext, proxy: ProxyNode = routerNode()) {
  const filter = authFilters(proxy, push).http.find(({ name }) => name === "envoy.filters.http.jwt_authn");
  return filter?.configType.case === "typedConfig" ? anyUnpack(filter.configType.value, JwtAuthenticationSchema) : undefined;
}

function keysOf(provider: JwtProvider | undefined): string | undefined {
  const source = provider?.jwksSourceSpecifier;
  return source?.case === "localJwks" && source.value.specifier.case === "inlineString" ? source.value.specifier.value : undefined;
}

describe("jwt_authn", () => {
  it("is not there without rules", () => expect(jwtOf(pushContextOf(rules("[]")))).toBeUndefined());

  it("numbers providers by issuer, and asks of several for a good token of any, or none", () => {
    const jwt = jwtOf(pushContextOf(rules(`[{issuer: b, jwks: '${keys}'}, {issuer: a, jwks: '${keys}'}]`)))!;
    expect(
      Object.entries(jwt.providers)
        .map(([name, { issuer }]) => `${name} ${issuer}`)
        .sort(),
    ).toEqual(["origins-0 a", "origins-1 b"]);
    const requirement = jwt.rules[0]!.requirementType;
    const outer =
      requirement.case === "requires" && requirement.value.requiresType.case === "requiresAny"
        ? requirement.value.requiresType.value
        : undefined;
    expect(outer?.requirements.map(({ requiresType }) => requiresType.case)).toEqual(["providerName", "providerName", "requiresAll"]);
    expect(jwt.bypassCorsPreflight).toBe(true);
  });

  it("lets no request pass without the token of a rule that demands it", () => {
    const jwt = jwtOf(pushContextOf(rules(`[{issuer: a, jwks: '${keys}', presence: REQUIRED}]`)))!;
    const requirement = jwt.rules[0]!.requirementType;
    expect(requirement.case === "requires" ? requirement.value.requiresType : undefined).toEqual({
      case: "providerName",
      value: "origins-0",
    });
  });

  it("splits the claims that Istio splits, and those that the rule adds", () => {
    const jwt = jwtOf(pushContextOf(rules(`[{issuer: a, jwks: '${keys}', spaceDelimitedClaims: [roles, scope]}]`)))!;
    expect(jwt.providers["origins-0"]!.normalizePayloadInMetadata!.spaceDelimitedClaims).toEqual(["permission", "roles", "scope"]);
  });

  it("chooses routes anew at gateways alone", () => {
    const push = pushContextOf(rules(`[{issuer: a, jwks: '${keys}'}]`));
    expect(jwtOf(push)!.providers["origins-0"]!.clearRouteCache).toBe(true);
    expect(jwtOf(push, sidecarNode())!.providers["origins-0"]!.clearRouteCache).toBe(false);
  });

  it("puts a key that nobody has in the place of keys that can't be had or used", () => {
    const push = pushContextOf(
      rules(`[{issuer: a, jwksUri: "http://keys.test/"}, {issuer: b, jwks: '{"keys": []}'}, {issuer: c, jwks: '${keys}'}]`),
    );
    const { providers } = jwtOf(push)!;
    const [a, b, c] = [0, 1, 2].map((index) => keysOf(providers[`origins-${index}`]));
    expect(a).toContain('"kty":"RSA"');
    expect(b).toBe(a);
    expect(c).toBe(keys);
  });

  const service = `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: k, namespace: default}, spec: {hosts: [keys.test], resolution: DNS, ports: [{number: 443, name: https, protocol: HTTPS}]}}\n---\n`;

  it.each<[JwksFetchMode, string, string | undefined]>([
    ["istiod", service, undefined],
    ["hybrid", service, "outbound|443||keys.test"],
    ["hybrid", "", undefined],
    ["envoy", "", "outbound|443||keys.test"],
  ])("with fetch mode %s has proxies fetch from %j %s", (jwksFetchMode, services, cluster) => {
    const objects = objectsOf(services + rules('[{issuer: a, jwksUri: "https://keys.test/jwks", timeout: 2s}]'));
    const push = new PushContext({ version: "1", mesh: defaultMesh(), objects, domain: "cluster.local", jwksFetchMode });
    const source = jwtOf(push)!.providers["origins-0"]!.jwksSourceSpecifier;
    const remote = source.case === "remoteJwks" ? source.value : undefined;
    expect(remote?.httpUri?.httpUpstreamType.value).toBe(cluster);
    if (remote) {
      expect(remote.httpUri).toMatchObject({ uri: "https://keys.test/jwks", timeout: { seconds: 2n } });
      expect(remote.cacheDuration?.seconds).toBe(300n);
    }
  });

  it("keeps rules of the same issuer apart", () => {
    const { providers } = jwtOf(pushContextOf(rules(`[{issuer: a, jwks: '${keys}'}, {issuer: a, jwks: '${keys}'}]`)))!;
    expect(Object.keys(providers)).toEqual(["origins-0", "origins-1"]);
  });
});
