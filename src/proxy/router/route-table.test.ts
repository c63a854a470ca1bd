import { create, fromJson, type JsonObject } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import { AccessLogSinks } from "../accesslog/sinks.ts";
import type { CompileContext } from "../compile-context.ts";
import { RequestInfo } from "../http/request-info.ts";
import { SharedCells } from "../shared-cells.ts";
import { StatsStore } from "../stats/store.ts";
import type { ConnectionInfo, StreamInfo } from "../stream-info.ts";
import { Telemetry } from "../telemetry/telemetry.ts";
import { SecretStore } from "../tls/secret.ts";
import { makeSharedSessions, TlsSessions } from "../tls/tls-sessions.ts";
import { compileRouteConfiguration } from "./route-table.ts";

const stats = new StatsStore();
const context: CompileContext = {
  stats,
  accessLog: { sinks: new AccessLogSinks({ flushIntervalMs: 1000 }) },
  clusters: new Map(),
  routes: new Map(),
  secrets: new SecretStore(),
  tlsSessions: new TlsSessions(makeSharedSessions()),
  nodeId: "",
  nodeCluster: "",
  telemetry: new Telemetry(undefined, stats),
  warn() {},
  cells: new SharedCells(null),
  compilePerFilterConfig: () => new Map(),
};

const connection = { remoteAddress: "127.0.0.1:1", tls: null } as ConnectionInfo;

function request(authority: string, path: string, headers: string[] = [], method = "GET"): StreamInfo {
  const info = new RequestInfo(connection);
  info.authority = authority;
  info.path = path;
  info.method = method;
  info.scheme = "http";
  info.requestHeaders = headers;
  return info;
}

function compile(json: JsonObject) {
  return compileRouteConfiguration(fromJson(RouteConfigurationSchema, { name: "R1", ...json }), context);
}

const to = (cluster: string) => ({ cluster });

