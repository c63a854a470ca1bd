/** DestinationRule loadBalancer.consistentHash and warmup: what clusters, routes and TCP chains get for it, as Istio generates it. */
import { type JsonValue, toJson } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { clustersOf, listenersOf, pushContextOf, routerNode, routesOf, sidecarNode } from "../../../test/support/mesh.ts";
import { ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { RouteAction_HashPolicySchema } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import { TcpProxySchema } from "../../api/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";

const object = (kind: string, spec: string, name = kind.toLowerCase()) => `
apiVersion: networking.istio.io/v1
kind: ${kind}
metadata: {name: ${name}, namespace: default}
spec: ${spec}
---`;

const services =
  object(
    "ServiceEntry",
    "{hosts: [web.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.1.0.1}]}",
    "web",
  ) +
  object(
    "ServiceEntry",
    "{hosts: [db.test], resolution: STATIC, addresses: [10.0.0.5], ports: [{number: 5432, name: tcp, protocol: TCP}]}",
    "db",
  ) +
  object(
    "Gateway",
    "{selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}, {port: {number: 5432, name: tcp, protocol: TCP}, hosts: ['*']}]}",
  );

const rule = (host: string, spec: string) => object("DestinationRule", `{host: ${host}, ${spec}}`);
const hashing = (hash: string) => `trafficPolicy: {loadBalancer: {consistentHash: ${hash}}}`;
const virtualService = (spec: string) => object("VirtualService", `{hosts: [web.test], gateways: [mesh, gateway], ${spec}}`);

function balancing(host: string, loadBalancer: string): JsonValue {
  const push = pushContextOf(services + rule(host, `trafficPolicy: {loadBalancer: ${loadBalancer}}`));
  const json = toJson(ClusterSchema, clustersOf(sidecarNode(), push).get(`outbound|80||${host}`)!, { useProtoFieldName: true });
  return Object.fromEntries(
    Object.entries(json as object).filter(([name]) => name.endsWith("_lb_config") || name === "lb_policy"),
  ) as JsonValue;
}

/** Hash policies and retry predicates of the only route to web.test. */
function routeOf(configuration: RouteConfiguration): { hash: JsonValue[]; predicates: string[] } {
  const host = configuration.virtualHosts.find(({ domains }) => domains.includes("web.test"))!;
  const { action } = host.routes[0]!;
  if (action.case !== "route") throw new Error("no route");
  return {
    hash: action.value.hashPolicy.map((policy) => toJson(RouteAction_HashPolicySchema, policy, { useProtoFieldName: true })),
    predicates: action.value.retryPolicy?.retryHostPredicate.map(({ name }) => name) ?? [],
  };
}

const toWeb = virtualService("http: [{route: [{destination: {host: web.test}}]}]");

describe("consistentHash", () => {
  it.each([
    ["httpHeaderName: x-user", { header: { header_name: "x-user" } }],
    ["httpCookie: {name: session, ttl: 90s, path: /p}", { cookie: { name: "session", ttl: "90s", path: "/p" } }],
    [
      "httpCookie: {name: session, ttl: 0s, attributes: [{name: SameSite, value: Lax}]}",
      { cookie: { name: "session", ttl: "0s", attributes: [{ name: "SameSite", value: "Lax" }] } },
    ],
    ["httpCookie: {name: session}", { cookie: { name: "session" } }],
    ["useSourceIp: true", { connection_properties: { source_ip: true } }],
    ["useSourceIp: false", { connection_properties: {} }],
    ["httpQueryParameterName: user", { query_parameter: { name: "user" } }],
  ])("becomes the hash policy of sidecars' and gateways' routes: %s", (hash, policy) => {
    const balanced = services + rule("web.test", hashing(`{${hash}}`));
    const plain = pushContextOf(balanced);
    expect(routeOf(routesOf("80", sidecarNode(), plain)).hash).toEqual([policy]);
    const routed = pushContextOf(balanced + toWeb);
    // The same endpoint is to be tried again.
    const expected = { hash: [policy], predicates: [] };
    expect(routeOf(routesOf("80", sidecarNode(), routed))).toEqual(expected);
    expect(routeOf(routesOf("http.8080", routerNode(), routed))).toEqual(expected);
  });

  it("is that of the destination's subset and port", () => {
    const rules = rule(
      "web.test",
      `${hashing("{httpHeaderName: all}")}, subsets: [{name: own, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: own}}}}, {name: other, labels: {}}]`,
    );
    const hashOf = (destinations: string) =>
      routeOf(
        routesOf("80", sidecarNode(), pushContextOf(services + rules + virtualService(`http: [{route: [${destinations}]}]`))),
      ).hash.map((policy) => (policy as { header: { header_name: string } }).header.header_name);
    expect(hashOf("{destination: {host: web.test, subset: own}}")).toEqual(["own"]);
    expect(hashOf("{destination: {host: web.test, subset: other}}")).toEqual(["all"]);
    expect(
      hashOf(
        "{destination: {host: web.test, subset: own}, weight: 20}, {destination: {host: web.test}, weight: 80}, {destination: {host: web.test, subset: other}, weight: 0}",
      ),
    ).toEqual(["own", "all"]);
  });

  it("becomes a ring or a table", () => {
    const ring = (size: string) => ({ lb_policy: "RING_HASH", ring_hash_lb_config: { minimum_ring_size: size } });
    const by = (rest: string) => balancing("web.test", `{consistentHash: {httpHeaderName: x${rest}}}`);
    expect(by("")).toMatchObject(ring("1024"));
    expect(by(", minimumRingSize: 7")).toMatchObject(ring("7"));
    expect(by(", ringHash: {minimumRingSize: 9}")).toMatchObject(ring("9"));
    expect(by(", ringHash: {}")).not.toHaveProperty("ring_hash_lb_config");
    expect(by(", ringHash: {}")).toMatchObject({ lb_policy: "RING_HASH" });
    expect(by(", maglev: {}")).not.toHaveProperty("maglev_lb_config");
    expect(by(", maglev: {tableSize: 251}")).toMatchObject({ lb_policy: "MAGLEV", maglev_lb_config: { table_size: "251" } });
  });
});

describe("consistentHash of connections", () => {
  const hashOf = (listeners: ReturnType<typeof listenersOf>, name: string) => {
    const { filterChains, defaultFilterChain } = listeners.get(name)!;
    return [...filterChains, ...(defaultFilterChain ? [defaultFilterChain] : [])]
      .flatMap(({ filters }) => filters)
      .flatMap(({ configType }) => (configType.case === "typedConfig" ? [anyUnpack(configType.value, TcpProxySchema)] : []))
      .filter((proxy) => proxy !== undefined)
      .map(({ statPrefix, hashPolicy }) => [statPrefix.replace(/;$/, ""), hashPolicy.map(({ policySpecifier }) => policySpecifier.case)]);
  };
  const sidecar = (yaml: string) => hashOf(listenersOf(sidecarNode(), pushContextOf(services + yaml)), "10.0.0.5_5432");
  const gateway = (yaml: string) => hashOf(listenersOf(routerNode(), pushContextOf(services + yaml)), "0.0.0.0_5432");
  const toDb = (route: string) => object("VirtualService", `{hosts: [db.test], gateways: [mesh, gateway], tcp: [{route: [${route}]}]}`);
  const bySource = rule(
    "db.test",
    `${hashing("{useSourceIp: true}")}, subsets: [{name: random, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]`,
  );
  const own = "outbound|5432||db.test";

  it("goes by the source's address and by nothing else", () => {
    expect(sidecar("")).toContainEqual([own, []]);
    expect(sidecar(bySource)).toContainEqual([own, ["sourceIp"]]);
    expect(sidecar(rule("db.test", hashing("{httpHeaderName: x-user}")))).toContainEqual([own, []]);
    expect(sidecar(rule("db.test", hashing("{useSourceIp: false}")))).toContainEqual([own, []]);
  });

  it("is that of a route's only destination, or of the first one's service", () => {
    const only = toDb("{destination: {host: db.test, port: {number: 5432}}}");
    expect(sidecar(bySource + only)).toContainEqual([own, ["sourceIp"]]);
    expect(gateway(bySource + only)).toEqual([[own, ["sourceIp"]]]);
    const subset = toDb("{destination: {host: db.test, port: {number: 5432}, subset: random}}");
    expect(gateway(bySource + subset)).toEqual([["outbound|5432|random|db.test", []]]);
    const several = toDb(
      "{destination: {host: db.test, port: {number: 5432}, subset: random}, weight: 50}, {destination: {host: db.test, port: {number: 5432}}, weight: 50}",
    );
    expect(sidecar(bySource + several)).toContainEqual(["virtualservice.default", ["sourceIp"]]);
  });
});

describe("warmup", () => {
  it.each([
    [
      "{warmup: {duration: 30s}}",
      "LEAST_REQUEST",
      { slow_start_window: "30s", aggression: { default_value: 1, runtime_key: "(" }, min_weight_percent: { value: 10 } },
    ],
    [
      "{simple: ROUND_ROBIN, warmup: {duration: 30s, aggression: 2, minimumPercent: 25}}",
      "ROUND_ROBIN",
      { slow_start_window: "30s", aggression: { default_value: 2, runtime_key: "(" }, min_weight_percent: { value: 25 } },
    ],
    ["{simple: LEAST_CONN, warmupDurationSecs: 20s}", "LEAST_REQUEST", { slow_start_window: "20s" }],
  ])("%s", (loadBalancer, policy, slowStart) => {
    const field = policy === "ROUND_ROBIN" ? "round_robin_lb_config" : "least_request_lb_config";
    const expected = { [field]: { slow_start_config: slowStart }, ...(policy === "ROUND_ROBIN" ? {} : { lb_policy: policy }) };
    expect(balancing("web.test", loadBalancer)).toMatchObject(expected);
  });

  it("is nothing to a policy that can't start slowly", () => {
    expect(balancing("web.test", "{simple: RANDOM, warmup: {duration: 30s}}")).toEqual({ lb_policy: "RANDOM" });
  });
});
