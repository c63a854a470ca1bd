/**
 * Mutual TLS on one machine without root: Envoy and our proxy, each as the gateway that calls and as the sidecar that is called, all on
 * configuration of our control plane. The sidecars have addresses of their own in 127.0.0.0/8 and listen where their Sidecar says
 * (INTERCEPTION_MODE NONE); the applications behind them listen on 127.0.0.1.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { startControlPlane, type TestControlPlane } from "../support/control-plane.ts";
import { envoyBinary } from "../support/envoy.ts";
import { exchange } from "../support/exchange.ts";
import { type Identity, makeMeshCa } from "../support/mesh-ca.ts";
import { meshBootstrap } from "../support/mesh-proxy.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually, type RunningProxy, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";
import { startSdsServer, type TestSdsServer } from "../support/sds-server.ts";
import { startTcpUpstream, startUpstream, type TestTcpUpstream, type TestUpstream } from "../support/upstream.ts";

const proxies = [
  { name: "envoy", start: startRealEnvoy, server: "127.0.5.1", client: "127.0.5.11" },
  { name: "topsail", start: startOurProxy, server: "127.0.5.2", client: "127.0.5.12" },
] as const;
type Side = (typeof proxies)[number];

const modes = ["STRICT", "PERMISSIVE", "DISABLE"] as const;
/** What a port is declared as, and what the application behind it speaks. */
const kinds = [
  { kind: "http", protocol: "http", application: "http" },
  { kind: "tcp", protocol: "tcp", application: "tcp" },
  { kind: "any-http", protocol: "any", application: "http" },
  { kind: "any-tcp", protocol: "any", application: "tcp" },
  { kind: "tls", protocol: "tls", application: "tls" },
  { kind: "any-tls", protocol: "any", application: "tls" },
  // Not used before its server has another certificate.
  { kind: "late", protocol: "http", application: "http" },
] as const;
const ports = modes.flatMap((mode) => kinds.map((kind) => ({ ...kind, mode, name: `${mode.toLowerCase()}-${kind.kind}` })));
type Port = (typeof ports)[number];

const serverIdentity = "spiffe://cluster.local/ns/shop/sa/server";
const clientIdentity = "spiffe://cluster.local/ns/clients/sa/client";

