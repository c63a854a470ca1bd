/** What a gateway is given, by walking from listener to route to cluster to endpoint. */
import type { JsonObject } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { addressesOf, clustersOf, endpointsOf, listenersOf, pushContextOf, routerNode, routesOf } from "../../../test/support/mesh.ts";
import type { FilterChain } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { VirtualHost_TlsRequirementType } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import { HttpConnectionManagerSchema } from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { TcpProxySchema } from "../../api/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { DownstreamTlsContextSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";

const gateway = (servers: string, name = "gw", namespace = "default") => `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: ${name}, namespace: ${namespace}}
spec:
  selector: {istio: ingressgateway}
  servers: ${servers}
---`;

const httpServer = (hosts: string) => `[{port: {number: 8080, name: http, protocol: HTTP}, hosts: ${hosts}}]`;

const service = (name: string) => `
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: default}
spec: {clusterIP: 10.96.0.1, selector: {app: ${name}}, ports: [{name: http, port: 9080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: ${name}-1, namespace: default, labels: {app: ${name}, version: v1}}
status: {podIP: 10.3.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: ${name}-2, namespace: default, labels: {app: ${name}, version: v2}}
status: {podIP: 10.3.0.2}
---`;

const virtualService = (spec: string, name = "vs", namespace = "default") => `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ${name}, namespace: ${namespace}}
spec: ${spec}
---`;

function manager(chain: FilterChain | undefined) {
  const filter = chain?.filters.find(({ name }) => name === "envoy.filters.network.http_connection_manager");
  return filter?.configType.case === "typedConfig" ? anyUnpack(filter.configType.value, HttpConnectionManagerSchema) : undefined;
}

function tcpCluster(chain: FilterChain | undefined): unknown {
  const filter = chain?.filters.find(({ name }) => name === "envoy.filters.network.tcp_proxy");
  return filter?.configType.case === "typedConfig" ? anyUnpack(filter.configType.value, TcpProxySchema)?.clusterSpecifier.value : undefined;
}

/** `host domain: matched path -> cluster or action` for each route. */
function table(routes: RouteConfiguration): string[] {
  return routes.virtualHosts.flatMap((host) =>
    host.routes.map((route) => {
      const { action } = route;
      const target =
        action.case === "route"
          ? action.value.clusterSpecifier.case === "weightedClusters"
            ? action.value.clusterSpecifier.value.clusters.map(({ name, weight }) => `${name}=${weight}`).join(" ")
            : String(action.value.clusterSpecifier.value)
          : String(action.case);
      return `${host.domains.join(",")} ${route.match?.pathSpecifier.case}:${String(route.match?.pathSpecifier.value)} -> ${target}`;
    }),
  );
}

