import { describe } from "vitest";
import { itChecks } from "./problems-of.ts";

const rule = (settings: string, more = "") => `${more}rules: [{ ${settings} }]`;

describe("AuthorizationPolicy", () => {
  itChecks("AuthorizationPolicy", [
    ["takes nothing, which allows nothing", "{}"],
    [
      "takes all that a rule can say",
      rule(
        "from: [{ source: { principals: ['*/ns/a'], ipBlocks: [10.0.0.0/8], trustDomains: ['td*'] } }], to: [{ operation: { methods: [GET], paths: [/a/*, '/b/{*}/c/{**}'], ports: ['80'] } }], when: [{ key: 'request.headers[x]', values: [a] }, { key: source.ip, notValues: [1.1.1.1] }]",
      ),
    ],
    ["takes a provider to ask", rule("to: [{ operation: { paths: [/x] } }]", "action: CUSTOM\nprovider: { name: ext }\n")],
    ["wants rules where it has to act", "action: DENY", "spec.rules: is missing"],
    ["wants a provider with CUSTOM", rule("", "action: CUSTOM\n"), "spec.provider.name: is missing"],
    ["wants none otherwise", "provider: { name: x }", "spec.provider: is for action CUSTOM"],
    [
      "wants no identities with CUSTOM",
      rule(
        "from: [{ source: { namespaces: [a] } }], when: [{ key: 'request.auth.claims[x]', values: [a] }]",
        "action: CUSTOM\nprovider: { name: x }\n",
      ),
      "spec.rules[0].from[0].source.namespaces: is not supported",
      "spec.rules[0].when[0].key: ",
    ],
    [
      "wants no empty parts",
      rule("from: [], to: [{ operation: {} }, {}]"),
      "spec.rules[0].from: is empty",
      "spec.rules[0].to[0].operation: is empty",
      "spec.rules[0].to[1].operation: is empty",
    ],
    ["wants no empty values", rule("from: [{ source: { principals: [''] } }]"), "spec.rules[0].from[0].source.principals[0]: is empty"],
    [
      "wants accounts or principals",
      rule("from: [{ source: { serviceAccounts: ['a*', a/b/c], principals: [x], ipBlocks: [x], trustDomains: [a/b, '*a*b'] } }]"),
      'spec.rules[0].from[0].source.ipBlocks[0]: "x"',
      'spec.rules[0].from[0].source.serviceAccounts[0]: "a*"',
      'spec.rules[0].from[0].source.serviceAccounts[1]: "a/b/c"',
      'spec.rules[0].from[0].source.trustDomains[0]: "a/b"',
      'spec.rules[0].from[0].source.trustDomains[1]: "*a*b"',
      "spec.rules[0].from[0].source: serviceAccounts can't",
    ],
    [
      "wants ports and templates",
      rule("to: [{ operation: { ports: ['70000'], paths: ['/{**}/{*}', '/{x}', '/a b/{*}'] } }]"),
      "spec.rules[0].to[0].operation.paths[0]: ",
      "spec.rules[0].to[0].operation.paths[1]: ",
      "spec.rules[0].to[0].operation.paths[2]: ",
      "spec.rules[0].to[0].operation.ports[0]: ",
    ],
    [
      "wants attributes that exist, with values",
      rule("when: [{ values: [a] }, { key: source.ip }, { key: source.port, values: ['1'] }, { key: destination.port, values: [http] }]"),
      "spec.rules[0].when[0].key: is missing",
      'spec.rules[0].when[1]: has no values for "source.ip"',
      'spec.rules[0].when[2].key: "source.port" is not a known',
      'spec.rules[0].when[3].values[0]: "http" is not a port',
    ],
    [
      "wants a selector or targets",
      "selector: { matchLabels: { a: b } }\ntargetRefs: [{ kind: Gateway, group: gateway.networking.k8s.io, name: g }, { kind: Pod, namespace: x }]",
      "spec.targetRefs[1].name: is missing",
      "spec.targetRefs[1].namespace: must not be given",
      "spec.targetRefs[1]: ",
      "spec: only one of selector",
    ],
    [
      "warns of HTTP attributes that deny all of TCP",
      rule("to: [{ operation: { paths: [/x] } }]", "action: DENY\n"),
      "W spec.rules[0]: on a TCP port",
    ],
  ]);
  describe("as a dry run", () => {
    itChecks(
      "AuthorizationPolicy",
      [
        [
          "wants ALLOW or DENY, and true or false",
          "action: AUDIT",
          "spec.action: annotation istio.io/dry-run",
          "spec: annotation istio.io/dry-run",
        ],
      ],
      "{ name: x, annotations: { istio.io/dry-run: maybe } }",
    );
  });
});

