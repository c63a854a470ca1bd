import { describe, expect, it } from "vitest";
import { decodeMeshConfig, decodeMeshNetworks, defaultMesh } from "./decode-mesh.ts";

const problems = (text: string) => {
  const { errors, warnings } = decodeMeshConfig(text, "mesh.yaml");
  return [...errors, ...warnings].map((error) => error.describe());
};

describe("decodeMeshConfig", () => {
  it.each([
    ["{}", "caCertificates[0]: needs pem or spiffeBundleUrl"],
    ["{ pem: nonsense }", "caCertificates[0].pem: holds no certificate in PEM"],
    [
      '{ pem: "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----" }',
      "caCertificates[0].pem: holds a certificate that can't be read",
    ],
    ["{ spiffeBundleUrl: 'http://a.test/b' }", 'caCertificates[0].spiffeBundleUrl: "http://a.test/b" is no https URL'],
    ["{ spiffeBundleUrl: 'https://a.test/b', trustDomains: [a_b] }", 'caCertificates[0].trustDomains[0]: "a_b" is not a trust domain'],
  ])("refuses the trust anchor %s", (data, problem) => {
    expect(problems(`caCertificates: [${data}]`)).toEqual([expect.stringContaining(problem)]);
  });

  it("has Istio's defaults", () => {
    expect(defaultMesh()).toMatchObject({
      trustDomain: "cluster.local",
      rootNamespace: "istio-system",
      enableAutoMtls: true,
      outboundTrafficPolicy: { mode: "ALLOW_ANY" },
      connectTimeout: 10_000,
      protocolDetectionTimeout: 0,
      dnsRefreshRate: 60_000,
      localityLbSetting: { enabled: true },
      proxyListenPort: 15001,
      proxyInboundListenPort: 15006,
      accessLogFile: "",
      accessLogEncoding: "TEXT",
      defaultServiceExportTo: ["*"],
      defaultConfig: {
        discoveryAddress: "istiod.istio-system.svc:15012",
        drainDuration: 45_000,
        terminationDrainDuration: 5000,
        proxyAdminPort: 15000,
        statusPort: 15020,
        statNameLength: 189,
        controlPlaneAuthPolicy: "MUTUAL_TLS",
        serviceCluster: "istio-proxy",
      },
    });
    expect(defaultMesh().extensionProviders.map((provider) => provider.name)).toEqual(["prometheus", "stackdriver", "envoy"]);
  });

  it("replaces what is written, merges the proxies' part, and adds providers by name", () => {
    const { value, errors } = decodeMeshConfig(
      `enableTracing: false
accessLogFile: /dev/stdout
outbound_traffic_policy: { mode: REGISTRY_ONLY }
localityLbSetting: {}
trustDomain: null
defaultConfig: { discoveryAddress: "istiod.example.com:15012", tracingServiceName: CANONICAL_NAME_ONLY, proxyMetadata: { A: b } }
extensionProviders:
- { name: zipkin, zipkin: { service: zipkin.istio-system.svc.cluster.local, port: 9411 } }
- { name: envoy, envoyFileAccessLog: { path: /var/log/access } }
`,
      "mesh.yaml",
    );
    expect(errors).toEqual([]);
    expect(value).toMatchObject({ enableTracing: false, trustDomain: "cluster.local", outboundTrafficPolicy: { mode: "REGISTRY_ONLY" } });
    expect(value?.localityLbSetting?.enabled).toBeUndefined();
    expect(value?.defaultConfig).toMatchObject({
      discoveryAddress: "istiod.example.com:15012",
      drainDuration: 45_000,
      proxyMetadata: { A: "b" },
    });
    expect(value?.defaultConfig.serviceCluster).toBeUndefined();
    expect(value?.extensionProviders.map(({ name, envoyFileAccessLog }) => [name, envoyFileAccessLog?.path])).toEqual([
      ["prometheus", undefined],
      ["stackdriver", undefined],
      ["envoy", "/var/log/access"],
      ["zipkin", undefined],
    ]);
  });

  it("says what is wrong and on which line", () => {
    expect(problems("enableTracing: maybe\n")).toEqual(['mesh.yaml:1: enableTracing: must be true or false, not the string "maybe"']);
    expect(problems("# mesh\ntrustDomains: x\n")).toEqual([
      'mesh.yaml:2: trustDomains: unknown field "trustDomains" in MeshConfig (is "trustDomain" meant?)',
    ]);
    expect(problems("a: b: c")[0]).toMatch(/^mesh\.yaml:1: is not YAML: /);
    expect(problems("- a")).toEqual(["mesh.yaml:1: is not an object"]);
  });

  it("keeps Istio's rules", () => {
    expect(
      problems(`connectTimeout: 2h
proxyListenPort: 0
trustDomain: "a_b"
trustDomainAliases: [""]
meshMTLS: { ecdhCurves: [P-256] }
tlsDefaults: { ecdhCurves: [FOO] }
serviceSettings: [{ hosts: [a_b] }]
defaultConfig: { proxyAdminPort: 0, drainDuration: 1.5s, discoveryAddress: nowhere, connectionSettings: { httpMaxConcurrentStreams: 0 } }
defaultTrafficPolicy: { connectionPool: {} }
`).map((text) => text.replace(/^mesh.yaml:/, "").replace(/(: [a-zA-Z0-9.[\]]+): .*/, "$1")),
    ).toEqual([
      "2: proxyListenPort",
      "1: connectTimeout",
      "3: trustDomain",
      "4: trustDomainAliases[0]",
      "7: serviceSettings[0].hosts[0]",
      "8: defaultConfig.drainDuration",
      "8: defaultConfig.proxyAdminPort",
      "8: defaultConfig.discoveryAddress",
      "8: defaultConfig.connectionSettings.httpMaxConcurrentStreams",
      "5: meshMTLS.ecdhCurves",
      "9: defaultTrafficPolicy.connectionPool",
      "6: tlsDefaults.ecdhCurves[0]",
    ]);
  });
});

describe("decodeMeshNetworks", () => {
  it("reads networks", () => {
    const { value } = decodeMeshNetworks(
      "networks: { east: { endpoints: [{ fromRegistry: c1 }], gateways: [{ address: 1.2.3.4, port: 15443 }] } }",
      "n.yaml",
    );
    expect(value).toEqual({
      networks: { east: { endpoints: [{ fromRegistry: "c1" }], gateways: [{ address: "1.2.3.4", port: 15443, locality: "" }] } },
    });
  });

  it("says what is wrong", () => {
    const { errors } = decodeMeshNetworks(
      "networks: { east: { endpoints: [{ fromCidr: x }], gateways: [{ address: a_b, port: 0 }] } }",
      "n.yaml",
    );
    expect(errors.map((error) => error.field)).toEqual([
      "networks.east.endpoints[0].fromCidr",
      "networks.east.gateways[0].address",
      "networks.east.gateways[0].port",
    ]);
  });
});