describe("gateway", () => {
  it("leads a request from listener to endpoint", () => {
    const push = pushContextOf(
      gateway(httpServer('["*"]')) +
        service("web") +
        virtualService("{hosts: ['shop.test'], gateways: [gw], http: [{route: [{destination: {host: web}}]}]}"),
    );
    const proxy = routerNode();
    const listener = listenersOf(proxy, push).get("0.0.0.0_8080")!;
    const hcm = manager(listener.filterChains[0])!;
    expect(hcm.statPrefix).toBe("outbound_0.0.0.0_8080;");
    expect(hcm.routeSpecifier.value).toMatchObject({ routeConfigName: "http.8080" });
    expect(table(routesOf("http.8080", proxy, push))).toEqual(["shop.test prefix:/ -> outbound|9080||web.default.svc.cluster.local"]);
    expect(clustersOf(proxy, push).has("outbound|9080||web.default.svc.cluster.local")).toBe(true);
    expect(addressesOf(endpointsOf("outbound|9080||web.default.svc.cluster.local", proxy, push))).toEqual([
      "10.3.0.1:9080",
      "10.3.0.2:9080",
    ]);
  });

  it("splits by weight over subsets, and leaves weight 0 out", () => {
    const push = pushContextOf(
      gateway(httpServer('["*"]')) +
        service("web") +
        virtualService(
          "{hosts: ['*'], gateways: [gw], http: [{route: [{destination: {host: web, subset: v1}, weight: 80}, {destination: {host: web, subset: v2}, weight: 20}, {destination: {host: web}, weight: 0}]}]}",
        ) +
        `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: default}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}`,
    );
    expect(table(routesOf("http.8080", routerNode(), push))).toEqual([
      "* prefix:/ -> outbound|9080|v1|web.default.svc.cluster.local=80 outbound|9080|v2|web.default.svc.cluster.local=20",
    ]);
    expect(addressesOf(endpointsOf("outbound|9080|v2|web.default.svc.cluster.local", routerNode(), push))).toEqual(["10.3.0.2:9080"]);
    expect(addressesOf(endpointsOf("outbound|9080|v3|web.default.svc.cluster.local", routerNode(), push))).toEqual([]);
  });

  it("answers 404 to everything while nothing is bound", () => {
    const push = pushContextOf(gateway(httpServer('["*"]')));
    const routes = routesOf("http.8080", routerNode(), push);
    expect(routes.virtualHosts.map(({ name, domains, routes }) => [name, domains, routes])).toEqual([["blackhole:8080", ["*"], []]]);
  });

  it("does not listen for a proxy that its selector does not select", () => {
    const push = pushContextOf(gateway(httpServer('["*"]')));
    expect(listenersOf(routerNode({ labels: { istio: "egressgateway" } }), push).size).toBe(0);
  });

  it("binds only VirtualServices of the namespaces that a server's hosts allow", () => {
    const push = pushContextOf(
      gateway(httpServer("['shop/*', './own.test']")) +
        virtualService("{hosts: ['a.test'], gateways: [default/gw], http: [{directResponse: {status: 200}}]}", "in", "shop") +
        virtualService("{hosts: ['b.test'], gateways: [default/gw], http: [{directResponse: {status: 200}}]}", "out", "other") +
        virtualService("{hosts: ['own.test'], gateways: [gw], http: [{directResponse: {status: 200}}]}", "own"),
    );
    expect(routesOf("http.8080", routerNode(), push).virtualHosts.map((host) => host.domains[0])).toEqual(["a.test", "own.test"]);
  });

  it("keeps the narrower of server host and route host", () => {
    const push = pushContextOf(
      gateway(httpServer("['*.shop.test']")) +
        virtualService("{hosts: ['a.shop.test', '*.b.shop.test', 'c.test'], gateways: [gw], http: [{directResponse: {status: 200}}]}"),
    );
    expect(
      routesOf("http.8080", routerNode(), push)
        .virtualHosts.flatMap((host) => host.domains)
        .sort(),
    ).toEqual(["*.b.shop.test", "a.shop.test"]);
  });

  it("joins the routes of several VirtualServices for a host in order of age, catch-alls last", () => {
    const push = pushContextOf(
      gateway(httpServer('["*"]')) +
        virtualService(
          "{hosts: ['a.test'], gateways: [gw], http: [{match: [{uri: {exact: /one}}], directResponse: {status: 201}}, {directResponse: {status: 200}}]}",
          "older",
        ) +
        virtualService(
          "{hosts: ['a.test'], gateways: [gw], http: [{match: [{uri: {prefix: /two}}], directResponse: {status: 202}}]}",
          "newer",
        ),
    );
    expect(table(routesOf("http.8080", routerNode(), push)).map((line) => line.split(" ")[1])).toEqual([
      "path:/one",
      "prefix:/two",
      "prefix:/",
    ]);
  });

  it("stops behind a rule that takes everything", () => {
    const push = pushContextOf(
      gateway(httpServer('["*"]')) +
        virtualService(
          "{hosts: ['a.test'], gateways: [gw], http: [{directResponse: {status: 200}}, {match: [{uri: {exact: /never}}], directResponse: {status: 201}}]}",
        ),
    );
    expect(routesOf("http.8080", routerNode(), push).virtualHosts[0]?.routes).toHaveLength(1);
  });

  it("merges plaintext servers of several Gateways on one port into one listener", () => {
    const push = pushContextOf(gateway(httpServer("['a.test']"), "one") + gateway(httpServer("['b.test']"), "two"));
    expect([...listenersOf(routerNode(), push).keys()]).toEqual(["0.0.0.0_8080"]);
    expect(push.mergedGateway(routerNode()).conflicts).toEqual([]);
  });

  it("leaves out a server that conflicts, and says so", () => {
    const push = pushContextOf(
      gateway(httpServer("['a.test']"), "one") + gateway("[{port: {number: 8080, name: tcp, protocol: TCP}, hosts: ['*']}]", "two"),
    );
    expect(push.mergedGateway(routerNode()).conflicts).toMatchObject([{ gateway: "default/two" }]);
  });

  it("listens on the target port where the gateway's own Service translates it", () => {
    const push = pushContextOf(
      `
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: default}
spec: {clusterIP: 10.96.0.2, selector: {istio: ingressgateway}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: gw-1, namespace: default, labels: {istio: ingressgateway}}
status: {podIP: 10.9.0.1}
---${gateway("[{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]")}`,
    );
    expect([...listenersOf(routerNode(), push).keys()]).toEqual(["0.0.0.0_8080"]);
  });

  it.each([
    [
      "of another gateway's",
      "Service",
      "{clusterIP: 10.96.0.2, selector: {istio: egressgateway}, ports: [{name: http, port: 80, targetPort: 8080}]}",
      "",
    ],
    [
      "that is not to be translated",
      "Service",
      "{clusterIP: 10.96.0.2, ports: [{name: http, port: 80, targetPort: 8080}]}",
      "experimental.istio.io/disable-gateway-port-translation: 'true'",
    ],
    [
      "of an application's",
      "ServiceEntry",
      "{hosts: [app.test], ports: [{name: http, number: 80, protocol: HTTP, targetPort: 8080}], resolution: STATIC, endpoints: [{address: 10.9.0.1}]}",
      "",
    ],
  ])("listens on its own port beside a service of the same machine %s", (_, kind, spec, labels) => {
    const push = pushContextOf(
      `
apiVersion: ${kind === "Service" ? "v1" : "networking.istio.io/v1"}
kind: ${kind}
metadata: {name: other, namespace: default, labels: {${labels}}}
spec: ${spec}
---
apiVersion: v1
kind: Endpoints
metadata: {name: ${kind === "Service" ? "other" : "none"}, namespace: default}
subsets: [{addresses: [{ip: 10.9.0.1}], ports: [{name: http, port: 8080}]}]
---${gateway("[{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]")}`,
    );
    expect([...listenersOf(routerNode(), push).keys()]).toEqual(["0.0.0.0_80"]);
  });

  it("terminates TLS with a certificate by name, by SNI, and from the version that the server wants", () => {
    const push = pushContextOf(
      gateway(
        "[{port: {number: 8443, name: https-a, protocol: HTTPS}, hosts: ['a.test'], tls: {mode: SIMPLE, credentialName: a-cert, minProtocolVersion: TLSV1_3}}, {port: {number: 8443, name: https-b, protocol: HTTPS}, hosts: ['b.test'], tls: {mode: MUTUAL, credentialName: b-cert}}]",
      ),
    );
    const listener = listenersOf(routerNode(), push).get("0.0.0.0_8443")!;
    expect(listener.listenerFilters.map(({ name }) => name)).toEqual(["envoy.filters.listener.tls_inspector"]);
    expect(listener.filterChains.map((chain) => chain.filterChainMatch?.serverNames)).toEqual([["a.test"], ["b.test"]]);
    const contexts = listener.filterChains.map((chain) =>
      chain.transportSocket?.configType.case === "typedConfig"
        ? anyUnpack(chain.transportSocket.configType.value, DownstreamTlsContextSchema)
        : undefined,
    );
    expect(contexts[0]?.commonTlsContext?.tlsCertificateSdsSecretConfigs.map(({ name }) => name)).toEqual(["kubernetes://a-cert"]);
    expect(contexts[0]?.commonTlsContext?.tlsParams?.tlsMinimumProtocolVersion).toBe(4);
    expect(contexts[1]?.requireClientCertificate).toBe(true);
    expect(contexts[1]?.commonTlsContext?.validationContextType.value).toMatchObject({
      validationContextSdsSecretConfig: { name: "kubernetes://b-cert-cacert" },
    });
    expect(manager(listener.filterChains[1])?.routeSpecifier.value).toMatchObject({ routeConfigName: "https.8443.https-b.gw.default" });
  });

  it("refuses the same host twice on one TLS port", () => {
    const tls = (name: string) =>
      `[{port: {number: 8443, name: ${name}, protocol: HTTPS}, hosts: ['a.test'], tls: {mode: SIMPLE, credentialName: c}}]`;
    const push = pushContextOf(gateway(tls("x"), "one") + gateway(tls("y"), "two"));
    expect(listenersOf(routerNode(), push).get("0.0.0.0_8443")?.filterChains).toHaveLength(1);
    expect(push.mergedGateway(routerNode()).conflicts).toHaveLength(1);
  });

  it.each([
    ["", 3, true],
    ["{defaultConfig: {gatewayTopology: {forwardClientCertDetails: SANITIZE}}}", 0, false],
    ["{defaultConfig: {gatewayTopology: {forwardClientCertDetails: APPEND_FORWARD}}}", 2, true],
    ["{defaultConfig: {gatewayTopology: {forwardClientCertDetails: ALWAYS_FORWARD_ONLY}}}", 4, false],
  ])("forwards client certificates as the mesh's topology %s says", (meshYaml, details, writes) => {
    const chain = listenersOf(routerNode(), pushContextOf(gateway(httpServer('["*"]')), meshYaml)).get("0.0.0.0_8080")?.filterChains[0];
    const { forwardClientCertDetails, setCurrentClientCertDetails } = manager(chain)!;
    expect(forwardClientCertDetails).toBe(details);
    expect(setCurrentClientCertDetails).toEqual(writes ? expect.objectContaining({ cert: true, dns: true, uri: true }) : undefined);
  });

  it.each<[string, JsonObject | undefined, string[], number]>([
    ["{}", undefined, [], 0],
    ["{defaultConfig: {gatewayTopology: {numTrustedProxies: 2}}}", undefined, [], 2],
    ["{defaultConfig: {gatewayTopology: {numTrustedProxies: 1, proxyProtocol: {}}}}", undefined, ["proxy_protocol"], 1],
    ["{}", { gatewayTopology: { numTrustedProxies: 3, proxyProtocol: {} } }, ["proxy_protocol"], 3],
    ["{defaultConfig: {gatewayTopology: {numTrustedProxies: 1, proxyProtocol: {}}}}", { concurrency: 1 }, ["proxy_protocol"], 1],
    ["{}", { gatewayTopology: { numTrustedProxies: "many", proxyProtocol: true } }, [], 0],
    ["{}", { gatewayTopology: [] }, [], 0],
  ])("takes what is before it from the mesh %s, or from its own configuration %j", (meshYaml, own, filters, hops) => {
    const proxy = routerNode({ metadata: own === undefined ? {} : { PROXY_CONFIG: own } });
    const servers =
      "[{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}, " +
      "{port: {number: 8443, name: https, protocol: HTTPS}, hosts: ['a.test'], tls: {mode: SIMPLE, credentialName: c}}]";
    const listeners = listenersOf(proxy, pushContextOf(gateway(servers), meshYaml));
    const namesOf = (name: string) =>
      listeners.get(name)!.listenerFilters.map((filter) => filter.name.replace("envoy.filters.listener.", ""));
    expect(namesOf("0.0.0.0_8080")).toEqual(filters);
    expect(namesOf("0.0.0.0_8443")).toEqual([...filters, "tls_inspector"]);
    expect(manager(listeners.get("0.0.0.0_8443")!.filterChains[0])!.xffNumTrustedHops).toBe(hops);
  });

  it("redirects to https, also a host to which nothing is bound", () => {
    const push = pushContextOf(
      gateway("[{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['a.test'], tls: {httpsRedirect: true}}]"),
    );
    expect(routesOf("http.8080", routerNode(), push).virtualHosts).toMatchObject([
      { domains: ["a.test"], requireTls: VirtualHost_TlsRequirementType.ALL },
    ]);
  });

  it("passes TLS through by SNI", () => {
    const push = pushContextOf(
      gateway("[{port: {number: 8443, name: tls, protocol: TLS}, hosts: ['*.test'], tls: {mode: PASSTHROUGH}}]") +
        service("web") +
        virtualService(
          "{hosts: ['a.test'], gateways: [gw], tls: [{match: [{sniHosts: ['a.test']}], route: [{destination: {host: web, port: {number: 9080}}}]}]}",
        ),
    );
    const chain = listenersOf(routerNode(), push).get("0.0.0.0_8443")?.filterChains[0];
    expect(chain?.filterChainMatch?.serverNames).toEqual(["a.test"]);
    expect(chain?.transportSocket).toBeUndefined();
    expect(tcpCluster(chain)).toBe("outbound|9080||web.default.svc.cluster.local");
  });

  it("routes plain TCP by the first rule", () => {
    const push = pushContextOf(
      gateway("[{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}]") +
        service("web") +
        virtualService("{hosts: ['*'], gateways: [gw], tcp: [{route: [{destination: {host: web, port: {number: 9080}}}]}]}"),
    );
    expect(tcpCluster(listenersOf(routerNode(), push).get("0.0.0.0_9000")?.filterChains[0])).toBe(
      "outbound|9080||web.default.svc.cluster.local",
    );
  });

  it("merges a delegate into its root, within the root's match", () => {
    const push = pushContextOf(
      gateway(httpServer('["*"]')) +
        virtualService(
          "{hosts: ['a.test'], gateways: [gw], http: [{name: root, match: [{uri: {prefix: /team}}], delegate: {name: team, namespace: team}}]}",
          "root",
        ) +
        virtualService(
          "{http: [{name: in, match: [{uri: {prefix: /team/x}}], directResponse: {status: 200}}, {name: out, match: [{uri: {prefix: /other}}], directResponse: {status: 201}}, {name: rest, directResponse: {status: 202}}]}",
          "team",
          "team",
        ),
    );
    const routes = routesOf("http.8080", routerNode(), push).virtualHosts[0]!.routes;
    expect(routes.map((route) => [route.name, route.match?.pathSpecifier.value])).toEqual([
      ["root-in", "/team/x"],
      ["root-rest", "/team"],
    ]);
  });

  it("loses only the route whose delegate is missing", () => {
    const push = pushContextOf(
      gateway(httpServer('["*"]')) +
        virtualService(
          "{hosts: ['a.test'], gateways: [gw], http: [{match: [{uri: {prefix: /x}}], delegate: {name: nobody}}, {directResponse: {status: 200}}]}",
        ),
    );
    expect(routesOf("http.8080", routerNode(), push).virtualHosts[0]?.routes).toHaveLength(1);
  });

  it("stays on the address that the proxy says it may bind", () => {
    const push = pushContextOf(gateway(httpServer('["*"]')));
    expect([...listenersOf(routerNode({ metadata: { TOPSAIL_BIND_ADDRESS: "127.0.0.1" } }), push).keys()]).toEqual(["127.0.0.1_8080"]);
  });
});
