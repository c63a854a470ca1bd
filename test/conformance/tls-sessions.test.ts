/**
 * TLS sessions that are taken up again: at every worker, and never where another would have to be let in. Envoy and our proxy on the same
 * file. The attacks are those of CVE-2025-23419 and its kind: a session got where nobody is asked for a certificate, shown where one is.
 */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { makeMeshCa } from "../support/mesh-ca.ts";
import { eventually, type RunningProxy, startOurProxy } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";
import { address, proxies, type } from "../support/static-bootstrap.ts";
import { type TlsAnswer, type TlsAsk, TlsClient } from "../support/tls-client.ts";
import { startUpstream, type TestUpstream } from "../support/upstream.ts";

const inline = (text: string) => ({ inline_string: text });

/** Envoy's keys: a name of 16 bytes, a key for HMAC of 32, one for AES of 32. */
const ticketKey = (letter: string) => ({ inline_bytes: Buffer.alloc(80, letter).toString("base64") });

/** How a client asks for its session to be kept: in a ticket, or by an id at the server. */
const ways = {
  "a TLS 1.3 ticket": { version: "-tls1_3" },
  "a TLS 1.2 ticket": { version: "-tls1_2" },
  "a TLS 1.2 session id": { version: "-tls1_2", options: ["-no_ticket"] },
} as const satisfies Record<string, Pick<TlsAsk, "version" | "options">>;
const wayNames = Object.keys(ways) as (keyof typeof ways)[];

