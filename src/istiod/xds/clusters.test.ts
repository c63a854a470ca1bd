import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { addressesOf, clustersOf, endpointsOf, pushContextOf, routerNode, sidecarNode } from "../../../test/support/mesh.ts";
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { Cluster_DiscoveryType, Cluster_LbPolicy } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { UpstreamTlsContextSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { HttpProtocolOptionsSchema } from "../../api/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";

const entry = (more = "", host = "a.test") => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${host.replaceAll(".", "-").replace("*", "wild")}, namespace: default}
spec:
  hosts: ["${host}"]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 10.1.0.1, locality: r1/z1, labels: {version: v1}}
  - {address: 10.1.0.2, locality: r1/z2, weight: 2}
  - {address: 10.1.0.3, locality: r2/z1}
${more}
---`;

const rule = (spec: string, name = "dr", namespace = "default") => `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ${name}, namespace: ${namespace}}
spec: ${spec}
---`;

const main = "outbound|80||a.test";

function clusterWith(policy: string): Cluster {
  return clustersOf(routerNode(), pushContextOf(entry() + rule(`{host: a.test, trafficPolicy: ${policy}}`))).get(main)!;
}

describe("clusters", () => {
  it("sets no limit and least request when no rule speaks", () => {
    const cluster = clustersOf(routerNode(), pushContextOf(entry())).get(main)!;
    expect(cluster.clusterDiscoveryType).toEqual({ case: "type", value: Cluster_DiscoveryType.EDS });
    expect(cluster.lbPolicy).toBe(Cluster_LbPolicy.LEAST_REQUEST);
    expect(cluster.connectTimeout?.seconds).toBe(10n);
    expect(cluster.altStatName).toBe(`${main};`);
    expect(cluster.circuitBreakers?.thresholds[0]).toMatchObject({
      maxConnections: 4294967295,
      maxPendingRequests: 4294967295,
      maxRequests: 4294967295,
      maxRetries: 4294967295,
    });
    expect(cluster.outlierDetection).toBeUndefined();
  });

  it("takes limits and timeouts of the connection pool", () => {
    const cluster = clusterWith(
      "{connectionPool: {tcp: {maxConnections: 1, connectTimeout: 250ms}, http: {http1MaxPendingRequests: 2, http2MaxRequests: 3, maxRetries: 4, maxRequestsPerConnection: 5, idleTimeout: 7s}}}",
    );
    expect(cluster.circuitBreakers?.thresholds[0]).toMatchObject({
      maxConnections: 1,
      maxPendingRequests: 2,
      maxRequests: 3,
      maxRetries: 4,
    });
    expect(cluster.connectTimeout).toMatchObject({ seconds: 0n, nanos: 250_000_000 });
    const options = anyUnpack(
      cluster.typedExtensionProtocolOptions["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]!,
      HttpProtocolOptionsSchema,
    );
    expect(options?.commonHttpProtocolOptions).toMatchObject({ maxRequestsPerConnection: 5, idleTimeout: { seconds: 7n } });
  });

  it.each([
    ["{}", { budgetPercent: { value: 20 }, minRetryConcurrency: 3 }],
    ["{percent: 12.5, minRetryConcurrency: 7}", { budgetPercent: { value: 12.5 }, minRetryConcurrency: 7 }],
    ["{budgetInterval: 10s}", { budgetPercent: { value: 20 }, minRetryConcurrency: 3, budgetInterval: { seconds: 10n } }],
    ["{percent: 0}", { budgetPercent: { value: 0 }, minRetryConcurrency: 3 }],
  ])("has a budget of retries: %s", (budget, expected) => {
    expect(clusterWith(`{retryBudget: ${budget}}`).circuitBreakers?.thresholds[0]?.retryBudget).toMatchObject(expected);
    expect(clusterWith("{connectionPool: {}}").circuitBreakers?.thresholds[0]?.retryBudget).toBeUndefined();
  });

  it.each([
    ["ROUND_ROBIN", Cluster_LbPolicy.ROUND_ROBIN],
    ["RANDOM", Cluster_LbPolicy.RANDOM],
    ["LEAST_REQUEST", Cluster_LbPolicy.LEAST_REQUEST],
    ["LEAST_CONN", Cluster_LbPolicy.LEAST_REQUEST],
    ["PASSTHROUGH", Cluster_LbPolicy.CLUSTER_PROVIDED],
  ])("balances by %s", (simple, policy) => {
    expect(clusterWith(`{loadBalancer: {simple: ${simple}}}`).lbPolicy).toBe(policy);
  });

  it("hashes with a ring of 1024 or a Maglev table", () => {
    expect(clusterWith("{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}").lbConfig).toMatchObject({
      case: "ringHashLbConfig",
      value: { minimumRingSize: 1024n },
    });
    expect(clusterWith("{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 251}}}}").lbConfig).toMatchObject({
      case: "maglevLbConfig",
      value: { tableSize: 251n },
    });
  });

  it("ejects by what outlier detection says, and always sets the panic threshold", () => {
    const { outlierDetection, commonLbConfig } = clusterWith(
      "{outlierDetection: {consecutive5xxErrors: 3, consecutiveGatewayErrors: 0, interval: 5s, baseEjectionTime: 15s, maxEjectionPercent: 50}}",
    );
    expect(outlierDetection).toMatchObject({
      consecutive5xx: 3,
      enforcingConsecutive5xx: 100,
      consecutiveGatewayFailure: 0,
      enforcingConsecutiveGatewayFailure: 0,
      enforcingSuccessRate: 0,
      maxEjectionPercent: 50,
    });
    expect(commonLbConfig?.healthyPanicThreshold?.value).toBe(0);
  });

  it("counts what the proxy finds out apart where a rule wants it so, and knows errors by their codes", () => {
    const cluster = clusterWith(
      "{outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4, minHealthPercent: 30, outlierDetectionHttpErrorCodes: [429, 503]}}",
    );
    expect(cluster.outlierDetection).toMatchObject({
      splitExternalLocalOriginErrors: true,
      consecutiveLocalOriginFailure: 4,
      enforcingConsecutiveLocalOriginFailure: 100,
      enforcingLocalOriginSuccessRate: 0,
    });
    expect(cluster.outlierDetection?.enforcingConsecutive5xx).toBeUndefined();
    expect(cluster.commonLbConfig?.healthyPanicThreshold?.value).toBe(30);
    const options = cluster.typedExtensionProtocolOptions["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]!;
    const { rule } = anyUnpack(options, HttpProtocolOptionsSchema)!.outlierDetection!.errorMatcher!;
    expect(rule.case === "orMatch" && rule.value.rules.map((each) => each.rule)).toMatchObject([
      { case: "httpResponseHeadersMatch", value: { headers: [{ name: ":status" }] } },
      { case: "httpResponseHeadersMatch", value: { headers: [{ name: ":status" }] } },
    ]);
  });

  it("ejects nobody by what a rule sets to 0", () => {
    expect(clusterWith("{outlierDetection: {consecutive5xxErrors: 0}}").outlierDetection).toMatchObject({
      consecutive5xx: 0,
      enforcingConsecutive5xx: 0,
    });
  });

  it("lets a port's settings replace the rule's for that port, inheriting nothing", () => {
    const cluster = clusterWith(
      "{connectionPool: {tcp: {maxConnections: 9}}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}",
    );
    expect(cluster.lbPolicy).toBe(Cluster_LbPolicy.RANDOM);
    expect(cluster.circuitBreakers?.thresholds[0]?.maxConnections).toBe(4294967295);
  });

  it("lets a subset's policy override the rule's field by field", () => {
    const push = pushContextOf(
      entry() +
        rule(
          "{host: a.test, trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {maxConnections: 9}}}, subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}]}",
        ),
    );
    const subset = clustersOf(routerNode(), push).get("outbound|80|v1|a.test")!;
    expect(subset.lbPolicy).toBe(Cluster_LbPolicy.ROUND_ROBIN);
    expect(subset.circuitBreakers?.thresholds[0]?.maxConnections).toBe(9);
    expect(addressesOf(endpointsOf("outbound|80|v1|a.test", routerNode(), push))).toEqual(["10.1.0.1:80"]);
  });

  it("prefers the rule of the proxy's namespace, then the service's, then the root's, and the most specific host", () => {
    const pool = (host: string, max: number) => `{host: "${host}", trafficPolicy: {connectionPool: {tcp: {maxConnections: ${max}}}}}`;
    const rules =
      rule(pool("*.test", 1), "wide") +
      rule(pool("a.test", 2), "exact") +
      rule(pool("a.test", 3), "root", "istio-system") +
      rule(pool("a.test", 4), "mine", "team");
    const push = pushContextOf(entry() + rules);
    const limit = (namespace: string) =>
      clustersOf(routerNode({ namespace }), push).get(main)?.circuitBreakers?.thresholds[0]?.maxConnections;
    expect([limit("team"), limit("default"), limit("third")]).toEqual([4, 2, 2]);
  });

  it("keeps a service that is exported to its own namespace from others", () => {
    const push = pushContextOf(entry("  exportTo: ['.']"));
    expect(clustersOf(routerNode(), push).has(main)).toBe(true);
    expect(clustersOf(routerNode({ namespace: "other" }), push).has(main)).toBe(false);
  });

  it("resolves DNS services in the proxy, and leaves out one that has nothing to resolve", () => {
    const dns = (host: string, endpoints: string) => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${host.replaceAll(".", "-")}, namespace: default}
spec: {hosts: [${host}], ports: [{number: 443, name: https, protocol: HTTPS}], resolution: DNS${endpoints}}
---`;
    const push = pushContextOf(dns("d.test", "") + dns("e.test", ", workloadSelector: {labels: {app: none}}"));
    const clusters = clustersOf(routerNode(), push);
    expect(clusters.get("outbound|443||d.test")?.clusterDiscoveryType.value).toBe(Cluster_DiscoveryType.STRICT_DNS);
    expect(addressesOf(clusters.get("outbound|443||d.test")!.loadAssignment!)).toEqual(["d.test:443"]);
    expect(clusters.has("outbound|443||e.test")).toBe(false);
  });

  it("originates TLS for SIMPLE with the SNI and CA that the rule names", () => {
    const socket = clusterWith(
      "{tls: {mode: SIMPLE, sni: x.test, caCertificates: /etc/ca.pem, subjectAltNames: [x.test]}}",
    ).transportSocket;
    const context = socket?.configType.case === "typedConfig" ? anyUnpack(socket.configType.value, UpstreamTlsContextSchema) : undefined;
    expect(context?.sni).toBe("x.test");
    expect(context?.commonTlsContext?.validationContextType.value).toMatchObject({ trustedCa: { specifier: { value: "/etc/ca.pem" } } });
  });

  it("gives sidecars the special clusters, gateways the black hole alone", () => {
    const special = (names: Iterable<string>) => [...names].filter((name) => !name.includes("|")).sort();
    const push = pushContextOf(entry());
    expect(special(clustersOf(sidecarNode(), push).keys())).toEqual([
      "BlackHoleCluster",
      "InboundPassthroughCluster",
      "PassthroughCluster",
    ]);
    expect(special(clustersOf(routerNode(), push).keys())).toEqual(["BlackHoleCluster"]);
    // And whom somebody serves secrets beside it, the way there.
    const beside = clustersOf(routerNode({ metadata: { credential: "true" } }), push);
    expect(special(beside.keys())).toEqual(["BlackHoleCluster", "sds-external"]);
  });

  it("gives the same bytes to proxies that see the same", () => {
    const push = pushContextOf(entry());
    clustersOf(routerNode(), push);
    const size = push.encoded.size;
    clustersOf(routerNode({ ip: "10.9.0.2" }), push);
    expect(push.encoded.size).toBe(size);
  });
});

