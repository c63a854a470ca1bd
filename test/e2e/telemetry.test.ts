/**
 * Metadata exchange and Istio's metrics between two of our proxies, a client's and a server's, configured as Istio's control plane does it
 * (a TypedStruct for each filter of its own), and with what strangers send.
 */
import { createServer as createTcpServer, type Socket, connect as tcpConnect } from "node:net";
import { connect as tlsConnect } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodePeer, peerFromMetadata } from "../../src/proxy/telemetry/workload-peer.ts";
import { askHttp } from "../support/http-ask.ts";
import { type Identity, makeMeshCa } from "../support/mesh-ca.ts";
import { type Sample, samplesOf } from "../support/prometheus.ts";
import { eventually, type RunningProxy, startOurProxy } from "../support/proxies.ts";
import { startUpstream, type TestUpstream } from "../support/upstream.ts";

type Json = Record<string, unknown>;

const typed = (type: string, value: Json = {}): Json => ({
  "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
  type_url: `type.googleapis.com/${type}`,
  value,
});
const exchange = typed("envoy.tcp.metadataexchange.config.MetadataExchange", { protocol: "istio-peer-exchange", enable_discovery: true });
const stats = (value: Json = {}) => ({ name: "istio.stats", typed_config: typed("stats.PluginConfig", value) });
const byHeaders = [{ istio_headers: {} }, { workload_discovery: {} }];
const network = "type.googleapis.com/envoy.extensions.filters.network";
const address = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });

const workloads = {
  client: { name: "web-v1", app: "web", namespace: "shop", version: "v1", account: "web" },
  server: { name: "ratings-v2", app: "ratings", namespace: "books", version: "v2", account: "ratings" },
};
type Workload = (typeof workloads)[keyof typeof workloads];

const nodeMetadata = ({ name, app, namespace, version }: Workload): Json => ({
  NAME: `${name}-0`,
  NAMESPACE: namespace,
  WORKLOAD_NAME: name,
  CLUSTER_ID: `${app}-cluster`,
  ISTIO_VERSION: "1.30.0",
  LABELS: { app, version, "service.istio.io/canonical-name": `${app}-canonical`, "service.istio.io/canonical-revision": version },
});
const spiffe = ({ namespace, account }: Workload) => `spiffe://cluster.local/ns/${namespace}/sa/${account}`;