describe("PeerAuthentication", () => {
  itChecks("PeerAuthentication", [
    [
      "takes a mode, and modes of ports",
      "{ selector: { matchLabels: { a: b } }, mtls: { mode: STRICT }, portLevelMtls: { 8080: { mode: DISABLE } } }",
    ],
    ["wants a selector for ports", "portLevelMtls: { 8080: { mode: DISABLE } }", "spec.portLevelMtls: needs a selector"],
    [
      "wants ports",
      "{ selector: { matchLabels: { a: b } }, portLevelMtls: { 0: { mode: DISABLE }, http: {} } }",
      'spec.portLevelMtls.http: key "http" is not a number',
    ],
    [
      "wants ports in range",
      "{ selector: { matchLabels: { a: b } }, portLevelMtls: { 0: { mode: DISABLE } } }",
      'spec.portLevelMtls["0"]: port 0',
    ],
    ["wants some ports", "{ selector: { matchLabels: { a: b } }, portLevelMtls: {} }", "spec.portLevelMtls: is empty"],
    ["warns of a selector without labels", "selector: {}", "W spec.selector: has no labels"],
  ]);
});

describe("RequestAuthentication", () => {
  itChecks("RequestAuthentication", [
    [
      "takes issuers",
      "jwtRules: [{ issuer: a, jwksUri: 'https://a/keys', audiences: [b], fromHeaders: [{ name: x, prefix: 'Bearer ' }], outputClaimToHeaders: [{ header: x-sub, claim: sub }], timeout: 5s }]",
    ],
    ["takes keys", `jwtRules: [{ issuer: a, jwks: '{"keys":[{"kty":"RSA","n":"x","e":"AQAB"}]}' }]`],
    ["wants an issuer or keys", "jwtRules: [{}]", "spec.jwtRules[0]: needs an issuer"],
    [
      "wants no empty names",
      "jwtRules: [{ issuer: a, audiences: [''], fromParams: [''], fromCookies: [''], fromHeaders: [{}] }]",
      "spec.jwtRules[0].audiences[0]: is empty",
      "spec.jwtRules[0].fromCookies[0]: is empty",
      "spec.jwtRules[0].fromHeaders[0].name: is missing",
      "spec.jwtRules[0].fromParams[0]: is empty",
    ],
    [
      "wants a URL, keys and a timeout",
      "jwtRules: [{ jwksUri: 'ftp://a', jwks: nonsense, timeout: 0s }]",
      "spec.jwtRules[0].jwks: is not a JSON",
      'spec.jwtRules[0].jwksUri: "ftp://a"',
      "spec.jwtRules[0].timeout: must be",
    ],
    [
      "wants keys of known types",
      `jwtRules: [{ issuer: a, jwks: '{"keys":[{}]}' }, { issuer: a, jwks: '{"keys":1}' }]`,
      "spec.jwtRules[0].jwks: key 0 has no type",
      "spec.jwtRules[1].jwks: is not a JSON",
    ],
    [
      "wants complete headers from claims",
      "jwtRules: [{ issuer: a, outputClaimToHeaders: [{ header: 'a b' }] }]",
      "spec.jwtRules[0].outputClaimToHeaders[0].claim: is missing",
      "spec.jwtRules[0].outputClaimToHeaders[0].header: ",
    ],
    [
      "warns of private keys",
      `jwtRules: [{ issuer: a, jwks: '{"keys":[{"kty":"RSA","d":"x"}]}' }]`,
      "W spec.jwtRules[0].jwks: key 0 is a private one",
    ],
  ]);
});
