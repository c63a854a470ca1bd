/**
 * What AuthorizationPolicies mean: tables of policies and of requests that they allow or deny, as Istio's documentation has it, each decided
 * by Envoy and by our proxy on configuration of our control plane.
 *
 * All cases of requests stand in one gateway at once. Each rule of a case gets one more condition, a header that the case's requests have,
 * so that cases don't see each other; a case that only denies stands where all else is allowed. On plain connections it is a port of the
 * case's own instead. Of tls ports the gateway demands certificates; who has which is in `clients`.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { envoyBinary } from "../support/envoy.ts";
import { type Deployment, GatewayFleet, type Side, sides } from "../support/gateway-fleet.ts";
import { type Ask, askHttp } from "../support/http-ask.ts";
import { freePortRow } from "../support/ports.ts";
import { RawConnection } from "../support/raw-client.ts";
import { startTcpUpstream, type TestTcpUpstream } from "../support/upstream.ts";
import {
  ca,
  clients,
  files,
  httpCases,
  httpPolicies,
  isOpen,
  issuer,
  made,
  object,
  type PolicyCase,
  policy,
  type RequestCase,
  selector,
  tcpCases,
  tcpPolicies,
} from "./authorization-cases.ts";

const network = "127.0.4";

/** Gateways that stand for workloads with policies of their own. */
const deployments: readonly Deployment[] = [
  { name: "main", namespace: "mesh", labels: { serves: "http", app: "main" } },
  { name: "tcp", namespace: "mesh", labels: { serves: "tcp", app: "tcp" } },
  { name: "without-rules", namespace: "mesh", labels: { serves: "http", app: "without-rules" } },
  { name: "empty-rule", namespace: "mesh", labels: { serves: "http", app: "empty-rule" } },
  { name: "deny-all", namespace: "mesh", labels: { serves: "http", app: "deny-all" } },
  { name: "by-namespace", namespace: "closed", labels: { serves: "http", app: "by-namespace", tier: "a" } },
  { name: "bad-provider", namespace: "mesh", labels: { serves: "http", app: "bad-provider" } },
];

/** Policies for whole workloads, in which every rule is as it stands. */
const attached = [
  policy("mesh", "nothing", { selector: selector("without-rules") }),
  policy("mesh", "nothing-else", { selector: selector("without-rules"), rules: [{ to: [{ operation: { paths: ["/open"] } }] }] }),
  policy("mesh", "everything", { selector: selector("empty-rule"), rules: [{}] }),
  policy("mesh", "deny-everything", { selector: selector("deny-all"), action: "DENY", rules: [{}] }),
  policy("mesh", "allow-everything", { selector: selector("deny-all"), rules: [{}] }),
  // Of a namespace, of some of its workloads, of others, of the mesh, and of some of the mesh.
  policy("closed", "all", { rules: [{ to: [{ operation: { paths: ["/namespace*"] } }] }] }),
  policy("closed", "some", { selector: { matchLabels: { tier: "a" } }, rules: [{ to: [{ operation: { paths: ["/selected"] } }] }] }),
  policy("closed", "others", {
    selector: { matchLabels: { tier: "b" } },
    rules: [{ to: [{ operation: { paths: ["/others"] } }] }],
  }),
  policy("elsewhere", "all", { rules: [{ to: [{ operation: { paths: ["/elsewhere"] } }] }] }),
  policy("istio-system", "all", { action: "DENY", rules: [{ from: [{ source: { ipBlocks: ["127.0.9.0/24"] } }] }] }),
  policy("istio-system", "some", {
    selector: selector("by-namespace"),
    action: "DENY",
    rules: [{ to: [{ operation: { paths: ["/namespace/denied"] } }] }],
  }),
  policy("closed", "waypoints", {
    targetRefs: [{ group: "", kind: "Service", name: "shop" }],
    action: "DENY",
    rules: [{}],
  }),
  policy("mesh", "custom", {
    selector: selector("bad-provider"),
    action: "CUSTOM",
    provider: { name: "unknown" },
    rules: [{ to: [{ operation: { paths: ["/custom*"] } }] }],
  }),
];