describe.skipIf(!envoyBinary)("mutual TLS between Envoy and our proxy", () => {
  const stack = new AsyncDisposableStack();
  const ca = makeMeshCa();
  const client = ca.issue(clientIdentity);
  const running = new Map<string, RunningProxy>();
  const serverSecrets: TestSdsServer[] = [];
  let controlPlane: TestControlPlane;
  let http: TestUpstream;
  let tls: TestUpstream;
  let tcp: TestTcpUpstream;
  let firstServerPort: number;
  let httpPort: number;

  const serverPort = (port: Port) => firstServerPort + ports.indexOf(port);
  const portOf = (name: string) => serverPort(ports.find((port) => port.name === name)!);
  /** Of the gateway's listener that leads to a port of the server by TCP. */
  const tcpPorts = proxies.flatMap((server) => ports.filter(({ application }) => application === "tcp").map((port) => ({ server, port })));
  const tcpPort = (server: Side, port: Port) =>
    httpPort + 1 + tcpPorts.findIndex((entry) => entry.server === server && entry.port === port);

  beforeAll(async () => {
    http = stack.use(await startUpstream("http"));
    const applicationCa = makeMeshCa("application");
    const { certificate, key } = applicationCa.issue("https://application.test");
    tls = stack.use(await startUpstream("tls", { key, cert: certificate }));
    tcp = stack.use(await startTcpUpstream());
    firstServerPort = await freePortRow(ports.length);
    httpPort = await freePortRow(tcpPorts.length + 1);
    controlPlane = stack.use(await startControlPlane(configuration()));
    expect(await (await fetch(`${controlPlane.debugUrl}/debug/problems`)).json()).toEqual([]);
    const serverCertificate = ca.issue(serverIdentity);
    await Promise.all(
      proxies.flatMap((side) => [
        startSide(side, "server", serverCertificate, { INTERCEPTION_MODE: "NONE", SERVICE_ACCOUNT: "server" }),
        startSide(side, "client", client, { SERVICE_ACCOUNT: "client" }),
      ]),
    );
  }, 120_000);
  afterAll(() => stack.disposeAsync());

  async function startSide(side: Side, role: "server" | "client", identity: Identity, metadata: Record<string, string>): Promise<void> {
    const sds = stack.use(await startSdsServer(identity, ca.root));
    if (role === "server") serverSecrets.push(sds);
    const node = {
      type: role === "server" ? ("sidecar" as const) : ("router" as const),
      name: `${side.name}-${role}`,
      address: side[role],
      labels: role === "server" ? { app: `server-${side.name}`, role } : { role },
      namespace: role === "server" ? "shop" : "clients",
      xds: controlPlane.istiod.grpcPort,
      isDelta: true,
      sdsPath: sds.path,
      metadata,
    };
    running.set(node.name, stack.use(await side.start(meshBootstrap(node))));
  }

  /** `stricter`: a port that is PERMISSIVE otherwise. */
  function configuration(stricter?: string): string {
    const application = (port: Port) => `127.0.0.1:${{ http: http.port, tcp: tcp.port, tls: tls.port }[port.application]}`;
    const object = (apiVersion: string, kind: string, namespace: string, name: string, spec: unknown) =>
      stringify({ apiVersion, kind, metadata: { name, namespace }, spec });
    const networking = "networking.istio.io/v1";
    return [
      ...proxies.flatMap((side) => [
        object(networking, "WorkloadEntry", "shop", side.name, {
          address: side.server,
          serviceAccount: "server",
          labels: { app: `server-${side.name}`, role: "server" },
        }),
        object("v1", "Service", "shop", `server-${side.name}`, {
          clusterIP: "10.0.0.1",
          selector: { app: `server-${side.name}` },
          ports: ports.map((port) => ({
            name: `${port.protocol}-${port.name}`,
            port: serverPort(port),
            targetPort: serverPort(port),
          })),
        }),
      ]),
      object(networking, "Sidecar", "shop", "servers", {
        workloadSelector: { labels: { role: "server" } },
        ingress: ports.map((port) => ({
          port: { number: serverPort(port), name: port.name, protocol: port.protocol === "any" ? "" : port.protocol.toUpperCase() },
          defaultEndpoint: application(port),
        })),
        egress: [{ hosts: ["./*"] }],
      }),
      object("security.istio.io/v1", "PeerAuthentication", "shop", "servers", {
        selector: { matchLabels: { role: "server" } },
        portLevelMtls: Object.fromEntries(ports.map((port) => [serverPort(port), { mode: port.name === stricter ? "STRICT" : port.mode }])),
      }),
      object(networking, "Gateway", "clients", "client", {
        selector: { role: "client" },
        servers: [
          { port: { number: httpPort, name: "http", protocol: "HTTP" }, hosts: ["*"] },
          ...tcpPorts.map(({ server, port }) => ({
            port: { number: tcpPort(server, port), name: `tcp-${server.name}-${port.name}`, protocol: "TCP" },
            hosts: ["*"],
          })),
        ],
      }),
      ...proxies.flatMap((server) =>
        ports
          .filter((port) => port.application === "http")
          .map((port) =>
            object(networking, "VirtualService", "clients", `${server.name}-${port.name}`, {
              hosts: [`${port.name}.${server.name}.test`],
              gateways: ["client"],
              http: [{ retries: { attempts: 0 }, route: [{ destination: destination(server, port) }] }],
            }),
          ),
      ),
      object(networking, "VirtualService", "clients", "tcp", {
        hosts: ["*"],
        gateways: ["client"],
        tcp: tcpPorts.map(({ server, port }) => ({
          match: [{ port: tcpPort(server, port) }],
          route: [{ destination: destination(server, port) }],
        })),
      }),
    ].join("---\n");
  }

  function destination(server: Side, port: Port) {
    return { host: `server-${server.name}.shop.svc.cluster.local`, port: { number: serverPort(port) } };
  }

  async function call(from: Side, to: Side, port: Port): Promise<{ status: string | undefined; certificate: string | undefined }> {
    const before = http.seen.length;
    const spec = { host: `${port.name}.${to.name}.test`, line: `GET /${port.name}` };
    const { outcome, connection } = await exchange(httpPort, spec, "mtls", (text) => text, from.client);
    connection?.[Symbol.dispose]();
    const seen = http.seen.slice(before).find(({ path }) => path === `/${port.name}`);
    return {
      status: outcome.responses[0]?.status,
      certificate: seen?.headers.find(([name]) => name.toLowerCase() === "x-forwarded-client-cert")?.[1],
    };
  }

  const pairs = proxies.flatMap((from) => proxies.map((to) => [from.name, to.name, from, to] as const));

  describe.each(pairs)("%s calls %s", (_, __, from, to) => {
    it.each(ports.filter(({ application, kind }) => application === "http" && kind !== "late").map((port) => [port.name, port] as const))(
      "HTTP to port %s",
      async (___, port) => {
        const { status, certificate } = await call(from, to, port);
        expect(status).toBe("HTTP/1.1 200 OK");
        // Of HTTP that is not known to be HTTP, the server's proxy passes the bytes. Ours says by ALPN that it is, as Istio's does.
        if (port.mode === "DISABLE" || (port.kind === "any-http" && from.name === "envoy")) expect(certificate).toBeUndefined();
        else expect(certificate).toMatch(new RegExp(`^By=${serverIdentity};Hash=[0-9a-f]{64};Subject="";URI=${clientIdentity}$`));
      },
    );

    it.each(ports.filter(({ application }) => application === "tcp").map((port) => [port.name, port] as const))(
      "TCP to port %s",
      async (___, port) => {
        using connection = await RawConnection.open(tcpPort(to, port), undefined, from.client);
        connection.write("\x01hello");
        await connection.until((received) => received.includes("hello"));
        expect(connection.received.toString()).toBe("tcp:\x01hello");
      },
    );
  });

  describe.each(proxies.map((side) => [side.name, side] as const))("%s as server", (_, server) => {
    const open = (name: string, options?: Parameters<typeof RawConnection.open>[1]) =>
      RawConnection.open(portOf(name), options, server.server);
    const mesh = (identity: Identity, alpn = ["istio"]) => ({ key: identity.key, cert: identity.certificate, ALPNProtocols: alpn });

    async function ask(name: string, options: Parameters<typeof RawConnection.open>[1], bytes: string): Promise<string> {
      let connection: RawConnection;
      try {
        connection = await open(name, options);
      } catch (error) {
        return `refused: ${(error as NodeJS.ErrnoException).code}`;
      }
      using opened = connection;
      opened.write(bytes);
      await opened.until((received) => received.includes("hello") || received.includes("200 OK"), 3000);
      const text = opened.received.toString("latin1");
      return text.includes("200 OK") ? "200" : text === "" && opened.isClosed ? "closed" : text;
    }
    const request = "GET /direct HTTP/1.1\r\nhost: a\r\n\r\n";

    it.each([
      ["strict-http", request],
      ["strict-tcp", "\x01hello"],
      ["strict-any-http", request],
      ["strict-any-tcp", "\x01hello"],
      ["strict-tls", "\x01hello"],
    ])("STRICT port %s refuses plaintext", async (name, bytes) => {
      expect(await ask(name, undefined, bytes)).toBe("closed");
    });

    it.each(["strict-http", "strict-tcp", "strict-any-http", "strict-tls", "strict-any-tls"])(
      "STRICT port %s refuses TLS without a certificate of the mesh",
      async (name) => {
        const stranger = makeMeshCa("other").issue(clientIdentity);
        for (const options of [{}, { ALPNProtocols: ["istio"] }, mesh(stranger)]) {
          expect(await ask(name, options, request)).toMatch(/^(refused|closed)/);
        }
      },
    );

    it("STRICT refuses an identity of another trust domain, whoever signed it", async () => {
      expect(await ask("strict-http", mesh(ca.issue("spiffe://elsewhere/ns/clients/sa/client")), request)).toMatch(/^(refused|closed)/);
      expect(await ask("strict-http", mesh(client), request)).toBe("200");
    });

    it.each([
      ["permissive-http", request, "200"],
      ["permissive-tcp", "\x01hello", "tcp:\x01hello"],
      ["permissive-any-http", request, "200"],
      ["permissive-any-tcp", "\x01hello", "tcp:\x01hello"],
      ["disable-http", request, "200"],
      ["disable-tcp", "\x01hello", "tcp:\x01hello"],
      ["disable-any-http", request, "200"],
      ["disable-any-tcp", "\x01hello", "tcp:\x01hello"],
    ])("port %s takes plaintext", async (name, bytes, expected) => {
      expect(await ask(name, undefined, bytes)).toBe(expected);
    });

    it.each([
      ["permissive-http", request, "200"],
      ["permissive-tcp", "\x01hello", "tcp:\x01hello"],
      ["permissive-any-http", request, "200"],
      ["permissive-any-tcp", "\x01hello", "tcp:\x01hello"],
    ])("port %s takes TLS of the mesh as well", async (name, bytes, expected) => {
      expect(await ask(name, mesh(client), bytes)).toBe(expected);
      expect(await ask(name, mesh(client, ["istio-http/1.1", "istio", "http/1.1"]), bytes)).toEqual(
        // What says that it is HTTP has to be HTTP, where the port leaves that to the client.
        name === "permissive-any-tcp" ? expect.stringContaining("400 Bad Request") : expected,
      );
    });

    it("PERMISSIVE tells HTTP of the mesh by its ALPN, and sees the client's certificate", async () => {
      const before = http.seen.length;
      expect(await ask("permissive-any-http", mesh(client, ["istio-http/1.1", "istio", "http/1.1"]), request)).toBe("200");
      const headers = new Map(http.seen.slice(before)[0]!.headers.map(([name, value]) => [name.toLowerCase(), value]));
      expect(headers.get("x-forwarded-client-cert")).toContain(`URI=${clientIdentity}`);
    });

    it.each(["permissive-tls", "permissive-any-tls"])("port %s leaves an application's own TLS as it is", async (name) => {
      using connection = await open(name, { servername: "application.test", ALPNProtocols: ["http/1.1"] });
      expect(connection.peerCertificate.subjectaltname).toBe("URI:https://application.test");
      connection.write(request);
      expect(await connection.until((received) => received.includes("200 OK"))).toBe(true);
    });
  });

  it("a port that becomes strict takes no plaintext any more, and the connections of others stay", async () => {
    const open = (side: Side, name: string) => RawConnection.open(portOf(name), undefined, side.server);
    const kept = await Promise.all(proxies.map((side) => open(side, "permissive-tcp")));
    for (const connection of kept) {
      connection.write("\x01before");
      expect(await connection.until((received) => received.includes("before"))).toBe(true);
    }
    await controlPlane.write("mesh.yaml", configuration("permissive-http"));
    for (const side of proxies) {
      await eventually(async () => {
        using connection = await open(side, "permissive-http");
        connection.write("GET /direct HTTP/1.1\r\nhost: a\r\n\r\n");
        await connection.until((received) => received.includes("200 OK"));
        return (connection.isClosed && connection.received.length === 0) || undefined;
      }, `strict ${side.name}`);
    }
    for (const connection of kept) {
      connection.write("\x01after");
      expect(await connection.until((received) => received.includes("after"))).toBe(true);
      connection[Symbol.dispose]();
    }
    for (const [, , from, to] of pairs) {
      const port = ports.find(({ name }) => name === "permissive-http")!;
      expect(await call(from, to, port), `${from.name} to ${to.name}`).toMatchObject({ status: "HTTP/1.1 200 OK" });
    }
  });

  it("a server with another identity than the service's is refused by both clients", async () => {
    const impostor = ca.issue("spiffe://cluster.local/ns/shop/sa/impostor");
    for (const sds of serverSecrets) sds.replace(impostor, ca.root);
    for (const side of proxies) {
      await eventually(async () => {
        using connection = await RawConnection.open(
          portOf("strict-late"),
          { key: client.key, cert: client.certificate, ALPNProtocols: ["istio"] },
          side.server,
        );
        return connection.peerCertificate.subjectaltname?.includes("impostor") || undefined;
      }, `the new certificate of ${side.name}`);
    }
    const late = ports.find(({ name }) => name === "strict-late")!;
    for (const [, , from, to] of pairs) {
      expect(await call(from, to, late), `${from.name} to ${to.name}`).toMatchObject({ status: "HTTP/1.1 503 Service Unavailable" });
    }
  });

  it("has nothing refused", async () => {
    const metrics = await (await fetch(`${controlPlane.debugUrl}/metrics`)).text();
    expect(metrics.match(/^pilot_total_xds_rejects\{.*$/gm) ?? []).toEqual([]);
    for (const [name, proxy] of running) {
      const stats = await proxy.admin("/stats?filter=update_rejected");
      const rejected = stats.split("\n").filter((line) => line !== "" && !line.endsWith(": 0"));
      expect(rejected, `${name}: ${proxy.log().slice(-2000)}`).toEqual([]);
    }
  });
});
