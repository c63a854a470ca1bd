/**
 * RequestAuthentications at gateways of Envoy and of ours, on configuration of our control plane: what becomes of tokens, what of them
 * reaches the application, routes by claims, and keys that come, change and go.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { envoyBinary } from "../support/envoy.ts";
import { GatewayFleet, type Side, sides } from "../support/gateway-fleet.ts";
import { type Ask, askHttp } from "../support/http-ask.ts";
import { startIssuer, type TestIssuer } from "../support/issuer.ts";
import { makeTokens } from "../support/jwt.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually } from "../support/proxies.ts";
import { startUpstream, type TestUpstream } from "../support/upstream.ts";

const later = { exp: "now+3600" };
const iss = "https://one.test";
const groups = ["user", "admin"];

const made: Record<string, string> = makeTokens({
  keys: { rsa: {}, ec: { type: "P-256" }, ed: { type: "Ed25519" }, pss: {}, next: {}, stranger: {} },
  jwks: { one: ["rsa", "ec", "ed", { key: "pss", alg: "PS256" }], two: ["ec"], next: ["next"] },
  tokens: {
    good: { key: "rsa", claims: { iss, sub: "alice", aud: "shop", groups, realm: { name: "main" }, ...later } },
    user: { key: "rsa", claims: { iss, sub: "bob", aud: ["web", "shop"], groups: ["user"], ...later } },
    ec: { key: "ec", claims: { iss, sub: "alice", aud: "shop", ...later } },
    ed: { key: "ed", claims: { iss, sub: "alice", aud: "shop", ...later } },
    pss: { key: "pss", alg: "PS256", claims: { iss, sub: "alice", aud: "shop", ...later } },
    expired: { key: "rsa", claims: { iss, sub: "alice", aud: "shop", exp: "now-3600" } },
    early: { key: "rsa", claims: { iss, sub: "alice", aud: "shop", nbf: "now+3600", exp: "now+7200" } },
    "other-audience": { key: "rsa", claims: { iss, sub: "alice", aud: "web", ...later } },
    "other-issuer": { key: "rsa", claims: { iss: "https://three.test", sub: "alice", aud: "shop", ...later } },
    forged: { key: "stranger", header: { kid: "rsa" }, claims: { iss, sub: "alice", aud: "shop", ...later } },
    unsigned: { key: "rsa", header: { alg: "none" }, signature: "AA", claims: { iss, sub: "alice", aud: "shop", ...later } },
    two: { key: "ec", claims: { iss: "two.test", sub: "carol", ...later } },
    fetched: { key: "rsa", claims: { iss: "fetched.test", sub: "alice", ...later } },
    "fetched-next": { key: "next", claims: { iss: "fetched.test", sub: "alice", ...later } },
    late: { key: "rsa", claims: { iss: "late.test", sub: "alice", ...later } },
  },
});
const token = (name: string) => made[`jwt:${name}`]!;
const bearer = (name: string) => ({ authorization: `Bearer ${token(name)}` });

/** Gateways by the policy that is in force for them. */
const names = ["one", "places", "several", "fetched", "discovered", "late", "routing"] as const;
type Name = (typeof names)[number];

