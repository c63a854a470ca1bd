import { clone, create, fromJson, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { RouteSchema } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import type { CompileContext } from "../compile-context.ts";
import type { StreamInfo } from "../stream-info.ts";
import { changeOfRoutes, decodeChanged } from "./encoded-routes.ts";
import { compileRouteConfiguration, recompileRoutes } from "./route-table.ts";

const context = { compilePerFilterConfig: () => new Map(), nodeCluster: "" } as unknown as CompileContext;

const route = (name: string, prefix = `/${name}/`): JsonObject => ({ name, match: { prefix }, route: { cluster: name } });

function configuration(): RouteConfiguration {
  const names = Array.from({ length: 20 }, (_, index) => `r${index}`);
  return fromJson(RouteConfigurationSchema, {
    name: "R",
    virtualHosts: [
      { name: "a", domains: ["a.test", "*.a.test"], routes: names.map((name) => route(name)) },
      { name: "b", domains: ["*"], routes: [route("only", "/")] },
    ],
  });
}

/** Compiled from before, and from nothing; which routes of before are used again. */
function changed(change: (config: RouteConfiguration) => void) {
  const before = configuration();
  const now = clone(RouteConfigurationSchema, before);
  change(now);
  const old = compileRouteConfiguration(before, context);
  const found = changeOfRoutes(toBinary(RouteConfigurationSchema, before), toBinary(RouteConfigurationSchema, now));
  if (found === undefined) return undefined;
  const table = recompileRoutes(found, old, context);
  const known = new Set(old.hosts.flatMap(({ routes }) => routes.list));
  const routes = table.hosts.flatMap((host) => host.routes.list);
  const asked = [...routes.map(({ pathCriterion }) => pathCriterion.text), "/none"];
  const answers = (of: typeof table) =>
    ["a.test", "x.a.test", "other"].flatMap((authority) =>
      asked.map((path) => of.route({ authority, path } as unknown as StreamInfo)?.name ?? null),
    );
  expect(answers(table)).toEqual(answers(compileRouteConfiguration(now, context)));
  return {
    new: routes.filter((one) => !known.has(one)).map(({ name }) => name),
    checked: decodeChanged(found).virtualHosts.map((host) => [host.name, ...host.routes.map(({ name }) => name)]),
  };
}

describe("changeOfRoutes", () => {
  it("finds nothing where nothing has changed", () => {
    expect(changed(() => {})).toEqual({ new: [], checked: [] });
  });

  it("finds routes that were changed in their places", () => {
    const change = (config: RouteConfiguration) => {
      for (const index of [3, 17]) config.virtualHosts[0]!.routes[index]!.name += "'";
    };
    expect(changed(change)).toEqual({ new: ["r3'", "r17'"], checked: [["a", "r3'", "r17'"]] });
  });

  it("finds routes that were put in, and misses those that were taken out", () => {
    const added = fromJson(RouteSchema, route("new"));
    expect(changed(({ virtualHosts }) => virtualHosts[0]!.routes.splice(5, 0, added))).toEqual({ new: ["new"], checked: [["a", "new"]] });
    expect(changed(({ virtualHosts }) => virtualHosts[0]!.routes.splice(5, 2))).toEqual({ new: [], checked: [] });
    expect(changed(({ virtualHosts }) => virtualHosts[0]!.routes.splice(5, 2, added))).toEqual({ new: ["new"], checked: [["a", "new"]] });
  });

  it("files a route anew whose path has changed", () => {
    const change = ({ virtualHosts }: RouteConfiguration) => {
      virtualHosts[0]!.routes[4] = fromJson(RouteSchema, route("r4", "/elsewhere/"));
    };
    expect(changed(change)).toEqual({ new: ["r4"], checked: [["a", "r4"]] });
  });

  it("takes a virtual host anew whose routes inherit something else", () => {
    const change = ({ virtualHosts }: RouteConfiguration) => {
      virtualHosts[1]!.includeRequestAttemptCount = true;
    };
    expect(changed(change)).toEqual({ new: ["only"], checked: [["b", "only"]] });
  });

  it("follows virtual hosts that come, go and change places", () => {
    expect(changed(({ virtualHosts }) => virtualHosts.reverse())).toEqual({ new: [], checked: [] });
    expect(changed(({ virtualHosts }) => virtualHosts.shift())).toEqual({ new: [], checked: [] });
    const host = fromJson(RouteConfigurationSchema, { virtualHosts: [{ name: "c", domains: ["c.test"], routes: [route("c")] }] });
    expect(changed(({ virtualHosts }) => virtualHosts.unshift(host.virtualHosts[0]!))).toEqual({ new: ["c"], checked: [["c", "c"]] });
  });

  it("leaves all of it to the compiler where something has changed that all inherit", () => {
    expect(changed((config) => config.requestHeadersToRemove.push("x"))).toBeUndefined();
  });

  it("refuses what is no message", () => {
    const bytes = toBinary(RouteConfigurationSchema, configuration());
    const cut = bytes.subarray(0, bytes.length - 3);
    expect(() => changeOfRoutes(bytes, cut)).toThrow("premature EOF");
    expect(() => changeOfRoutes(bytes, new Uint8Array([0x0b]))).toThrow("wire type 3");
    expect(changeOfRoutes(bytes, toBinary(RouteConfigurationSchema, create(RouteConfigurationSchema, { name: "R" })))?.hosts).toEqual([]);
  });
});
