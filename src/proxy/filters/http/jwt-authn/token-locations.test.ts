import { describe, expect, it } from "vitest";
import { RequestInfo } from "../../../http/request-info.ts";
import type { ConnectionInfo } from "../../../stream-info.ts";
import { compileTokenLocations, findTokens, removeToken } from "./token-locations.ts";

const provider = (issuer: string, parts: { headers?: [string, string][]; params?: string[]; cookies?: string[] } = {}) => ({
  issuer,
  fromHeaders: (parts.headers ?? []).map(([name, valuePrefix]) => ({ name, valuePrefix })) as never,
  fromParams: parts.params ?? [],
  fromCookies: parts.cookies ?? [],
});

function request(path: string, headers: string[] = []): RequestInfo {
  const info = new RequestInfo({} as ConnectionInfo);
  info.path = path;
  info.requestHeaders = headers;
  return info;
}

describe("findTokens", () => {
  it("looks where providers say, headers first", () => {
    const locations = compileTokenLocations([
      provider("a", {
        cookies: ["c"],
        params: ["p"],
        headers: [
          ["X-B", ""],
          ["x-a", "T "],
        ],
      }),
    ]);
    const info = request("/?p=1", ["cookie", "c=2", "x-b", "3", "x-a", "T 4"]);
    expect(findTokens(locations, info).map(({ token }) => token)).toEqual(["4", "3", "1", "2"]);
  });

  it("knows whose tokens a place may hold", () => {
    const place = { headers: [["x", ""]] as [string, string][] };
    const issuersOf = (...issuers: string[]) => compileTokenLocations(issuers.map((issuer) => provider(issuer, place))).headers[0]!.issuers;
    expect(issuersOf("a", "b")).toEqual(new Set(["a", "b"]));
    expect(issuersOf("a", "", "b")).toBeNull();
  });

  it("keeps places apart whose names and prefixes only join to the same", () => {
    const locations = compileTokenLocations([
      provider("a", {
        headers: [
          ["xa", "b"],
          ["x", "ab"],
        ],
      }),
    ]);
    expect(locations.headers).toHaveLength(2);
  });

  it("does not undo what is no escape", () => {
    const locations = compileTokenLocations([provider("a", { params: ["p%"] })]);
    expect(findTokens(locations, request("/?p%=%zz%4")).map(({ token }) => token)).toEqual(["%zz%4"]);
  });
});

describe("removeToken", () => {
  const [place] = compileTokenLocations([provider("a", { params: ["t"] })]).parameters;

  it.each([
    ["/?t=1", "/"],
    ["/?t=1&t=2", "/"],
    ["/?a=%2F&t=1&b", "/?a=%2F&b"],
    ["/?%74=1&tt=2", "/?tt=2"],
    ["/x?t", "/x"],
    ["/?&t=1", "/?"],
    ["/t=1", "/t=1"],
  ])("makes %s %s", (before, after) => {
    const info = request(before);
    removeToken(place!, info);
    expect(info.path).toBe(after);
  });
});
