import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { addressesOf, clustersOf, listenersOf, pushContextOf, sidecarNode } from "../../../test/support/mesh.ts";
import { Cluster_DiscoveryType } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { FilterChain, ListenerFilterChainMatchPredicate } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { Listener } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { DownstreamTlsContextSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";

const workload = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 90, targetPort: 9090}, {name: x, port: 70, targetPort: 7070}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-1, namespace: default}
spec: {address: 10.9.1.1, labels: {app: web}}
---
`;
const peerAuthentication = (spec: string) =>
  `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p, namespace: default}, spec: ${spec}}\n---\n`;
const sidecar = (spec: string) =>
  `{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: s, namespace: default}, spec: ${spec}}\n---\n`;
const proxy = (metadata = {}, ip = "10.9.1.1") => sidecarNode({ ip, labels: { app: "web" }, metadata });

function tlsOf(chain: FilterChain) {
  const { transportSocket } = chain;
  return transportSocket?.configType.case === "typedConfig"
    ? anyUnpack(transportSocket.configType.value, DownstreamTlsContextSchema)
    : undefined;
}

/** `tls istio,istio-h2 -> http mutual`: what is matched, what is made of it, and whether TLS ends there. */
function describeChain(chain: FilterChain): string {
  const match = chain.filterChainMatch!;
  const filter = chain.filters[0]!.name.endsWith("http_connection_manager") ? "http" : "tcp";
  const ends = tlsOf(chain)?.requireClientCertificate ? " mutual" : chain.transportSocket ? " tls" : "";
  return `${[match.transportProtocol, match.applicationProtocols.join()].filter(Boolean).join(" ")} -> ${filter}${ends}`;
}

const chainsAt = (listener: Listener | undefined, port: number | undefined) =>
  listener!.filterChains.filter((chain) => chain.filterChainMatch?.destinationPort === port).map(describeChain);

const all = "istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2";
const http = "istio-http/1.0,istio-http/1.1,istio-h2";

describe("inbound filter chains", () => {
  it.each([
    [
      "STRICT",
      {
        8080: ["tls -> http mutual"],
        9090: ["tls -> tcp mutual"],
        7070: [`tls ${http} -> http mutual`, "tls -> tcp mutual"],
      },
    ],
    [
      "PERMISSIVE",
      {
        8080: [`tls ${all} -> http mutual`, "raw_buffer -> http"],
        9090: [`tls ${all} -> tcp mutual`, "tls -> tcp", "raw_buffer -> tcp"],
        7070: [
          `tls ${http} -> http mutual`,
          "raw_buffer http/1.1,h2c -> http",
          "tls istio-peer-exchange,istio -> tcp mutual",
          "raw_buffer -> tcp",
          "tls -> tcp",
        ],
      },
    ],
    [
      "DISABLE",
      {
        8080: ["raw_buffer -> http"],
        9090: ["raw_buffer -> tcp"],
        7070: ["raw_buffer http/1.1,h2c -> http", "raw_buffer -> tcp"],
      },
    ],
  ])("of mode %s, by the port's protocol", (mode, expected) => {
    const listener = listenersOf(proxy(), pushContextOf(workload + peerAuthentication(`{mtls: {mode: ${mode}}}`))).get("virtualInbound");
    for (const [port, chains] of Object.entries(expected)) expect(chainsAt(listener, Number(port)), port).toEqual(chains);
    // Ports of no service are as one of unknown protocol.
    expect(chainsAt(listener, undefined)).toEqual(expected[7070]);
  });

  it("has chains for ports of no service that a policy names", () => {
    const policy = peerAuthentication(
      "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}, 6060: {mode: DISABLE}}}",
    );
    const listener = listenersOf(proxy(), pushContextOf(workload + policy)).get("virtualInbound");
    expect(chainsAt(listener, 8080)).toEqual(["raw_buffer -> http"]);
    expect(chainsAt(listener, 9090)).toEqual(["tls -> tcp mutual"]);
    expect(chainsAt(listener, 6060)).toEqual(["raw_buffer http/1.1,h2c -> http", "raw_buffer -> tcp"]);
    expect(listener!.filterChains.filter((chain) => chain.filterChainMatch?.destinationPort === 6060).map(({ name }) => name)).toEqual([
      "virtualInbound-catchall-http",
      "virtualInbound",
    ]);
  });

  it("has no mutual TLS without a certificate, but none instead of it where it is required", () => {
    const node = proxy({ PROXY_CONFIG: { controlPlaneAuthPolicy: "NONE" } });
    const at8080 = (mode: string) =>
      chainsAt(listenersOf(node, pushContextOf(workload + peerAuthentication(`{mtls: {mode: ${mode}}}`))).get("virtualInbound"), 8080);
    expect(at8080("PERMISSIVE")).toEqual(["raw_buffer -> http"]);
    expect(at8080("STRICT")).toEqual(["tls -> http mutual"]);
  });

  it("takes the workload's certificate and demands one of the mesh's trust domains", () => {
    const mesh = "{trustDomain: a.test, trustDomainAliases: [b.test], meshMTLS: {minProtocolVersion: TLSV1_3}}";
    const push = pushContextOf(workload + peerAuthentication("{mtls: {mode: STRICT}}"), mesh);
    const chains = listenersOf(proxy(), push).get("virtualInbound")!.filterChains;
    const context = tlsOf(chains.find((chain) => chain.filterChainMatch?.destinationPort === 8080)!)!;
    const common = context.commonTlsContext!;
    expect(common.alpnProtocols).toEqual(["h2", "http/1.1"]);
    expect(common.tlsCertificateSdsSecretConfigs.map(({ name }) => name)).toEqual(["default"]);
    expect(common.tlsParams).toMatchObject({ tlsMinimumProtocolVersion: 4, tlsMaximumProtocolVersion: 4 });
    expect(common.tlsParams?.cipherSuites).toHaveLength(6);
    const validation = common.validationContextType;
    if (validation.case !== "combinedValidationContext") throw new Error("no combined validation");
    expect(validation.value.validationContextSdsSecretConfig?.name).toBe("ROOTCA");
    expect(validation.value.defaultValidationContext?.matchTypedSubjectAltNames.map(({ matcher }) => matcher?.matchPattern)).toEqual([
      { case: "prefix", value: "spiffe://a.test/" },
      { case: "prefix", value: "spiffe://b.test/" },
    ]);
    const tcp = tlsOf(chains.find((chain) => chain.filterChainMatch?.destinationPort === 9090)!)!;
    expect(tcp.commonTlsContext?.alpnProtocols).toEqual(["h2", "http/1.1"]);
  });

  it("goes by the oldest service where two share a port", () => {
    const younger = workload
      .replace("name: web, ", "name: younger, ")
      .replace("name: http, port: 80", "name: tcp-a, port: 81")
      .split("---")[0]!;
    const push = pushContextOf(`${workload}${younger}---\n`);
    expect(chainsAt(listenersOf(proxy(), push).get("virtualInbound"), 8080)).toContain("raw_buffer -> http");
  });
});

describe("inspectors", () => {
  const portsOf = ({ rule }: ListenerFilterChainMatchPredicate): unknown => {
    switch (rule.case) {
      case "destinationPortRange":
        return rule.value.start;
      case "orMatch":
        return rule.value.rules.map(portsOf);
      case "notMatch":
        return { not: portsOf(rule.value) };
      default:
        return rule.case;
    }
  };
  const filters = (policy: string) =>
    Object.fromEntries(
      listenersOf(proxy(), pushContextOf(workload + peerAuthentication(policy)))
        .get("virtualInbound")!
        .listenerFilters.map(({ name, filterDisabled }) => [name.replace(/.*\./, ""), filterDisabled && portsOf(filterDisabled)]),
    );

  it.each([
    ["STRICT", { original_dst: undefined, tls_inspector: 15006 }],
    ["PERMISSIVE", { original_dst: undefined, tls_inspector: 15006, http_inspector: [8080, 9090, 15006] }],
    ["DISABLE", { original_dst: undefined, http_inspector: [8080, 9090, 15006] }],
  ])("of mode %s leave out the ports that need none", (mode, expected) => {
    expect(filters(`{mtls: {mode: ${mode}}}`)).toEqual(expected);
  });

  it("are there for single ports alone where the others need none", () => {
    const policy = "{selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}, portLevelMtls: {9090: {mode: STRICT}}}";
    expect(filters(policy)).toMatchObject({ tls_inspector: { not: 9090 } });
  });
});

describe("a Sidecar's ingress listeners", () => {
  const ingress = (fields: string) => sidecar(`{ingress: [{port: {number: 8443, protocol: HTTP, name: h}${fields}}]}`);
  const applicationOf = (fields: string, node = proxy()) => {
    const cluster = clustersOf(node, pushContextOf(workload + ingress(fields))).get("inbound|8443||")!;
    const isStatic = cluster.clusterDiscoveryType.value === Cluster_DiscoveryType.STATIC;
    return [isStatic ? addressesOf(cluster.loadAssignment!)[0] : "original", cluster.upstreamBindConfig?.sourceAddress?.address];
  };

  it("stand in the place of the ports of services", () => {
    const push = pushContextOf(workload + ingress(", defaultEndpoint: '127.0.0.1:3000'"));
    const listener = listenersOf(proxy(), push).get("virtualInbound");
    expect(chainsAt(listener, 8443)).toEqual([`tls ${all} -> http mutual`, "raw_buffer -> http"]);
    expect(chainsAt(listener, 8080)).toEqual([]);
    expect([...clustersOf(proxy(), push).keys()].filter((name) => name.startsWith("inbound"))).toEqual(["inbound|8443||"]);
  });

  it.each([
    ["", ["original", "127.0.0.6"]],
    [", defaultEndpoint: '127.0.0.1:3000'", ["127.0.0.1:3000", undefined]],
    [", defaultEndpoint: '0.0.0.0:3000'", ["10.9.1.1:3000", "127.0.0.6"]],
    [", defaultEndpoint: 'unix:///run/app'", ["/run/app", undefined]],
  ])("lead to the application: %s", (fields, expected) => {
    expect(applicationOf(fields)).toEqual(expected);
  });

  it("lead to loopback where the mesh says so", () => {
    const cluster = clustersOf(proxy(), pushContextOf(workload, "{inboundTrafficPolicy: {mode: LOCALHOST}}")).get("inbound|8080||")!;
    expect(addressesOf(cluster.loadAssignment!)).toEqual(["127.0.0.1:8080"]);
  });

  it("limit connections as the Sidecar says, rather than a rule", () => {
    const rule = `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: r, namespace: default}, spec: {host: web, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}}\n---\n`;
    const limit = (spec: string) =>
      clustersOf(proxy(), pushContextOf(workload + rule + spec)).get("inbound|8080||")?.circuitBreakers?.thresholds[0]?.maxConnections;
    expect(limit("")).toBe(1);
    expect(limit(sidecar("{inboundConnectionPool: {tcp: {maxConnections: 2}}}"))).toBe(2);
    expect(
      limit(
        sidecar(
          "{inboundConnectionPool: {tcp: {maxConnections: 2}}, ingress: [{port: {number: 8080, protocol: HTTP, name: h}, connectionPool: {tcp: {maxConnections: 3}}}]}",
        ),
      ),
    ).toBe(3);
  });

  it("end TLS of their own only where there is none of the mesh", () => {
    const own = sidecar(
      "{ingress: [{port: {number: 8443, protocol: HTTPS, name: h}, tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}}]}",
    );
    const chains = (mode: string) =>
      chainsAt(
        listenersOf(proxy(), pushContextOf(workload + own + peerAuthentication(`{mtls: {mode: ${mode}}}`))).get("virtualInbound"),
        8443,
      );
    expect(chains("DISABLE")).toEqual(["tls -> http tls"]);
    expect(chains("STRICT")).toEqual(["tls -> http mutual"]);
  });

  it("are taken as they come, and handed on from their clients' addresses, with TPROXY", () => {
    const listenersIn = (mode: string) => listenersOf(proxy({ INTERCEPTION_MODE: mode }), pushContextOf(workload));
    const filters = (mode: string) =>
      listenersIn(mode)
        .get("virtualInbound")!
        .listenerFilters.map(({ name }) => name.slice("envoy.filters.listener.".length));
    const inspectors = ["tls_inspector", "http_inspector"];
    expect(filters("TPROXY")).toEqual(["original_dst", "original_src", ...inspectors]);
    expect(filters("REDIRECT")).toEqual(["original_dst", ...inspectors]);
    const transparent = (mode: string) => [...listenersIn(mode).values()].filter((one) => one.transparent).map(({ name }) => name);
    expect(transparent("TPROXY").sort()).toEqual(["virtualInbound", "virtualOutbound"]);
    expect(transparent("REDIRECT")).toEqual([]);
  });

  it("of ports that a Sidecar does not capture, are bound as ever with TPROXY", () => {
    const listeners = listenersOf(proxy({ INTERCEPTION_MODE: "TPROXY" }), pushContextOf(workload + ingress(", captureMode: NONE")));
    const bound = listeners.get("10.9.1.1_8443")!;
    expect(bound.transparent).toBeUndefined();
    expect(bound.listenerFilters.map(({ name }) => name)).not.toContain("envoy.filters.listener.original_src");
  });

  describe("without interception", () => {
    const none = { INTERCEPTION_MODE: "NONE" };
    const names = (spec: string, ip = "10.9.1.1", metadata: object = none) =>
      [...listenersOf(proxy(metadata, ip), pushContextOf(workload + spec)).values()]
        .filter(({ trafficDirection }) => trafficDirection === 1)
        .map(({ name }) => name);

    it("are bound to the workload's own address, or to the one that they name", () => {
      expect(names(ingress(""))).toEqual(["10.9.1.1_8443"]);
      expect(names(ingress(", bind: 127.0.0.9"))).toEqual(["127.0.0.9_8443"]);
      // Of a machine that several workloads share by addresses of loopback.
      expect(names(ingress(""), "127.0.7.1")).toEqual(["127.0.7.1_8443"]);
      expect(names(ingress(""), "127.0.0.1")).toEqual(["0.0.0.0_8443"]);
    });

    it("there are none but those: the application has its ports itself", () => {
      expect(names("")).toEqual([]);
      expect([...clustersOf(proxy(none), pushContextOf(workload)).keys()].filter((name) => name.startsWith("inbound"))).toEqual([]);
    });

    it("are bound beside virtualInbound where only they capture nothing", () => {
      expect(names(ingress(", captureMode: NONE"), "10.9.1.1", {})).toEqual(["virtualInbound", "10.9.1.1_8443"]);
    });

    it("take no port below 1024 from an unprivileged proxy", () => {
      const low = sidecar("{ingress: [{port: {number: 80, protocol: HTTP, name: h}}]}");
      expect(names(low)).toEqual(["10.9.1.1_80"]);
      expect(names(low, "10.9.1.1", { ...none, UNPRIVILEGED_POD: "true" })).toEqual([]);
    });
  });
});
