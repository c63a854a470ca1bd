import { describe, expect, it } from "vitest";
import { run } from "../main.ts";

async function pc(args: readonly string[], dump: unknown): Promise<string> {
  const out: string[] = [];
  const streams = { out: (text: string) => void out.push(text), err: (text: string) => void out.push(text) };
  await run(["proxy-config", ...args, "-f", "-"], { ...streams, readStdin: async () => Buffer.from(JSON.stringify(dump)) });
  return out.join("");
}

const dumpOf = (type: string, fields: object) => ({ configs: [{ "@type": `type.googleapis.com/envoy.admin.v3.${type}`, ...fields }] });
const managed = (kind: string, name: string) => ({
  filter_metadata: { istio: { config: `/apis/networking.istio.io/v1/namespaces/shop/${kind}/${name}` } },
});

describe("proxy-config endpoints", () => {
  const host = (address: object, health: object) => ({ address, health_status: health });
  const socket = (address: string, port_value: number) => ({ socket_address: { address, port_value } });
  const dump = {
    cluster_statuses: [
      {
        name: "outbound|9080||b.shop",
        host_statuses: [
          host(socket("10.0.0.9", 9080), { eds_health_status: "HEALTHY", failed_outlier_check: true }),
          host(socket("10.0.0.10", 9080), { eds_health_status: "UNHEALTHY" }),
        ],
      },
      { name: "outbound|9080||a.shop", host_statuses: [host(socket("10.0.0.9", 9080), { eds_health_status: "HEALTHY" })] },
      { name: "sds-grpc", host_statuses: [host({ pipe: { path: "./socket" } }, { eds_health_status: "HEALTHY" })] },
      {
        name: "encap",
        host_statuses: [host({ envoy_internal_address: { server_listener_name: "connect", endpoint_id: "10.0.0.1:80" } }, {})],
      },
      { name: "empty" },
    ],
  };

  it("lists hosts by address, port and cluster", async () => {
    expect(await pc(["endpoints"], dump)).toBe(`\
ENDPOINT                        STATUS        OUTLIER CHECK     CLUSTER
10.0.0.10:9080                  UNHEALTHY     OK                outbound|9080||b.shop
10.0.0.9:9080                   HEALTHY       OK                outbound|9080||a.shop
10.0.0.9:9080                   HEALTHY       FAILED            outbound|9080||b.shop
envoy://connect/10.0.0.1:80     UNKNOWN       OK                encap
unix://./socket                 HEALTHY       OK                sds-grpc
`);
  });

  it.each([
    [["--cluster", "OUTBOUND|9080||b.shop"], 2],
    [["--port", "9080"], 3],
    [["--port", "0"], 5],
    [["--address", "10.0.0.9", "--status", "healthy"], 2],
    [["--status", "draining"], 0],
  ])("filters by %j", async (args, count) => {
    expect((await pc(["ep", ...args], dump)).trimEnd().split("\n")).toHaveLength(1 + count);
  });

  it("prints whole clusters with the names of JSON", async () => {
    expect(JSON.parse(await pc(["ep", "--address", "10.0.0.10", "-o", "json"], dump))).toMatchObject([
      { name: "outbound|9080||b.shop", hostStatuses: [{ healthStatus: { edsHealthStatus: "HEALTHY", failedOutlierCheck: true } }, {}] },
    ]);
    expect(await pc(["ep", "--port", "http"], dump)).toBe("Error: --port http is no port\n");
  });
});

