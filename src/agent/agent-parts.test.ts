import { describe, expect, it } from "vitest";
import { bootstrap } from "./bootstrap.ts";
import { readEnvironment } from "./environment.ts";
import { nodeIdentity } from "./node.ts";
import { effectiveProxyConfig } from "./proxy-config.ts";

describe("readEnvironment", () => {
  it("collects node metadata from the open-ended families", () => {
    const read = readEnvironment({
      ISTIO_META_CLUSTER_ID: "edge",
      ISTIO_META_MESH_ID: "",
      ISTIO_METAJSON_LABELS: '{"app":"gw"}',
      POD_NAMESPACE: "prod",
    });
    expect(read).toMatchObject({
      podNamespace: "prod",
      metadata: { CLUSTER_ID: "edge", MESH_ID: "" },
      metadataJson: { LABELS: { app: "gw" } },
      deltaXds: true,
    });
  });

  it.each([
    ["ENVOY_STATUS_PORT", "many", "is no port"],
    ["ENVOY_STATUS_PORT", "70000", "is no port"],
    ["ISTIO_DELTA_XDS", "maybe", "neither true nor false"],
    ["ISTIO_METAJSON_LABELS", "{", "is no JSON"],
    ["ISTIO_METAJSON_LABELS", "[]", "is no JSON object"],
    ["CA_PROVIDER", "GoogleCA", "is not Citadel"],
    ["WORKLOAD_IDENTITY_SOCKET_FILE", "../socket", "is a path"],
    ["FILE_MOUNTED_CERTS", "maybe", "neither true nor false"],
    ["CA_HEADER_GRPC-TIMEOUT", "1", "can't be a header's name"],
    ["CREDENTIAL_FETCHER_TYPE", "GoogleComputeEngine", "is not JWT"],
    ["EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "yes", "neither true nor false"],
    ["MINIMUM_DRAIN_DURATION", "5", "is no duration from 1ms to 60m"],
    ["ISTIO_CPU_LIMIT", "2.5", "is no number of threads"],
    ["GRPC_KEEPALIVE_INTERVAL", "0s", "is no duration"],
    ["ENVOY_SECURE_METRICS_PORT", "-1", "is no port"],
    ["ENVOY_SECURE_MERGED_METRICS_PORT", "x", "is no port"],
    ["DISABLE_ENVOY", "yes", "neither true nor false"],
    ["FILE_DEBOUNCE_DURATION", "soon", "is no duration"],
  ])("refuses %s=%s by its name", (name, value, reason) => {
    expect(() => readEnvironment({ [name]: value })).toThrow(new RegExp(`${name}: .*${reason}`));
  });
});

describe("effectiveProxyConfig", () => {
  it("lays the environment over the mesh configuration, and merges proxyMetadata by key", () => {
    const { config } = effectiveProxyConfig(
      { file: "mesh", text: "defaultConfig: {discoveryAddress: 'a:1', proxyAdminPort: 1, proxyMetadata: {A: '1', B: '1'}}" },
      "{proxyAdminPort: 2, proxyMetadata: {B: '2'}}",
    );
    expect(config).toMatchObject({ discoveryAddress: "a:1", proxyAdminPort: 2, statusPort: 15020, proxyMetadata: { A: "1", B: "2" } });
  });

  it("lets who names the proxy last do so, by one of the two fields for it", () => {
    const named = (mesh: string, own: string) => {
      const { config } = effectiveProxyConfig({ file: "mesh", text: `defaultConfig: {${mesh}}` }, own);
      return [config.serviceCluster, config.tracingServiceName];
    };
    expect(named("tracingServiceName: CANONICAL_NAME_ONLY", "serviceCluster: web.shop")).toEqual(["web.shop", undefined]);
    expect(named("serviceCluster: web.shop", "tracingServiceName: CANONICAL_NAME_ONLY")).toEqual([undefined, "CANONICAL_NAME_ONLY"]);
    expect(named("tracingServiceName: CANONICAL_NAME_ONLY", "concurrency: 1")).toEqual([undefined, "CANONICAL_NAME_ONLY"]);
  });

  it("names the field that is wrong", () => {
    expect(() => effectiveProxyConfig(undefined, "{statusPrt: 1}")).toThrow(/statusPrt/);
    expect(() => effectiveProxyConfig(undefined, "{")).toThrow(/YAML/);
  });
});

describe("nodeIdentity", () => {
  const identity = (env: Record<string, string>, proxyConfig = "") => {
    const { config, json } = effectiveProxyConfig(undefined, proxyConfig);
    return nodeIdentity({
      type: "router",
      domain: undefined,
      environment: readEnvironment(env),
      proxyConfig: config,
      proxyConfigJson: json,
      addresses: ["10.0.0.5"],
      hasCredentialSocket: false,
    });
  };

  it("has Istio's four parts", () => {
    expect(identity({ POD_NAME: "gw", POD_NAMESPACE: "prod", INSTANCE_IP: "10.0.0.9" }).id).toBe(
      "router~10.0.0.9~gw.prod~prod.svc.cluster.local",
    );
    expect(identity({ POD_NAME: "gw" }).id).toBe("router~10.0.0.5~gw.default~default.svc.cluster.local");
  });

  it("flattens labels into metadata, but never over what the agent knows", () => {
    const { metadata, cluster } = identity({ POD_NAME: "gw", ISTIO_METAJSON_LABELS: '{"app":"edge","NAME":"forged"}' });
    expect(metadata).toMatchObject({ app: "edge", NAME: "gw", LABELS: { app: "edge" } });
    expect(cluster).toBe("edge.default");
  });

  it.each([
    ["", {}, "edge.prod"],
    ["serviceCluster: own", {}, "own"],
    ["tracingServiceName: APP_LABEL_AND_NAMESPACE", {}, "edge.prod"],
    ["tracingServiceName: CANONICAL_NAME_ONLY", {}, "canon"],
    ["tracingServiceName: CANONICAL_NAME_AND_NAMESPACE", {}, "canon.prod"],
    ["", { ISTIO_METAJSON_LABELS: "{}" }, "work.prod"],
    ["tracingServiceName: CANONICAL_NAME_ONLY", { ISTIO_METAJSON_LABELS: "{}" }, "work"],
    ["", { ISTIO_METAJSON_LABELS: "{}", ISTIO_META_WORKLOAD_NAME: "" }, "istio-proxy.prod"],
  ])("is known to traces as Istio's are: %j %j", (proxyConfig, env, expected) => {
    const labels = '{"app":"edge","service.istio.io/canonical-name":"canon"}';
    const given = { POD_NAMESPACE: "prod", ISTIO_META_WORKLOAD_NAME: "work", ISTIO_METAJSON_LABELS: labels, ...env };
    expect(identity(given, proxyConfig).cluster).toBe(expected);
  });

  it("takes metadata of the ProxyConfig beneath the environment's", () => {
    const { metadata } = identity(
      { ISTIO_META_NETWORK: "env" },
      "{proxyMetadata: {ISTIO_META_NETWORK: config, ISTIO_META_ZONE: z, OTHER: x}}",
    );
    expect(metadata).toMatchObject({ NETWORK: "env", ZONE: "z" });
    expect(metadata).not.toHaveProperty("OTHER");
  });

  it("reads the locality from its label", () => {
    expect(identity({ ISTIO_METAJSON_LABELS: '{"istio-locality":"eu.fra.a"}' }).locality).toEqual({
      region: "eu",
      zone: "fra",
      subZone: "a",
    });
  });
});

describe("bootstrap", () => {
  it("sends the proxy to the agent's sockets for configuration and for secrets", () => {
    const environment = readEnvironment({});
    const { config, json } = effectiveProxyConfig(undefined, undefined);
    const node = nodeIdentity({
      type: "router",
      domain: undefined,
      environment,
      proxyConfig: config,
      proxyConfigJson: json,
      addresses: ["127.0.0.1"],
      hasCredentialSocket: false,
    });
    const sockets = { xds: "/x/XDS", workload: "/x/sds", files: "/x/files", credentials: "/x/others" };
    const made = bootstrap({ node, environment, proxyConfig: config, sockets });
    const { clusters } = made.static_resources as { clusters: { name: string; load_assignment: unknown }[] };
    const addressOf = (name: string) => JSON.stringify(clusters.find((cluster) => cluster.name === name)?.load_assignment);
    expect(addressOf("xds-grpc")).toContain('"pipe":{"path":"/x/XDS"}');
    expect(addressOf("sds-grpc")).toContain('"pipe":{"path":"/x/sds"}');
    expect(addressOf("sds-files-grpc")).toContain('"pipe":{"path":"/x/files"}');
    expect(addressOf("sds-external")).toContain('"pipe":{"path":"/x/others"}');
  });

  it("listens for the outside on a machine of IPv6 alone too, and for the agent there", () => {
    const environment = readEnvironment({});
    const { config, json } = effectiveProxyConfig(undefined, undefined);
    const options = { type: "sidecar", domain: undefined, environment, proxyConfig: config, proxyConfigJson: json } as const;
    const node = nodeIdentity({ ...options, addresses: ["fd00::7"], hasCredentialSocket: false });
    const sockets = { xds: "/x/XDS", workload: "/x/sds", files: "/x/files", credentials: undefined };
    const { static_resources } = bootstrap({ node, environment, proxyConfig: config, sockets });
    const { listeners } = static_resources as { listeners: { name: string; address: unknown }[] };
    expect(listeners.map(({ name, address }) => [name, address])).toEqual(
      [15090, 15021].map((port) => [`::_${port}`, { socket_address: { address: "::", port_value: port, ipv4_compat: true } }]),
    );
  });

  it("finds the agent where it listens, also when that is one address of several", () => {
    const agentAt = (env: Record<string, string>) => {
      const { config, json } = effectiveProxyConfig(undefined, "");
      const environment = readEnvironment(env);
      const options = { type: "router", domain: undefined, environment, proxyConfig: config, proxyConfigJson: json } as const;
      const node = nodeIdentity({ ...options, addresses: ["127.0.0.1"], hasCredentialSocket: false });
      const sockets = { xds: "/x/XDS", workload: "/x/sds", files: "/x/files", credentials: undefined };
      const { static_resources } = bootstrap({ node, environment, proxyConfig: config, sockets });
      const { clusters } = static_resources as { clusters: { name: string }[] };
      return JSON.stringify(clusters.find(({ name }) => name === "agent"));
    };
    expect(agentAt({})).toContain('"address":"127.0.0.1","port_value":15020');
    expect(agentAt({ TOPSAIL_BIND_ADDRESS: "192.0.2.7" })).toContain('"address":"192.0.2.7","port_value":15020');
  });
});