describe.skipIf(!envoyBinary)("TLS sessions", () => {
  const stack = new AsyncDisposableStack();
  const client = stack.use(new TlsClient());
  const directory = mkdtempSync(join(tmpdir(), "topsail-sessions-"));
  stack.defer(() => rmSync(directory, { recursive: true }));
  const ca = makeMeshCa("clients");
  const otherCa = makeMeshCa("others");
  const nextCa = makeMeshCa("next");
  const good = ca.issue("spiffe://clients/good");
  // One certificate for all names: what tells the chains apart is who may come in.
  const server = makeMeshCa("servers").issueFor("DNS:*.test");
  const upstreamCa = makeMeshCa("upstream");
  const running = new Map<string, { readonly proxy: RunningProxy; readonly port: number }>();
  let upstream: TestUpstream;

  const caFile = (side: string) => join(directory, `${side}-ca.yaml`);

  function writeCa(side: string, root: string): void {
    const secret = {
      "@type": type("transport_sockets.tls.v3.Secret"),
      name: "clients",
      validation_context: { trusted_ca: inline(root) },
    };
    // Both proxies watch for a file that takes the place of another.
    writeFileSync(`${caFile(side)}.new`, JSON.stringify({ resources: [secret] }));
    renameSync(`${caFile(side)}.new`, caFile(side));
  }

  function bootstrap(side: string): unknown {
    const trusts = (root: string) => ({ validation_context: { trusted_ca: inline(root) } });
    const bySds = {
      validation_context_sds_secret_config: {
        name: "clients",
        sds_config: { path_config_source: { path: caFile(side) }, resource_api_version: "V3" },
      },
    };
    const required = { require_client_certificate: true };
    const chains: Record<string, { readonly common?: object; readonly tls?: object }> = {
      simple: {},
      mutual: { common: trusts(ca.root), tls: required },
      optional: { common: trusts(ca.root) },
      other: { common: trusts(otherCa.root), tls: required },
      rotated: { common: bySds, tls: required },
      stateless: { tls: { disable_stateful_session_resumption: true } },
      stateful: { tls: { disable_stateless_session_resumption: true } },
      neither: { tls: { disable_stateless_session_resumption: true, disable_stateful_session_resumption: true } },
      short: { tls: { session_timeout: "1s" } },
      keys: { tls: { session_ticket_keys: { keys: [ticketKey("b"), ticketKey("a")] } } },
      oldkeys: { tls: { session_ticket_keys: { keys: [ticketKey("a")] } } },
    };
    const manager = {
      "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
      stat_prefix: "sessions",
      // The client waits for the end.
      delayed_close_timeout: "0s",
      route_config: {
        virtual_hosts: [
          {
            name: "upstream",
            domains: ["upstream.test"],
            routes: [{ match: { prefix: "/" }, route: { cluster: "upstream" } }],
          },
          {
            name: "all",
            domains: ["*"],
            routes: [{ match: { prefix: "/" }, direct_response: { status: 200, body: inline("in") } }],
            response_headers_to_add: [
              { header: { key: "x-peer", value: "%DOWNSTREAM_PEER_URI_SAN%" } },
              { header: { key: "x-session", value: "%DOWNSTREAM_TLS_SESSION_ID%" } },
            ],
          },
        ],
      },
      http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
    };
    const filters = [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }];
    const tls_certificates = [{ certificate_chain: inline(server.certificate), private_key: inline(server.key) }];
    return {
      node: { id: "sessions", cluster: "sessions" },
      admin: { address: address(0) },
      static_resources: {
        listeners: [
          {
            name: "tls",
            address: address(0),
            listener_filters: [
              {
                name: "envoy.filters.listener.tls_inspector",
                typed_config: { "@type": type("filters.listener.tls_inspector.v3.TlsInspector") },
              },
            ],
            filter_chains: Object.entries(chains).map(([name, { common = {}, tls = {} }]) => ({
              name,
              filter_chain_match: { server_names: [`${name}.test`] },
              filters,
              transport_socket: {
                name: "envoy.transport_sockets.tls",
                typed_config: {
                  "@type": type("transport_sockets.tls.v3.DownstreamTlsContext"),
                  common_tls_context: { tls_certificates, ...common },
                  ...tls,
                },
              },
            })),
          },
          { name: "plain", address: address(0), filter_chains: [{ filters }] },
        ],
        clusters: [
          {
            name: "upstream",
            type: "STATIC",
            connect_timeout: "1s",
            load_assignment: {
              cluster_name: "upstream",
              endpoints: [{ lb_endpoints: [{ endpoint: { address: address(upstream.port) } }] }],
            },
            transport_socket: {
              name: "envoy.transport_sockets.tls",
              typed_config: {
                "@type": type("transport_sockets.tls.v3.UpstreamTlsContext"),
                sni: "upstream.test",
                common_tls_context: { validation_context: { trusted_ca: inline(upstreamCa.root) } },
              },
            },
          },
        ],
      },
    };
  }

  beforeAll(async () => {
    const { certificate, key } = upstreamCa.issueFor("DNS:upstream.test");
    upstream = stack.use(await startUpstream("tls", { cert: certificate, key }));
    await Promise.all(
      proxies.map(async ({ name, start }) => {
        writeCa(name, ca.root);
        const proxy = stack.use(await start(bootstrap(name), { concurrency: 3 }));
        running.set(name, { proxy, port: await proxy.listenerPort("tls") });
      }),
    );
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  describe.each(proxies.map(({ name }) => name))("of %s", (side) => {
    const ask = (chain: string, options: Partial<TlsAsk> = {}): Promise<TlsAnswer> =>
      client.ask({ port: running.get(side)!.port, serverName: `${chain}.test`, ...options });

    /** A session of the chain, under its own name; whether there is one at all. */
    async function begin(chain: string, options: Partial<TlsAsk> = {}): Promise<string> {
      const keep = `${side}-${chain}`;
      const first = await ask(chain, { ...options, keep });
      expect(first, first.text).toMatchObject({ status: "200", isReused: false });
      return keep;
    }

    it.each(wayNames)("go on at whatever worker the client comes to, by %s", async (way) => {
      const session = await begin("simple", ways[way]);
      for (let round = 0; round < 6; round++) {
        expect(await ask("simple", { ...ways[way], session })).toMatchObject({ status: "200", isReused: true });
      }
    });

    it.each(wayNames)("remember who the client is, by %s", async (way) => {
      const session = await begin("mutual", { ...ways[way], identity: good });
      const again = await ask("mutual", { ...ways[way], session });
      expect(again).toMatchObject({ status: "200", isReused: true });
      expect(again.header("x-peer")).toBe("spiffe://clients/good");
    });

    describe.each(wayNames)("let nobody in who would not be let in without, by %s", (way) => {
      it.each([
        ["a server that asks for no certificate", "simple", undefined],
        ["a server that can do without a certificate", "optional", undefined],
        ["a server that trusts another CA", "mutual", good],
      ])("of %s", async (_, from, identity) => {
        const session = await begin(from, { ...ways[way], identity });
        const target = from === "mutual" ? "other" : "mutual";
        const attack = await ask(target, { ...ways[way], session });
        expect(attack.status, attack.text).toBeUndefined();
      });

      it("and a session of one filter chain is none to another", async () => {
        const session = await begin("simple", ways[way]);
        expect(await ask("optional", { ...ways[way], session })).toMatchObject({ status: "200", isReused: false });
      });
    });

    it.each<[chain: string, way: keyof typeof ways, isReused: boolean]>([
      ["stateless", "a TLS 1.3 ticket", true],
      ["stateless", "a TLS 1.2 ticket", true],
      ["stateless", "a TLS 1.2 session id", false],
      ["stateful", "a TLS 1.3 ticket", false],
      ["stateful", "a TLS 1.2 session id", true],
      ["neither", "a TLS 1.3 ticket", false],
      ["neither", "a TLS 1.2 ticket", false],
      ["neither", "a TLS 1.2 session id", false],
    ])("are kept by a %s server as it is told, by %s: %s", async (chain, way, isReused) => {
      const session = await begin(chain, ways[way]);
      // A server that gives nothing to keep leaves the client with nothing to come with.
      const again = await ask(chain, { ...ways[way], ...(client.hasSession(session) ? { session } : {}) });
      expect(again).toMatchObject({ status: "200", isReused });
    });

    it.each(["a TLS 1.2 ticket", "a TLS 1.2 session id"] as const)("end with their time, by %s", async (way) => {
      const session = await begin("short", ways[way]);
      await new Promise((resolve) => setTimeout(resolve, 2100));
      expect(await ask("short", { ...ways[way], session })).toMatchObject({ status: "200", isReused: false });
    });

    it("show in the statistics", async () => {
      const { proxy } = running.get(side)!;
      const count = async (name: string) => {
        const stats = await proxy.admin(`/stats?filter=^listener\\..*ssl\\.${name}$`);
        return Number(/: (\d+)/.exec(stats)?.[1]);
      };
      const before = [await count("handshake"), await count("session_reused")];
      const session = await begin("simple");
      await ask("simple", { session });
      await eventually(
        async () => ((await count("handshake")) === before[0]! + 2 && (await count("session_reused")) === before[1]! + 1) || undefined,
        "two handshakes, one of them a shorter one",
      );
    });

    it("have an id for logs, of the kind that TLS 1.2 knows", async () => {
      const id = async (chain: string, options: Partial<TlsAsk>) => (await ask(chain, options)).header("x-session");
      const kept = { ...ways["a TLS 1.2 session id"], keep: `${side}-logged` };
      const first = await id("simple", kept);
      expect(first).toMatch(/^[0-9a-f]{64}$/);
      expect(await id("simple", { ...kept, session: `${side}-logged` })).toBe(first);
      // A ticket's session has none before it is taken up, by the id that the client made up for it.
      const session = await begin("simple", ways["a TLS 1.2 ticket"]);
      expect(await id("simple", ways["a TLS 1.2 ticket"])).toBeUndefined();
      expect(await id("simple", { ...ways["a TLS 1.2 ticket"], session })).toMatch(/^[0-9a-f]{64}$/);
      expect(await id("simple", ways["a TLS 1.3 ticket"])).toBeUndefined();
    });

    it("go on and on: whoever comes with a ticket gets a new one", async () => {
      await begin("simple", ways["a TLS 1.3 ticket"]);
      const session = `${side}-simple`;
      for (let round = 0; round < 3; round++) {
        expect(await ask("simple", { ...ways["a TLS 1.3 ticket"], session, keep: session })).toMatchObject({ isReused: true });
      }
      const { text } = await ask("simple", { ...ways["a TLS 1.3 ticket"], session });
      expect(text).toContain("Post-Handshake New Session Ticket arrived");
    });

    it("do not outlive the CA that let the client in", async () => {
      const session = await begin("rotated", { identity: good });
      expect(await ask("rotated", { session })).toMatchObject({ status: "200", isReused: true });
      writeCa(side, nextCa.root);
      const fresh = nextCa.issue("spiffe://clients/next");
      await eventually(async () => (await ask("rotated", { identity: fresh })).status, "the new CA is in force");
      expect((await ask("rotated", { session })).status).toBeUndefined();
      expect((await ask("rotated", { session, identity: good })).status).toBeUndefined();
    });

    it("towards upstreams are taken up again", async () => {
      const { proxy } = running.get(side)!;
      const port = await proxy.listenerPort("plain");
      const count = async (name: string) =>
        Number(/: (\d+)/.exec(await proxy.admin(`/stats?filter=^cluster\\.upstream\\.ssl\\.${name}$`))?.[1]);
      for (let round = 0; round < 12; round++) {
        using connection = await RawConnection.open(port);
        const reply = JSON.stringify({ headers: [["connection", "close"]] });
        connection.write(`GET / HTTP/1.1\r\nhost: upstream.test\r\nx-reply: ${reply}\r\n\r\n`);
        await connection.until((received) => received.includes("\r\n\r\n"));
        expect(connection.received.toString().replace("HTTP/1.1 200 OK", "200"), `round ${round}`).toMatch(/^200/);
      }
      expect(await count("handshake")).toBeGreaterThanOrEqual(12);
      // Each of our workers has to get one of its own first.
      expect(await count("session_reused")).toBeGreaterThanOrEqual(12 - 3);
    });
  });

  it.each(["a TLS 1.3 ticket", "a TLS 1.2 ticket"] as const)("go on at another proxy with the same keys, by %s", async (way) => {
    await using second = await startOurProxy(bootstrap("topsail"));
    const port = await second.listenerPort("tls");
    const other = { ...ways[way], port, serverName: "keys.test" };
    const first = await client.ask({ ...ways[way], port: running.get("topsail")!.port, serverName: "keys.test", keep: "shared" });
    expect(first.isReused).toBe(false);
    expect(await client.ask({ ...other, session: "shared" })).toMatchObject({ status: "200", isReused: true });
    // And without keys in the configuration they are each proxy's own.
    const own = { ...ways[way], serverName: "simple.test" };
    await client.ask({ ...own, port: running.get("topsail")!.port, keep: "own" });
    expect(await client.ask({ ...own, port, session: "own" })).toMatchObject({ status: "200", isReused: false });
  });
});
