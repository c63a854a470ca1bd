import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { clustersOf, listenersOf, pushContextOf, routesOf, sidecarNode } from "../../../test/support/mesh.ts";
import type { FilterChain } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { Listener } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { HttpConnectionManagerSchema } from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { TcpProxySchema } from "../../api/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";

const entry = (name: string, ports: string, rest = "") => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${name}, namespace: default}
spec: {hosts: [${name}.test], resolution: STATIC, ports: ${ports}${rest}}
---`;
const object = (kind: string, name: string, spec: string) => `
apiVersion: networking.istio.io/v1
kind: ${kind}
metadata: {name: ${name}, namespace: default}
spec: ${spec}
---`;
const sidecar = (egress: string) => object("Sidecar", "default", `{egress: ${egress}}`);

const mesh =
  entry("shop", "[{number: 9080, name: http, protocol: HTTP}, {number: 9090, name: tcp, protocol: TCP}]") +
  entry("cart", "[{number: 9080, name: http, protocol: HTTP}]") +
  entry("blog", "[{number: 8000, name: http, protocol: HTTP}]") +
  entry("db", "[{number: 5432, name: tcp, protocol: TCP}]", ", addresses: [10.0.0.5]");

function listeners(yaml: string, node = sidecarNode()): Map<string, Listener> {
  const all = listenersOf(node, pushContextOf(yaml));
  for (const name of ["virtualOutbound", "virtualInbound"]) all.delete(name);
  return all;
}

/** Where a chain leads: `rds:NAME`, a cluster, or weighted ones. */
function target(chain: FilterChain | undefined): unknown {
  const config = chain?.filters[0]?.configType;
  if (config?.case !== "typedConfig") return undefined;
  const manager = anyUnpack(config.value, HttpConnectionManagerSchema);
  if (manager) return manager.routeSpecifier.case === "rds" ? `rds:${manager.routeSpecifier.value.routeConfigName}` : undefined;
  const specifier = anyUnpack(config.value, TcpProxySchema)?.clusterSpecifier;
  return specifier?.case === "weightedClusters"
    ? specifier.value.clusters.map(({ name, weight }) => `${name}=${weight}`)
    : specifier?.value;
}

function describeChains({ filterChains, defaultFilterChain }: Listener): unknown[] {
  const match = ({ filterChainMatch: m }: FilterChain) =>
    m ? [...m.serverNames, ...m.prefixRanges.map((r) => `${r.addressPrefix}/${r.prefixLen}`), ...m.applicationProtocols].join() : "";
  return [
    ...filterChains.map((chain) => [match(chain), target(chain)]),
    ...(defaultFilterChain ? [["default", target(defaultFilterChain)]] : []),
  ];
}

const hosts = (name: string, yaml: string) => routesOf(name, sidecarNode(), pushContextOf(yaml)).virtualHosts.map((host) => host.name);
const outbound = (yaml: string) =>
  [...clustersOf(sidecarNode(), pushContextOf(yaml)).keys()].filter((name) => name.startsWith("outbound|")).sort();

describe("egress listener of a Sidecar", () => {
  const onPort = sidecar(
    "[{port: {number: 9080, protocol: HTTP, name: http}, bind: 127.0.0.2, captureMode: NONE, hosts: ['./*']}, {hosts: ['./blog.test', './shop.test']}]",
  );

  it("takes its port itself, where captureMode is NONE", () => {
    const all = listeners(mesh + onPort);
    expect([...all.keys()].sort()).toEqual(["0.0.0.0_8000", "0.0.0.0_9080", "0.0.0.0_9090", "127.0.0.2_9080"]);
    const listener = all.get("127.0.0.2_9080")!;
    expect(listener.bindToPort).toBeUndefined();
    expect(listener.address?.address.value).toMatchObject({ address: "127.0.0.2", portSpecifier: { value: 9080 } });
    expect(all.get("0.0.0.0_8000")?.bindToPort).toBe(false);
  });

  it("takes all for HTTP that comes to an address of its own", () => {
    const listener = listeners(mesh + onPort).get("127.0.0.2_9080")!;
    expect(describeChains(listener)).toEqual([["", "rds:9080"]]);
    expect(listener.listenerFilters).toEqual([]);
  });

  it("routes to the services that have its port, and knows no others", () => {
    expect(hosts("9080", mesh + onPort)).toEqual(["cart.test:9080", "shop.test:9080", "allow_any"]);
    const narrow = mesh + sidecar("[{port: {number: 9080, protocol: HTTP, name: http}, hosts: ['./shop.test', './blog.test']}]");
    expect(hosts("9080", narrow)).toEqual(["shop.test:9080", "allow_any"]);
    expect(outbound(narrow)).toEqual(["outbound|9080||shop.test"]);
  });

  it("puts the ports of a service together that different listeners import", () => {
    const two = sidecar(
      "[{port: {number: 9090, protocol: TCP, name: tcp}, hosts: ['./shop.test']}, {port: {number: 9080, protocol: HTTP, name: http}, hosts: ['./shop.test']}]",
    );
    expect(outbound(mesh + two)).toEqual(["outbound|9080||shop.test", "outbound|9090||shop.test"]);
    expect([...listeners(mesh + two).keys()]).toEqual(["0.0.0.0_9090", "0.0.0.0_9080"]);
  });

  it("captures by default, on the address that it names or on that of the protocol", () => {
    const captured = (rest: string) => {
      const [[name, listener] = []] = listeners(
        mesh + sidecar(`[{port: {number: 5432, protocol: TCP, name: tcp}${rest}, hosts: ['./db.test']}]`),
      );
      return [name, listener?.bindToPort];
    };
    expect(captured("")).toEqual(["10.0.0.5_5432", false]);
    expect(captured(", bind: 127.0.0.3")).toEqual(["127.0.0.3_5432", false]);
    expect(captured(", captureMode: NONE")).toEqual(["127.0.0.1_5432", undefined]);
    expect(captured(", bind: 127.0.0.3, captureMode: NONE")).toEqual(["127.0.0.3_5432", undefined]);
  });

  it("keeps its port to itself: the listener without port leaves it alone", () => {
    const locked = sidecar("[{port: {number: 9080, protocol: TCP, name: tcp}, hosts: ['./cart.test']}, {hosts: ['./*']}]");
    expect(describeChains(listeners(mesh + locked).get("0.0.0.0_9080")!)).toEqual([["", "outbound|9080||cart.test"]]);
  });

  it("makes listeners for the services' own ports on the address that it names, where it names no port", () => {
    const all = listeners(mesh + sidecar("[{bind: 127.0.0.4, captureMode: NONE, hosts: ['./*']}]"));
    expect([...all.keys()].sort()).toEqual(["127.0.0.4_5432", "127.0.0.4_8000", "127.0.0.4_9080", "127.0.0.4_9090"]);
  });

  it("serves all ports as an HTTP proxy, told apart by the Host's port", () => {
    const yaml = mesh + sidecar("[{port: {number: 7443, protocol: HTTP_PROXY, name: proxy}, captureMode: NONE, hosts: ['./*']}]");
    expect(describeChains(listeners(yaml).get("127.0.0.1_7443")!)).toEqual([["", "rds:7443"]]);
    const tables = routesOf("7443", sidecarNode(), pushContextOf(yaml + entry("plain", "[{number: 80, name: http, protocol: HTTP}]")));
    expect(tables.ignorePortInHostMatching).toBe(false);
    expect(Object.fromEntries(tables.virtualHosts.map(({ name, domains }) => [name, domains]))).toEqual({
      "blog.test:8000": ["blog.test:8000", "blog.test.:8000"],
      "cart.test:9080": ["cart.test:9080", "cart.test.:9080"],
      "plain.test:80": ["plain.test", "plain.test:80", "plain.test.", "plain.test.:80"],
      "shop.test:9080": ["shop.test:9080", "shop.test.:9080"],
      allow_any: ["*"],
    });
  });

  it("listens on a Unix socket, with a route table of that name", () => {
    const yaml = mesh + sidecar("[{port: {number: 0, protocol: HTTP, name: uds}, bind: 'unix:///run/out', hosts: ['./blog.test']}]");
    const listener = listeners(yaml).get("unix:///run/out_0")!;
    expect(listener.address?.address).toMatchObject({ case: "pipe", value: { path: "/run/out" } });
    expect([listener.bindToPort, describeChains(listener)]).toEqual([undefined, [["", "rds:unix:///run/out"]]]);
    expect(hosts("unix:///run/out", yaml)).toEqual(["blog.test:8000", "allow_any"]);
  });

  it("leaves privileged ports to those who may have them", () => {
    const yaml = `${entry("plain", "[{number: 80, name: http, protocol: HTTP}]")}${sidecar("[{captureMode: NONE, hosts: ['./*']}]")}`;
    expect([...listeners(yaml).keys()]).toEqual(["127.0.0.1_80"]);
    expect([...listeners(yaml, sidecarNode({ metadata: { UNPRIVILEGED_POD: "true" } })).keys()]).toEqual([]);
  });

  it("trims the destinations of a VirtualService to the ports that it names", () => {
    const route = (port: string) =>
      object("VirtualService", "vs", `{hosts: [cart.test], http: [{route: [{destination: {host: shop.test${port}}}]}]}`);
    const imported = sidecar("[{hosts: ['./cart.test']}]");
    expect(outbound(mesh + imported + route(", port: {number: 9080}"))).toEqual(["outbound|9080||cart.test", "outbound|9080||shop.test"]);
    expect(outbound(mesh + imported + route(""))).toEqual([
      "outbound|9080||cart.test",
      "outbound|9080||shop.test",
      "outbound|9090||shop.test",
    ]);
  });

  it("leaves out what it excludes", () => {
    expect(outbound(mesh + sidecar("[{hosts: ['./*', '~./shop.test']}]"))).toEqual([
      "outbound|5432||db.test",
      "outbound|8000||blog.test",
      "outbound|9080||cart.test",
    ]);
  });
});

describe("outbound TCP of a sidecar", () => {
  const tls = (rest = "") => entry("secure", "[{number: 443, name: tls, protocol: TLS}]", rest);
  const chainsOf = (yaml: string, name: string) => describeChains(listeners(yaml).get(name)!);

  it("is told apart by server name, as tls rules say", () => {
    const rule = object(
      "VirtualService",
      "vs",
      "{hosts: [secure.test], tls: [{match: [{port: 443, sniHosts: [a.test, b.test]}], route: [{destination: {host: blog.test}}]}, {match: [{port: 444, sniHosts: [c.test]}], route: [{destination: {host: cart.test}}]}]}",
    );
    expect(chainsOf(mesh + tls(), "0.0.0.0_443")).toEqual([
      ["secure.test", "outbound|443||secure.test"],
      ["default", "PassthroughCluster"],
    ]);
    expect(chainsOf(mesh + tls() + rule, "0.0.0.0_443")).toEqual([
      ["a.test,b.test", "outbound|8000||blog.test"],
      ["default", "PassthroughCluster"],
    ]);
    expect(chainsOf(mesh + tls(", addresses: [10.0.0.6]"), "10.0.0.6_443")).toEqual([["", "outbound|443||secure.test"]]);
  });

  it("is split by weight and by destination subnet, as tcp rules say", () => {
    const rule = (tcp: string) => object("VirtualService", "vs", `{hosts: [db.test], tcp: ${tcp}}`);
    const both = "route: [{destination: {host: db.test}, weight: 90}, {destination: {host: blog.test}, weight: 10}]";
    expect(chainsOf(mesh + rule(`[{${both}}]`), "10.0.0.5_5432")).toEqual([
      ["", ["outbound|5432||db.test=90", "outbound|8000||blog.test=10"]],
    ]);
    const subnet = "[{match: [{destinationSubnets: [10.1.2.3/16]}], route: [{destination: {host: blog.test}}]}]";
    expect(chainsOf(mesh + rule(subnet), "10.0.0.5_5432")).toEqual([
      ["10.1.0.0/16", "outbound|8000||blog.test"],
      ["default", "outbound|5432||db.test"],
    ]);
  });

  it("shares a port with HTTP, and with address ranges of others", () => {
    const yaml =
      entry("web", "[{number: 7000, name: http, protocol: HTTP}]") +
      entry("one", "[{number: 7000, name: tcp, protocol: TCP}]", ", addresses: [10.1.0.0/16]") +
      entry("same", "[{number: 7000, name: tcp, protocol: TCP}]", ", addresses: [10.1.9.9/16]");
    expect(chainsOf(yaml, "0.0.0.0_7000")).toEqual([
      ["http/1.1,h2c", "rds:7000"],
      ["10.1.0.0/16", "outbound|7000||one.test"],
      ["default", "PassthroughCluster"],
    ]);
  });

  it("does not share a port where the server speaks first", () => {
    const yaml =
      entry("web", "[{number: 7000, name: http, protocol: HTTP}]") + entry("sql", "[{number: 7000, name: sql, protocol: MySQL}]");
    expect(chainsOf(yaml, "0.0.0.0_7000")).toEqual([
      ["http/1.1,h2c", "rds:7000"],
      ["default", "PassthroughCluster"],
    ]);
  });
});

describe("sidecar routes of a VirtualService", () => {
  it("are counted by the statPrefix of their match alone", () => {
    const rule = "[{match: [{uri: {prefix: /a}, statPrefix: a-calls}, {uri: {prefix: /b}}], route: [{destination: {host: cart.test}}]}]";
    const { virtualHosts } = routesOf(
      "9080",
      sidecarNode(),
      pushContextOf(mesh + object("VirtualService", "vs", `{hosts: [cart.test], http: ${rule}}`)),
    );
    const { routes } = virtualHosts.find(({ name }) => name === "cart.test:9080")!;
    expect(routes.map(({ statPrefix }) => statPrefix)).toEqual(["a-calls", ""]);
  });

  const both = object("VirtualService", "vs", "{hosts: [cart.test, outside.test], http: [{route: [{destination: {host: blog.test}}]}]}");

  it("take its other hosts along on the port of the service that it is for", () => {
    expect(hosts("9080", mesh + both)).toEqual(["cart.test:9080", "outside.test:9080", "shop.test:9080", "allow_any"]);
    expect(hosts("8000", mesh + both)).toEqual(["blog.test:8000", "allow_any"]);
  });

  it("lead to the listener's port where a destination of another port names none", () => {
    const [cart] = routesOf("9080", sidecarNode(), pushContextOf(mesh + both)).virtualHosts;
    expect(cart?.routes[0]?.action.value).toMatchObject({ clusterSpecifier: { value: "outbound|9080||blog.test" } });
  });
});
