import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { PathMatcherSchema } from "../../api/gen/envoy/type/matcher/v3/path_pb.js";
import { StringMatcherSchema } from "../../api/gen/envoy/type/matcher/v3/string_pb.js";
import { compilePathMatchers } from "./path-matcher.ts";
import { compileStringMatchers } from "./string-matcher.ts";

describe("compileStringMatchers", () => {
  const compile = (...matchers: JsonValue[]) => compileStringMatchers(matchers.map((matcher) => fromJson(StringMatcherSchema, matcher)));

  it("takes what one of them takes", () => {
    const test = compile({ exact: "a" }, { exact: "b" }, { exact: "C", ignore_case: true }, { prefix: "d" });
    expect(["a", "b", "c", "dd"].map(test)).toEqual([true, true, true, true]);
    expect(["A", "ab", "cc", "xd", ""].map(test)).toEqual([false, false, false, false, false]);
  });

  it("takes nothing where there are none", () => expect(compile()("")).toBe(false));
});

describe("compilePathMatchers", () => {
  const compile = (...paths: JsonValue[]) => compilePathMatchers(paths.map((path) => fromJson(PathMatcherSchema, { path })));

  it("looks at the path without query and fragment", () => {
    const test = compile({ exact: "/a" }, { suffix: ".js" });
    expect(["/a", "/a?b", "/a#b", "/a?b#c", "/x.js?y"].map(test)).toEqual([true, true, true, true, true]);
    expect(["/a/", "/?/a", "/x?y.js"].map(test)).toEqual([false, false, false]);
  });
});