describe("metadata exchange and Istio's metrics", () => {
  const stack = new AsyncDisposableStack();
  const ca = makeMeshCa();
  const identities = { client: ca.issue(spiffe(workloads.client)), server: ca.issue(spiffe(workloads.server)) };
  let application: TestUpstream;
  let echo: Awaited<ReturnType<typeof startEcho>>;
  let server: RunningProxy;
  let client: RunningProxy;
  let ports: Record<"http" | "plainHttp" | "tcp", number>;

  const commonTls = ({ certificate, key }: Identity, alpn: string[]) => ({
    alpn_protocols: alpn,
    tls_certificates: [{ certificate_chain: { inline_string: certificate }, private_key: { inline_string: key } }],
    validation_context: { trusted_ca: { inline_string: ca.root } },
  });
  const tlsSocket = (direction: "Upstream" | "Downstream", context: Json) => ({
    name: "tls",
    typed_config: { "@type": `type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.${direction}TlsContext`, ...context },
  });

  const cluster = (name: string, port: number, more: Json = {}, workload = "") => ({
    name,
    connect_timeout: "2s",
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: [
            { endpoint: { address: address(port) }, ...(workload && { metadata: { filter_metadata: { istio: { workload } } } }) },
          ],
        },
      ],
    },
    ...more,
  });
  const serviceMetadata = (more: Json = {}) => ({
    metadata: {
      filter_metadata: { istio: { services: [{ host: "ratings.books.svc.cluster.local", name: "ratings", namespace: "books" }], ...more } },
    },
  });
  const manager = (filters: Json[], routes: Json[]) => ({
    name: "hcm",
    typed_config: {
      "@type": `${network}.http_connection_manager.v3.HttpConnectionManager`,
      stat_prefix: "test",
      route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes }] },
      http_filters: [
        ...filters,
        { name: "router", typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } },
      ],
    },
  });
  const tcpProxy = (to: string) => ({
    name: "tcp",
    typed_config: { "@type": `${network}.tcp_proxy.v3.TcpProxy`, stat_prefix: to, cluster: to },
  });
  const mx = { name: "istio.metadata_exchange" };
  const serverFilters = (value: Json = {}) => [
    {
      ...mx,
      typed_config: typed("io.istio.http.peer_metadata.Config", {
        downstream_discovery: byHeaders,
        downstream_propagation: [{ istio_headers: {} }],
      }),
    },
    stats({ disable_host_header_fallback: true, ...value }),
  ];
  const clientFilters = (skips: boolean) => [
    {
      ...mx,
      typed_config: typed("io.istio.http.peer_metadata.Config", {
        upstream_discovery: byHeaders,
        upstream_propagation: [{ istio_headers: skips ? { skip_external_clusters: true } : {} }],
      }),
    },
    {
      name: "istio.alpn",
      typed_config: typed("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", {
        alpn_override: [{ upstream_protocol: "HTTP11", alpn_override: ["istio-http/1.1", "istio", "http/1.1"] }],
      }),
    },
    stats(),
  ];
  const start = async (workload: Workload, listeners: Json[], clusters: Json[]) =>
    stack.use(
      await startOurProxy({
        node: { id: `sidecar~127.0.0.1~${workload.name}~local`, cluster: workload.app, metadata: nodeMetadata(workload) },
        admin: { address: address(0) },
        stats_flush_interval: "1s",
        static_resources: { listeners, clusters },
      }),
    );

  beforeAll(async () => {
    application = stack.use(await startUpstream("app"));
    echo = stack.use(await startEcho());
    const routes = [{ match: { prefix: "/" }, route: { cluster: "app" } }];
    const inbound = (name: string, filters: Json[], tls: string[] | undefined) => ({
      name,
      traffic_direction: "INBOUND",
      address: address(0),
      filter_chains: [
        {
          filters,
          ...(tls && {
            transport_socket: tlsSocket("Downstream", {
              require_client_certificate: true,
              common_tls_context: commonTls(identities.server, tls),
            }),
          }),
        },
      ],
    });
    server = await start(
      workloads.server,
      [
        inbound("http", [{ ...mx, typed_config: exchange }, manager(serverFilters(), routes)], ["h2", "http/1.1"]),
        inbound("plain", [manager(serverFilters(), routes)], undefined),
        inbound(
          "tcp",
          [{ ...mx, typed_config: exchange }, stats({ tcp_reporting_duration: "0.2s" }), tcpProxy("echo")],
          ["istio-peer-exchange", "h2"],
        ),
        inbound(
          "fewer",
          [
            manager(
              serverFilters({
                metrics: [{ drop: true, name: "request_bytes" }, { tags_to_remove: ["source_principal", "response_flags"] }],
              }),
              routes,
            ),
          ],
          undefined,
        ),
      ],
      [cluster("app", application.port, serviceMetadata()), cluster("echo", echo.port, serviceMetadata())],
    );
    const to = async (listener: string) => server.listenerPort(listener);
    const mutual = (alpn: string[]) => ({
      transport_socket: tlsSocket("Upstream", { sni: "ratings", common_tls_context: commonTls(identities.client, alpn) }),
    });
    const exchanging = { filters: [{ ...mx, typed_config: exchange }] };
    const endpoint = "ratings-from-endpoint;books;ratings-canonical;v2;ratings-cluster";
    const outbound = (name: string, filters: Json[]) => ({
      name,
      traffic_direction: "OUTBOUND",
      address: address(0),
      filter_chains: [{ filters }],
    });
    client = await start(
      workloads.client,
      [
        outbound("http", [
          manager(clientFilters(true), [
            { match: { prefix: "/plain" }, route: { cluster: "plain" } },
            { match: { prefix: "/dead" }, route: { cluster: "dead" } },
            { match: { prefix: "/external" }, route: { cluster: "external" } },
            { match: { prefix: "/nowhere" }, name: "block_all", direct_response: { status: 502 } },
            { match: { prefix: "/" }, route: { cluster: "mutual" } },
          ]),
        ]),
        outbound("tcp", [stats({ tcp_reporting_duration: "0.2s" }), tcpProxy("mutual-tcp")]),
      ],
      [
        cluster("mutual", await to("http"), { ...mutual(["istio-peer-exchange", "istio"]), ...serviceMetadata(), ...exchanging }, endpoint),
        cluster("plain", await to("plain"), { ...serviceMetadata(), ...exchanging }),
        cluster("dead", 1, { ...serviceMetadata(), ...exchanging }, endpoint),
        cluster("external", application.port, { ...serviceMetadata({ external: true }), ...exchanging }),
        cluster(
          "mutual-tcp",
          await to("tcp"),
          { ...mutual(["istio-peer-exchange", "istio"]), ...serviceMetadata(), ...exchanging },
          endpoint,
        ),
      ],
    );
    ports = { http: await client.listenerPort("http"), plainHttp: await to("plain"), tcp: await client.listenerPort("tcp") };
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  const lines = async (proxy: RunningProxy) =>
    (await proxy.admin("/stats/prometheus")).split("\n").filter((line) => /^(istio|envoy_metadata)_/.test(line));
  /** Of what has come: counters of labels that are new are known to the reader a moment after the response. */
  const samples = (proxy: RunningProxy, name: string, wanted: Readonly<Record<string, string>> = {}) =>
    eventually(
      async () => {
        const found = await samplesNow(proxy, name, wanted);
        return found.length > 0 ? found : undefined;
      },
      `${name} ${JSON.stringify(wanted)}`,
    );
  async function samplesNow(proxy: RunningProxy, name: string, wanted: Readonly<Record<string, string>> = {}): Promise<Sample[]> {
    return samplesOf(await proxy.admin("/stats/prometheus"), name, wanted);
  }
  const ask = (path: string, headers: Record<string, string> = {}) => askHttp("127.0.0.1", ports.http, { line: `GET ${path}`, headers });

  it("tells both sides who they are, each in Istio's labels and their order", async () => {
    expect((await ask("/one")).status).toBe(200);
    for (const proxy of [client, server]) await samples(proxy, "istio_requests_total");
    const [first] = (await lines(client)).filter((line) => line.startsWith("istio_requests_total"));
    const common =
      'source_workload="web-v1",source_canonical_service="web-canonical",source_canonical_revision="v1",source_workload_namespace="shop",' +
      'source_principal="spiffe://cluster.local/ns/shop/sa/web",source_app="web",source_version="v1",source_cluster="web-cluster",' +
      'destination_workload="ratings-v2",destination_workload_namespace="books",destination_principal="spiffe://cluster.local/ns/books/sa/ratings",' +
      'destination_app="ratings",destination_version="v2",destination_service="ratings.books.svc.cluster.local",' +
      'destination_canonical_service="ratings-canonical",destination_canonical_revision="v2",destination_service_name="ratings",' +
      'destination_service_namespace="books",destination_cluster="ratings-cluster",request_protocol="http",response_code="200",' +
      'grpc_response_status="",response_flags="-"';
    expect(first).toBe(`istio_requests_total{reporter="source",${common},connection_security_policy="unknown"} 1`);
    expect((await lines(server)).find((line) => line.startsWith("istio_requests_total"))).toBe(
      `istio_requests_total{reporter="destination",${common},connection_security_policy="mutual_tls"} 1`,
    );
  });

  it("keeps what the proxies tell each other from the applications", async () => {
    const { headers } = await ask("/private");
    expect(Object.keys(headers).filter((name) => name.includes("peer-metadata"))).toEqual([]);
    expect(
      application.seen
        .at(-1)
        ?.headers.map(([name]) => name)
        .filter((name) => name.includes("peer-metadata")),
    ).toEqual([]);
  });

  it("has histograms of durations and of bytes, in Istio's buckets", async () => {
    const before = (await samples(server, "istio_request_bytes_sum", { connection_security_policy: "mutual_tls" }))[0]!.value;
    await ask("/bytes", { "x-padding": "x".repeat(1000) });
    const [sum] = await samples(server, "istio_request_bytes_sum", { connection_security_policy: "mutual_tls" });
    expect(sum!.value - before).toBeGreaterThan(1000);
    const [count] = await samples(server, "istio_request_bytes_count", { connection_security_policy: "mutual_tls" });
    const [requests] = await samples(server, "istio_requests_total", { connection_security_policy: "mutual_tls" });
    expect(count!.value).toBe(requests!.value);
    const bounds = (await samples(server, "istio_request_duration_milliseconds_bucket", { connection_security_policy: "mutual_tls" })).map(
      ({ labels }) => Number(labels.le === "+Inf" ? Number.POSITIVE_INFINITY : labels.le),
    );
    expect(bounds.slice(0, 20)).toEqual([
      ...[0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000],
      Number.POSITIVE_INFINITY,
    ]);
    expect(await samples(server, "istio_build")).toMatchObject([{ labels: { component: "proxy", tag: "1.30.0" }, value: 1 }]);
  });

  it("says that plaintext has no security, and believes nobody's principal then", async () => {
    await ask("/plain");
    expect(await samples(server, "istio_requests_total", { connection_security_policy: "none", source_workload: "web-v1" })).toMatchObject([
      { labels: { source_principal: "unknown", destination_principal: "unknown", source_workload_namespace: "shop" }, value: 1 },
    ]);
    await askHttp("127.0.0.1", ports.plainHttp, {});
    expect(await samples(server, "istio_requests_total", { source_workload: "unknown" })).toMatchObject([
      { labels: { source_app: "unknown", source_canonical_revision: "latest", connection_security_policy: "none" }, value: 1 },
    ]);
  });

  it("goes by the control plane's word for who could not be reached", async () => {
    await ask("/dead");
    expect(await samples(client, "istio_requests_total", { response_code: "503" })).toMatchObject([
      { labels: { destination_workload: "ratings-from-endpoint", destination_app: "unknown", response_flags: "UF" }, value: 1 },
    ]);
    await ask("/nowhere");
    expect(await samples(client, "istio_requests_total", { response_code: "502" })).toMatchObject([
      { labels: { destination_service_name: "BlackHoleCluster", destination_service: "any.test", destination_workload: "unknown" } },
    ]);
  });

  it("tells servers outside of the mesh nothing", async () => {
    await ask("/external");
    expect(application.seen.at(-1)).toMatchObject({ path: "/external" });
    expect(application.seen.at(-1)?.headers.some(([name]) => name.toLowerCase().includes("peer-metadata"))).toBe(false);
  });

  it("takes metadata of strangers as they give it, within limits", async () => {
    const header = (metadata: Record<string, string>) => Buffer.from(encodePeer(peerFromMetadata(metadata))).toString("base64");
    const asStranger = (value: string) => askHttp("127.0.0.1", ports.plainHttp, { headers: { "x-envoy-peer-metadata": value } });
    await asStranger(header({ WORKLOAD_NAME: 'odd"name\n\\' }));
    expect(await samples(server, "istio_requests_total", { source_workload: 'odd\\"name\\n\\\\' })).toHaveLength(1);
    await asStranger(header({ WORKLOAD_NAME: "long".repeat(1000) }));
    expect(await samples(server, "istio_requests_total", { source_workload: "long".repeat(64) })).toHaveLength(1);
    for (const nonsense of ["!", "AAAA", "x".repeat(2000)]) expect((await asStranger(nonsense)).status).toBe(200);
    const answer = await asStranger(header({ WORKLOAD_NAME: "curious" }));
    expect(answer.headers["x-envoy-peer-metadata"]).toBe(header(nodeMetadata(workloads.server) as Record<string, string>));
    expect(answer.headers["x-envoy-peer-metadata-id"]).toBeUndefined();
  });

  it("leaves metrics and labels out as it is told", async () => {
    await askHttp("127.0.0.1", await server.listenerPort("fewer"), {});
    const fewer = async () => (await samplesNow(server, "istio_requests_total")).filter(({ labels }) => !("source_principal" in labels));
    const without = await eventually(async () => ((await fewer()).length > 0 ? fewer() : undefined), "a metric without principals");
    expect(without).toMatchObject([{ value: 1 }]);
    expect(Object.keys(without[0]!.labels)).not.toContain("response_flags");
    expect((await samplesNow(server, "istio_request_bytes_count")).filter(({ labels }) => !("source_principal" in labels))).toEqual([]);
    expect((await samples(server, "istio_response_bytes_count")).filter(({ labels }) => !("source_principal" in labels))).toHaveLength(1);
  });

  it("exchanges metadata over TCP, counts its bytes while it lasts, and passes none of the exchange on", async () => {
    const socket = tcpConnect(ports.tcp, "127.0.0.1");
    socket.write("hello");
    const answer = await read(socket, 5);
    expect(answer).toBe("hello");
    expect(echo.received()).toBe("hello");
    const parties = { source_workload: "web-v1", destination_workload: "ratings-v2", request_protocol: "tcp" };
    const value = async (proxy: RunningProxy, name: string) => (await samplesNow(proxy, name, parties))[0]?.value ?? 0;
    for (const proxy of [client, server]) {
      await expect.poll(() => value(proxy, "istio_tcp_sent_bytes_total"), { timeout: 5000 }).toBe(5);
      expect(await value(proxy, "istio_tcp_connections_opened_total")).toBe(1);
      expect(await value(proxy, "istio_tcp_connections_closed_total")).toBe(0);
    }
    socket.end("goodbye");
    await read(socket, 7);
    for (const proxy of [client, server]) {
      await expect.poll(() => value(proxy, "istio_tcp_connections_closed_total"), { timeout: 5000 }).toBe(1);
      expect(await value(proxy, "istio_tcp_received_bytes_total")).toBe(12);
      expect(await value(proxy, "istio_tcp_sent_bytes_total")).toBe(12);
      expect(await value(proxy, "istio_tcp_connections_opened_total")).toBe(1);
    }
    expect(await samples(server, "istio_tcp_connections_closed_total", parties)).toMatchObject([
      { labels: { connection_security_policy: "mutual_tls", source_principal: spiffe(workloads.client), response_flags: "-" } },
    ]);
    const ends = (await lines(server)).filter((line) => line.startsWith("envoy_metadata_exchange_alpn_protocol_found"));
    expect(ends).toEqual(["envoy_metadata_exchange_alpn_protocol_found{} 1"]);
  });

  it.each([
    ["agrees on the exchange and says nothing of the kind", ["istio-peer-exchange"], Buffer.from("plain bytes")],
    ["knows nothing of it", ["h2"], Buffer.from("plain bytes")],
  ])("serves a client that %s", async (_, ALPNProtocols, bytes) => {
    const { certificate, key } = identities.client;
    const port = await server.listenerPort("tcp");
    const socket = tlsConnect({ port, host: "127.0.0.1", cert: certificate, key, rejectUnauthorized: false, ALPNProtocols });
    socket.write(bytes);
    const agreed = ALPNProtocols[0] === "istio-peer-exchange";
    const answer = await read(socket, agreed ? 9 : bytes.length);
    if (agreed) expect(Buffer.from(answer.slice(0, 4), "latin1").readUInt32BE(0)).toBe(0x3d230467);
    else expect(answer).toBe("plain bytes");
    await expect.poll(() => echo.received()).toContain("plain bytes");
    socket.destroy();
  });

  it("ends a connection whose greeting is too long", async () => {
    const { certificate, key } = identities.client;
    const port = await server.listenerPort("tcp");
    const ALPNProtocols = ["istio-peer-exchange"];
    const socket = tlsConnect({ port, host: "127.0.0.1", cert: certificate, key, rejectUnauthorized: false, ALPNProtocols });
    socket.on("error", () => {});
    socket.write(Buffer.from("3d2304677fffffff", "hex"));
    socket.resume();
    await new Promise((resolve) => socket.once("close", resolve));
  });
});

function read(socket: Socket, bytes: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const onData = (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (text.length < bytes) return;
      socket.off("data", onData);
      resolve(text);
    };
    socket.on("data", onData);
    socket.once("error", reject);
    socket.once("close", () => reject(new Error(`closed after "${text}"`)));
  });
}

async function startEcho(): Promise<AsyncDisposable & { readonly port: number; received(): string }> {
  let received = "";
  const sockets = new Set<Socket>();
  const listener = createTcpServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("data", (chunk: Buffer) => {
      received += chunk.toString("latin1");
      socket.write(chunk);
    });
    socket.on("end", () => socket.end());
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return {
    port: (listener.address() as { port: number }).port,
    received: () => received,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}