describe.skipIf(!envoyBinary)("RequestAuthentications", () => {
  const stack = new AsyncDisposableStack();
  let fleet: GatewayFleet;
  let upstream: TestUpstream;
  let issuer: TestIssuer;
  let lateIssuer: TestIssuer;
  let discoverable: TestIssuer;
  let port: number;

  beforeAll(async () => {
    upstream = stack.use(await startUpstream());
    issuer = stack.use(await startIssuer(made["jwks:one"]));
    lateIssuer = stack.use(await startIssuer(undefined));
    discoverable = stack.use(await startIssuer(undefined));
    const ofIssuer = makeTokens({
      keys: { rsa: {} },
      jwks: { discovered: ["rsa"] },
      tokens: { discovered: { key: "rsa", claims: { iss: discoverable.url, sub: "alice", ...later } } },
    });
    Object.assign(made, ofIssuer);
    discoverable.keys = made["jwks:discovered"];
    port = await freePortRow(1);
    fleet = stack.use(
      await GatewayFleet.start({
        configuration: { "mesh-objects.yaml": configuration() },
        deployments: names.map((name) => ({ name, namespace: "mesh", labels: { app: name } })),
        network: "127.0.7",
        jwksRefreshMs: 1000,
      }),
    );
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  function configuration(): string {
    const object = (apiVersion: string, kind: string, name: string, spec: unknown) =>
      stringify({ apiVersion, kind, metadata: { name, namespace: "mesh" }, spec });
    const networking = (kind: string, name: string, spec: unknown) => object("networking.istio.io/v1", kind, name, spec);
    const authentication = (app: Name, ...jwtRules: object[]) =>
      object("security.istio.io/v1", "RequestAuthentication", app, { selector: { matchLabels: { app } }, jwtRules });
    const jwks = made["jwks:one"];
    const answer = (text: string) => ({ directResponse: { status: 200, body: { string: text } } });
    const claim = (name: string, match: object) => ({ headers: { [`@request.auth.claims${name}`]: match } });
    return [
      authentication("one", {
        issuer: iss,
        audiences: ["shop"],
        jwks,
        forwardOriginalToken: true,
        outputPayloadToHeader: "x-payload",
        outputClaimToHeaders: [
          { header: "x-subject", claim: "sub" },
          { header: "x-realm", claim: "realm.name" },
        ],
      }),
      authentication("places", {
        issuer: iss,
        jwks,
        fromHeaders: [{ name: "x-token", prefix: "Token " }, { name: "x-plain" }],
        fromParams: ["t"],
        fromCookies: ["session"],
      }),
      authentication("several", { issuer: iss, jwks }, { issuer: "two.test", jwks: made["jwks:two"] }),
      authentication("fetched", { issuer: "fetched.test", jwksUri: `${issuer.url}/keys` }),
      authentication("late", { issuer: "late.test", jwksUri: `${lateIssuer.url}/keys` }),
      authentication("discovered", { issuer: discoverable.url }),
      authentication("routing", { issuer: iss, jwks }),
      networking("ServiceEntry", "application", {
        hosts: ["application.test"],
        ports: [{ number: 80, name: "http", protocol: "HTTP" }],
        resolution: "STATIC",
        endpoints: [{ address: "127.0.0.1", ports: { http: upstream.port } }],
      }),
      networking("Gateway", "all", {
        selector: {},
        servers: [{ port: { number: port, name: "http", protocol: "HTTP" }, hosts: ["*"] }],
      }),
      networking("VirtualService", "routing", {
        hosts: ["routing.test"],
        gateways: ["all"],
        http: [
          { match: [{ uri: { prefix: "/nested" }, ...claim("[realm][name]", { exact: "main" }) }], ...answer("main realm") },
          { match: [{ uri: { prefix: "/dotted" }, ...claim(".realm.name", { prefix: "ma" }) }], ...answer("main realm") },
          {
            match: [{ uri: { prefix: "/without" }, withoutHeaders: { "@request.auth.claims[groups]": { exact: "admin" } } }],
            ...answer("no admin"),
          },
          { match: [{ uri: { prefix: "/any" }, ...claim("[sub]", { regex: ".+" }) }], ...answer("somebody") },
          { match: [claim("[groups]", { exact: "admin" })], ...answer("admin") },
          { match: [claim(".groups", { regex: "us.*" })], ...answer("user") },
          answer("guest"),
        ],
      }),
      networking("VirtualService", "all", {
        hosts: ["*"],
        gateways: ["all"],
        http: [{ route: [{ destination: { host: "application.test", port: { number: 80 } } }] }],
      }),
    ].join("---\n");
  }

  const ask = (name: Name, side: Side, request: Ask) => askHttp(fleet.address(name, side), port, request);
  /** `401 Jwt is expired`; of what was let in the status alone. */
  async function verdict(name: Name, side: Side, request: Ask): Promise<string> {
    const { status, body } = await ask(name, side, request);
    return status === 200 ? "200" : `${status} ${body}`;
  }

  describe.each(sides)("in %s", (side) => {
    it.each([
      ["no token", {}, "200"],
      ["a good one", bearer("good"), "200"],
      ["one of several audiences", bearer("user"), "200"],
      ["ES256", bearer("ec"), "200"],
      ["EdDSA", bearer("ed"), "200"],
      ["PS256", bearer("pss"), "200"],
      ["another scheme", { authorization: "Basic abc" }, "200"],
      ["an expired one", bearer("expired"), "401 Jwt is expired"],
      ["one of the future", bearer("early"), "401 Jwt not yet valid"],
      ["one for others", bearer("other-audience"), "403 Audiences in Jwt are not allowed"],
      ["one of another issuer", bearer("other-issuer"), "401 Jwt issuer is not configured"],
      ["a forged one", bearer("forged"), "401 Jwt verification fails"],
      ["an unsigned one", bearer("unsigned"), "401 Jwt header [alg] is not supported"],
      [
        "none at all",
        { authorization: "Bearer nonsense" },
        "401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
      ],
    ])("a token that is %s", async (_, headers: Record<string, string>, expected) => {
      expect(await verdict("one", side, { headers })).toBe(expected);
    });

    it("challenges who brings a bad token", async () => {
      const { headers } = await ask("one", side, { headers: bearer("forged") });
      expect(headers["www-authenticate"]).toBe('Bearer realm="http://any.test/", error="invalid_token"');
    });

    it("lets a preflight of CORS pass, whatever it brings", async () => {
      const headers = { ...bearer("forged"), origin: "http://a.test", "access-control-request-method": "GET" };
      expect(await verdict("one", side, { line: "OPTIONS /", headers })).toBe("200");
    });

    it("tells the application of the token, and lets nobody else do so", async () => {
      upstream.seen.length = 0;
      await ask("one", side, { headers: { ...bearer("good"), "x-subject": "root", "x-payload": "e30" } });
      await ask("one", side, { headers: { "x-subject": "root", "x-payload": "e30" } });
      const told = upstream.seen.map(({ headers }) => Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value])));
      expect(told[0]).toMatchObject({ "x-subject": "alice", "x-realm": "main", authorization: `Bearer ${token("good")}` });
      expect(JSON.parse(Buffer.from(told[0]!["x-payload"]!, "base64url").toString())).toMatchObject({ sub: "alice", groups });
      for (const header of ["x-subject", "x-payload", "authorization"]) expect(told[1]).not.toHaveProperty(header);
    });

    it.each([
      ["a header, behind its prefix", { headers: { "x-token": `Token ${token("good")}` } }, "200"],
      ["a header", { headers: { "x-plain": token("good") } }, "200"],
      ["a parameter", { line: `GET /?t=${token("good")}` }, "200"],
      ["a cookie", { headers: { cookie: `a=b; session=${token("good")}` } }, "200"],
      ["a header, forged", { headers: { "x-token": `Token ${token("forged")}` } }, "401 Jwt verification fails"],
      ["a parameter, forged", { line: `GET /?t=${token("forged")}` }, "401 Jwt verification fails"],
      ["a cookie, forged", { headers: { cookie: `session=${token("forged")}` } }, "401 Jwt verification fails"],
      ["Authorization, where nobody looks", { headers: bearer("forged") }, "200"],
    ])("a token in %s", async (_, request: Ask, expected) => expect(await verdict("places", side, request)).toBe(expected));

    it("keeps the token from the application unless told to hand it on", async () => {
      upstream.seen.length = 0;
      await ask("places", side, { headers: { "x-plain": token("good") } });
      expect(upstream.seen[0]?.headers.map(([name]) => name.toLowerCase())).not.toContain("x-plain");
    });

    it.each([
      ["the one", "good", "200"],
      ["the other", "two", "200"],
      ["neither", "other-issuer", "401"],
      ["the one, forged", "forged", "401"],
    ])("a token of %s issuer of two", async (_, name, expected) => {
      expect((await verdict("several", side, { headers: bearer(name) })).slice(0, 3)).toBe(expected);
    });

    it("finds keys by the issuer's OpenID Connect document", async () => {
      expect(await verdict("discovered", side, { headers: bearer("discovered") })).toBe("200");
      expect(await verdict("discovered", side, { headers: bearer("good") })).toBe("401 Jwt issuer is not configured");
    });

    it.each([
      ["GET /", "good", "admin"],
      ["GET /", "user", "user"],
      ["GET /", undefined, "guest"],
      ["GET /nested", "good", "main realm"],
      ["GET /nested", "user", "user"],
      ["GET /dotted", "good", "main realm"],
      ["GET /without", "good", "admin"],
      ["GET /without", "user", "no admin"],
      ["GET /without", undefined, "no admin"],
      ["GET /any", "user", "somebody"],
      ["GET /any", undefined, "guest"],
    ])("routes %s with token %s to %s", async (line, name, expected) => {
      const { body } = await ask("routing", side, { line, host: "routing.test", headers: name === undefined ? {} : bearer(name) });
      expect(body).toBe(expected);
    });
  });

  // From here on what issuers do, one after the other.

  const both = async (name: Name, headers: Record<string, string>) =>
    Promise.all(sides.map((side) => verdict(name, side, { headers }).then((text) => text.slice(0, 3))));
  const becomes = (name: Name, headers: Record<string, string>, wanted: string) =>
    eventually(async () => (await both(name, headers)).every((status) => status === wanted) || undefined, `${wanted} from ${name}`);
  async function problems(): Promise<string[]> {
    const status = (await (await fetch(`${fleet.controlPlane.debugUrl}/debug/push_status`)).json()) as { policyProblems: string[] };
    return status.policyProblems;
  }
  async function listenerUpdates(name: Name): Promise<string[]> {
    const texts = sides.map((side) => fleet.proxy(name, side).admin("/stats?filter=^listener_manager.lds.update_success"));
    return Promise.all(texts);
  }

  it("refuses tokens as long as there are no keys, and says why", async () => {
    expect(await both("late", bearer("late"))).toEqual(["401", "401"]);
    expect(await both("late", {})).toEqual(["200", "200"]);
    expect(await problems()).toEqual([
      expect.stringMatching(
        /^RequestAuthentication\/mesh\/late: issuer "late.test": no keys from .*: status 503; all its tokens are refused$/,
      ),
    ]);
  });

  it("takes tokens as soon as the issuer gives its keys", async () => {
    lateIssuer.keys = made["jwks:one"];
    await becomes("late", bearer("late"), "200");
    expect(await problems()).toEqual([]);
  });

  it("follows an issuer that changes its keys, and tells nobody whom it doesn't concern", async () => {
    expect(await both("fetched", bearer("fetched"))).toEqual(["200", "200"]);
    const before = await listenerUpdates("one");
    issuer.keys = made["jwks:next"];
    await becomes("fetched", bearer("fetched-next"), "200");
    expect(await both("fetched", bearer("fetched"))).toEqual(["401", "401"]);
    expect(await listenerUpdates("one")).toEqual(before);
  });

  it("keeps the keys of an issuer that is down", async () => {
    issuer.keys = undefined;
    const asked = issuer.asked.length;
    await eventually(async () => (await problems()).length > 0 || undefined, "the outage to be told");
    expect(await problems()).toEqual([
      expect.stringMatching(/fetched: issuer "fetched.test": no new keys .*; the old ones stay in force$/),
    ]);
    expect(issuer.asked.length).toBeGreaterThan(asked);
    expect(await both("fetched", bearer("fetched-next"))).toEqual(["200", "200"]);
    issuer.keys = "not a key set";
    await eventually(() => (issuer.asked.length > asked + 1 ? true : undefined), "another try");
    expect(await both("fetched", bearer("fetched-next"))).toEqual(["200", "200"]);
    issuer.keys = made["jwks:next"];
    await eventually(async () => (await problems()).length === 0 || undefined, "the end of the outage to be told");
  });

  it("is configuration that no proxy refuses", async () => expect(await fleet.rejections()).toEqual([]));
});
