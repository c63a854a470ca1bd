/** JWT authentication that can't be used: refused by Envoy and by us, in the same words where Envoy's are fit for it. */
import { describe, expect, it } from "vitest";
import { expandBootstrap } from "../support/bootstrap-text.ts";
import { envoyBinary, envoyValidates } from "../support/envoy.ts";
import { makeTokens } from "../support/jwt.ts";
import { comparableReason, ourVerdict } from "../support/verdict.ts";

const { "jwks:a": jwks, "jwks:mixed": mixed } = makeTokens({
  keys: { a: { type: "Ed25519" }, b: { type: "P-256" } },
  jwks: { a: ["a"], mixed: [{ key: "b", x: null }, "a"] },
});

const local = { inline_string: jwks };
const remote = { http_uri: { uri: "http://keys.example/jwks", cluster: "up", timeout: "1s" } };
const rule = (requires: object) => ({ match: { prefix: "/" }, requires });

/** A whole configuration with one provider, `a`, and these fields of it. */
const provider = (fields: object) => ({ providers: { a: { issuer: "a", local_jwks: local, ...fields } } });
const fetched = (fields: object) => ({ providers: { a: { issuer: "a", remote_jwks: { ...remote, ...fields } } } });
const uri = (fields: object) => fetched({ http_uri: { ...remote.http_uri, ...fields } });
const keys = (text: string) => provider({ local_jwks: { inline_string: text } });
const key = (jwk: object) => keys(JSON.stringify({ keys: [jwk] }));
const requires = (requirement: object) => ({ ...provider({}), rules: [rule(requirement)] });
const match = (fields: object) => ({ ...provider({}), rules: [{ match: fields, requires: { provider_name: "a" } }] });
const coordinate = "A".repeat(43);