describe("RouteTable", () => {
  const host = (name: string, domains: string[]) => ({ name, domains, routes: [{ name, match: { prefix: "/" }, route: to(name) }] });
  const table = compile({
    virtualHosts: [
      host("exact", ["foo.com", "foo.com:80"]),
      host("long suffix", ["*.a.ex.com"]),
      host("suffix", ["*.ex.com", "*-b.ex.com"]),
      host("prefix", ["pre.*"]),
      host("any", ["*"]),
    ],
  });

  it.each([
    ["foo.com", "exact"],
    ["FOO.com", "exact"],
    ["foo.com:80", "exact"],
    ["foo.com:81", "any"],
    ["x.a.ex.com", "long suffix"],
    ["x.ex.com", "suffix"],
    ["x-b.ex.com", "suffix"],
    ["ex.com", "any"],
    [".ex.com", "any"],
    ["pre.x", "prefix"],
    ["pre.", "any"],
  ])("takes %s to virtual host %s", (authority, name) => {
    expect(table.route(request(authority, "/"))?.name).toBe(name);
  });

  it("can ignore the port", () => {
    const ignoring = compile({ ignorePortInHostMatching: true, virtualHosts: [host("h", ["foo.com"])] });
    expect(ignoring.route(request("foo.com:99", "/"))?.name).toBe("h");
    expect(ignoring.route(request("bar.com", "/"))).toBeNull();
  });

  it("refuses what Envoy refuses, in its words", () => {
    expect(() => compile({ virtualHosts: [host("a", ["*"]), host("b", ["*"])] })).toThrow(
      "Only a single wildcard domain is permitted in route R1",
    );
    expect(() => compile({ virtualHosts: [host("a", ["x"]), host("b", ["x"])] })).toThrow("Duplicate entry of domain x");
    expect(() =>
      compile({ virtualHosts: [{ name: "a", domains: ["*"], routes: [{ match: { safeRegex: { regex: "(" } }, route: to("c") }] }] }),
    ).toThrow("Invalid regex");
  });

  it("finds the same route by index as by walking the list", () => {
    const letters = ["a", "ab", "abc", "b", "ba", "bb/c", ""];
    const matches: JsonObject[] = [];
    for (let i = 0; i < 200; i++) {
      const text = `/${letters[i % 7]!}${letters[(i * 3) % 5]!}`;
      const kind = ["prefix", "path", "safeRegex", "prefix"][i % 4]!;
      matches.push(
        kind === "safeRegex"
          ? { safeRegex: { regex: `${text}[a-c]?` } }
          : { [kind]: text, headers: i % 9 === 0 ? [{ name: "x", presentMatch: true }] : [] },
      );
    }
    // From the most to the least specific, so that many of them can win.
    matches.sort((a, b) => JSON.stringify(b).length - JSON.stringify(a).length);
    const routes = matches.map((match, index) => ({ name: `r${index}`, match, route: to("c") }));
    const indexed = compile({ virtualHosts: [{ name: "v", domains: ["*"], routes }] });
    const list = indexed.virtualHost("h")!.routes.list;
    for (const first of letters) {
      for (const second of [...letters, "c", "zz"]) {
        for (const headers of [[], ["x", "1"]]) {
          const info = request("h", `/${first}${second}?q=1`, headers);
          const walked = list.find((route) => route.matches(`/${first}${second}`, info)) ?? null;
          expect(indexed.route(info)).toBe(walked);
        }
      }
    }
  });

  it("ANDs the conditions of a match", () => {
    const match = {
      prefix: "/p",
      headers: [
        { name: "x-a", stringMatch: { exact: "1" } },
        { name: "x-n", rangeMatch: { start: "5", end: "10" } },
      ],
      queryParameters: [{ name: "q", stringMatch: { prefix: "v" } }],
    };
    const only = compile({ virtualHosts: [{ name: "v", domains: ["*"], routes: [{ name: "m", match, route: to("c") }] }] });
    const good = ["x-a", "0", "x-a", "1", "x-n", "9"];
    expect(only.route(request("h", "/p?q=v1", good))?.name).toBe("m");
    expect(only.route(request("h", "/p?q=w&q=v", good))).toBeNull();
    expect(only.route(request("h", "/p?q=v", ["x-a", "1", "x-n", "10"]))).toBeNull();
    expect(only.route(request("h", "/p?q=v", ["x-n", "9"]))).toBeNull();
  });

  it("builds redirects", () => {
    const redirect = (action: JsonObject, authority: string, path: string) => {
      const made = compile({ virtualHosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/old" }, redirect: action }] }] });
      const info = request(authority, path);
      const found = made.route(info)?.action;
      return found?.kind === "redirect" ? `${found.status} ${found.location(info)}` : "none";
    };
    expect(redirect({ httpsRedirect: true }, "h:80", "/old?x")).toBe("301 https://h/old?x");
    expect(redirect({ httpsRedirect: true }, "h:8080", "/old")).toBe("301 https://h:8080/old");
    expect(redirect({ portRedirect: 81, prefixRewrite: "/new", stripQuery: true, responseCode: "FOUND" }, "h", "/old/a?x")).toBe(
      "302 http://h:81/new/a",
    );
    expect(redirect({ hostRedirect: "n", pathRedirect: "/p?z" }, "h:80", "/old?x")).toBe("301 http://n/p?z");
  });

  it("rewrites a prefix, a whole path, or what a regular expression finds", () => {
    const rewrite = (match: JsonObject, action: JsonObject, path: string) => {
      const made = compile({ virtualHosts: [{ name: "v", domains: ["*"], routes: [{ match, route: { cluster: "c", ...action } }] }] });
      const found = made.route(request("h", path))?.action;
      return found?.kind === "forward" ? (found.rewritePath?.(path) ?? path) : "none";
    };
    expect(rewrite({ prefix: "/w" }, { prefixRewrite: "/" }, "/w/abc?q")).toBe("//abc?q");
    expect(rewrite({ path: "/w" }, { prefixRewrite: "/whole" }, "/w?q")).toBe("/whole?q");
    const regexRewrite = { pattern: { regex: "/([0-9])" }, substitution: "/n\\1-" };
    expect(rewrite({ prefix: "/" }, { regexRewrite }, "/1/2?/3")).toBe("/n1-/n2-?/3");
  });

  it("is empty for an empty configuration", () => {
    expect(compileRouteConfiguration(create(RouteConfigurationSchema), context).route(request("h", "/"))).toBeNull();
  });
});
