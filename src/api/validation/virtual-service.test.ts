import { describe, expect, it } from "vitest";
import { itChecks } from "./problems-of.ts";
import { hostsOverlap, isHostSubset } from "./virtual-service.ts";

const vs = (...routes: string[]) => `hosts: [reviews]\nhttp:\n${routes.map((route) => `- { ${route} }`).join("\n")}`;
const to = "route: [{ destination: { host: reviews } }]";
const header = (operation: string) => vs(`${to}, headers: { request: { ${operation} } }`);

describe("VirtualService", () => {
  itChecks("VirtualService", [
    [
      "takes a weighted route",
      vs(
        "route: [{ destination: { host: reviews, subset: v1 }, weight: 75 }, { destination: { host: reviews, subset: v2, port: { number: 80 } }, weight: 25 }]",
      ),
    ],
    [
      "takes all that a match can say",
      vs(
        `${to}, match: [{ uri: { prefix: "" }, headers: { end-user: { exact: jason }, ":method": { regex: "G.*" }, any: {} }, withoutHeaders: { x: { regex: "*" } }, queryParams: { q: { exact: "" } }, ignoreUriCase: true, port: 80, gateways: [mesh, ns/gw] }]`,
      ),
    ],
    [
      "takes redirect, direct response and delegate",
      vs(
        "redirect: { uri: /x }, match: [{ uri: { exact: /a } }]",
        "directResponse: { status: 503, body: { string: sorry } }, match: [{ uri: { exact: /b } }]",
        "delegate: { name: other, namespace: ns }",
      ),
    ],
    [
      "takes retries, faults, CORS and rewrites",
      vs(
        `${to}, timeout: 1500ms, retries: { attempts: 3, perTryTimeout: 0.5s, retryOn: "5xx,connect-failure,503" }, fault: { delay: { fixedDelay: 2s, percentage: { value: 0.1 } }, abort: { httpStatus: 555 } }, corsPolicy: { allowOrigins: [{ regex: ".*" }], allowMethods: [GET], maxAge: 24h }, rewrite: { uriRegexRewrite: { match: "^/(.*)$", rewrite: '/\\1' } }`,
      ),
    ],
    [
      "takes TLS and TCP routes",
      "hosts: ['*.example.com']\ngateways: [gw]\ntls: [{ match: [{ sniHosts: [a.example.com], port: 443 }], route: [{ destination: { host: a } }] }]\ntcp: [{ match: [{ destinationSubnets: [10.0.0.0/8], port: 27017 }], route: [{ destination: { host: mongo } }] }]",
    ],
    ["takes what others delegate to", `http: [{ ${to} }]`],
    ["wants routes", "hosts: [a]", "spec: has no routes"],
    [
      "wants no TCP, TLS or gateways in what is delegated to",
      `gateways: [g]\nhttp: [{ ${to} }]\ntcp: [{ route: [{ destination: { host: a } }] }]\ntls: [{ match: [{ sniHosts: [a] }], route: [{ destination: { host: a } }] }]`,
      "spec.gateways: can't be given without hosts",
      "spec.tcp: can't",
      "spec.tls: can't",
      'spec.tls[0].match[0].sniHosts[0]: "a" is covered by none',
    ],
    [
      "wants no delegate of a delegate",
      "http: [{ delegate: { name: a } }]",
      "spec.http[0].delegate: what others delegate to",
      "spec.http[0]: has no route",
    ],
    [
      "wants host names",
      `hosts: ["a_b", "*", 10.0.0.1]\nhttp: [{ ${to} }]`,
      'spec.hosts[0]: "a_b" is not a host name',
      'spec.hosts[1]: "*" is for gateways',
    ],
    ["takes * at a gateway", `hosts: ["*"]\ngateways: [ns/gw]\nhttp: [{ ${to} }]`],
    [
      "wants hosts that don't overlap",
      `hosts: ["*.example.com", a.example.com]\nhttp: [{ ${to} }]`,
      'spec.hosts[1]: "a.example.com" overlaps',
    ],
    [
      "wants one action",
      vs(`${to}, redirect: { uri: /x }, directResponse: { status: 200 }, fault: { abort: { httpStatus: 500 } }, rewrite: { uri: / }`),
      "spec.http[0]: only one of redirect and directResponse",
      "spec.http[0].fault: can't be given with directResponse",
      "spec.http[0].fault: can't be given with redirect",
      "spec.http[0].rewrite: can't be given with directResponse",
      "spec.http[0].rewrite: can't be given with redirect",
      "spec.http[0].route: can't be given with directResponse",
      "spec.http[0].route: can't be given with redirect",
    ],
    ["wants any action", vs("timeout: 1s"), "spec.http[0]: has no route"],
    [
      "wants a delegate alone",
      vs(`${to}, redirect: { uri: /x }, delegate: { name: a }`),
      "spec.http[0].redirect: can't be given with delegate",
      "spec.http[0].route: can't be given with delegate",
    ],
    [
      "wants destinations",
      vs('route: [{ weight: 1 }, { destination: { host: "*", subset: a_b, port: { number: 0 } }, weight: -1 }]'),
      "spec.http[0].route[0].destination: is missing",
      'spec.http[0].route[1].destination.host: "*"',
      "spec.http[0].route[1].destination.port.number: port 0",
      'spec.http[0].route[1].destination.subset: "a_b"',
      "spec.http[0].route[1].weight: -1 is negative",
      "spec.http[0].route: the weights add up to 0",
    ],
    [
      "wants weights with several destinations",
      vs("route: [{ destination: { host: a } }, { destination: { host: b } }]"),
      "spec.http[0].route: the weights add up to 0",
    ],
    [
      "wants expressions of RE2",
      vs(
        `${to}, match: [{ uri: { regex: "(?=x)" }, headers: { a: { regex: "" }, b: { prefix: "" } }, queryParams: { q: { regex: "${"x".repeat(1025)}" } } }]`,
      ),
      "spec.http[0].match[0].headers.a.regex: is empty",
      "spec.http[0].match[0].headers.b.prefix: is empty",
      "spec.http[0].match[0].queryParams.q.regex: the regular expression is longer",
      "spec.http[0].match[0].uri.regex: is not a regular expression",
    ],
    [
      "wants headers' names",
      vs(`${to}, match: [{ headers: { "a b": { exact: x }, ":foo": { exact: x } } }]`),
      'spec.http[0].match[0].headers[":foo"]: ',
      'spec.http[0].match[0].headers["a b"]: ',
    ],
    [
      "wants claims at gateways only",
      vs(`${to}, match: [{ headers: { "@request.auth.claims.sub": { exact: x } } }]`),
      'spec.http[0].match[0].headers["@request.auth.claims.sub"]: matching by claims',
    ],
    [
      "wants headers that can be changed",
      header('set: { ":path": x, "": y }, remove: [Host, ":method"]'),
      'spec.http[0].headers.request.remove[0]: "Host" can\'t be changed',
      'spec.http[0].headers.request.remove[1]: ":method" is a pseudo',
      'spec.http[0].headers.request.set[""]: a header\'s name',
      'spec.http[0].headers.request.set[":path"]: ',
    ],
    ["takes commands in header values", header('set: { a: "%START_TIME(%s)%", b: "100%%", c: "x %REQ(:path)% y" }')],
    [
      "wants complete commands in header values",
      header('set: { a: "50%", b: "%START_TIME%%", c: "%REQ(x" }'),
      "spec.http[0].headers.request.set.a: ",
      "spec.http[0].headers.request.set.b: ",
      "spec.http[0].headers.request.set.c: ",
    ],
    [
      "wants the authority set once",
      vs(`${to}, rewrite: { authority: a }, headers: { request: { set: { host: b } } }`),
      "spec.http[0]: the authority is set more than once",
    ],
    [
      "wants durations of whole milliseconds",
      vs(`${to}, timeout: 0.5ms, retries: { attempts: 1, perTryTimeout: 1.5ms }`),
      "spec.http[0].retries.perTryTimeout: must be whole",
      "spec.http[0].timeout: must be at least 1ms",
    ],
    ["wants a duration", vs(`${to}, timeout: soon`), 'spec.http[0].timeout: "soon" is not a duration'],
    [
      "wants retries that mean something",
      vs(`${to}, retries: { attempts: 0, retryOn: "5xx, never" }`),
      "spec.http[0].retries.attempts: is 0",
      'spec.http[0].retries.retryOn: " never" is not',
    ],
    [
      "wants faults that can be",
      vs(
        `${to}, fault: { delay: { exponentialDelay: 1s, percentage: { value: 101 } }, abort: { grpcStatus: OOPS, percentage: { value: 0.00001 } } }`,
      ),
      "spec.http[0].fault.abort.grpcStatus: ",
      "spec.http[0].fault.abort.percentage.value: 0.00001",
      "spec.http[0].fault.delay.exponentialDelay: is not supported",
      "spec.http[0].fault.delay.percentage.value: 101",
    ],
    ["wants a fault to do something", vs(`${to}, fault: {}`), "spec.http[0].fault: is empty"],
    ["warns of an abort without status", vs(`${to}, fault: { abort: {} }`), "W spec.http[0].fault.abort: has no status"],
    [
      "wants statuses",
      vs(`${to}, fault: { abort: { httpStatus: 99 } }`, "directResponse: { status: 700 }"),
      "spec.http[0].fault.abort.httpStatus: 99",
      "spec.http[1].directResponse.status: 700",
      "W spec.http[1]: the rule is never used",
    ],
    [
      "wants CORS that can be",
      vs(`${to}, corsPolicy: { allowOrigins: [{ exact: "" }], allowMethods: [FETCH], allowHeaders: ["a b"], maxAge: 1.5s }`),
      "spec.http[0].corsPolicy.allowHeaders[0]: ",
      "spec.http[0].corsPolicy.allowMethods[0]: ",
      "spec.http[0].corsPolicy.allowOrigins[0]: is empty",
      "spec.http[0].corsPolicy.maxAge: must be whole seconds",
    ],
    [
      "wants redirects that lead somewhere",
      vs(
        "redirect: {}",
        "redirect: { uri: /a, prefixRewrite: /b, scheme: ftp, redirectCode: 200, port: 99999 }, match: [{ uri: { exact: /x } }]",
      ),
      "spec.http[0].redirect: is empty",
      "spec.http[1].redirect.port: ",
      "spec.http[1].redirect.prefixRewrite: needs",
      "spec.http[1].redirect.redirectCode: 200",
      'spec.http[1].redirect.scheme: "ftp"',
      "spec.http[1].redirect: only one of",
      "W spec.http[1]: the rule is never used",
    ],
    [
      "wants rewrites that change something",
      vs(`${to}, rewrite: {}, match: [{ port: 1 }]`, `${to}, rewrite: { uri: /a, uriRegexRewrite: { match: "(" } }`),
      "spec.http[0].rewrite: is empty",
      "spec.http[1].rewrite.uriRegexRewrite.match: ",
      "spec.http[1].rewrite.uriRegexRewrite: needs both",
      "spec.http[1].rewrite: only one of",
    ],
    [
      "wants one kind of mirror",
      vs(`${to}, mirror: { host: a }, mirrors: [{ percentage: { value: 120 } }], mirrorPercent: 10`),
      "spec.http[0]: only one of mirror and mirrors",
      "spec.http[0].mirrors[0].destination: is missing",
      "spec.http[0].mirrors[0].percentage.value: 120",
      "W spec.http[0].mirrorPercent: is deprecated",
    ],
    [
      "bounds the body of a direct response",
      vs(`directResponse: { status: 200, body: { string: "${"x".repeat(1024 * 1024 + 1)}" } }`),
      "spec.http[0].directResponse.body: is larger than 1 MiB",
    ],
    [
      "warns of a large body",
      vs(`directResponse: { status: 200, body: { string: "${"x".repeat(1024 * 100 + 1)}" } }`),
      "W spec.http[0].directResponse.body: is larger than 100 KiB",
    ],
    [
      "wants one of a oneof",
      vs(`${to}, match: [{ uri: { exact: /a, prefix: /b } }]`),
      "spec.http[0].match[0].uri: only one of exact, prefix may be given",
    ],
    [
      "wants SNI hosts that the hosts cover",
      "hosts: [a.example.com]\ngateways: [g]\ntls: [{ match: [{ sniHosts: [b.example.com] }, {}] }, { route: [{ destination: { host: a } }] }]",
      'spec.tls[0].match[0].sniHosts[0]: "b.example.com" is covered by none',
      "spec.tls[0].match[1].sniHosts: is empty",
      "spec.tls[0].route: is empty",
      "spec.tls[1].match: is empty",
    ],
    [
      "wants TCP routes that lead somewhere",
      "hosts: [a]\ntcp: [{ match: [{ destinationSubnets: [10.0.0.0/33], port: 70000, sourceNamespace: A_B }] }]",
      "spec.tcp[0].match[0].destinationSubnets[0]: ",
      "spec.tcp[0].match[0].port: ",
      "spec.tcp[0].match[0].sourceNamespace: ",
      "spec.tcp[0].route: is empty",
    ],
    [
      "warns of an IP address as SNI",
      "hosts: [10.0.0.1]\ngateways: [g]\ntls: [{ match: [{ sniHosts: [10.0.0.1] }], route: [{ destination: { host: a } }] }]",
      "W spec.tls[0].match[0].sniHosts[0]: ",
    ],
    [
      "warns of old gateway names",
      `hosts: [a]\ngateways: [gw.ns.svc.cluster.local, "a/b/c"]\nhttp: [{ ${to} }]`,
      'spec.gateways[1]: "a/b/c" is not of the form',
      'W spec.gateways[0]: "gw.ns.svc.cluster.local" is the old form',
    ],
    [
      "warns of rules that are never used",
      vs(to, `${to}, match: [{ uri: { exact: /a } }]`),
      "W spec.http[1]: the rule is never used: rule 0",
    ],
    [
      "warns of matches that are never used",
      vs(`${to}, match: [{ uri: { exact: /a } }]`, `${to}, match: [{ name: again, uri: { exact: /a } }, { uri: { exact: /b } }]`),
      "W spec.http[1].match[0]: the match is never used: rule 0",
    ],
    [
      "warns of prefixes behind shorter ones",
      vs(`${to}, match: [{ uri: { prefix: /a } }]`, `${to}, match: [{ uri: { prefix: /ab } }, { uri: { prefix: /ab }, port: 80 }]`),
      'W spec.http[1].match[0]: the match is never used: rule 0 takes the shorter prefix "/a"',
    ],
    [
      "wants exports that make sense",
      `hosts: [a]\nhttp: [{ ${to} }]\nexportTo: [".", default, "*", "~", "A B"]`,
      'spec.exportTo: "*" means all',
      'spec.exportTo: "~" means nobody',
      'spec.exportTo[1]: "default" is given twice',
      'spec.exportTo[3]: "~" (nobody)',
      'spec.exportTo[4]: "A B" is neither',
    ],
  ]);

  it("finds hosts that overlap", () => {
    expect(hostsOverlap("*.com", "*.example.com")).toBe(true);
    expect(hostsOverlap("*.com", "example.com")).toBe(true);
    expect(hostsOverlap("a.com", "b.com")).toBe(false);
    expect(hostsOverlap("*.a.com", "*.b.com")).toBe(false);
    expect(isHostSubset("*.com", "*.example.com")).toBe(false);
    expect(isHostSubset("*.example.com", "*.com")).toBe(true);
    expect(isHostSubset("example.com", "*.com")).toBe(true);
  });
});