describe("proxy-config clusters", () => {
  const cluster = (name: string, fields = {}) => ({
    cluster: { "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", name, ...fields },
  });
  const dump = dumpOf("ClustersConfigDump", {
    static_clusters: [cluster("prometheus_stats")],
    dynamic_active_clusters: [
      cluster("outbound|80|v2|web.shop.svc.cluster.local", { type: "EDS", metadata: managed("destination-rule", "web") }),
      cluster("outbound|80||web.shop.svc.cluster.local", {
        type: "EDS",
        connect_timeout: "10s",
        metadata: managed("destination-rule", "web"),
      }),
      cluster("inbound|8080||", { type: "ORIGINAL_DST", metadata: { filter_metadata: { istio: { default_port: { a_b: 1 } } } } }),
      cluster("PassthroughCluster", { type: "ORIGINAL_DST", metadata: { filter_metadata: { istio: { config: "/apis/else" } } } }),
    ],
    dynamic_warming_clusters: [cluster("outbound|81||late.shop")],
  });

  it("takes names apart, and tells the DestinationRule", async () => {
    expect(await pc(["c"], dump)).toBe(`\
SERVICE FQDN                   PORT     SUBSET     DIRECTION     TYPE             DESTINATION RULE
                               8080     -          inbound       ORIGINAL_DST     
PassthroughCluster             -        -          -             ORIGINAL_DST     <unknown>
prometheus_stats               -        -          -             STATIC           
web.shop.svc.cluster.local     80       -          outbound      EDS              web.shop
web.shop.svc.cluster.local     80       v2         outbound      EDS              web.shop
`);
  });

  it("filters, and prints messages whose data keep their keys", async () => {
    const [web] = JSON.parse(await pc(["clusters", "--fqdn", "web", "--subset", "v2", "--port", "80", "-o", "json"], dump));
    expect(web).toEqual({
      name: "outbound|80|v2|web.shop.svc.cluster.local",
      type: "EDS",
      metadata: { filterMetadata: expect.any(Object) },
    });
    expect(await pc(["c", "--direction", "inbound", "-o", "yaml"], dump)).toBe(
      "- metadata:\n    filterMetadata:\n      istio:\n        default_port:\n          a_b: 1\n  name: inbound|8080||\n  type: ORIGINAL_DST\n\n",
    );
    expect(await pc(["c"], dumpOf("ClustersConfigDump", {}))).toBe("Error: no clusters found\n");
  });
});

describe("proxy-config listeners", () => {
  const http = (config: object) => ({ filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: config }] });
  const tcp = (cluster: string) => ({ filters: [{ name: "envoy.filters.network.tcp_proxy", typed_config: { cluster } }] });
  const listener = (address: string, port_value: number, fields: object) => ({
    active_state: { listener: { address: { socket_address: { address, port_value } }, ...fields } },
  });
  const inline = (domains: string[], routes: object[]) => ({ route_config: { virtual_hosts: [{ domains, routes }] } });
  const dump = dumpOf("ListenersConfigDump", {
    dynamic_listeners: [
      listener("0.0.0.0", 15006, {
        filter_chains: [
          {
            filter_chain_match: { transport_protocol: "tls", prefix_ranges: [{ address_prefix: "::0", prefix_len: 0 }] },
            ...tcp("InboundPassthroughCluster"),
          },
          {
            filter_chain_match: {
              destination_port: 8080,
              application_protocols: ["istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"],
            },
            ...http(inline(["*"], [{ match: { prefix: "/" }, route: { cluster: "inbound|8080||" } }])),
          },
          { filter_chain_match: { server_names: ["a", "b"], application_protocols: ["x"] }, ...tcp("BlackHoleCluster") },
        ],
      }),
      listener("0.0.0.0", 80, {
        additional_addresses: [{ address: { socket_address: { address: "::", port_value: 80 } } }],
        filter_chains: [
          {
            filter_chain_match: { transport_protocol: "raw_buffer", application_protocols: ["http/1.0", "http/1.1", "h2c"] },
            ...http({ rds: { route_config_name: "80" } }),
          },
        ],
        default_filter_chain: tcp("PassthroughCluster"),
      }),
      { name: "refused", error_state: {} },
    ],
    static_listeners: [
      {
        listener: {
          address: { socket_address: { address: "0.0.0.0", port_value: 15090 } },
          filter_chains: [http(inline(["*"], [{ match: { prefix: "/stats/prometheus" }, route: { cluster: "prometheus_stats" } }]))],
        },
      },
    ],
  });

  it("tells what each chain takes and where it goes", async () => {
    expect(await pc(["listeners"], dump)).toBe(`\
ADDRESSES  PORT  MATCH                               DESTINATION
0.0.0.0,:: 80    Trans: raw_buffer; App: HTTP        Route: 80
0.0.0.0,:: 80    ALL                                 PassthroughCluster
0.0.0.0    15006 SNI: a,b; App: x                    Non-HTTP/Non-TCP
0.0.0.0    15006 Trans: tls; Addr: ::0/0             InboundPassthroughCluster
0.0.0.0    15006 App: Istio HTTP Plain; Addr: *:8080 Cluster: inbound|8080||
0.0.0.0    15090 ALL                                 Inline Route: /stats/prometheus*
`);
  });

  it("tells types, and filters", async () => {
    expect(await pc(["l", "--verbose=false"], dump)).toBe(`\
ADDRESSES  PORT  TYPE
0.0.0.0,:: 80    HTTP+TCP
0.0.0.0    15006 HTTP+TCP
0.0.0.0    15090 HTTP
`);
    expect(JSON.parse(await pc(["l", "--address", "::", "-o", "json"], dump))).toMatchObject([{ additionalAddresses: [{}] }]);
    expect((await pc(["l", "--type", "http", "--port", "15090"], dump)).split("\n")).toHaveLength(3);
  });
});

