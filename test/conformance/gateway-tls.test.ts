/**
 * TLS at both edges of gateways: what servers of a Gateway demand of clients, and what DestinationRules have the gateway show and check
 * towards upstreams. Envoy and our proxy on the same configuration of our control plane, each asked the same.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TLSSocket, connect as tlsConnect } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { startControlPlane, type TestControlPlane } from "../support/control-plane.ts";
import { envoyBinary } from "../support/envoy.ts";
import { type Identity, makeMeshCa } from "../support/mesh-ca.ts";
import { meshBootstrap } from "../support/mesh-proxy.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually, type RunningProxy, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";
import { startSdsServer } from "../support/sds-server.ts";
import { TlsClient } from "../support/tls-client.ts";
import { startUpstream, type TestUpstream } from "../support/upstream.ts";

const proxies = [
  { name: "envoy", start: startRealEnvoy, address: "127.0.6.1" },
  { name: "topsail", start: startOurProxy, address: "127.0.6.2" },
] as const;
type Side = (typeof proxies)[number];

/** Of the gateway's HTTPS servers: by host, what their `tls` says. */
const servers = {
  simple: { mode: "SIMPLE", credentialName: "server" },
  both: { mode: "SIMPLE", credentialNames: ["server-ec", "server-rsa"] },
  modern: { mode: "SIMPLE", credentialName: "server", minProtocolVersion: "TLSV1_3" },
  old: {
    mode: "SIMPLE",
    credentialName: "server",
    maxProtocolVersion: "TLSV1_2",
    cipherSuites: ["ECDHE-ECDSA-AES256-GCM-SHA384", "UNKNOWN"],
    ecdhCurves: ["P-256"],
  },
  mutual: { mode: "MUTUAL", credentialName: "checked" },
  named: { mode: "MUTUAL", credentialName: "checked", subjectAltNames: ["spiffe://clients/good"] },
  optional: { mode: "OPTIONAL_MUTUAL", credentialName: "checked" },
  mesh: { mode: "ISTIO_MUTUAL" },
  stapled: { mode: "SIMPLE", credentialName: "stapled" },
  builtin: { mode: "SIMPLE", credentialName: "builtin://" },
  never: { mode: "SIMPLE", credentialName: "invalid://" },
  foreign: { mode: "SIMPLE", credentialName: "kubernetes://other/server" },
} as const;
type ServerName = keyof typeof servers;

/** Of the upstream, which speaks TLS: by host, what a DestinationRule's `tls` says, and what comes of it. */
const upstreams = {
  checked: { tls: { mode: "SIMPLE", credentialName: "upstream", sni: "upstream.test", subjectAltNames: ["upstream.test"] }, status: 200 },
  "by-config-map": { tls: { mode: "SIMPLE", credentialName: "configmap://edge/upstream", sni: "upstream.test" }, status: 200 },
  "by-file": { tls: { mode: "SIMPLE", caCertificates: "{{ca}}", sni: "upstream.test" }, status: 200 },
  "other-name": { tls: { mode: "SIMPLE", credentialName: "upstream", sni: "upstream.test", subjectAltNames: ["other.test"] }, status: 503 },
  "other-ca": { tls: { mode: "SIMPLE", caCertificates: "{{other-ca}}", sni: "upstream.test" }, status: 503 },
  unchecked: { tls: { mode: "SIMPLE", insecureSkipVerify: true, sni: "upstream.test" }, status: 200 },
  "by-host": { tls: { mode: "SIMPLE", credentialName: "upstream" }, status: 503 },
  mutual: { tls: { mode: "MUTUAL", credentialName: "upstream", sni: "upstream.test" }, status: 200 },
  "mutual-by-file": {
    tls: { mode: "MUTUAL", clientCertificate: "{{cert}}", privateKey: "{{key}}", caCertificates: "{{ca}}", sni: "upstream.test" },
    status: 200,
  },
  "plain-after-all": { tls: { mode: "DISABLE" }, status: 503 },
} as const;
const upstreamNames = Object.keys(upstreams) as (keyof typeof upstreams)[];

