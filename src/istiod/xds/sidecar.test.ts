import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { clustersOf, listenersOf, pushContextOf, routesOf, sidecarNode } from "../../../test/support/mesh.ts";
import type { FilterChain } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { TcpProxySchema } from "../../api/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";

const service = (name: string, ports: string, clusterIP: string, namespace = "default") => `
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: ${namespace}}
spec: {clusterIP: ${clusterIP}, selector: {app: ${name}}, ports: ${ports}}
---
apiVersion: v1
kind: Pod
metadata: {name: ${name}-1, namespace: ${namespace}, labels: {app: ${name}}}
status: {podIP: 10.9.1.1}
---`;

const mesh =
  service("web", "[{name: http, port: 80, targetPort: 8080}]", "10.96.0.1") +
  service("db", "[{name: tcp, port: 5432}]", "10.96.0.2") +
  service("any", "[{name: x, port: 7000}]", "10.96.0.3");

function tcpCluster(chain: FilterChain | undefined): unknown {
  const filter = chain?.filters[0];
  return filter?.configType.case === "typedConfig" ? anyUnpack(filter.configType.value, TcpProxySchema)?.clusterSpecifier.value : undefined;
}

describe("sidecar listeners", () => {
  it("captures outbound and inbound traffic, and takes over by port and by address", () => {
    const listeners = listenersOf(sidecarNode(), pushContextOf(mesh));
    expect([...listeners.keys()]).toEqual(["0.0.0.0_80", "10.96.0.2_5432", "10.96.0.3_7000", "virtualOutbound", "virtualInbound"]);
    expect(listeners.get("virtualOutbound")?.useOriginalDst).toBe(true);
    expect(listeners.get("0.0.0.0_80")?.bindToPort).toBe(false);
  });

  it("sends TCP to the service of the address", () => {
    const listener = listenersOf(sidecarNode(), pushContextOf(mesh)).get("10.96.0.2_5432")!;
    expect(tcpCluster(listener.filterChains[0])).toBe("outbound|5432||db.default.svc.cluster.local");
  });

  it("looks what a port of unknown protocol speaks", () => {
    const listener = listenersOf(sidecarNode(), pushContextOf(mesh)).get("10.96.0.3_7000")!;
    expect(listener.listenerFilters.map(({ name }) => name)).toEqual(["envoy.filters.listener.http_inspector"]);
    expect(listener.filterChains[0]?.filterChainMatch?.applicationProtocols).toEqual(["http/1.1", "h2c"]);
    expect(tcpCluster(listener.defaultFilterChain)).toBe("outbound|7000||any.default.svc.cluster.local");
  });

  it("has an inbound chain for each port that its workload serves", () => {
    const chains = listenersOf(sidecarNode(), pushContextOf(mesh)).get("virtualInbound")!.filterChains;
    expect([...new Set(chains.map((chain) => chain.name))]).toEqual([
      "virtualInbound-blackhole",
      "virtualInbound-catchall-http",
      "virtualInbound",
      "0.0.0.0_5432",
      "0.0.0.0_7000",
      "0.0.0.0_8080",
    ]);
  });

  it("takes the outbound ports itself, on loopback, when interception is off", () => {
    const listeners = listenersOf(sidecarNode({ metadata: { INTERCEPTION_MODE: "NONE" } }), pushContextOf(mesh));
    expect([...listeners.keys()]).toEqual(["127.0.0.1_80", "127.0.0.1_5432", "127.0.0.1_7000"]);
    expect([...listeners.values()].map(({ bindToPort }) => bindToPort)).toEqual([undefined, undefined, undefined]);
  });

  describe("of services that were allocated an address", () => {
    const outside = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: default}
spec:
  hosts: [out.test]
  ports: [{number: 5432, name: tcp, protocol: TCP}, {number: 443, name: tls, protocol: TLS}, {number: 8080, name: http, protocol: HTTP}]
  resolution: DNS
---`;
    const namesOf = (metadata: Record<string, string>) => [...listenersOf(sidecarNode({ metadata }), pushContextOf(outside)).keys()];
    const allocated = "240.240.206.232";

    it("take the ports at that address where DNS is captured, and at any address where it is not", () => {
      expect(namesOf({ DNS_CAPTURE: "true" })).toEqual(expect.arrayContaining([`${allocated}_5432`, `${allocated}_443`, "0.0.0.0_8080"]));
      expect(namesOf({})).toEqual(expect.arrayContaining(["0.0.0.0_5432", "0.0.0.0_443", "0.0.0.0_8080"]));
    });

    it("need no server name there, and know the address as a host", () => {
      const captured = sidecarNode({ metadata: { DNS_CAPTURE: "true" } });
      const push = pushContextOf(outside);
      const chains = (proxy: typeof captured, name: string) =>
        listenersOf(proxy, push)
          .get(name)
          ?.filterChains.map((chain) => chain.filterChainMatch?.serverNames ?? []);
      expect(chains(captured, `${allocated}_443`)).toEqual([[]]);
      expect(chains(sidecarNode(), "0.0.0.0_443")).toEqual([["out.test"]]);
      const domains = (proxy: typeof captured) => routesOf("8080", proxy, push).virtualHosts[0]?.domains;
      expect(domains(captured)).toEqual(["out.test", "out.test.", allocated]);
      expect(domains(sidecarNode())).toEqual(["out.test", "out.test."]);
    });
  });

  it("closes unknown TCP when only the registry is allowed, on the ports of services as well", () => {
    const catchAll = (meshYaml: string) => {
      const listeners = listenersOf(sidecarNode(), pushContextOf(mesh, meshYaml));
      return [listeners.get("virtualOutbound")?.filterChains[1], listeners.get("0.0.0.0_80")?.defaultFilterChain].map(tcpCluster);
    };
    expect(catchAll("")).toEqual(["PassthroughCluster", "PassthroughCluster"]);
    expect(catchAll("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")).toEqual(["BlackHoleCluster", "BlackHoleCluster"]);
  });

  it("leads all that is unknown to the proxy that a Sidecar names", () => {
    const policy = "{mode: ALLOW_ANY, egressProxy: {host: web.default.svc.cluster.local, port: {number: 80}, subset: v1}}";
    const sidecar = `---\n{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: s, namespace: default}, spec: {outboundTrafficPolicy: ${policy}}}\n`;
    const push = pushContextOf(`${mesh}\n${sidecar}`, "outboundTrafficPolicy: {mode: REGISTRY_ONLY}");
    const listeners = listenersOf(sidecarNode(), push);
    const egress = "outbound|80|v1|web.default.svc.cluster.local";
    expect([listeners.get("virtualOutbound")?.filterChains[1], listeners.get("0.0.0.0_80")?.defaultFilterChain].map(tcpCluster)).toEqual([
      egress,
      egress,
    ]);
    expect(routesOf("80", sidecarNode(), push).virtualHosts.at(-1)?.routes[0]?.action.value).toMatchObject({
      clusterSpecifier: { value: egress },
    });
  });
});

describe("sidecar routes", () => {
  it("knows a service by all its names, short ones only in its own namespace", () => {
    const push = pushContextOf(mesh + service("shop", "[{name: http, port: 80}]", "10.96.0.9", "other"));
    const hosts = Object.fromEntries(routesOf("80", sidecarNode(), push).virtualHosts.map((host) => [host.name, host.domains]));
    expect(hosts["web.default.svc.cluster.local:80"]).toEqual([
      "web.default.svc.cluster.local",
      "web.default.svc.cluster.local.",
      "web",
      "web.default.svc",
      "web.default",
      "10.96.0.1",
    ]);
    expect(hosts["shop.other.svc.cluster.local:80"]).toEqual([
      "shop.other.svc.cluster.local",
      "shop.other.svc.cluster.local.",
      "shop.other",
      "shop.other.svc",
      "10.96.0.9",
    ]);
  });

  it("lets unknown hosts through, or refuses them with 502", () => {
    const last = (meshYaml: string) => routesOf("80", sidecarNode(), pushContextOf(mesh, meshYaml)).virtualHosts.at(-1)!;
    expect(last("").name).toBe("allow_any");
    expect(last("outboundTrafficPolicy: {mode: REGISTRY_ONLY}").routes[0]?.action).toMatchObject({
      case: "directResponse",
      value: { status: 502 },
    });
  });

  it("retries as Istio does by default", () => {
    const action = routesOf("80", sidecarNode(), pushContextOf(mesh)).virtualHosts[0]?.routes[0]?.action;
    expect(action).toMatchObject({
      case: "route",
      value: {
        retryPolicy: {
          retryOn: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
          numRetries: 2,
          hostSelectionRetryMaxAttempts: 5n,
        },
      },
    });
  });

  const virtualService = (spec: string, name: string) => `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ${name}, namespace: default}
spec: ${spec}
---`;

  it("lets the oldest VirtualService for a host win entirely", () => {
    const push = pushContextOf(
      mesh +
        virtualService("{hosts: [web], http: [{name: first, route: [{destination: {host: web}}]}]}", "z-older") +
        virtualService("{hosts: [web], http: [{name: second, route: [{destination: {host: web}}]}]}", "a-newer"),
    );
    const host = routesOf("80", sidecarNode(), push).virtualHosts.find(({ name }) => name.startsWith("web."));
    expect(host?.routes.map(({ name }) => name)).toEqual(["first"]);
  });

  it("decides on source labels and gateways when it generates", () => {
    const push = pushContextOf(
      mesh +
        virtualService(
          "{hosts: [web], gateways: [mesh, gw], http: [{name: canary, match: [{sourceLabels: {app: canary}}], route: [{destination: {host: web, subset: v2}}]}, {name: edge, match: [{gateways: [gw]}], route: [{destination: {host: web}}]}, {name: rest, route: [{destination: {host: web}}]}]}",
          "vs",
        ),
    );
    const names = (labels: Record<string, string>) =>
      routesOf("80", sidecarNode({ labels }), push)
        .virtualHosts.find(({ name }) => name.startsWith("web."))
        ?.routes.map(({ name }) => name);
    expect(names({})).toEqual(["rest"]);
    expect(names({ app: "canary" })).toEqual(["canary"]);
  });

  it("answers an unknown route name by an empty table", () => {
    expect(routesOf("nonsense", sidecarNode(), pushContextOf(mesh)).virtualHosts).toEqual([]);
  });
});

describe("Sidecar resource", () => {
  const limited = (hosts: string) => `${mesh}${service("shop", "[{name: http, port: 80}]", "10.96.0.9", "other")}
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: default}
spec: {egress: [{hosts: ${hosts}}]}
---`;
  const outbound = (yaml: string) =>
    [...clustersOf(sidecarNode(), pushContextOf(yaml)).keys()]
      .filter((name) => name.startsWith("outbound|"))
      .map((name) => name.split("|")[3]!.split(".svc")[0])
      .sort();

  it("limits what a sidecar is told to the hosts that it imports", () => {
    expect(outbound(limited("['./*']"))).toEqual(["any.default", "db.default", "web.default"]);
    expect(outbound(limited("['other/*']"))).toEqual(["shop.other"]);
    expect(outbound(limited("['~/*']"))).toEqual([]);
  });

  it("brings the destinations of an imported VirtualService along", () => {
    const yaml = `${limited("['./web.default.svc.cluster.local']")}
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs, namespace: default}
spec: {hosts: [web], http: [{route: [{destination: {host: db}}]}]}`;
    expect(outbound(yaml)).toEqual(["db.default", "web.default"]);
  });
});