describe("proxy-config routes", () => {
  const route = (name: string, hosts: object[]) => ({ route_config: { name, virtual_hosts: hosts } });
  const long = ["web.shop.svc.cluster.local", "web", "web:80", "web.shop.svc", "web.shop", "10.0.0.1"];
  const dump = dumpOf("RoutesConfigDump", {
    static_route_configs: [route("inbound|80||", [{ name: "in", domains: ["*"], routes: [{ match: { prefix: "/" } }] }])],
    dynamic_route_configs: [
      route("9080", [{ name: "empty", domains: ["x"] }]),
      route("80", [
        {
          name: "web:80",
          domains: long,
          routes: [
            { match: { path_separated_prefix: "/api" }, metadata: managed("virtual-service", "web") },
            { match: { safe_regex: { regex: "/a+" } } },
            { match: { path: "/exact" } },
          ],
        },
        { name: "allow_any", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "PassthroughCluster" } }] },
      ]),
    ],
  });

  it("shows a row for each route, and not what passes through", async () => {
    expect((await pc(["r"], dump)).split("\n").map((line) => line.trimEnd().split(/ {5,}/))).toEqual([
      ["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"],
      ["80", "web:80", "web, web.shop + 1 more...", "PathPrefix:/api", "web.shop"],
      ["80", "web:80", "web, web.shop + 1 more...", "regex /a+"],
      ["80", "web:80", "web, web.shop + 1 more...", "/exact"],
      ["9080", "empty", "x", "/*", "404"],
      ["inbound|80||", "in", "*", "/*"],
      [""],
    ]);
  });

  it("counts virtual hosts, and finds one by its name alone", async () => {
    expect(await pc(["r", "--verbose=false", "--name", "80"], dump)).toBe("NAME     VIRTUAL HOSTS\n80       2\n");
    expect(JSON.parse(await pc(["r", "--name", "90", "-o", "json"], dump))).toEqual([]);
  });
});

describe("proxy-config bootstrap", () => {
  it("tells versions, or everything as JSON", async () => {
    const dump = dumpOf("BootstrapConfigDump", {
      bootstrap: {
        node: {
          metadata: { ISTIO_VERSION: "1.2.3", ISTIO_PROXY_SHA: "proxy:abc", some_key: "kept" },
          user_agent_build_version: {
            version: { major_number: 1, minor_number: 40 },
            metadata: { "revision.status": "Clean", "build.type": "RELEASE", "ssl.version": "BoringSSL", "build.label": "dev" },
          },
        },
      },
    });
    expect(await pc(["b", "-o", "short"], dump)).toBe(
      "Istio Version:       1.2.3\nIstio Proxy Version: abc\nEnvoy Version:       1.40.0-dev/Clean/RELEASE/BoringSSL\n",
    );
    expect(JSON.parse(await pc(["b"], dump))).toMatchObject({
      bootstrap: { node: { metadata: { some_key: "kept" }, userAgentBuildVersion: { version: { majorNumber: 1 } } } },
    });
  });
});