const cases: Readonly<Record<string, object>> = {
  nothing: {},
  "a provider alone": provider({}),
  "a provider without keys": { providers: { a: { issuer: "a" } } },
  "a provider without anything": { providers: { a: {} } },
  "two sources of keys": provider({ remote_jwks: remote }),
  "an unknown field": provider({ nope: 1 }),
  "empty keys": keys(""),
  "a file of keys that is not there": provider({ local_jwks: { filename: "/no/such/file" } }),
  "a variable of keys that is not set": provider({ local_jwks: { environment_variable: "NO_SUCH_VARIABLE_HERE" } }),
  "a variable that holds no keys": provider({ local_jwks: { environment_variable: "PATH" } }),
  "keys by bytes": provider({ local_jwks: { inline_bytes: Buffer.from(jwks!).toString("base64") } }),
  "keys from nowhere": provider({ local_jwks: {} }),
  "keys that are no JSON": keys("nope"),
  "keys that are a list": keys("[]"),
  "keys that are null": keys("null"),
  "keys named twice": keys('{"keys":[],"keys":[]}'),
  "no keys": keys('{"keys":[]}'),
  "keys of another name": keys('{"other":[]}'),
  "keys that are no list": keys('{"keys":{}}'),
  "keys that are no objects": keys('{"keys":[1,"a",null]}'),
  "one good key of two": keys(mixed!),
  "a key without kty": key({}),
  "a key with a kty of another type": key({ kty: 1 }),
  "a key of an unknown kty": key({ kty: "nope" }),
  "an RSA key with another's alg": key({ kty: "RSA", alg: "ES256" }),
  "an RSA key without n": key({ kty: "RSA", e: "AQAB" }),
  "an RSA key with n of another type": key({ kty: "RSA", n: 1 }),
  "an RSA key without e": key({ kty: "RSA", n: "AQAB" }),
  "an RSA key with e of another type": key({ kty: "RSA", n: "AQAB", e: [] }),
  "an RSA key that is too small": key({ kty: "RSA", n: "AQAB", e: "AQAB" }),
  "an RSA key that is no base64": key({ kty: "RSA", n: "!!", e: "AQAB" }),
  "an RSA key with an odd exponent": key({ kty: "RSA", n: "w".repeat(342), e: "AAAB" }),
  "an RSA key that is even": key({ kty: "RSA", n: `${"w".repeat(341)}A`, e: "AQAB" }),
  "an RSA key of 512 bits": key({ kty: "RSA", n: `${"w".repeat(85)}w`, e: "AQAB" }),
  "an EC key with another's alg": key({ kty: "EC", alg: "RS256" }),
  "an EC key with a crv of another type": key({ kty: "EC", crv: 1 }),
  "an EC key of an unknown curve": key({ kty: "EC", crv: "P-1" }),
  "an EC key of an unknown alg": key({ kty: "EC", alg: "ES1" }),
  "an EC key with an alg of another curve": key({ kty: "EC", alg: "ES256", crv: "P-384" }),
  "an EC key without x": key({ kty: "EC", crv: "P-256" }),
  "an EC key with x of another type": key({ kty: "EC", x: 1 }),
  "an EC key without y": key({ kty: "EC", x: coordinate }),
  "an EC key with y of another type": key({ kty: "EC", x: coordinate, y: 1 }),
  "an EC key that is no base64": key({ kty: "EC", x: "!!", y: coordinate }),
  "an EC key that is no point": key({ kty: "EC", x: coordinate, y: coordinate }),
  "an HMAC key with another's alg": key({ kty: "oct", alg: "HS1" }),
  "an HMAC key without k": key({ kty: "oct" }),
  "an HMAC key with k of another type": key({ kty: "oct", k: {} }),
  "an HMAC key that is no base64": key({ kty: "oct", k: "!" }),
  "an empty HMAC key": key({ kty: "oct", k: "" }),
  "an OKP key with another's alg": key({ kty: "OKP", alg: "RS256" }),
  "an OKP key without crv": key({ kty: "OKP" }),
  "an OKP key with crv of another type": key({ kty: "OKP", crv: 1 }),
  "an OKP key of another curve": key({ kty: "OKP", crv: "X25519" }),
  "an OKP key without x": key({ kty: "OKP", crv: "Ed25519" }),
  "an OKP key with x of another type": key({ kty: "OKP", crv: "Ed25519", x: 1 }),
  "an OKP key that is no base64": key({ kty: "OKP", crv: "Ed25519", x: "!" }),
  "an OKP key that is too short": key({ kty: "OKP", crv: "Ed25519", x: "AAAA" }),
  "a certificate that is none": keys('{"a":"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n"}'),
  "remote keys": fetched({}),
  "remote keys from nowhere": { providers: { a: { remote_jwks: {} } } },
  "remote keys of a cluster that is not there": uri({ cluster: "nobody" }),
  "remote keys without a cluster": uri({ cluster: "" }),
  "remote keys without a timeout": { providers: { a: { remote_jwks: { http_uri: { uri: "http://a/", cluster: "up" } } } } },
  "remote keys with a negative timeout": uri({ timeout: "-1s" }),
  "remote keys without an address": uri({ uri: "" }),
  "remote keys by a path alone": uri({ uri: "/jwks" }),
  "remote keys by a name alone": uri({ uri: "keys.example/jwks" }),
  "remote keys without a host": uri({ uri: "http:///jwks" }),
  "remote keys of another scheme": uri({ uri: "ftp://keys.example/jwks" }),
  "remote keys with a port": uri({ uri: "https://keys.example:8443/a?b=c" }),
  "remote keys with a port that is none": uri({ uri: "http://keys.example:x/" }),
  "remote keys with a port out of range": uri({ uri: "http://keys.example:99999/" }),
  "remote keys with an empty port": uri({ uri: "http://keys.example:/" }),
  "remote keys with a fragment for a path": uri({ uri: "http://keys.example#x" }),
  "remote keys with a query for a path": uri({ uri: "http://keys.example?x" }),
  "remote keys of an IPv6 address": uri({ uri: "http://[::1]:80/" }),
  "remote keys of half an IPv6 address": uri({ uri: "http://[::1/" }),
  "remote keys of a host with other letters": uri({ uri: "http://keys.exämple/" }),
  "remote keys with a user": uri({ uri: "http://a:b@c/" }),
  "remote keys with a timeout that is too long": uri({ timeout: "4294967296s" }),
  "remote keys with a space": uri({ uri: "http://keys.example/a b" }),
  "remote keys without a path": uri({ uri: "http://keys.example" }),
  "a cache_duration of zero": fetched({ cache_duration: "0s" }),
  "a cache_duration that is too long": fetched({ cache_duration: "9000000000s" }),
  "a cache_duration of a millisecond": fetched({ cache_duration: "0.001s" }),
  "a retry_policy": fetched({ retry_policy: { num_retries: 3, retry_back_off: { base_interval: "0.1s", max_interval: "1s" } } }),
  "a back-off without a base": fetched({ retry_policy: { retry_back_off: { max_interval: "1s" } } }),
  "a back-off of zero": fetched({ retry_policy: { retry_back_off: { base_interval: "0s" } } }),
  "a back-off below its base": fetched({ retry_policy: { retry_back_off: { base_interval: "2s", max_interval: "1s" } } }),
  async_fetch: fetched({ async_fetch: { fast_listener: true, failed_refetch_duration: "2s" } }),
  "a subject matcher without a pattern": provider({ subjects: {} }),
  "a subject matcher that is no expression": provider({ subjects: { safe_regex: { regex: "(" } } }),
  "from_headers without a name": provider({ from_headers: [{}] }),
  "from_headers with a line break": provider({ from_headers: [{ name: "a\n" }] }),
  "from_headers with a line break in the prefix": provider({ from_headers: [{ name: "a", value_prefix: "b\r" }] }),
  "from_params and from_cookies without a name": provider({ from_params: [""], from_cookies: [""] }),
  "a payload header with a line break": provider({ forward_payload_header: "a\r\nb" }),
  "claim_to_headers without a header": provider({ claim_to_headers: [{ claim_name: "a" }] }),
  "claim_to_headers without a claim": provider({ claim_to_headers: [{ header_name: "a" }] }),
  "claim_to_headers with two claims": provider({ claim_to_headers: [{ header_name: "a", claim_name: "b", claim_path: [{ key: "b" }] }] }),
  "claim_to_headers with an empty segment": provider({ claim_to_headers: [{ header_name: "a", claim_path: [{}] }] }),
  "a negative clock_skew": provider({ clock_skew_seconds: -1 }),
  "a rule without a match": { ...provider({}), rules: [{ requires: { provider_name: "a" } }] },
  "a match without a path": match({}),
  "a match by an expression that is none": match({ safe_regex: { regex: "(" } }),
  "a match by a separated prefix with a slash": match({ path_separated_prefix: "/a/" }),
  "a match by CONNECT": match({ connect_matcher: {} }),
  "a match by a header without a name": match({ prefix: "/", headers: [{}] }),
  "a match by a query parameter without a name": match({ prefix: "/", query_parameters: [{}] }),
  "a match by an unknown extension": match({ path_match_policy: { name: "nope", typed_config: { "@type": "Router" } } }),
  "an unknown provider": requires({ provider_name: "nobody" }),
  "an unknown provider with audiences": requires({ provider_and_audiences: { provider_name: "nobody", audiences: ["x"] } }),
  "an unknown provider, nested": requires({
    requires_any: {
      requirements: [{ provider_name: "a" }, { requires_all: { requirements: [{ provider_name: "a" }, { provider_name: "b" }] } }],
    },
  }),
  "any of one": requires({ requires_any: { requirements: [{ provider_name: "a" }] } }),
  "all of none": requires({ requires_all: {} }),
  "an unknown requirement": {
    ...provider({}),
    rules: [{ match: { prefix: "/" }, requirement_name: "x" }],
    requirement_map: { z: {}, y: {} },
  },
  "a requirement of a known name": {
    ...provider({}),
    rules: [{ match: { prefix: "/" }, requirement_name: "x" }],
    requirement_map: { x: {} },
  },
  "an empty requirement_name": { ...provider({}), rules: [{ match: { prefix: "/" }, requirement_name: "" }] },
  "an unknown provider in the map": { ...provider({}), requirement_map: { x: { provider_name: "nobody" } } },
  "filter state rules without a name": { ...provider({}), filter_state_rules: { requires: {} } },
  "an unknown provider by filter state": {
    ...provider({}),
    filter_state_rules: { name: "x", requires: { y: { provider_name: "nobody" } } },
  },
  "everything else": {
    ...provider({ jwt_cache_config: { jwt_cache_size: 1, jwt_max_token_size: 2 }, max_lifetime: "1s", normalize_payload_in_metadata: {} }),
    bypass_cors_preflight: true,
    strip_failure_response: true,
    stat_prefix: "x",
    rules: [rule({ extract_only_without_validation: { verification_status_header: "x" } })],
  },
};