describe("endpoints", () => {
  const priorities = (push: ReturnType<typeof pushContextOf>, locality: { region: string; zone?: string }) =>
    Object.fromEntries(
      endpointsOf(main, routerNode({ locality }), push).endpoints.map((group) => [
        `${group.locality?.region}/${group.locality?.zone}`,
        group.priority,
      ]),
    );

  it("groups by locality, with the sum of the weights", () => {
    const assignment = endpointsOf(main, routerNode(), pushContextOf(entry()));
    expect(assignment.endpoints.map((group) => [group.locality?.zone, group.loadBalancingWeight, group.priority])).toEqual([
      ["z1", 1, 0],
      ["z2", 2, 0],
      ["z1", 1, 0],
    ]);
  });

  it("fails over by locality only where outliers are detected", () => {
    const withOutliers = pushContextOf(entry() + rule("{host: a.test, trafficPolicy: {outlierDetection: {}}}"));
    expect(priorities(withOutliers, { region: "r1", zone: "z1" })).toEqual({ "r1/z1": 0, "r1/z2": 1, "r2/z1": 2 });
    expect(priorities(pushContextOf(entry()), { region: "r1", zone: "z1" })).toEqual({ "r1/z1": 0, "r1/z2": 0, "r2/z1": 0 });
  });

  it("distributes by weight to the localities that a rule names, and to no other", () => {
    const push = pushContextOf(
      entry() +
        rule(
          "{host: a.test, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: 'r1/*', to: {'r1/z1': 80, 'r2/*': 20}}]}}}}",
        ),
    );
    const assignment = endpointsOf(main, routerNode({ locality: { region: "r1", zone: "z1" } }), push);
    expect(assignment.endpoints.map((group) => [group.locality?.region, group.locality?.zone, group.loadBalancingWeight])).toEqual([
      ["r1", "z1", 80],
      ["r2", "z1", 20],
    ]);
    expect(clustersOf(routerNode(), push).get(main)?.commonLbConfig?.localityConfigSpecifier.case).toBe("localityWeightedLbConfig");
  });

  it("is empty for a cluster that no longer exists", () => {
    expect(endpointsOf("outbound|80||gone.test", routerNode(), pushContextOf(entry())).endpoints).toEqual([]);
  });
});
