/**
 * Who may do what, on a small mesh of web-frontend, customers and httpbin behind an ingress gateway: policies between workloads, tokens and
 * their claims at the door, somebody else's verdict (CUSTOM), and a record for later (AUDIT). The steps build on each other, as somebody
 * types them.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startGrpcAuthorizer, startHttpAuthorizer, type TestAuthorizer } from "../support/authorizer.ts";
import { makeTokens } from "../support/jwt.ts";
import { istioObject, type Json, LabMesh, labProxies } from "../support/lab-mesh.ts";
import { eventually } from "../support/proxies.ts";

const system = "istio-system";
const atGateway = { matchLabels: { istio: "ingressgateway" } };
const at = (workload: string) => ({ matchLabels: { app: workload } });
const policy = (name: string, spec: Json, namespace?: string) => istioObject("security", "AuthorizationPolicy", name, spec, namespace);

describe.each(labProxies)("A mesh with policies, run by $name", ({ binaryPath }) => {
  const stack = new AsyncDisposableStack();
  let lab: LabMesh;
  let overHttp: TestAuthorizer;
  let overGrpc: TestAuthorizer;

  beforeAll(async () => {
    overHttp = stack.use(await startHttpAuthorizer());
    overGrpc = stack.use(await startGrpcAuthorizer());
    lab = stack.use(
      await LabMesh.start({
        network: binaryPath ? 9 : 8,
        binaryPath,
        workloads: [{ name: "web-frontend" }, { name: "customers" }, { name: "httpbin" }],
        meshConfig: {
          // In each proxy's own directory.
          accessLogFile: "access.log",
          accessLogFormat: "%REQ(:PATH)% audit=%DYNAMIC_METADATA(envoy.common:access_log_hint)% by=%DOWNSTREAM_PEER_URI_SAN%\n",
          extensionProviders: [
            {
              name: "http-authorizer",
              envoyExtAuthzHttp: {
                service: "authorizer.test",
                port: 80,
                includeRequestHeadersInCheck: ["x-ext-authz"],
                headersToUpstreamOnAllow: ["x-verdict"],
                headersToDownstreamOnDeny: ["x-verdict"],
              },
            },
            { name: "grpc-authorizer", envoyExtAuthzGrpc: { service: "authorizer.test", port: 81 } },
          ],
        },
      }),
    );
    lab.apply(
      "authorizer",
      istioObject("networking", "ServiceEntry", "authorizer", {
        hosts: ["authorizer.test"],
        location: "MESH_INTERNAL",
        resolution: "STATIC",
        ports: [
          { number: 80, name: "http", protocol: "HTTP" },
          { number: 81, name: "grpc", protocol: "GRPC" },
        ],
        endpoints: [{ address: "127.0.0.1", ports: { http: overHttp.port, grpc: overGrpc.port } }],
      }),
    );
  }, 90_000);
  afterAll(() => stack.disposeAsync(), 30_000);

  it("lets nobody do anything, then the gateway to web-frontend, then web-frontend to customers", async () => {
    lab.apply("nothing", policy("allow-nothing", {}));
    await lab.settled("web-frontend").toBe(403);
    expect((await lab.viaGateway("web-frontend")).body).toBe("RBAC: access denied");

    const allow = (workload: string, principal: string) =>
      policy(`allow-${workload}`, {
        selector: at(workload),
        action: "ALLOW",
        rules: [{ from: [{ source: { principals: [`cluster.local/ns/${principal}`] } }], to: [{ operation: { methods: ["GET"] } }] }],
      });
    lab.apply("allow-frontend", allow("web-frontend", `${system}/sa/ingress`));
    await lab.settled("web-frontend").toBe(502);
    expect((await lab.viaGateway("web-frontend")).body).toContain("The customers service answered with 403.");

    lab.apply("allow-customers", allow("customers", "default/sa/web-frontend"));
    await lab.settled("web-frontend").toBe(200);
    expect((await lab.viaGateway("web-frontend")).body).toContain("Ada Lindqvist");
    // The same request by others: of the mesh, by another workload of it, and by nobody.
    expect((await lab.viaGateway("customers")).status).toBe(403);
    expect((await lab.between("httpbin", "customers")).status).toBe(403);
    expect(await lab.outside("customers")).toBe(403);
    expect((await lab.between("web-frontend", "customers")).status).toBe(200);
    for (const name of ["nothing", "allow-frontend", "allow-customers"]) lab.remove(name);
    await lab.settled("customers").toBe(200);
  }, 60_000);

  it("asks for a token at the door, and looks into it", async () => {
    const claims = { iss: "login.example.com", exp: 4102444800 };
    const made = makeTokens({
      keys: { known: { type: "P-256" }, foreign: { type: "P-256" } },
      jwks: { main: ["known"] },
      tokens: {
        editor: { key: "known", claims: { ...claims, sub: "ada", groups: ["editors"] } },
        reader: { key: "known", claims: { ...claims, sub: "ben", groups: ["readers"] } },
        forged: { key: "foreign", header: { kid: "known" }, claims: { ...claims, sub: "eve", groups: ["editors"] } },
      },
    });
    const open = ["web-frontend.example.com", "customers.example.com"];
    const editors = {
      from: [{ source: { requestPrincipals: ["login.example.com/*"] } }],
      to: [{ operation: { hosts: ["httpbin.example.com"], paths: ["/anything*"] } }],
      when: [{ key: "request.auth.claims[groups]", values: ["editors"] }],
    };
    const jwtRules = [{ issuer: "login.example.com", jwks: made["jwks:main"] }];
    lab.apply(
      "tokens",
      istioObject("security", "RequestAuthentication", "door", { selector: atGateway, jwtRules }, system),
      policy("door", { selector: atGateway, action: "ALLOW", rules: [{ to: [{ operation: { hosts: open } }] }, editors] }, system),
    );
    const bearer = (name: string) => ({ authorization: `Bearer ${made[`jwt:${name}`]}` });
    await lab.settled("httpbin", "/anything").toBe(403);
    const status = async (path: string, headers: Record<string, string>) => (await lab.viaGateway("httpbin", path, headers)).status;
    expect(await status("/anything", bearer("forged"))).toBe(401);
    expect(await status("/anything", { authorization: "Bearer nonsense" })).toBe(401);
    expect(await status("/anything", bearer("reader"))).toBe(403);
    expect(await status("/headers", bearer("editor"))).toBe(403);
    expect(await status("/anything", bearer("editor"))).toBe(200);
    expect((await lab.viaGateway("web-frontend")).status).toBe(200);
    lab.remove("tokens");
    await lab.settled("httpbin", "/headers").toBe(200);
  }, 60_000);

  describe.each([
    { place: "the gateway", selector: atGateway, namespace: system, provider: "grpc-authorizer", authorizer: () => overGrpc },
    { place: "a sidecar", selector: at("httpbin"), namespace: "default", provider: "http-authorizer", authorizer: () => overHttp },
  ])("asks somebody else at $place", ({ selector, namespace, provider, authorizer }) => {
    const custom = (name: string) =>
      policy(
        "ask",
        { selector, action: "CUSTOM", provider: { name }, rules: [{ to: [{ operation: { paths: ["/headers"] } }] }] },
        namespace,
      );
    const allowed = { "x-ext-authz": "allow" };

    it("and does as that says, for the requests of the rule alone", async () => {
      lab.apply("custom", custom(provider));
      await lab.settled("httpbin", "/headers").toBe(401);
      const denied = await lab.viaGateway("httpbin", "/headers");
      expect(denied).toMatchObject({ body: "said the authorizer", headers: { "x-verdict": "out" } });
      const passed = await lab.viaGateway("httpbin", "/headers", allowed);
      expect(passed.status).toBe(200);
      expect((JSON.parse(passed.body) as { headers: Record<string, string> }).headers["X-Verdict"]).toBe("in");
      const asked = authorizer().seen.length;
      expect(authorizer().seen.at(-1)).toMatchObject({ line: "GET /headers" });
      expect((await lab.viaGateway("httpbin", "/get")).status).toBe(200);
      expect(authorizer().seen.length).toBe(asked);
    }, 30_000);

    it("before DENY, which has the last word", async () => {
      lab.apply("deny", policy("deny", { selector, action: "DENY", rules: [{ to: [{ operation: { paths: ["/headers"] } }] }] }, namespace));
      await lab.settled("httpbin", "/headers", allowed).toBe(403);
      // Who is out already is not denied once more.
      expect((await lab.viaGateway("httpbin", "/headers")).status).toBe(401);
      lab.remove("deny");
      await lab.settled("httpbin", "/headers", allowed).toBe(200);
    }, 30_000);

    it("and refuses everything of the rule when there is nobody of that name to ask", async () => {
      lab.apply("custom", custom("nobody"));
      await lab.settled("httpbin", "/headers", allowed).toBe(403);
      lab.remove("custom");
      await lab.settled("httpbin", "/headers").toBe(200);
    }, 30_000);
  });

  it("keeps a record of who still calls in plaintext, and lets everybody pass", async () => {
    const log = () => readFileSync(join(lab.directory, "httpbin", "access.log"), "utf8");
    const record = (path: string) => new RegExp(`^/${path} audit=(\\S+) by=(\\S+)$`, "m").exec(log())?.slice(1);
    let requests = 0;
    /** What is written of one request. */
    const recorded = async (send: (path: string) => Promise<{ status: number }>) => {
      const path = `anything?${++requests}`;
      expect((await send(`/${path}`)).status).toBe(200);
      return eventually(
        () => record(path.replace("?", "\\?")),
        () => `a record of ${path} in ${log().slice(-500)}`,
      );
    };
    const plaintext = (path: string) => lab.direct("httpbin", path);
    expect(await recorded(plaintext)).toEqual(["-", "-"]);
    lab.apply(
      "audit",
      policy("plaintext", { selector: at("httpbin"), action: "AUDIT", rules: [{ from: [{ source: { notPrincipals: ["*"] } }] }] }),
    );
    await expect.poll(async () => (await recorded(plaintext))[0], { timeout: 15_000 }).toBe("true");
    expect(await recorded((path) => lab.viaGateway("httpbin", path))).toEqual(["false", `spiffe://cluster.local/ns/${system}/sa/ingress`]);
    lab.remove("audit");
  }, 60_000);
});
