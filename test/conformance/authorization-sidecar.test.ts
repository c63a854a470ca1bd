/**
 * Policies on the inbound side of sidecars: who calls is known by the mesh's mutual TLS. Envoy and our proxy as sidecars, on addresses of
 * their own where their Sidecar says (INTERCEPTION_MODE NONE); the application behind them listens on 127.0.0.1.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { startControlPlane } from "../support/control-plane.ts";
import { envoyBinary } from "../support/envoy.ts";
import { type Ask, askHttp } from "../support/http-ask.ts";
import { makeTokens } from "../support/jwt.ts";
import { makeMeshCa } from "../support/mesh-ca.ts";
import { meshBootstrap } from "../support/mesh-proxy.ts";
import { freePortRow } from "../support/ports.ts";
import { startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";
import { startSdsServer } from "../support/sds-server.ts";
import { startTcpUpstream, startUpstream } from "../support/upstream.ts";

const proxies = [
  { name: "envoy", start: startRealEnvoy, address: "127.0.8.1" },
  { name: "topsail", start: startOurProxy, address: "127.0.8.2" },
] as const;

const made = makeTokens({
  keys: { rsa: {} },
  jwks: { all: ["rsa"] },
  tokens: { alice: { key: "rsa", claims: { iss: "issuer.test", sub: "alice", exp: "now+3600" } } },
});

describe.skipIf(!envoyBinary)("AuthorizationPolicies of sidecars", () => {
  const stack = new AsyncDisposableStack();
  const ca = makeMeshCa();
  const clients = {
    web: ca.issue("spiffe://cluster.local/ns/shop/sa/web"),
    batch: ca.issue("spiffe://cluster.local/ns/shop/sa/batch"),
    stranger: ca.issue("spiffe://cluster.local/ns/other/sa/web"),
  };
  type Client = keyof typeof clients;
  let port: number;

  beforeAll(async () => {
    const http = stack.use(await startUpstream("app"));
    const tcp = stack.use(await startTcpUpstream());
    port = await freePortRow(2);
    const controlPlane = stack.use(await startControlPlane(configuration(http.port, tcp.port)));
    expect(await (await fetch(`${controlPlane.debugUrl}/debug/problems`)).json()).toEqual([]);
    const server = ca.issue("spiffe://cluster.local/ns/shop/sa/server");
    await Promise.all(
      proxies.map(async ({ name, start, address }) => {
        const sds = stack.use(await startSdsServer(server, ca.root));
        const bootstrap = meshBootstrap({
          type: "sidecar",
          name,
          address,
          labels: { app: "server" },
          namespace: "shop",
          xds: controlPlane.istiod.grpcPort,
          isDelta: true,
          sdsPath: sds.path,
          metadata: { INTERCEPTION_MODE: "NONE", SERVICE_ACCOUNT: "server" },
        });
        stack.use(await start(bootstrap));
      }),
    );
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  function configuration(httpPort: number, tcpPort: number): string {
    const object = (apiVersion: string, kind: string, name: string, spec: unknown) =>
      stringify({ apiVersion, kind, metadata: { name, namespace: "shop" }, spec });
    const security = (kind: string, name: string, spec: object) =>
      object("security.istio.io/v1", kind, name, { selector: { matchLabels: { app: "server" } }, ...spec });
    return [
      ...proxies.map(({ name, address }) =>
        object("networking.istio.io/v1", "WorkloadEntry", name, { address, labels: { app: "server" }, serviceAccount: "server" }),
      ),
      object("v1", "Service", "server", {
        clusterIP: "10.0.0.1",
        selector: { app: "server" },
        ports: [
          { name: "http", port, targetPort: port },
          { name: "tcp", port: port + 1, targetPort: port + 1 },
        ],
      }),
      object("networking.istio.io/v1", "Sidecar", "server", {
        workloadSelector: { labels: { app: "server" } },
        ingress: [
          { port: { number: port, name: "http", protocol: "HTTP" }, defaultEndpoint: `127.0.0.1:${httpPort}` },
          { port: { number: port + 1, name: "tcp", protocol: "TCP" }, defaultEndpoint: `127.0.0.1:${tcpPort}` },
        ],
        egress: [{ hosts: ["./*"] }],
      }),
      security("PeerAuthentication", "permissive", { mtls: { mode: "PERMISSIVE" } }),
      security("RequestAuthentication", "tokens", { jwtRules: [{ issuer: "issuer.test", jwks: made["jwks:all"] }] }),
      security("AuthorizationPolicy", "web", {
        rules: [
          {
            from: [{ source: { principals: ["cluster.local/ns/shop/sa/web"] } }],
            to: [{ operation: { methods: ["GET"], paths: ["/items*"] } }],
          },
          { from: [{ source: { serviceAccounts: ["batch"], requestPrincipals: ["issuer.test/alice"] } }] },
          { from: [{ source: { namespaces: ["shop"] } }], to: [{ operation: { ports: [String(port + 1)] } }] },
          { to: [{ operation: { paths: ["/public"] } }] },
        ],
      }),
      security("AuthorizationPolicy", "not-others", {
        action: "DENY",
        rules: [{ from: [{ source: { namespaces: ["other"] } }] }],
      }),
    ].join("---\n");
  }

  describe.each(proxies.map((proxy) => [proxy.name, proxy] as const))("in %s", (_, { address }) => {
    const withToken = { authorization: `Bearer ${made["jwt:alice"]}` };

    it.each<[Client | "nobody", Ask, number]>([
      ["web", { line: "GET /items/1" }, 200],
      ["web", { line: "POST /items/1" }, 403],
      ["web", { line: "GET /other" }, 403],
      ["web", { line: "GET /other", headers: withToken }, 403],
      ["batch", { line: "POST /anything", headers: withToken }, 200],
      ["batch", { line: "POST /anything" }, 403],
      ["batch", { line: "GET /items/1" }, 403],
      ["batch", { line: "GET /public", headers: { authorization: "Bearer a.b.c" } }, 401],
      ["stranger", { line: "GET /items/1" }, 403],
      ["stranger", { line: "GET /public" }, 403],
      ["nobody", { line: "GET /public" }, 200],
      ["nobody", { line: "GET /items/1" }, 403],
    ])("decides on %s with %o: %i", async (client, ask, expected) => {
      const identity = client === "nobody" ? undefined : clients[client];
      const tls = identity && { tls: { key: identity.key, cert: identity.certificate, ALPNProtocols: ["istio"] } };
      const { status } = await askHttp(address, port, { ...ask, ...tls });
      expect(status).toBe(expected);
    });

    it.each<[Client | "nobody", string]>([
      ["web", "tcp:hello"],
      ["batch", "tcp:hello"],
      ["stranger", ""],
      ["nobody", ""],
    ])("decides on a connection of %s", async (client, expected) => {
      const identity = client === "nobody" ? undefined : clients[client];
      const tls = identity && { key: identity.key, cert: identity.certificate, ALPNProtocols: ["istio"] };
      using connection = await RawConnection.open(port + 1, tls, address);
      connection.write("hello");
      await connection.until((received) => received.includes("hello"));
      expect(connection.received.toString()).toBe(expected);
    });
  });
});
