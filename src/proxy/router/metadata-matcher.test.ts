import { create, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ConfigError } from "../../api/config-error.ts";
import { MetadataMatcherSchema } from "../../api/gen/envoy/type/matcher/v3/metadata_pb.js";
import { ValueMatcherSchema } from "../../api/gen/envoy/type/matcher/v3/value_pb.js";
import { compileMetadataMatcher, valueAt } from "./metadata-matcher.ts";
import { compileValueMatcher } from "./value-matcher.ts";

const values = {
  absent: undefined,
  null: null,
  one: 1,
  text: "one",
  yes: true,
  no: false,
  list: ["one", 2, ["x"]],
  empty: [],
  object: { a: 1 },
};

/** Names of the values that it matches. */
function matched(matcher: JsonValue): string[] {
  const test = compileValueMatcher(fromJson(ValueMatcherSchema, matcher));
  return Object.entries(values).flatMap(([name, value]) => (test(value) ? [name] : []));
}

describe("compileValueMatcher", () => {
  it.each([
    [{ null_match: {} }, ["null"]],
    [{ double_match: { exact: 1 } }, ["one"]],
    [{ double_match: { range: { start: 1, end: 2 } } }, ["one"]],
    [{ double_match: { range: { start: 0, end: 1 } } }, []],
    [{ string_match: { prefix: "on" } }, ["text"]],
    [{ bool_match: true }, ["yes"]],
    [{ bool_match: false }, ["no"]],
    [{ present_match: true }, ["null", "one", "text", "yes", "no", "list", "empty", "object"]],
    [{ present_match: false }, []],
    [{ list_match: { one_of: { string_match: { exact: "one" } } } }, ["list"]],
    [{ list_match: { one_of: { list_match: { one_of: { string_match: { exact: "x" } } } } } }, ["list"]],
    [{ list_match: { one_of: { present_match: true } } }, ["list"]],
    [{ or_match: { value_matchers: [{ string_match: { exact: "one" } }, { bool_match: false }] } }, ["text", "no"]],
  ] as [JsonValue, string[]][])("%j", (matcher, expected) => expect(matched(matcher)).toEqual(expected));

  it("refuses a matcher without a pattern", () => {
    expect(() => compileValueMatcher(create(ValueMatcherSchema))).toThrow(ConfigError);
    expect(() => matched({ list_match: {} })).toThrow(ConfigError);
    expect(() => matched({ double_match: {} })).toThrow(ConfigError);
  });
});

describe("compileMetadataMatcher", () => {
  const compile = (more: object) =>
    compileMetadataMatcher(
      fromJson(MetadataMatcherSchema, {
        filter: "ns",
        path: [{ key: "a" }, { key: "b" }],
        value: { string_match: { exact: "x" } },
        ...more,
      }),
    );

  it("follows its path through the namespace that it names", () => {
    const { namespace, test } = compile({});
    expect(namespace).toBe("ns");
    expect(test({ a: { b: "x" } })).toBe(true);
    expect([undefined, {}, { a: "x" }, { a: ["x"] }, { a: { b: "y" } }].map(test)).toEqual([false, false, false, false, false]);
  });

  it("inverted, matches what isn't there", () => {
    const { test } = compile({ invert: true });
    expect([{ a: { b: "x" } }, { a: { b: "y" } }, undefined].map(test)).toEqual([false, true, true]);
  });
});

describe("valueAt", () => {
  it("doesn't find what every object inherits", () => expect(valueAt({ a: {} }, ["a", "constructor"])).toBeUndefined());
});
