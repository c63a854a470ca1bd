/**
 * CUSTOM policies, which ask somebody else: what Envoy does on our configuration with authorizers over HTTP and gRPC, in each of the ways
 * that meshConfig.extensionProviders has. Our proxy is tried as well as soon as it has the filters.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { httpFilters } from "../../src/proxy/filters/http/index.ts";
import { startGrpcAuthorizer, startHttpAuthorizer, type TestAuthorizer } from "../support/authorizer.ts";
import { envoyBinary } from "../support/envoy.ts";
import { GatewayFleet, type Side } from "../support/gateway-fleet.ts";
import { type Answer, type Ask, askHttp } from "../support/http-ask.ts";
import { freePortRow } from "../support/ports.ts";
import { RawConnection } from "../support/raw-client.ts";
import { startTcpUpstream, startUpstream, type TestUpstream } from "../support/upstream.ts";

const sides: readonly Side[] = httpFilters.some(({ name }) => name === "envoy.filters.http.ext_authz") ? ["envoy", "topsail"] : ["envoy"];

/** Gateways by the provider that their policies name. */
const names = ["http", "grpc", "plain", "open", "closed", "limited", "several"] as const;
type Name = (typeof names)[number];

const object = (apiVersion: string, kind: string, name: string, spec: unknown) =>
  stringify({ apiVersion, kind, metadata: { name, namespace: "mesh" }, spec });
const networking = (kind: string, name: string, spec: unknown) => object("networking.istio.io/v1", kind, name, spec);
const policy = (name: string, spec: unknown) => object("security.istio.io/v1", "AuthorizationPolicy", name, spec);