const wholeWorkloads: readonly { readonly deployment: string; readonly allowed: readonly Ask[]; readonly denied: readonly Ask[] }[] = [
  // A policy without rules allows nothing itself, and takes nothing away from another.
  { deployment: "without-rules", allowed: [{ line: "GET /open" }], denied: [{ line: "GET /" }, { line: "POST /x" }] },
  { deployment: "empty-rule", allowed: [{ line: "GET /" }, { line: "DELETE /x" }], denied: [{ from: "127.0.9.9" }] },
  { deployment: "deny-all", allowed: [], denied: [{ line: "GET /" }, { line: "POST /x" }] },
  {
    deployment: "by-namespace",
    allowed: [{ line: "GET /namespace" }, { line: "GET /namespace/x" }, { line: "GET /selected" }],
    denied: [
      { line: "GET /" },
      { line: "GET /others" },
      { line: "GET /elsewhere" },
      { line: "GET /namespace/denied" },
      { line: "GET /selected", from: "127.0.9.9" },
    ],
  },
  { deployment: "bad-provider", allowed: [{ line: "GET /" }], denied: [{ line: "GET /custom" }, { line: "GET /custom/x" }] },
  { deployment: "main", allowed: [], denied: [{ line: "GET /" }, { headers: { "x-open": "open" }, from: "127.0.9.9" }] },
];

const decisions = [...httpCases, ...tcpCases]
  .flatMap(({ allowed = [], denied = [] }) => [...allowed, ...denied])
  .concat(wholeWorkloads.flatMap(({ allowed, denied }) => [...allowed, ...denied]) as RequestCase[]);

