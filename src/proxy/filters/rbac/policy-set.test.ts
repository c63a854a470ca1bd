/** Policies by walking requests through them; what Envoy decides is compared in test/conformance. */
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { RBACSchema } from "../../../api/gen/envoy/config/rbac/v3/rbac_pb.js";
import { all, always, any, never, not, ofConnection, ofRequest } from "./condition.ts";
import { Rules } from "./rules.ts";
import type { Subject } from "./subject.ts";

/** A connection to `port`, and requests on it. */
function connectionTo(port: number): (path: string) => Subject {
  const connection = { localPort: port, info: { requestedServerName: "" } };
  return (path) => ({ connection, info: { path, requestHeaders: [] }, route: null }) as unknown as Subject;
}

const rules = (message: JsonValue) => new Rules(fromJson(RBACSchema, message));
const path = (exact: string) => ({ url_path: { path: { exact } } });
const anyone = [{ any: true }];
const policies = (permissions: Record<string, JsonValue[]>) =>
  Object.fromEntries(Object.entries(permissions).map(([name, rules]) => [name, { permissions: rules, principals: anyone }]));

describe("Rules", () => {
  const at = connectionTo(80);

  it("name the first policy by name that matches, byte for byte", () => {
    const set = rules({ policies: policies({ b: anyone, é: anyone, Z: [path("/z")] }) });
    expect(set.match(at("/z"))).toBe("Z");
    expect(set.match(at("/"))).toBe("b");
    expect(rules({ policies: policies({ "\u{1f600}": anyone, "\uffee": anyone }) }).match(at("/"))).toBe("\uffee");
  });

  it.each([
    ["ALLOW", true, false],
    ["DENY", false, true],
    ["LOG", true, true],
  ])("%s: a match allows (%s), none allows (%s)", (action, match, none) => {
    const set = rules({ action, policies: policies({ p: [path("/a")] }) });
    expect(set.allows(set.match(at("/a")))).toBe(match);
    expect(set.allows(set.match(at("/b")))).toBe(none);
  });

  it("decide a connection's later requests as its first", () => {
    const set = rules({
      policies: policies({
        both: [{ and_rules: { rules: [{ destination_port: 80 }, path("/a")] } }],
        either: [{ destination_port: 81 }, path("/b")],
        neither: [{ not_rule: { or_rules: { rules: [{ destination_port: 80 }, path("/c")] } } }],
      }),
    });
    for (const port of [80, 81, 82]) {
      const requests = ["/a", "/b", "/c", "/a", "/d"].map(connectionTo(port));
      expect(requests.map((request) => set.matchRequest(request))).toEqual(requests.map((request) => set.match(request)));
    }
    expect(["/a", "/b", "/c"].map(connectionTo(80)).map((request) => set.matchRequest(request))).toEqual(["both", "either", null]);
    expect(["/a", "/b", "/c"].map(connectionTo(82)).map((request) => set.matchRequest(request))).toEqual(["neither", "either", null]);
  });

  it("ask a connection's part once", () => {
    let asked = 0;
    const ofPort = ofConnection(({ connection }) => {
      asked++;
      return connection.localPort === 80;
    });
    const condition = all([any([ofPort, ofRequest(({ info }) => info.path === "/x")]), ofRequest(({ info }) => info.path !== "/b")]);
    const left = condition.resolve(at("/a"));
    expect([left.test(at("/a")), left.test(at("/b"))]).toEqual([true, false]);
    expect(asked).toBe(1);
    expect(all([not(ofPort), ofRequest(() => true)]).resolve(at("/a"))).toBe(never);
  });
});

describe("conditions", () => {
  it("lose what is constant", () => {
    const request = ofRequest(() => true);
    expect([all([]), any([]), all([always, request]), any([never, request]), all([never, request]), any([always, request])]).toEqual([
      always,
      never,
      request,
      request,
      never,
      always,
    ]);
    expect([not(always), not(never)]).toEqual([never, always]);
  });

  it("know who decides them", () => {
    const [request, connection] = [ofRequest(() => true), ofConnection(() => true)];
    const both = all([request, connection]);
    expect([all([request, request]), any([connection, connection]), both, not(both), any([both, both])].map(({ scope }) => scope)).toEqual([
      "request",
      "connection",
      "mixed",
      "mixed",
      "mixed",
    ]);
  });
});