describe.skipIf(!envoyBinary)("CUSTOM policies", () => {
  const stack = new AsyncDisposableStack();
  let fleet: GatewayFleet;
  let http: TestAuthorizer;
  let grpc: TestAuthorizer;
  let upstream: TestUpstream;
  let port: number;

  beforeAll(async () => {
    http = stack.use(await startHttpAuthorizer());
    grpc = stack.use(await startGrpcAuthorizer());
    upstream = stack.use(await startUpstream());
    const tcp = stack.use(await startTcpUpstream());
    port = await freePortRow(2);
    const dead = await freePortRow(1);
    fleet = stack.use(
      await GatewayFleet.start({
        configuration: { "mesh-objects.yaml": configuration(tcp.port, dead) },
        meshYaml: stringify({ extensionProviders: providers }),
        deployments: names.map((name) => ({ name, namespace: "mesh", labels: { app: name }, sides })),
        network: "127.0.6",
      }),
    );
  }, 60_000);
  afterAll(() => stack.disposeAsync());
  beforeEach(() => {
    http.seen.length = 0;
    grpc.seen.length = 0;
    upstream.seen.length = 0;
  });

  const service = "authorizer.test";
  const providers = [
    {
      name: "http",
      envoyExtAuthzHttp: {
        service,
        port: 80,
        pathPrefix: "/check",
        timeout: "5s",
        includeRequestHeadersInCheck: ["x-ext-authz", "x-ask-*", "*-id"],
        includeAdditionalHeadersInCheck: { "x-mesh": "ours" },
        includeRequestBodyInCheck: { maxRequestBytes: 1000, allowPartialMessage: true },
        headersToUpstreamOnAllow: ["x-verdict"],
        headersToDownstreamOnDeny: ["x-verdict"],
        headersToDownstreamOnAllow: ["x-oth*"],
      },
    },
    { name: "grpc", envoyExtAuthzGrpc: { service, port: 81, timeout: "5s" } },
    { name: "plain", envoyExtAuthzHttp: { service: `mesh/${service}`, port: 80, timeout: "5s", includeHeadersInCheck: ["x-ext-authz"] } },
    { name: "open", envoyExtAuthzHttp: { service, port: 82, failOpen: true, timeout: "5s" } },
    { name: "closed", envoyExtAuthzGrpc: { service, port: 83, statusOnError: "503", timeout: "5s" } },
    { name: "limited", envoyExtAuthzGrpc: { service, port: 81, includeRequestBodyInCheck: { maxRequestBytes: 8 }, timeout: "5s" } },
  ];

  function configuration(tcpPort: number, dead: number): string {
    const onCustom = { rules: [{ to: [{ operation: { paths: ["/custom*"] } }] }] };
    const custom = (app: string, provider: string, rest: object = onCustom) =>
      policy(`${app}-${provider}`, { selector: { matchLabels: { app } }, action: "CUSTOM", provider: { name: provider }, ...rest });
    return [
      networking("ServiceEntry", "authorizer", {
        hosts: [service],
        ports: [
          { number: 80, name: "http", protocol: "HTTP" },
          { number: 81, name: "grpc", protocol: "GRPC" },
          { number: 82, name: "http-dead", protocol: "HTTP" },
          { number: 83, name: "grpc-dead", protocol: "GRPC" },
        ],
        resolution: "STATIC",
        endpoints: [{ address: "127.0.0.1", ports: { http: http.port, grpc: grpc.port, "http-dead": dead, "grpc-dead": dead } }],
      }),
      networking("ServiceEntry", "application", {
        hosts: ["application.test"],
        ports: [
          { number: 80, name: "http", protocol: "HTTP" },
          { number: 81, name: "tcp", protocol: "TCP" },
        ],
        resolution: "STATIC",
        endpoints: [{ address: "127.0.0.1", ports: { http: upstream.port, tcp: tcpPort } }],
      }),
      networking("Gateway", "all", {
        selector: {},
        servers: [
          { port: { number: port, name: "http", protocol: "HTTP" }, hosts: ["*"] },
          { port: { number: port + 1, name: "tcp", protocol: "TCP" }, hosts: ["*"] },
        ],
      }),
      networking("VirtualService", "all", {
        hosts: ["*"],
        gateways: ["all"],
        http: [{ route: [{ destination: { host: "application.test", port: { number: 80 } } }] }],
        tcp: [{ route: [{ destination: { host: "application.test", port: { number: 81 } } }] }],
      }),
      ...(["http", "plain", "open", "closed", "limited"] as const).map((name) => custom(name, name)),
      // Of a connection the path is not known: all of them are asked about.
      custom("grpc", "grpc"),
      custom("several", "grpc"),
      custom("several", "http"),
      policy("deny", {
        selector: { matchLabels: { app: "http" } },
        action: "DENY",
        rules: [{ to: [{ operation: { paths: ["/custom/denied"] } }] }],
      }),
    ].join("---\n");
  }

  const ask = (name: Name, side: Side, request: Ask): Promise<Answer> => askHttp(fleet.address(name, side), port, request);
  const allow = { "x-ext-authz": "allow" };
  const headerOf = (headers: readonly (readonly [string, string])[] | undefined, wanted: string) =>
    headers?.find(([name]) => name.toLowerCase() === wanted)?.[1];

  describe.each(sides)("in %s", (side) => {
    it.each(["http", "grpc", "plain"] as const)("are not asked about what no rule takes (%s)", async (name) => {
      expect((await ask(name, side, { line: "GET /other" })).status).toBe(200);
      expect([...http.seen, ...grpc.seen]).toEqual([]);
    });

    it("ask over HTTP, with the headers that they are told and no others", async () => {
      const headers = { ...allow, "x-ask-1": "a", "trace-id": "b", "x-secret": "c" };
      const { status, headers: answered } = await ask("http", side, { line: "POST /custom/a?q=1", headers, body: "form" });
      expect(status).toBe(200);
      expect(http.seen).toHaveLength(1);
      const [{ line, headers: seen, body } = { line: "", headers: {} as Record<string, string>, body: "" }] = http.seen;
      expect([line, body]).toEqual(["POST /check/custom/a?q=1", "form"]);
      expect(seen).toMatchObject({ "x-ask-1": "a", "trace-id": "b", "x-mesh": "ours", "x-ext-authz": "allow", host: "any.test" });
      expect(seen).not.toHaveProperty("x-secret");
      // Of the authorizer's headers, to each side what is meant for it.
      expect(answered).toMatchObject({ "x-other": "1" });
      expect(answered).not.toHaveProperty("x-verdict");
      expect(headerOf(upstream.seen[0]?.headers, "x-verdict")).toBe("in");
      expect(headerOf(upstream.seen[0]?.headers, "x-other")).toBeUndefined();
    });

    it("hand on what the authorizer says to whom it does not let in", async () => {
      const { status, body, headers } = await ask("http", side, { line: "GET /custom" });
      expect([status, body]).toEqual([401, "said the authorizer"]);
      expect(headers).toMatchObject({ "x-verdict": "out" });
      expect(headers).not.toHaveProperty("x-other");
      expect(upstream.seen).toEqual([]);
    });

    it("are followed by DENY", async () => {
      const { status, body } = await ask("http", side, { line: "GET /custom/denied", headers: allow });
      expect([status, body, http.seen.length]).toEqual([403, "RBAC: access denied", 1]);
    });

    it("ask over gRPC", async () => {
      const inside = await ask("grpc", side, { line: "GET /custom/a", headers: allow });
      expect(inside.status).toBe(200);
      expect(headerOf(upstream.seen[0]?.headers, "x-verdict")).toBe("in");
      const { status, body, headers } = await ask("grpc", side, { line: "GET /custom/a" });
      expect([status, body, headers["x-verdict"]]).toEqual([401, "said the authorizer", "out"]);
      expect(grpc.seen.map(({ line }) => line)).toEqual(["GET /custom/a", "GET /custom/a"]);
    });

    it("name the service by namespace and the headers in the old way", async () => {
      expect((await ask("plain", side, { line: "GET /custom", headers: allow })).status).toBe(200);
      expect((await ask("plain", side, { line: "GET /custom" })).status).toBe(401);
    });

    it("let in when nobody can be asked and they are told to", async () => {
      expect((await ask("open", side, { line: "GET /custom" })).status).toBe(200);
    });

    it("let nobody in when nobody can be asked, with the status that they are told", async () => {
      expect((await ask("closed", side, { line: "GET /custom", headers: allow })).status).toBe(503);
      expect(upstream.seen).toEqual([]);
    });

    it("send the body along, and refuse one that is too large", async () => {
      expect((await ask("limited", side, { line: "POST /custom", headers: allow, body: "small" })).status).toBe(200);
      expect(grpc.seen.map(({ body }) => body)).toEqual(["small"]);
      expect((await ask("limited", side, { line: "POST /custom", headers: allow, body: "much too large" })).status).toBe(413);
    });

    it("deny where several providers are named, and ask none", async () => {
      const { status, body } = await ask("several", side, { line: "GET /custom", headers: allow });
      expect([status, body]).toEqual([403, "RBAC: access denied"]);
      expect((await ask("several", side, { line: "GET /other" })).status).toBe(200);
      expect([...http.seen, ...grpc.seen]).toEqual([]);
    });

    it.each([
      ["grpc", "127.0.0.7", "tcp:hello", 1],
      ["grpc", "127.0.0.8", "", 1],
      // HTTP has no words for a connection: it is not asked about.
      ["plain", "127.0.0.8", "tcp:hello", 0],
    ] as const)("of connections: %s from %s", async (name, localAddress, expected, checks) => {
      using connection = await RawConnection.open(port + 1, undefined, fleet.address(name, side), { localAddress });
      connection.write("hello");
      await connection.until((received) => received.includes("hello"));
      expect([connection.received.toString(), http.seen.length + grpc.seen.length]).toEqual([expected, checks]);
    });
  });

  it("are told of where a workload has several providers", async () => {
    const status = (await (await fetch(`${fleet.controlPlane.debugUrl}/debug/push_status`)).json()) as Record<string, unknown>;
    // In the order in which they connected.
    const conflicts = status.providerConflicts as { proxy: string }[];
    expect(conflicts.sort((a, b) => a.proxy.localeCompare(b.proxy))).toEqual(
      sides.map((side) => ({ proxy: `several-${side}.mesh`, providers: ["grpc", "http"] })),
    );
    expect(status.policyProblems).toEqual([]);
  });

  it("are configuration that no proxy refuses", async () => expect(await fleet.rejections()).toEqual([]));
});
