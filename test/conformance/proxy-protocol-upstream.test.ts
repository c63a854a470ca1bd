/** PROXY headers to endpoints (upstream_proxy_protocol): byte for byte what Envoy sends, before TLS, and no connection for two clients. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { createSecureContext, TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeCertificate } from "../support/certificate.ts";
import { envoyBinary } from "../support/envoy.ts";
import { eventually, type RunningProxy, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { binaryHeader, ipv4Addresses, ipv6Addresses } from "../support/proxy-header.ts";
import { RawConnection } from "../support/raw-client.ts";
import { address, type } from "../support/static-bootstrap.ts";

const get = "GET /path HTTP/1.1\r\nhost: a\r\n\r\n";
const certificate = makeCertificate("a.test");

/** Takes a PROXY header off, remembers it, and answers requests behind it; what is none is answered as it is. */
class HeaderUpstream implements AsyncDisposable {
  /** Latin-1, one for each connection, as they came; "" for none. */
  readonly headers: string[] = [];
  readonly sockets = new Set<Socket>();
  port = 0;
  readonly #server = createServer((socket) => this.#serve(socket));

  static async start(): Promise<HeaderUpstream> {
    const upstream = new HeaderUpstream();
    upstream.#server.listen(0, "127.0.0.1");
    await once(upstream.#server, "listening");
    upstream.port = (upstream.#server.address() as AddressInfo).port;
    return upstream;
  }

  #serve(socket: Socket): void {
    this.sockets.add(socket);
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("error", () => {});
    let early = Buffer.alloc(0);
    const read = (chunk: Buffer) => {
      early = Buffer.concat([early, chunk]);
      const length = headerLength(early);
      if (length === undefined) return;
      socket.off("data", read);
      socket.pause();
      this.headers.push(early.toString("latin1", 0, length));
      const rest = early.subarray(length);
      if (rest.length > 0) socket.unshift(rest);
      if (rest.length > 0) this.#answer(socket, rest[0] === 22);
      else socket.once("readable", () => this.#answer(socket, peek(socket) === 22));
    };
    socket.on("data", read);
  }

  #answer(socket: Socket, isTls: boolean): void {
    const stream = isTls
      ? new TLSSocket(socket, {
          isServer: true,
          secureContext: createSecureContext({ cert: certificate.certificate, key: certificate.key }),
        })
      : socket;
    stream.on("error", () => {});
    stream.on("data", (chunk: Buffer) => {
      const said = chunk.toString("latin1");
      if (said.startsWith("GET")) stream.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nup");
      else stream.write(`echo:${said}`);
    });
    stream.resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
  }
}

function peek(socket: Socket): number | undefined {
  const bytes = socket.read() as Buffer | null;
  if (bytes !== null) socket.unshift(bytes);
  return bytes?.[0];
}

/** undefined: not there yet. */
function headerLength(bytes: Buffer): number | undefined {
  const said = bytes.toString("latin1");
  if (said.startsWith("\r\n\r\n\0\r\nQUIT\n")) {
    if (bytes.length < 16) return undefined;
    const length = 16 + bytes.readUInt16BE(14);
    return bytes.length < length ? undefined : length;
  }
  if (!said.startsWith("PROXY ")) return 0;
  const end = said.indexOf("\r\n");
  return end < 0 ? undefined : end + 2;
}

describe.skipIf(!envoyBinary)("PROXY headers to endpoints", () => {
  const stack = new AsyncDisposableStack();
  const proxies: { readonly proxy: RunningProxy; readonly upstream: HeaderUpstream }[] = [];

  function bootstrap(upstream: HeaderUpstream): unknown {
    const raw = { name: "raw", typed_config: { "@type": type("transport_sockets.raw_buffer.v3.RawBuffer") } };
    const tls = { name: "tls", typed_config: { "@type": type("transport_sockets.tls.v3.UpstreamTlsContext"), sni: "a.test" } };
    const around = (config: object, transport_socket: object = raw) => ({
      name: "envoy.transport_sockets.upstream_proxy_protocol",
      typed_config: { "@type": type("transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"), config, transport_socket },
    });
    const base64 = (value: string) => Buffer.from(value, "latin1").toString("base64");
    const tlv = (type: number, value: string) => ({ type, value: base64(value) });
    const sockets: Record<string, object> = {
      v1: around({ version: "V1" }),
      v2: around({ version: "V2" }),
      "v1-tls": around({ version: "V1" }, tls),
      "v2-tls": around({ version: "V2" }, tls),
      "v2-all": around({ version: "V2", pass_through_tlvs: { match_type: "INCLUDE_ALL" } }),
      "v2-some": around({ version: "V2", pass_through_tlvs: { match_type: "INCLUDE", tlv_type: [2] } }),
      "v2-added": around({
        version: "V2",
        pass_through_tlvs: { match_type: "INCLUDE_ALL" },
        added_tlvs: [tlv(0xe0, "cluster"), tlv(0xe0, "again"), tlv(2, "instead")],
      }),
      "v2-endpoint": around({ version: "V2", added_tlvs: [tlv(0xe0, "cluster"), tlv(0xe1, "both")] }),
    };
    const perHost = {
      typed_filter_metadata: {
        "envoy.transport_sockets.proxy_protocol": {
          "@type": "type.googleapis.com/envoy.config.core.v3.PerHostConfig",
          added_tlvs: [tlv(0xe0, "endpoint")],
        },
      },
    };
    const takes = {
      name: "header",
      typed_config: {
        "@type": type("filters.listener.proxy_protocol.v3.ProxyProtocol"),
        allow_requests_without_proxy_protocol: true,
        pass_through_tlvs: { match_type: "INCLUDE_ALL" },
      },
    };
    const tcp = (cluster: string) => ({
      name: "tcp",
      typed_config: { "@type": type("filters.network.tcp_proxy.v3.TcpProxy"), stat_prefix: "tcp", cluster },
    });
    const http = (cluster: string) => ({
      name: "hcm",
      typed_config: {
        "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        stat_prefix: "http",
        use_remote_address: true,
        route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster } }] }] },
        http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
      },
    });
    const names = Object.keys(sockets);
    return {
      admin: { address: address(0) },
      static_resources: {
        listeners: names.flatMap((name) => [
          { name: `tcp-${name}`, address: address(0), listener_filters: [takes], filter_chains: [{ filters: [tcp(name)] }] },
          { name: `http-${name}`, address: address(0), listener_filters: [takes], filter_chains: [{ filters: [http(name)] }] },
        ]),
        clusters: names.map((name) => ({
          name,
          transport_socket: sockets[name],
          load_assignment: {
            cluster_name: name,
            endpoints: [
              { lb_endpoints: [{ endpoint: { address: address(upstream.port) }, ...(name === "v2-endpoint" && { metadata: perHost }) }] },
            ],
          },
        })),
      },
    };
  }

  beforeAll(async () => {
    const start = async (launch: (bootstrap: unknown) => Promise<RunningProxy>) => {
      const upstream = stack.use(await HeaderUpstream.start());
      return { upstream, proxy: stack.use(await launch(bootstrap(upstream))) };
    };
    proxies.push(...(await Promise.all([start(startRealEnvoy), start(startOurProxy)])));
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  /** Of each proxy, after what both said was found to be the same. */
  async function both<T>(run: (side: (typeof proxies)[number]) => Promise<T>): Promise<T> {
    const [theirs, ours] = [await run(proxies[0]!), await run(proxies[1]!)];
    expect(ours).toEqual(theirs);
    return theirs;
  }

  /** The header that the endpoint got for a connection, which it has answered. */
  async function headerOf(listener: string, bytes: string): Promise<string> {
    return both(async ({ proxy, upstream }) => {
      upstream.headers.length = 0;
      const port = await proxy.listenerPort(listener);
      using connection = await RawConnection.open(port);
      connection.write(bytes + (listener.startsWith("http") ? get : "hello"));
      expect(await connection.until((received) => /up$|echo:hello$/.test(received.toString("latin1")))).toBe(true);
      expect(upstream.headers).toHaveLength(1);
      return upstream.headers[0]!.replace(String(connection.socket.localPort), "<client>").replace(String(port), "<listener>");
    });
  }

  const own = "PROXY TCP4 127.0.0.1 127.0.0.1 <client> <listener>\r\n";
  type Tlvs = readonly (readonly [type: number, value: string])[];
  const given: Tlvs = [
    [2, "name"],
    [0xea, "vpce"],
    [0xea, "twice"],
  ];
  const added: Tlvs = [
    [0xe0, "cluster"],
    [0xe0, "again"],
    [2, "instead"],
  ];
  const text4 = (port: number) => `PROXY TCP4 10.1.2.3 10.9.8.7 ${port} 2222\r\n`;
  const text6 = (port: number) => `PROXY TCP6 2001:db8::7 ::1 ${port} 2222\r\n`;
  const binary4 = (port: number, tlvs: Tlvs = []) =>
    binaryHeader({ addresses: ipv4Addresses([10, 1, 2, 3], [10, 9, 8, 7], [port, 2222]), tlvs });
  const binary6 = (port: number) =>
    binaryHeader({ family: 0x21, addresses: ipv6Addresses([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7], [0, 0, 0, 0, 0, 0, 0, 1], [port, 2222]) });
  // Envoy keeps connections of clients that have gone for others of the same address.
  let nextPort = 1000;

  describe.each(["tcp", "http"])("of %s", (kind) => {
    it.each<[string, string, (port: number) => string, (port: number) => string]>([
      ["v1", "none", () => "", () => own],
      ["v1", "text", text4, text4],
      ["v1", "IPv6", binary6, text6],
      ["v1", "UNKNOWN", () => "PROXY UNKNOWN\r\n", () => own],
      ["v1-tls", "text", text4, text4],
      ["v2", "text", text4, binary4],
      ["v2", "IPv6", text6, binary6],
      ["v2-tls", "text", text4, binary4],
      ["v2", "extensions", (port) => binary4(port, given), binary4],
      ["v2-all", "extensions", (port) => binary4(port, given), (port) => binary4(port, given)],
      ["v2-some", "extensions", (port) => binary4(port, given), (port) => binary4(port, given.slice(0, 1))],
      ["v2-added", "text", text4, (port) => binary4(port, added)],
      ["v2-added", "extensions", (port) => binary4(port, given), (port) => binary4(port, [...added, ...given.slice(1)])],
      [
        "v2-endpoint",
        "text",
        text4,
        (port) =>
          binary4(port, [
            [0xe0, "endpoint"],
            [0xe1, "both"],
          ]),
      ],
    ])("by %s for a client with %s", async (cluster, _, bytes, header) => {
      const port = nextPort++;
      expect(await headerOf(`${kind}-${cluster}`, bytes(port))).toBe(header(port));
    });
  });

  it("leaves out what there is no room for, and counts that", async () => {
    const long: Tlvs = [
      [0xea, "n".repeat(65_488)],
      [0xeb, "short"],
    ];
    expect(await headerOf("tcp-v2-added", binary4(1, long))).toBe(binary4(1, [...added, ...long.slice(0, 1)]));
    const stats = await both(async ({ proxy }) => (await proxy.admin("/stats?filter=proxyprotocol")).split("\n").sort());
    expect(stats).toContain("cluster.v2-added.upstream.proxyprotocol.v2_tlvs_exceed_max_length: 1");
  });

  it("has a connection for each client, and keeps it for the client's next request", async () => {
    const headers = await both(async ({ proxy, upstream }) => {
      upstream.headers.length = 0;
      const port = await proxy.listenerPort("http-v1");
      const clients = await Promise.all([1, 2].map(() => RawConnection.open(port)));
      for (const [index, client] of clients.entries()) {
        for (let round = 1; round <= 3; round++) {
          client.write((round === 1 ? `PROXY TCP4 10.0.0.${index + 1} 10.9.8.7 1111 2222\r\n` : "") + get);
          const isAnswered = (received: Buffer) => received.toString("latin1").split("\r\n\r\nup").length - 1 === round;
          expect(await client.until(isAnswered)).toBe(true);
        }
      }
      for (const client of clients) client.socket.destroy();
      return [...upstream.headers];
    });
    expect(headers).toEqual(["10.0.0.1", "10.0.0.2"].map((ip) => `PROXY TCP4 ${ip} 10.9.8.7 1111 2222\r\n`));
  });

  it("leaves no connection behind when the client has gone", async () => {
    const { upstream } = proxies[1]!;
    await eventually(
      () => (upstream.sockets.size === 0 ? true : undefined),
      () => `${upstream.sockets.size} connections are left`,
    );
  });
});
