/** What follows from a PROXY header once it is read: logs, matches, policies, headers, TLS behind it. Envoy and our proxy on the same file. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { type TLSSocket, connect as tlsConnect } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeCertificate } from "../support/certificate.ts";
import { envoyBinary } from "../support/envoy.ts";
import { eventually, type RunningProxy, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { binaryHeader } from "../support/proxy-header.ts";
import { RawConnection } from "../support/raw-client.ts";
import { address, answeringFilters, fileLog, type } from "../support/static-bootstrap.ts";
import { startTcpUpstream, startUpstream, type TestTcpUpstream, type TestUpstream } from "../support/upstream.ts";

const text = "PROXY TCP4 10.1.2.3 10.9.8.7 1111 2222\r\n";
const ask = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

const header = (fields: object = {}) => ({
  name: "envoy.filters.listener.proxy_protocol",
  typed_config: { "@type": type("filters.listener.proxy_protocol.v3.ProxyProtocol"), ...fields },
});
const inspector = (name: "tls" | "http") => ({
  name: `envoy.filters.listener.${name}_inspector`,
  typed_config: { "@type": type(`filters.listener.${name}_inspector.v3.${name === "tls" ? "TlsInspector" : "HttpInspector"}`) },
});
const answers = (body: string) => ({
  filters: (answeringFilters("in") as { typed_config: object }[]).map(
    (filter) => JSON.parse(JSON.stringify(filter).replace('"in"}', `"${body}"}`)) as object,
  ),
});
const range = (prefix: string, length: number) => [{ address_prefix: prefix, prefix_len: length }];
const inline = (inline_string: string) => ({ inline_string });

describe.skipIf(!envoyBinary)("What follows from a PROXY header", () => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-proxy-header-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const server = makeCertificate("a.test");
  const proxies: RunningProxy[] = [];
  let echo: TestTcpUpstream;
  let upstream: TestUpstream;

  const logFile = (side: string) => join(directory, `${side}.log`);

  function bootstrap(side: string): unknown {
    const format =
      "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% " +
      "%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol)% %DYNAMIC_METADATA(own.space)%\n";
    const log = (what: string) => fileLog(logFile(side), `${what} ${format}`);
    const tcp = (more: object[] = []) => ({
      filters: [
        ...more,
        {
          name: "tcp",
          typed_config: {
            "@type": type("filters.network.tcp_proxy.v3.TcpProxy"),
            stat_prefix: "tcp",
            cluster: "echo",
            access_log: [log("tcp")],
          },
        },
      ],
    });
    const allows = (principal: object) => ({
      name: "rbac",
      typed_config: {
        "@type": type("filters.network.rbac.v3.RBAC"),
        stat_prefix: "rbac",
        rules: { policies: { p: { permissions: [{ any: true }], principals: [principal] } } },
      },
    });
    const secure = (body: string) => ({
      ...answers(body),
      transport_socket: {
        name: "tls",
        typed_config: {
          "@type": type("transport_sockets.tls.v3.DownstreamTlsContext"),
          common_tls_context: { tls_certificates: [{ certificate_chain: inline(server.certificate), private_key: inline(server.key) }] },
        },
      },
    });
    const manager = {
      "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
      stat_prefix: "hops",
      use_remote_address: true,
      xff_num_trusted_hops: 1,
      access_log: [log("http")],
      route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "up" } }] }] },
      http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
    };
    const rules = [
      { tlv_type: 0xea, on_tlv_present: { key: "vpce" } },
      { tlv_type: 0x02, on_tlv_present: { key: "authority", metadata_namespace: "own.space" } },
      { tlv_type: 0x03, on_tlv_present: { key: "authority", metadata_namespace: "own.space" } },
    ];
    const listeners = [
      { name: "tcp", listener_filters: [header({ rules })], filter_chains: [tcp()], access_log: [log("listener")] },
      { name: "hops", listener_filters: [header()], filter_chains: [{ filters: [{ name: "hcm", typed_config: manager }] }] },
      { name: "tls", listener_filters: [header()], filter_chains: [secure("secure")] },
      {
        name: "inspected",
        listener_filters: [header(), inspector("tls"), inspector("http")],
        filter_chains: [
          { ...secure("by name"), filter_chain_match: { server_names: ["a.test"] } },
          { ...answers("http"), filter_chain_match: { application_protocols: ["http/1.1"] } },
        ],
      },
      {
        name: "late",
        listener_filters: [inspector("tls"), inspector("http"), header()],
        filter_chains: [{ ...secure("by name"), filter_chain_match: { server_names: ["a.test"] } }],
        default_filter_chain: answers("seen too early"),
      },
      { name: "deprecated", filter_chains: [{ ...answers("by flag"), use_proxy_proto: true }] },
      {
        name: "by-source",
        listener_filters: [header()],
        filter_chains: [
          {
            name: "1",
            ...answers("10.1"),
            filter_chain_match: { direct_source_prefix_ranges: range("127.0.0.0", 8), source_prefix_ranges: range("10.1.0.0", 16) },
          },
          { name: "2", ...answers("2222"), filter_chain_match: { destination_port: 2222, source_prefix_ranges: range("10.2.0.0", 16) } },
          {
            name: "3",
            ...answers("direct"),
            filter_chain_match: { direct_source_prefix_ranges: range("127.0.0.0", 8), source_ports: [3333] },
          },
        ],
      },
      { name: "allow-source", listener_filters: [header()], filter_chains: [tcp([allows({ remote_ip: range("10.1.0.0", 16)[0] })])] },
      {
        name: "allow-direct",
        listener_filters: [header()],
        filter_chains: [tcp([allows({ direct_remote_ip: range("127.0.0.1", 32)[0] })])],
      },
    ];
    const cluster = (name: string, port: number) => ({
      name,
      load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }] },
    });
    return {
      admin: { address: address(0) },
      static_resources: {
        listeners: listeners.map((listener) => ({ ...listener, address: address(0) })),
        clusters: [cluster("echo", echo.port), cluster("up", upstream.port)],
      },
    };
  }

  beforeAll(async () => {
    echo = stack.use(await startTcpUpstream("echo"));
    upstream = stack.use(await startUpstream());
    for (const proxy of await Promise.all([startRealEnvoy(bootstrap("envoy")), startOurProxy(bootstrap("topsail"))]))
      proxies.push(stack.use(proxy));
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  /** What both proxies give for the same bytes, which must be the same. */
  async function both<T>(run: (proxy: RunningProxy) => Promise<T>): Promise<T> {
    const [theirs, ours] = [await run(proxies[0]!), await run(proxies[1]!)];
    expect(ours).toEqual(theirs);
    return theirs;
  }

  async function say(listener: string, bytes: string): Promise<string> {
    return both(async (proxy) => {
      using connection = await RawConnection.open(await proxy.listenerPort(listener));
      connection.write(bytes);
      await connection.until((received) => /\r\n\r\n.|echo:/s.test(received.toString("latin1")));
      return connection.received.toString("latin1").split("\r\n").at(-1)!;
    });
  }

  const newLines = (side: string) =>
    (readFileSync(logFile(side), { encoding: "utf8", flag: "a+" }).match(/.+\n/g) ?? []).map((line) => line.trim());

  async function logged(count: number, seen: Map<string, number>): Promise<string[]> {
    return both(({ name }) =>
      eventually(
        () => {
          const lines = newLines(name)
            .slice(seen.get(name) ?? 0)
            .map((line) => line.replaceAll(/(127\.0\.0\.1):\d+/g, "$1:<port>"));
          return lines.length >= count ? lines.sort() : undefined;
        },
        () => `${count} lines of ${name}: ${newLines(name).join("\n")}`,
      ),
    );
  }

  const linesSoFar = () => new Map(proxies.map(({ name }) => [name, newLines(name).length]));

  it.each<[string, string, string]>([
    ["the client's address", text, "- -"],
    ["metadata", binaryHeader({ tlvs: [[0xea, "vpce-1"]] }), '{"vpce":"vpce-1"} -'],
    ["metadata of a space of its own", binaryHeader({ tlvs: [[0x02, "first"]] }), '- {"authority":"first"}'],
    [
      "the first of two",
      binaryHeader({
        tlvs: [
          [0x02, "first"],
          [0x02, "second"],
        ],
      }),
      '- {"authority":"first"}',
    ],
    [
      "the first of two types for one key",
      binaryHeader({
        tlvs: [
          [0x03, "third"],
          [0x02, "first"],
        ],
      }),
      '- {"authority":"third"}',
    ],
    ["what is no UTF-8", binaryHeader({ tlvs: [[0xea, "a\xff\xc3\xbc\xe2\x82b"]] }), '{"vpce":"a!ü!!b"} -'],
  ])("is logged: %s", async (_, bytes, metadata) => {
    const before = linesSoFar();
    expect(await say("tcp", `${bytes}hello`)).toBe("echo:hello");
    const expected = `10.1.2.3:1111 10.9.8.7:2222 127.0.0.1 ${metadata}`;
    expect(await logged(2, before)).toEqual([`listener ${expected}`, `tcp ${expected}`]);
  });

  it("is logged by the listener: a header that is none, or half", async () => {
    const before = linesSoFar();
    for (const bytes of ["PROXY nonsense\r\n", "PROXY TCP4 10"]) {
      await both(async (proxy) => {
        using connection = await RawConnection.open(await proxy.listenerPort("tcp"));
        connection.write(bytes);
        connection.socket.end();
        return connection.closes();
      });
    }
    const lines = await logged(2, before);
    expect(lines).toEqual(Array(2).fill("listener 127.0.0.1:<port> 127.0.0.1:<port> 127.0.0.1 - -"));
  });

  it("is where hops are counted from", async () => {
    const before = linesSoFar();
    upstream.seen.length = 0;
    await say("hops", `${text}GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 203.0.113.9, 198.51.100.1\r\n\r\n`);
    const forwarded = upstream.seen.map(({ headers }) => headers.filter(([name]) => /forwarded-for|external/.test(name)));
    expect(forwarded[1]).toEqual(forwarded[0]);
    expect(forwarded[0]).toContainEqual(["x-forwarded-for", "203.0.113.9, 198.51.100.1,10.1.2.3"]);
    expect(await logged(1, before)).toEqual(["http 198.51.100.1:0 10.9.8.7:2222 127.0.0.1 - -"]);
  });

  it.each([
    ["of a source", "PROXY TCP4 10.1.2.3 10.9.8.7 1 1\r\n", "10.1"],
    ["of another source and a port", "PROXY TCP4 10.2.0.1 10.9.8.7 1 2222\r\n", "2222"],
    ["of the socket's peer", "PROXY TCP4 192.0.2.1 10.9.8.7 3333 1\r\n", "direct"],
  ])("decides about the filter chain, %s", async (_, bytes, body) => {
    expect(await say("by-source", bytes + ask)).toBe(body);
  });

  it.each([
    ["allow-source", text, "echo:x"],
    ["allow-source", "PROXY TCP4 10.2.0.1 10.9.8.7 1 1\r\n", ""],
    ["allow-source", "PROXY UNKNOWN\r\n", ""],
    ["allow-direct", "PROXY TCP4 10.2.0.1 10.9.8.7 1 1\r\n", "echo:x"],
  ])("is what policies see: %s, %j", async (listener, bytes, answer) => {
    expect(await say(listener, `${bytes}x`)).toBe(answer);
  });

  it.each(["tls", "inspected"])("may have TLS behind it: %s", async (listener) => {
    for (const bytes of [text, binaryHeader()]) {
      const body = await both(async (proxy) => askByTls(await proxy.listenerPort(listener), bytes));
      expect(body).toBe(listener === "tls" ? "secure" : "by name");
    }
  });

  it("may have HTTP behind it that an inspector finds", async () => {
    expect(await say("inspected", text + ask)).toBe("http");
  });

  it("hides what is behind it from inspectors that stand before the filter", async () => {
    expect(await say("late", text + ask)).toBe("seen too early");
  });

  it("is wanted where the first chain says so", async () => {
    expect(await say("deprecated", text + ask)).toBe("by flag");
    expect(await say("deprecated", `${ask}${ask}`)).toBe("");
  });

  /** Header and ClientHello come in one piece. */
  async function askByTls(port: number, bytes: string): Promise<string> {
    const raw = connect(port, "127.0.0.1");
    let before: Buffer | null = Buffer.from(bytes, "latin1");
    const joined = new Duplex({
      read() {},
      write(chunk: Buffer, _, done) {
        raw.write(before === null ? chunk : Buffer.concat([before, chunk]), () => done());
        before = null;
      },
    });
    raw.on("data", (chunk) => joined.push(chunk));
    raw.on("close", () => joined.push(null));
    raw.on("error", () => joined.destroy());
    const secured: TLSSocket = tlsConnect({ socket: joined, servername: "a.test", rejectUnauthorized: false });
    try {
      return await new Promise((resolve, reject) => {
        let received = "";
        secured.on("error", reject);
        secured.on("close", () => resolve(`closed ${received}`));
        secured.on("data", (chunk: Buffer) => {
          received += chunk.toString("latin1");
          const body = /\r\n\r\n(.+)/s.exec(received)?.[1];
          if (body !== undefined) resolve(body);
        });
        secured.write(ask);
      });
    } finally {
      secured.destroy();
      raw.destroy();
    }
  }
});