describe.skipIf(!envoyBinary)("AuthorizationPolicies", () => {
  const stack = new AsyncDisposableStack();
  let fleet: GatewayFleet;
  let tcp: TestTcpUpstream;
  let ports: { readonly http: number; readonly http2: number; readonly tls: number; readonly tcp: number };
  const tcpPort = (index: number) => ports.tcp + index;

  beforeAll(async () => {
    tcp = stack.use(await startTcpUpstream());
    const first = await freePortRow(3 + tcpCases.length);
    ports = { http: first, http2: first + 1, tls: first + 2, tcp: first + 3 };
    fleet = stack.use(await GatewayFleet.start({ configuration: configuration(), meshYaml, deployments, network }));
  }, 120_000);
  afterAll(() => stack.disposeAsync());

  const meshYaml = stringify({
    trustDomain: "cluster.local",
    trustDomainAliases: ["old.domain"],
    defaultConfig: { gatewayTopology: { numTrustedProxies: 1 } },
  });

  function configuration(): Record<string, string> {
    const credential = ca.issue("https://gateway.test/");
    const secret = stringify({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "gateway", namespace: "mesh" },
      type: "Opaque",
      stringData: { "tls.crt": credential.certificate, "tls.key": credential.key, "ca.crt": ca.root },
    });
    const tls = { mode: "MUTUAL", credentialName: "gateway" };
    const plain = (number: number, name: string) => ({ port: { number, name, protocol: "HTTP" }, hosts: ["*/*"] });
    const gateway = object("Gateway", "mesh", "http", {
      selector: { serves: "http" },
      servers: [
        plain(ports.http, "http"),
        plain(ports.http2, "http2"),
        { port: { number: ports.tls, name: "tls", protocol: "HTTPS" }, hosts: ["*/*"], tls },
      ],
    });
    const tcpGateway = object("Gateway", "mesh", "tcp", {
      selector: { serves: "tcp" },
      servers: tcpCases.map((one, index) => ({
        port: { number: tcpPort(index), name: `case-${index}`, protocol: one.tls ? "TLS" : "TCP" },
        hosts: ["*"],
        ...(one.tls ? { tls } : {}),
      })),
    });
    const route = object("VirtualService", "mesh", "http", {
      hosts: ["*"],
      gateways: ["http"],
      http: [{ directResponse: { status: 200, body: { string: "welcome" } } }],
    });
    const tcpRoute = object("VirtualService", "mesh", "tcp", {
      hosts: ["*"],
      gateways: ["tcp"],
      tcp: [{ route: [{ destination: { host: "echo.test", port: { number: 9000 } } }] }],
    });
    const echo = object("ServiceEntry", "mesh", "echo", {
      hosts: ["echo.test"],
      ports: [{ number: 9000, name: "tcp", protocol: "TCP" }],
      resolution: "STATIC",
      endpoints: [{ address: "127.0.0.1", ports: { tcp: tcp.port } }],
    });
    const authentication = object("RequestAuthentication", "mesh", "tokens", {
      jwtRules: [
        { issuer, jwks: made["jwks:issuer"] },
        { issuer: "other.test", jwks: made["jwks:other"] },
      ],
    });
    const fill = (text: string, index?: number) =>
      text
        .replaceAll("{{network}}", `${network}.0/24`)
        .replaceAll("{{http}}", String(ports.http))
        .replaceAll("{{http2}}", String(ports.http2))
        .replaceAll("{{port}}", index === undefined ? "" : String(tcpPort(index)));
    return {
      "mesh-objects.yaml": [secret, gateway, tcpGateway, route, tcpRoute, echo, authentication].join("---\n"),
      "http.yaml": httpPolicies()
        .map((text) => fill(text))
        .join("---\n"),
      "tcp.yaml": tcpPolicies((index) => String(tcpPort(index)))
        .map((text) => fill(text, Number(/name: tcp-(\d+)-/.exec(text)?.[1] ?? 0)))
        .join("---\n"),
      "attached.yaml": attached.join("---\n"),
    };
  }

  async function isAllowed(deployment: string, side: Side, request: RequestCase, headers: Record<string, string>): Promise<boolean> {
    const { client, sni, token, port = "http", ...ask } = request;
    const identity = client === undefined ? undefined : clients[client]!;
    const { status, body } = await askHttp(fleet.address(deployment, side), identity ? ports.tls : ports[port], {
      ...ask,
      headers: { ...headers, ...ask.headers, ...(token === undefined ? {} : { authorization: `Bearer ${made[`jwt:${token}`]}` }) },
      ...(identity ? { tls: { key: identity.key, cert: identity.certificate, servername: sni ?? "any.test" } } : {}),
    });
    const decision = `${status} ${body}`;
    const isHead = ask.line?.startsWith("HEAD") === true;
    if (decision === (isHead ? "403 " : "403 RBAC: access denied")) return false;
    expect(decision).toBe(isHead ? "200 " : "200 welcome");
    return true;
  }

  async function passes(index: number, side: Side, { client, sni, from }: RequestCase): Promise<boolean> {
    const identity = client === undefined ? undefined : clients[client]!;
    const options = { localAddress: from ?? "127.0.0.1" };
    using connection = await RawConnection.open(
      tcpPort(index),
      identity ? { key: identity.key, cert: identity.certificate, servername: sni ?? "any.test" } : undefined,
      fleet.address("tcp", side),
      options,
    );
    connection.write("hello");
    await connection.until((received) => received.includes("hello"));
    if (connection.isClosed && connection.received.length === 0) return false;
    expect(connection.received.toString()).toBe("tcp:hello");
    return true;
  }

  const asked = (request: string | RequestCase): RequestCase => (typeof request === "string" ? { line: request } : request);
  /** Each request with the decision on it; compared at once, so that a failure shows all of them. */
  async function decide(one: PolicyCase, ask: (request: RequestCase) => Promise<boolean>): Promise<Record<string, boolean>> {
    const all = [...(one.allowed ?? []), ...(one.denied ?? [])];
    const results = await Promise.all(all.map(async (request) => [JSON.stringify(request), await ask(asked(request))] as const));
    return Object.fromEntries(results);
  }
  const expected = ({ allowed = [], denied = [] }: Pick<PolicyCase, "allowed" | "denied">) =>
    Object.fromEntries([
      ...allowed.map((request) => [JSON.stringify(request), true] as const),
      ...denied.map((request) => [JSON.stringify(request), false] as const),
    ]);

  it("are tried by at least 300 decisions", () => expect(decisions.length).toBeGreaterThanOrEqual(300));

  describe.each(files)("%s", (file) => {
    it.each(httpCases.flatMap((one, index) => (one.file === file ? [[one.name, one, index] as const] : [])))(
      "%s",
      async (_, one, index) => {
        const headers = { "x-case": `${index}`, ...(isOpen(one) ? { "x-open": "open" } : {}) };
        for (const side of sides) {
          expect(await decide(one, (request) => isAllowed("main", side, request, headers)), side).toEqual(expected(one));
        }
      },
    );
  });

  describe("connections", () => {
    it.each(tcpCases.map((one, index) => [one.name, one, index] as const))("%s", async (_, one, index) => {
      for (const side of sides) expect(await decide(one, (request) => passes(index, side, request)), side).toEqual(expected(one));
    });
  });

  describe("whole workloads", () => {
    it.each(wholeWorkloads.map((one) => [one.deployment, one] as const))("%s", async (deployment, one) => {
      const whole = { name: deployment, allowed: one.allowed, denied: one.denied };
      for (const side of sides) {
        expect(await decide(whole, (request) => isAllowed(deployment, side, request, {})), side).toEqual(expected(whole));
      }
    });
  });

  it("are configuration that no proxy refuses", async () => expect(await fleet.rejections()).toEqual([]));

  it("are told of where they are not what their owner meant", async () => {
    const status = (await (await fetch(`${fleet.controlPlane.debugUrl}/debug/push_status`)).json()) as { policyProblems: string[] };
    expect(status.policyProblems).toEqual([
      expect.stringMatching(/^AuthorizationPolicy\/closed\/waypoints: target Service shop .* enforced nowhere$/),
      expect.stringMatching(/^AuthorizationPolicy\/mesh\/custom: provider "unknown": .*; what the rules take is denied$/),
    ]);
  });
});