const perRoute: Readonly<Record<string, object>> = {
  "that is disabled": { disabled: true },
  "that is not disabled": { disabled: false },
  "by name": { requirement_name: "x" },
  "by an empty name": { requirement_name: "" },
  "without anything": {},
};

function bootstrap(config: object, route: object | undefined): string {
  const typed_per_filter_config = route && { "envoy.filters.http.jwt_authn": { "@type": "PerRouteConfig", ...route } };
  return JSON.stringify(
    expandBootstrap({
      http_filters: [{ name: "envoy.filters.http.jwt_authn", typed_config: { "@type": "JwtAuthentication", ...config } }],
      routes: [{ match: { prefix: "/" }, route: { cluster: "up" }, ...(typed_per_filter_config && { typed_per_filter_config }) }],
    }),
  );
}

/** Where we say something else, or refuse what Envoy takes: our words. */
const ourWords: Readonly<Record<string, RegExp | undefined>> = {
  // Envoy names an entry of a map by its number, which is another each time.
  "an unknown field": /providers\["a"\]: message envoy\.extensions\S+\.JwtProvider: no such field: 'nope'/,
  "a negative clock_skew": /providers\["a"\]\.clock_skew_seconds: uint32: /,
  "remote keys with a negative timeout": /HttpUriValidationError\.Timeout: value must be inside range/,
  "a subject matcher that is no expression": /Invalid regex '\('/,
  "a match by an expression that is none": /Invalid regex '\('/,
};

describe.skipIf(!envoyBinary)("Configurations of JWT authentication, beside Envoy", () => {
  const compare = (name: string, yaml: string) => {
    const [ours, theirs] = [comparableReason(ourVerdict(yaml)), comparableReason(envoyValidates(yaml))];
    const words = ourWords[name];
    if (words === undefined) expect(ours).toEqual(theirs);
    else {
      expect(ours).toMatch(words);
      expect(ours).not.toEqual(theirs);
    }
  };

  it.each(Object.entries(cases))("have the same verdict on %s", (name, config) => compare(name, bootstrap(config, undefined)));

  it.each(Object.entries(perRoute))("have the same verdict on a route %s", (name, route) => compare(name, bootstrap({}, route)));
});