describe.skipIf(!envoyBinary)("TLS at gateways", () => {
  const stack = new AsyncDisposableStack();
  const client = stack.use(new TlsClient());
  const ca = makeMeshCa();
  const clientCa = makeMeshCa("clients");
  const upstreamCa = makeMeshCa("upstream");
  const good = clientCa.issue("spiffe://clients/good");
  const other = clientCa.issue("spiffe://clients/other");
  const revoked = clientCa.issue("spiffe://clients/revoked");
  const stranger = makeMeshCa("strangers").issue("spiffe://clients/good");
  const meshClient = ca.issue("spiffe://cluster.local/ns/apps/sa/client");
  const upstreamCertificate = upstreamCa.issueFor("DNS:upstream.test");
  const running = new Map<string, RunningProxy>();
  const directory = mkdtempSync(join(tmpdir(), "topsail-gateway-"));
  let controlPlane: TestControlPlane;
  let upstream: TestUpstream;
  let tlsUpstream: TestUpstream;
  let meshUpstream: TestUpstream;
  let httpsPort: number;
  let httpPort: number;
  let passPort: number;

  beforeAll(async () => {
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    upstream = stack.use(await startUpstream());
    const asks = { requestCert: true, rejectUnauthorized: false, ca: upstreamCa.root };
    tlsUpstream = stack.use(await startUpstream("tls", { key: upstreamCertificate.key, cert: upstreamCertificate.certificate, ...asks }));
    const server = ca.issue("spiffe://cluster.local/ns/apps/sa/server");
    meshUpstream = stack.use(
      await startUpstream("mesh", { key: server.key, cert: server.certificate, ca: ca.root, requestCert: true, rejectUnauthorized: true }),
    );
    [httpsPort, httpPort, passPort] = await freePortRow(3).then((first) => [first, first + 1, first + 2]);
    const files = { ca: upstreamCa.root, "other-ca": ca.root, cert: upstreamCertificate.certificate, key: upstreamCertificate.key };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
    const text = configuration().replace(/\{\{([\w-]+)\}\}/g, (_, name: string) => join(directory, name));
    controlPlane = stack.use(await startControlPlane(text));
    expect(await (await fetch(`${controlPlane.debugUrl}/debug/problems`)).json()).toEqual([]);
    const sds = stack.use(await startSdsServer(ca.issue("spiffe://cluster.local/ns/edge/sa/gateway"), ca.root));
    await Promise.all(
      proxies.map(async ({ name, start, address }) => {
        const node = { type: "router" as const, name, address, labels: { app: "gateway" }, namespace: "edge", isDelta: name === "envoy" };
        running.set(name, stack.use(await start(meshBootstrap({ ...node, xds: controlPlane.istiod.grpcPort, sdsPath: sds.path }))));
      }),
    );
    // One secret never comes, and the listener waits for it for as long as Envoy's default is.
    for (const side of proxies) {
      await eventually(() => ask(side, "simple").then((answer) => answer === "200" || undefined), `${side.name}`, 30_000);
    }
  }, 120_000);
  afterAll(() => stack.disposeAsync());

  function configuration(): string {
    const object = (apiVersion: string, kind: string, namespace: string, name: string, rest: object) =>
      stringify({ apiVersion, kind, metadata: { name, namespace }, ...rest });
    const secret = (name: string, stringData: Record<string, string>, namespace = "edge") =>
      object("v1", "Secret", namespace, name, { type: "Opaque", stringData });
    const pair = ({ certificate, key }: Identity) => ({ "tls.crt": certificate, "tls.key": key });
    const server = clientCa.issueFor("DNS:server.test");
    const networking = (kind: string, name: string, spec: object, namespace = "edge") =>
      object("networking.istio.io/v1", kind, namespace, name, { spec });
    const entry = (name: string, port: number, protocol: string, more: object = {}) =>
      networking("ServiceEntry", name, {
        hosts: [`${name}.edge.test`],
        location: "MESH_INTERNAL",
        ports: [{ number: 80, name: "port", protocol }],
        resolution: "STATIC",
        endpoints: [{ address: "127.0.0.1", ports: { port } }],
        ...more,
      });
    return [
      secret("server", pair(server)),
      secret("server", pair(server), "other"),
      secret("server-ec", pair(clientCa.issueFor("DNS:both.edge.test"))),
      secret("server-rsa", pair(clientCa.issueFor("DNS:both.edge.test", { algorithm: "rsa" }))),
      object("v1", "Secret", "edge", "stapled", {
        stringData: pair(server),
        data: { "tls.ocsp-staple": clientCa.ocspResponse(server).toString("base64") },
      }),
      secret("checked", pair(server)),
      secret("checked-cacert", { "ca.crt": clientCa.root, "ca.crl": clientCa.revoke(revoked) }),
      secret("upstream", { ...pair(upstreamCertificate), "ca.crt": upstreamCa.root }),
      object("v1", "ConfigMap", "edge", "upstream", { data: { "ca.crt": upstreamCa.root } }),
      networking("Gateway", "edge", {
        selector: { app: "gateway" },
        servers: [
          ...Object.entries(servers).map(([name, tls]) => ({
            port: { number: httpsPort, name: `https-${name}`, protocol: "HTTPS" },
            hosts: [`${name}.edge.test`],
            tls,
          })),
          { port: { number: httpPort, name: "http", protocol: "HTTP" }, hosts: ["*"] },
          { port: { number: passPort, name: "pass", protocol: "TLS" }, hosts: ["*.mesh.test"], tls: { mode: "AUTO_PASSTHROUGH" } },
        ],
      }),
      networking("VirtualService", "servers", {
        hosts: Object.keys(servers).map((name) => `${name}.edge.test`),
        gateways: ["edge"],
        http: [{ match: [{ port: httpsPort }], route: [{ destination: { host: "plain.edge.test" } }] }],
      }),
      entry("plain", upstream.port, "HTTP"),
      ...upstreamNames.flatMap((name) => [
        entry(`up-${name}`, tlsUpstream.port, "HTTP", { location: "MESH_EXTERNAL" }),
        networking("DestinationRule", name, { host: `up-${name}.edge.test`, trafficPolicy: { tls: upstreams[name].tls } }),
        networking("VirtualService", `up-${name}`, {
          hosts: [`${name}.up.test`],
          gateways: ["edge"],
          http: [{ retries: { attempts: 0 }, route: [{ destination: { host: `up-${name}.edge.test` } }] }],
        }),
      ]),
      networking("ServiceEntry", "passed", {
        hosts: ["passed.mesh.test"],
        location: "MESH_INTERNAL",
        ports: [{ number: 80, name: "http", protocol: "HTTP" }],
        resolution: "STATIC",
        endpoints: [
          { address: "127.0.0.1", ports: { http: meshUpstream.port }, serviceAccount: "server", labels: { version: "v1" } },
          // Takes no mutual TLS: nobody may get there by this way.
          { address: "127.0.0.1", ports: { http: upstream.port }, labels: { version: "v2" } },
        ],
      }),
      networking("DestinationRule", "passed", {
        host: "passed.mesh.test",
        subsets: [
          { name: "v1", labels: { version: "v1" } },
          { name: "v2", labels: { version: "v2" } },
        ],
      }),
    ].join("---\n");
  }

  interface Client {
    readonly identity?: Identity;
    readonly max?: "TLSv1.2";
    readonly algorithms?: string;
    readonly header?: string;
  }

  async function open(side: Side, server: ServerName, { identity, max, algorithms }: Client = {}): Promise<RawConnection> {
    return RawConnection.open(
      httpsPort,
      {
        servername: `${server}.edge.test`,
        ALPNProtocols: ["http/1.1"],
        ...(identity && { key: identity.key, cert: identity.certificate }),
        ...(max && { maxVersion: max }),
        ...(algorithms && { sigalgs: algorithms }),
      },
      side.address,
    );
  }

  /** `200`, `refused` where TLS came to nothing, or the whole answer. */
  async function ask(side: Side, server: ServerName, client: Client = {}): Promise<string> {
    let connection: RawConnection;
    try {
      connection = await open(side, server, client);
    } catch {
      return "refused";
    }
    using opened = connection;
    opened.write(`GET /${server} HTTP/1.1\r\nhost: ${server}.edge.test\r\n${client.header ?? ""}\r\n`);
    await opened.until((received) => received.includes("\r\n\r\n"), 4000);
    const text = opened.received.toString("latin1");
    if (text === "" && opened.isClosed) return "refused";
    return /^HTTP\/1.1 200 /.test(text) ? "200" : text;
  }

  const lastHeaders = () => new Map(upstream.seen.at(-1)!.headers.map(([name, value]) => [name.toLowerCase(), value]));

  describe.each(proxies.map((side) => [side.name, side] as const))("of %s", (_, side) => {
    it.each<[ServerName, string, Client, string]>([
      ["simple", "anybody", {}, "200"],
      ["simple", "somebody with a certificate that nobody asked for", { identity: stranger }, "200"],
      ["modern", "who speaks TLS 1.3", {}, "200"],
      ["modern", "who only speaks TLS 1.2", { max: "TLSv1.2" }, "refused"],
      ["old", "who speaks TLS 1.3", {}, "200"],
      ["mutual", "nobody in particular", {}, "refused"],
      ["mutual", "a known client", { identity: good }, "200"],
      ["mutual", "a known client by TLS 1.2", { identity: good, max: "TLSv1.2" }, "200"],
      ["mutual", "a client of another CA", { identity: stranger }, "refused"],
      ["mutual", "a revoked client", { identity: revoked }, "refused"],
      ["named", "the client that is named", { identity: good }, "200"],
      ["named", "another client", { identity: other }, "refused"],
      ["optional", "nobody in particular", {}, "200"],
      ["optional", "a known client", { identity: good }, "200"],
      ["optional", "a client of another CA", { identity: stranger }, "refused"],
      ["mesh", "a workload", { identity: meshClient }, "200"],
      ["mesh", "a client of another CA", { identity: good }, "refused"],
      ["mesh", "nobody in particular", {}, "refused"],
      ["builtin", "anybody", {}, "200"],
      ["never", "anybody", {}, "refused"],
      ["foreign", "anybody", {}, "refused"],
    ])("server %s answers %s", async (server, __, client, expected) => {
      expect(await ask(side, server, client)).toBe(expected);
    });

    it("shows the certificate that the client's algorithms ask for", async () => {
      const keyType = async (algorithms: string) => {
        using connection = await open(side, "both", { algorithms, max: "TLSv1.2" });
        return (connection.socket as TLSSocket).getPeerX509Certificate()?.publicKey.asymmetricKeyType;
      };
      expect(await keyType("ECDSA+SHA256")).toBe("ec");
      expect(await keyType("RSA+SHA256:rsa_pss_rsae_sha256")).toBe("rsa");
    });

    it("keeps to the versions, suites and curves of its server", async () => {
      using connection = await open(side, "old");
      const socket = connection.socket as TLSSocket;
      expect([socket.getProtocol(), socket.getCipher().name]).toEqual(["TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"]);
      expect(socket.getEphemeralKeyInfo()).toMatchObject({ name: "prime256v1" });
    });

    it("staples the OCSP response that lies beside the certificate", async () => {
      const [stapled, simple] = await Promise.all(
        ["stapled", "simple"].map((name) =>
          client.ask({ host: side.address, port: httpsPort, serverName: `${name}.edge.test`, options: ["-status"] }),
        ),
      );
      expect(stapled!.text).toContain("OCSP Response Status: successful");
      expect(simple!.text).toContain("OCSP response: no response sent");
    });

    it("shows the workload's own certificate for builtin://", async () => {
      using connection = await open(side, "builtin");
      expect(connection.peerCertificate.subjectaltname).toBe("URI:spiffe://cluster.local/ns/edge/sa/gateway");
    });

    it("tells the upstream who the client is, and nothing that the client says of itself", async () => {
      const header = "x-forwarded-client-cert: By=me\r\n";
      await ask(side, "mutual", { identity: good, header });
      expect(lastHeaders().get("x-forwarded-client-cert")).toMatch(
        /^Hash=[0-9a-f]{64};Cert="-----BEGIN%20CERTIFICATE-----%0A[^"]*";Subject="";URI=spiffe:\/\/clients\/good$/,
      );
      await ask(side, "simple", { header });
      expect(lastHeaders().has("x-forwarded-client-cert")).toBe(false);
    });

    it("resumes a session", async () => {
      const first = tlsConnect({
        host: side.address,
        port: httpsPort,
        servername: "simple.edge.test",
        rejectUnauthorized: false,
        maxVersion: "TLSv1.2",
      });
      const session = await new Promise<Buffer>((resolve, reject) => first.once("session", resolve).once("error", reject));
      first.destroy();
      const again = tlsConnect({
        host: side.address,
        port: httpsPort,
        servername: "simple.edge.test",
        rejectUnauthorized: false,
        maxVersion: "TLSv1.2",
        session,
      });
      await new Promise((resolve, reject) => again.once("secureConnect", resolve).once("error", reject));
      expect(again.isSessionReused()).toBe(true);
      again.destroy();
    });

    it.each(upstreamNames)("towards an upstream whose rule is %s", async (name) => {
      using connection = await RawConnection.open(httpPort, undefined, side.address);
      connection.write(`GET /${name} HTTP/1.1\r\nhost: ${name}.up.test\r\n\r\n`);
      await connection.until((received) => received.includes("\r\n\r\n"));
      expect(connection.received.toString().split(" ")[1]).toBe(String(upstreams[name].status));
    });

    describe("passing mutual TLS on by its server name", () => {
      async function through(servername: string, alpn: string[]): Promise<string> {
        try {
          using connection = await RawConnection.open(
            passPort,
            { servername, ALPNProtocols: alpn, key: meshClient.key, cert: meshClient.certificate, ca: ca.root },
            side.address,
          );
          connection.write("GET /passed HTTP/1.1\r\nhost: passed.mesh.test\r\n\r\n");
          await connection.until((received) => received.includes("\r\n\r\n"));
          return `${connection.peerCertificate.subjectaltname} ${connection.received.toString().split("\r\n")[0]}`;
        } catch {
          return "refused";
        }
      }
      const served = "URI:spiffe://cluster.local/ns/apps/sa/server HTTP/1.1 200 OK";

      it.each([
        ["outbound_.80_._.passed.mesh.test", ["istio", "http/1.1"], served],
        ["outbound_.80_.v1_.passed.mesh.test", ["istio-http/1.1", "istio", "http/1.1"], served],
        ["outbound_.80_.v2_.passed.mesh.test", ["istio"], "refused"],
        ["outbound_.80_._.plain.edge.test", ["istio"], "refused"],
        ["outbound_.80_._.passed.mesh.test", ["http/1.1"], "refused"],
        ["passed.mesh.test", ["istio"], "refused"],
      ])("%s with ALPN %j", async (servername, alpn, expected) => {
        expect(await through(servername, alpn)).toBe(expected);
      });
    });
  });

  it("has nothing refused by a proxy", async () => {
    const metrics = await (await fetch(`${controlPlane.debugUrl}/metrics`)).text();
    expect(metrics.match(/^pilot_total_xds_rejects\{.*$/gm) ?? []).toEqual([]);
    for (const [name, proxy] of running) {
      const stats = await proxy.admin("/stats?filter=update_rejected");
      expect(
        stats.split("\n").filter((line) => line !== "" && !line.endsWith(": 0")),
        `${name}: ${proxy.log().slice(-2000)}`,
      ).toEqual([]);
    }
  });
});
