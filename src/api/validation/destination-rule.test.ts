import { describe } from "vitest";
import { itChecks } from "./problems-of.ts";

const policy = (settings: string) => `host: reviews\ntrafficPolicy: { ${settings} }`;
const hash = (settings: string) => policy(`loadBalancer: { consistentHash: { ${settings} } }`);
const locality = (settings: string) => policy(`outlierDetection: {}, loadBalancer: { localityLbSetting: { ${settings} } }`);
const P = "spec.trafficPolicy";

describe("DestinationRule", () => {
  itChecks("DestinationRule", [
    [
      "takes subsets with policies",
      "host: reviews\nsubsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 }, trafficPolicy: { loadBalancer: { simple: RANDOM } } }]",
    ],
    [
      "takes all settings",
      policy(
        "connectionPool: { tcp: { maxConnections: 10, idleTimeout: 0s }, http: { http1MaxPendingRequests: 1, http2KeepAlive: { interval: 1s, timeout: 2s } } }, outlierDetection: { consecutive5xxErrors: 3, interval: 5s, baseEjectionTime: 30s, maxEjectionPercent: 100 }, tls: { mode: ISTIO_MUTUAL }, portLevelSettings: [{ port: { number: 80 }, loadBalancer: { simple: ROUND_ROBIN } }]",
      ),
    ],
    ["wants a host", "host: 'a_b'", 'spec.host: "a_b" is not a host name'],
    [
      "wants subsets with different names",
      "host: a\nsubsets: [{ name: v1 }, { name: v1 }, { name: '' }, { name: a.b, labels: { 'a b': 'c d' } }]",
      'spec.subsets[1].name: "v1" names an earlier',
      "spec.subsets[2].name: is missing",
      'spec.subsets[3].labels["a b"]: "a b" is not a label\'s key',
      'spec.subsets[3].labels["a b"]: "c d" is not a label\'s value',
      'spec.subsets[3].name: "a.b"',
    ],
    ["wants no empty policy", "host: a\ntrafficPolicy: {}", `${P}: is empty`],
    [
      "wants one of tunnel and proxy protocol",
      policy("tunnel: { protocol: GET, targetHost: 'a_b', targetPort: 0 }, proxyProtocol: {}"),
      `${P}.tunnel.protocol: "GET"`,
      `${P}.tunnel.targetHost: "a_b"`,
      `${P}.tunnel.targetPort: port 0`,
      `${P}: only one of tunnel`,
    ],
    ["wants a connection pool that says something", policy("connectionPool: {}"), `${P}.connectionPool: is empty`],
    [
      "wants no negative numbers",
      policy(
        "connectionPool: { tcp: { maxConnections: -1, connectTimeout: 0s }, http: { maxRetries: -1, h2UpgradePolicy: UPGRADE, useClientProtocol: true, http2KeepAlive: { interval: 1s } } }",
      ),
      `${P}.connectionPool.http.http2KeepAlive.timeout: is missing`,
      `${P}.connectionPool.http.maxRetries: must not`,
      `${P}.connectionPool.http.useClientProtocol: can't`,
      `${P}.connectionPool.tcp.connectTimeout: must be at least`,
      `${P}.connectionPool.tcp.maxConnections: must not`,
    ],
    [
      "wants outlier detection in bounds",
      policy(
        "outlierDetection: { consecutiveErrors: 1, consecutiveLocalOriginFailures: 1, interval: 0.1ms, maxEjectionPercent: 101, minHealthPercent: -1 }",
      ),
      `${P}.outlierDetection.consecutiveLocalOriginFailures: needs`,
      `${P}.outlierDetection.interval: `,
      `${P}.outlierDetection.maxEjectionPercent: 101`,
      `${P}.outlierDetection.minHealthPercent: -1`,
      `W ${P}.outlierDetection.consecutiveErrors: is deprecated`,
    ],
    [
      "wants a cookie with a name",
      hash("httpCookie: { ttl: 1s, attributes: [{ name: a }, { name: a }, {}] }"),
      `${P}.loadBalancer.consistentHash.httpCookie.attributes[1].name: "a" is given twice`,
      `${P}.loadBalancer.consistentHash.httpCookie.attributes[2].name: is missing`,
      `${P}.loadBalancer.consistentHash.httpCookie.name: is missing`,
    ],
    [
      "wants a prime table",
      hash("useSourceIp: true, maglev: { tableSize: 10 }"),
      `${P}.loadBalancer.consistentHash.maglev.tableSize: 10 is not a prime`,
    ],
    [
      "wants one ring size",
      hash("httpHeaderName: x, minimumRingSize: 10, ringHash: {}"),
      `${P}.loadBalancer.consistentHash: only one of`,
      `W ${P}.loadBalancer.consistentHash.minimumRingSize: is deprecated`,
    ],
    [
      "wants one hash key",
      hash("useSourceIp: true, httpHeaderName: x"),
      `${P}.loadBalancer.consistentHash: only one of httpHeaderName, useSourceIp`,
    ],
    [
      "wants warmup in bounds",
      policy("loadBalancer: { warmup: { minimumPercent: 101, aggression: 0 } }"),
      `${P}.loadBalancer.warmup.aggression: `,
      `${P}.loadBalancer.warmup.duration: is missing`,
      `${P}.loadBalancer.warmup.minimumPercent: 101`,
    ],
    [
      "wants weights of 100",
      locality("distribute: [{ from: a/b, to: { a/b: 50, c: 0 } }]"),
      `${P}.loadBalancer.localityLbSetting.distribute[0].to.c: weight 0`,
      `${P}.loadBalancer.localityLbSetting.distribute[0].to: the weights make 50`,
    ],
    [
      "wants localities that don't overlap",
      locality(
        "distribute: [{ from: a, to: { a/b/c: 50, a/*: 50 } }, { from: a/b, to: { 'x//y': 100 } }, { from: 'c*/d', to: { x: 100 } }]",
      ),
      `${P}.loadBalancer.localityLbSetting.distribute[0].to["a/*"]: "a/*" overlaps`,
      `${P}.loadBalancer.localityLbSetting.distribute[1].from: "a/b" overlaps`,
      `${P}.loadBalancer.localityLbSetting.distribute[1].to["x//y"]: `,
      `${P}.loadBalancer.localityLbSetting.distribute[2].from: "c*/d": a wildcard stands at the end`,
    ],
    [
      "wants failover between regions",
      locality("failover: [{ from: a, to: a }, { from: a/b, to: 'c*' }], failoverPriority: [topology.kubernetes.io/region]"),
      `${P}.loadBalancer.localityLbSetting.failover[0]: from and to`,
      `${P}.loadBalancer.localityLbSetting.failover[1].from: `,
      `${P}.loadBalancer.localityLbSetting.failover[1].to: `,
      `${P}.loadBalancer.localityLbSetting.failoverPriority[0]: `,
    ],
    [
      "wants distribute or failover, locality or zone",
      policy(
        "outlierDetection: {}, loadBalancer: { zoneAwareLbSetting: { failoverPriority: [topology.kubernetes.io/zone] }, localityLbSetting: { distribute: [{ from: a, to: { a: 100 } }], failover: [{ from: a, to: b }] } }",
      ),
      `${P}.loadBalancer.localityLbSetting: only one of distribute`,
      `${P}.loadBalancer.zoneAwareLbSetting.failoverPriority[0]: `,
      `${P}.loadBalancer: only one of localityLbSetting`,
    ],
    [
      "warns of failover without outlier detection",
      policy("loadBalancer: { localityLbSetting: { failover: [{ from: a, to: b }] } }"),
      `W ${P}.loadBalancer.localityLbSetting: failover never happens`,
    ],
    [
      "wants certificates for MUTUAL",
      policy("tls: { mode: MUTUAL }"),
      `${P}.tls.clientCertificate: is missing`,
      `${P}.tls.privateKey: is missing`,
    ],
    [
      "wants a credential alone",
      policy("tls: { mode: SIMPLE, credentialName: c, caCertificates: x }"),
      `${P}.tls.caCertificates: can't be given with credentialName`,
    ],
    [
      "wants nothing to check where nothing is checked",
      policy("tls: { mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a], caCertificates: b }"),
      `${P}.tls.caCertificates: can't be given with insecureSkipVerify`,
      `${P}.tls.subjectAltNames: can't`,
    ],
    [
      "wants a ConfigMap of its own namespace",
      policy("tls: { mode: SIMPLE, credentialName: 'configmap://other/c' }"),
      `${P}.tls.credentialName: names a ConfigMap outside`,
    ],
    [
      "wants ports and settings for them",
      policy("portLevelSettings: [{}]"),
      `${P}.portLevelSettings[0].port: is missing`,
      `${P}.portLevelSettings[0]: has no settings`,
    ],
    [
      "wants its own namespace alone when it selects workloads",
      "host: a\nworkloadSelector: { matchLabels: { app: x } }\nexportTo: [other]",
      "spec.exportTo: a rule that selects workloads",
    ],
    ["warns of a selector without labels", "host: a\nworkloadSelector: {}", "W spec.workloadSelector: has no labels"],
    [
      "wants no wildcards in a selector",
      "host: a\nworkloadSelector: { matchLabels: { 'a*': 'b*' } }",
      'spec.workloadSelector.matchLabels["a*"]: wildcards',
    ],
  ]);
});
