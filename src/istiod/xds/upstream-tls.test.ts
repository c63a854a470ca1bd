import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { clustersOf, endpointsOf, listenersOf, pushContextOf, routerNode, sidecarNode } from "../../../test/support/mesh.ts";
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { TransportSocket } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import type { ClusterLoadAssignment } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { UpstreamTlsContextSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { HttpProtocolOptionsSchema } from "../../api/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";

const host = "web.shop.svc.cluster.local";
const service = (more = "") => `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: grpc, port: 81, targetPort: 8081}, {name: tcp, port: 82, targetPort: 8082}]${more}}
---
`;
const workload = (name: string, address: string, more: string) =>
  `{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: ${name}, namespace: shop}, spec: {address: ${address}, labels: {app: web, version: ${name}}, ${more}}}\n---\n`;
const mesh = service() + workload("v1", "10.9.1.1", "serviceAccount: web") + workload("v2", "10.9.1.2", "weight: 1");
const rule = (spec: string, name = "r") =>
  `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: ${name}, namespace: shop}, spec: {host: ${host}, ${spec}}}\n---\n`;
const peerAuthentication = (spec: string) =>
  `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p, namespace: shop}, spec: ${spec}}\n---\n`;

function clusterOf(yaml: string, { name = `outbound|80||${host}`, meshYaml = "", proxy = sidecarNode() } = {}): Cluster {
  const cluster = clustersOf(proxy, pushContextOf(yaml, meshYaml)).get(name);
  if (!cluster) throw new Error(`no cluster ${name}`);
  return cluster;
}

function tlsOf(socket: TransportSocket | undefined) {
  return socket?.configType.case === "typedConfig" ? anyUnpack(socket.configType.value, UpstreamTlsContextSchema) : undefined;
}

/** What of TLS is shown and checked, in short. */
function summary(socket: TransportSocket | undefined) {
  const context = tlsOf(socket);
  if (!context) return undefined;
  const common = context.commonTlsContext!;
  const validation = common.validationContextType;
  const names =
    validation.case === "combinedValidationContext"
      ? validation.value.defaultValidationContext
      : validation.case === "validationContext"
        ? validation.value
        : undefined;
  return {
    sni: context.sni,
    alpn: common.alpnProtocols.join(),
    certificate: common.tlsCertificateSdsSecretConfigs[0]?.name ?? common.tlsCertificates[0]?.certificateChain?.specifier.value,
    roots:
      validation.case === "combinedValidationContext"
        ? validation.value.validationContextSdsSecretConfig?.name
        : names?.trustedCa?.specifier.value,
    names: names?.matchTypedSubjectAltNames.map(({ matcher }) => matcher?.matchPattern.value),
  };
}

/** `automatic`: to those that take it; `mutual`, `simple`: to all; `plain`. */
function modeOf(cluster: Cluster): string {
  if (cluster.transportSocketMatches.length > 0) {
    expect(cluster.transportSocketMatches.map(({ name, match }) => [name, match])).toEqual([
      ["tlsMode-istio", { tlsMode: "istio" }],
      ["tlsMode-disabled", {}],
    ]);
    return "automatic";
  }
  if (!cluster.transportSocket) return "plain";
  return tlsOf(cluster.transportSocket)?.commonTlsContext?.tlsCertificateSdsSecretConfigs[0]?.name === "default" ? "mutual" : "simple";
}

/** Addresses of the endpoints, those by mutual TLS with a star. */
function marks(assignment: ClusterLoadAssignment): string[] {
  return assignment.endpoints.flatMap(({ lbEndpoints }) =>
    lbEndpoints.map(({ hostIdentifier, metadata }) => {
      const address = hostIdentifier.case === "endpoint" ? hostIdentifier.value.address?.address : undefined;
      const ip = address?.case === "socketAddress" ? address.value.address : "";
      return metadata?.filterMetadata["envoy.transport_socket_match"]?.tlsMode === "istio" ? `${ip}*` : ip;
    }),
  );
}

describe("automatic mutual TLS", () => {
  it("names the service by SNI, offers the mesh's ALPN, and expects the service accounts of the endpoints", () => {
    const cluster = clusterOf(mesh);
    expect(modeOf(cluster)).toBe("automatic");
    expect(summary(cluster.transportSocketMatches[0]?.transportSocket)).toEqual({
      sni: `outbound_.80_._.${host}`,
      alpn: "istio",
      certificate: "default",
      roots: "ROOTCA",
      names: ["spiffe://cluster.local/ns/shop/sa/web"],
    });
    expect(cluster.transportSocketMatches[1]?.transportSocket?.name).toBe("envoy.transport_sockets.raw_buffer");
  });

  it("offers h2 where it is spoken, and names subsets", () => {
    expect(summary(clusterOf(mesh, { name: `outbound|81||${host}` }).transportSocketMatches[0]?.transportSocket)?.alpn).toBe("istio,h2");
    const subsets = mesh + rule("subsets: [{name: v1, labels: {version: v1}}]");
    expect(summary(clusterOf(subsets, { name: `outbound|80|v1|${host}` }).transportSocketMatches[0]?.transportSocket)?.sni).toBe(
      `outbound_.80_.v1_.${host}`,
    );
  });

  it("expects the same accounts in all of the mesh's trust domains", () => {
    const meshYaml = "{trustDomain: a.test, trustDomainAliases: [b.test]}";
    expect(summary(clusterOf(mesh, { meshYaml }).transportSocketMatches[0]?.transportSocket)?.names).toEqual([
      "spiffe://a.test/ns/shop/sa/web",
      "spiffe://b.test/ns/shop/sa/web",
    ]);
  });

  it.each([
    ["a mesh without", mesh, "{enableAutoMtls: false}", "plain"],
    ["a namespace that disables it", mesh + peerAuthentication("{mtls: {mode: DISABLE}}"), "", "plain"],
    ["a strict namespace", mesh + peerAuthentication("{mtls: {mode: STRICT}}"), "", "automatic"],
    [
      "a workload that disables it",
      mesh + peerAuthentication("{selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}}"),
      "",
      "automatic",
    ],
  ])("of %s", (_, yaml, meshYaml, expected) => {
    expect(modeOf(clusterOf(yaml, { meshYaml }))).toBe(expected);
  });

  it("is not tried by a proxy without an identity, which would wait for one", () => {
    const proxy = routerNode({ metadata: { PROXY_CONFIG: { controlPlaneAuthPolicy: "NONE" } } });
    expect(modeOf(clusterOf(mesh, { proxy }))).toBe("plain");
    const told = clusterOf(mesh + rule("trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"), { proxy });
    const source = tlsOf(told.transportSocket)?.commonTlsContext?.tlsCertificateSdsSecretConfigs[0]?.sdsConfig;
    expect(source?.initialFetchTimeout).toBeUndefined();
  });

  it("is not tried outside of the mesh", () => {
    const external = `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: shop}, spec: {hosts: [e.test], location: MESH_EXTERNAL, ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}}\n---\n`;
    expect(modeOf(clusterOf(external, { name: "outbound|80||e.test" }))).toBe("plain");
  });

  it("of a service that leaves the address to the client needs all endpoints to take it", () => {
    const headless = (more: string) => service().replace("10.96.0.1", "None") + workload("v1", "10.9.1.1", "serviceAccount: web") + more;
    expect(modeOf(clusterOf(headless("")))).toBe("mutual");
    expect(modeOf(clusterOf(headless(workload("v2", "10.9.1.2", "weight: 1"))))).toBe("plain");
  });
});

describe("endpoints", () => {
  const assignment = (yaml: string, name = `outbound|80||${host}`, proxy = sidecarNode()) =>
    marks(endpointsOf(name, proxy, pushContextOf(yaml)));

  it("are marked that have a sidecar, by service account or label", () => {
    const labelled = (value: string) =>
      workload("v3", "10.9.1.3", "serviceAccount: web").replace("version: v3", `version: v3, security.istio.io/tlsMode: ${value}`);
    expect(assignment(mesh)).toEqual(["10.9.1.1*", "10.9.1.2"]);
    expect(assignment(mesh + labelled("disabled"))).toEqual(["10.9.1.1*", "10.9.1.2", "10.9.1.3"]);
    expect(assignment(mesh + labelled("istio"))).toEqual(["10.9.1.1*", "10.9.1.2", "10.9.1.3*"]);
  });

  it("are not where their workload or port takes none", () => {
    const selector = "selector: {matchLabels: {app: web}}";
    expect(assignment(mesh + peerAuthentication(`{${selector}, mtls: {mode: DISABLE}}`))).toEqual(["10.9.1.1", "10.9.1.2"]);
    const port = mesh + peerAuthentication(`{${selector}, portLevelMtls: {8080: {mode: DISABLE}}}`);
    expect(assignment(port)).toEqual(["10.9.1.1", "10.9.1.2"]);
    expect(assignment(port, `outbound|82||${host}`)).toEqual(["10.9.1.1*", "10.9.1.2"]);
  });

  it.each([
    ["DISABLE", ["10.9.1.1", "10.9.1.2"]],
    ["SIMPLE", ["10.9.1.1", "10.9.1.2"]],
    ["ISTIO_MUTUAL", ["10.9.1.1*", "10.9.1.2"]],
  ])("are marked as a rule of mode %s has it", (mode, expected) => {
    expect(assignment(mesh + rule(`trafficPolicy: {tls: {mode: ${mode}}}`))).toEqual(expected);
  });
});

describe("a rule's TLS", () => {
  const v1 = `outbound|80|v1|${host}`;

  it.each([
    ["DISABLE", "plain"],
    ["SIMPLE", "simple"],
    ["ISTIO_MUTUAL", "mutual"],
  ])("of mode %s", (mode, expected) => {
    expect(modeOf(clusterOf(mesh + rule(`trafficPolicy: {tls: {mode: ${mode}}}`)))).toBe(expected);
  });

  it.each([
    [
      "the port's entry counts",
      "trafficPolicy: {tls: {mode: DISABLE}, portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}",
      "simple",
    ],
    ["an entry without TLS inherits none", "trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 80}}]}", "automatic"],
    ["an entry of another port", "trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 81}}]}", "simple"],
    [
      "a subset over the rule",
      "trafficPolicy: {tls: {mode: SIMPLE}}, subsets: [{name: v1, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}]",
      "mutual",
    ],
    [
      "a subset that says nothing",
      "trafficPolicy: {tls: {mode: SIMPLE}}, subsets: [{name: v1, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]",
      "simple",
    ],
    [
      "a subset over the rule's entry for the port",
      "trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}, subsets: [{name: v1, trafficPolicy: {tls: {mode: DISABLE}}}]",
      "plain",
    ],
    [
      "a subset's entry for the port over all",
      "trafficPolicy: {tls: {mode: SIMPLE}}, subsets: [{name: v1, trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}]}}]",
      "mutual",
    ],
    [
      "a subset's entry without TLS",
      "trafficPolicy: {tls: {mode: SIMPLE}}, subsets: [{name: v1, trafficPolicy: {portLevelSettings: [{port: {number: 80}}]}}]",
      "automatic",
    ],
  ])("at its level: %s", (_, spec, expected) => {
    expect(modeOf(clusterOf(mesh + rule(spec), { name: spec.includes("subsets") ? v1 : `outbound|80||${host}` }))).toBe(expected);
  });

  it("of mode ISTIO_MUTUAL has the rule's server name and names before its own", () => {
    const cluster = clusterOf(
      mesh + rule("trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: other.test, subjectAltNames: ['spiffe://x/y']}}"),
    );
    expect(summary(cluster.transportSocket)).toMatchObject({ sni: "other.test", names: ["spiffe://x/y"], certificate: "default" });
  });

  it("of mode MUTUAL is from files, read by the proxy or served beside it", () => {
    const files = rule("trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca, sni: s}}");
    expect(summary(clusterOf(mesh + files).transportSocket)).toMatchObject({ certificate: "/c", roots: "/ca", sni: "s", alpn: "" });
    const served = sidecarNode({ metadata: { "file-credential": "true" } });
    expect(summary(clusterOf(mesh + files, { proxy: served }).transportSocket)).toMatchObject({
      certificate: "file-cert:/c~/k",
      roots: "file-root:/ca",
    });
  });

  it.each([
    ["a gateway", routerNode(), "credentialName: c", "", { certificate: "kubernetes://c", roots: "kubernetes://c-cacert" }],
    ["a sidecar", sidecarNode(), "credentialName: c", "", undefined],
    [
      "a sidecar that is chosen",
      sidecarNode({ namespace: "shop", labels: { app: "client" } }),
      "credentialName: c",
      "workloadSelector: {matchLabels: {app: client}},",
      { certificate: "kubernetes://c", roots: "kubernetes://c-cacert" },
    ],
  ])("by credentialName of %s", (_, proxy, credential, selector, expected) => {
    const cluster = clusterOf(mesh + rule(`${selector} trafficPolicy: {tls: {mode: MUTUAL, ${credential}}}`), { proxy });
    if (expected) expect(summary(cluster.transportSocket)).toMatchObject(expected);
    else expect(modeOf(cluster)).toBe("plain");
  });

  it("checks nothing when told so, and the system's roots when told nothing", () => {
    expect(summary(clusterOf(mesh + rule("trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}")).transportSocket)).toMatchObject(
      {
        roots: undefined,
        names: [],
      },
    );
    expect(summary(clusterOf(mesh + rule("trafficPolicy: {tls: {mode: SIMPLE}}")).transportSocket)?.roots).toMatch(/ca-certificates/);
  });

  it.each([
    ["{mode: SIMPLE}", { autoSni: true, autoSanValidation: true }],
    ["{mode: SIMPLE, subjectAltNames: [a.test]}", { autoSni: true, autoSanValidation: false }],
    ["{mode: SIMPLE, insecureSkipVerify: true}", { autoSni: true, autoSanValidation: false }],
    ["{mode: SIMPLE, sni: a.test}", undefined],
    ["{mode: ISTIO_MUTUAL}", undefined],
  ])("%s takes names from requests where it has none itself", (tls, expected) => {
    const any = clusterOf(mesh + rule(`trafficPolicy: {tls: ${tls}}`)).typedExtensionProtocolOptions[
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    ];
    const options = any && anyUnpack(any, HttpProtocolOptionsSchema)?.upstreamHttpProtocolOptions;
    if (expected) expect(options).toMatchObject(expected);
    else expect(options).toBeUndefined();
  });

  it("takes the suites and curves that the mesh has for SIMPLE", () => {
    const meshYaml = "{tlsDefaults: {cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256], ecdhCurves: [P-256]}}";
    const params = (mode: string) =>
      tlsOf(clusterOf(mesh + rule(`trafficPolicy: {tls: {mode: ${mode}}}`), { meshYaml }).transportSocket)?.commonTlsContext?.tlsParams;
    expect(params("SIMPLE")).toMatchObject({ cipherSuites: ["ECDHE-RSA-AES128-GCM-SHA256"], ecdhCurves: ["P-256"] });
    expect(params("ISTIO_MUTUAL")).toMatchObject({ cipherSuites: [], ecdhCurves: [] });
  });
});

describe("a gateway of mode AUTO_PASSTHROUGH", () => {
  const gateway = `{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g, namespace: shop}, spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}]}}\n---\n`;
  const yaml = mesh + gateway + rule("subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]");

  it("has a chain and a cluster for each port and subset, without TLS of its own", () => {
    const push = pushContextOf(yaml);
    const names = [80, 81, 82].flatMap((port) => ["", "v1", "v2"].map((subset) => `outbound_.${port}_.${subset}_.${host}`));
    const listener = listenersOf(routerNode(), push).get("0.0.0.0_15443")!;
    expect(listener.filterChains.map(({ filterChainMatch }) => filterChainMatch?.serverNames)).toEqual(names.map((name) => [name]));
    expect(listener.filterChains[0]?.filterChainMatch?.applicationProtocols).toContain("istio");
    const clusters = clustersOf(routerNode(), push);
    expect([...clusters.keys()].filter((name) => name.startsWith("outbound_"))).toEqual(names);
    expect(modeOf(clusters.get(names[0]!)!)).toBe("plain");
    expect([...clustersOf(routerNode({ labels: { istio: "other" } }), push).keys()].filter((name) => name.startsWith("outbound_"))).toEqual(
      [],
    );
  });

  it("leads to nobody who takes no mutual TLS", () => {
    const ends = (subset: string) => marks(endpointsOf(`outbound_.80_.${subset}_.${host}`, routerNode(), pushContextOf(yaml)));
    expect([ends(""), ends("v1"), ends("v2")]).toEqual([["10.9.1.1*"], ["10.9.1.1*"], []]);
  });
});
