import { describe, expect, it } from "vitest";
import { normalizePath, type PathOptions } from "./path-normalization.ts";

const all: PathOptions = { normalizes: true, mergesSlashes: true, escapedSlashes: "unescapeAndForward" };

describe("normalizePath", () => {
  it.each([
    ["/a/../b", "/b"],
    ["/a/%2e%2E/b", "/b"],
    ["/a//b", "/a/b"],
    ["/a\\b", "/a/b"],
    ["/a%2fb", "/a/b"],
    ["/%61b", "/ab"],
    ["/%7euser", "/~user"],
    ["/a%20b", "/a%20b"],
    ["/a%2", "/a%2"],
    ["/../../x", "/x"],
    ["/a/b/..", "/a/"],
    ["/a/.", "/a/"],
    ["/a?x=/../y//%2f", "/a?x=/../y//%2f"],
  ])("turns %s into %s", (written, path) => {
    expect(normalizePath(written, all)).toEqual({ kind: "path", path });
  });

  it("refuses a fragment and an escaped NUL", () => {
    expect(normalizePath("/a#b", all).kind).toBe("reject");
    expect(normalizePath("/%00", all).kind).toBe("reject");
  });

  it("redirects to or refuses escaped slashes when told to", () => {
    expect(normalizePath("/a%2fb?c", { ...all, escapedSlashes: "unescapeAndRedirect" })).toEqual({ kind: "redirect", path: "/a/b?c" });
    expect(normalizePath("/a%5cb", { ...all, escapedSlashes: "reject" }).kind).toBe("reject");
    expect(normalizePath("/a%2fb", { ...all, escapedSlashes: "keep" })).toEqual({ kind: "path", path: "/a%2fb" });
  });
});
