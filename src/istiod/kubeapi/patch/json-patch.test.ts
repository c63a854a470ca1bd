import { describe, expect, it } from "vitest";
import { jsonPatch } from "./json-patch.ts";

const object = { spec: { replicas: 1, list: ["a", "b"], "a/b": { "~": 1 } } };

describe("jsonPatch", () => {
  it.each<[string, unknown[], unknown]>([
    ["adds a field", [{ op: "add", path: "/spec/x", value: 1 }], { ...object.spec, x: 1 }],
    ["adds into a list", [{ op: "add", path: "/spec/list/1", value: "x" }], { ...object.spec, list: ["a", "x", "b"] }],
    ["adds to the end of a list", [{ op: "add", path: "/spec/list/-", value: "x" }], { ...object.spec, list: ["a", "b", "x"] }],
    ["removes", [{ op: "remove", path: "/spec/list/0" }], { ...object.spec, list: ["b"] }],
    ["replaces", [{ op: "replace", path: "/spec/replicas", value: 3 }], { ...object.spec, replicas: 3 }],
    ["escapes names", [{ op: "replace", path: "/spec/a~1b/~0", value: 2 }], { ...object.spec, "a/b": { "~": 2 } }],
    ["moves", [{ op: "move", from: "/spec/replicas", path: "/spec/r" }], { list: ["a", "b"], "a/b": { "~": 1 }, r: 1 }],
    ["copies", [{ op: "copy", from: "/spec/list/0", path: "/spec/first" }], { ...object.spec, first: "a" }],
    ["tests", [{ op: "test", path: "/spec/list", value: ["a", "b"] }], object.spec],
  ])("%s", (_, patch, spec) => {
    const before = structuredClone(object);
    expect(jsonPatch(object, patch)).toEqual({ spec });
    expect(object).toEqual(before);
  });

  it.each<[string, unknown, number, string]>([
    ["no list", {}, 400, "is a list of operations"],
    ["an operation without path", [{ op: "add", value: 1 }], 400, 'needs "op" and "path"'],
    ["an unknown operation", [{ op: "swap", path: "/a" }], 400, 'unknown op "swap"'],
    ["a value that is missing", [{ op: "add", path: "/a" }], 400, 'needs "value"'],
    ["a source that is missing", [{ op: "move", path: "/a" }], 400, 'needs "from"'],
    ["what is no pointer", [{ op: "add", path: "a", value: 1 }], 400, "not a JSON pointer"],
    ["a test that fails", [{ op: "test", path: "/spec/replicas", value: 2 }], 422, "test failed"],
    ["a field that is not there", [{ op: "replace", path: "/spec/none", value: 2 }], 422, "does not exist"],
    ["a parent that is not there", [{ op: "add", path: "/none/x", value: 2 }], 422, "does not exist"],
    ["a place behind a list's end", [{ op: "add", path: "/spec/list/3", value: 2 }], 422, "no such place"],
    ["an index with a zero in front", [{ op: "add", path: "/spec/list/01", value: 2 }], 422, "no such place"],
    ["a move into itself", [{ op: "move", from: "/spec", path: "/spec/x" }], 422, "into itself"],
    ["a field of Object's own", [{ op: "remove", path: "/spec/constructor" }], 422, "does not exist"],
    ["a prototype", [{ op: "add", path: "/spec/__proto__", value: { x: 1 } }], 400, "__proto__"],
    ["too many operations", Array(10_001).fill({ op: "test", path: "", value: 1 }), 400, "at most 10000"],
  ])("refuses %s", (_, patch, code, message) => {
    expect(() => jsonPatch(object, patch)).toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) }));
  });

  it("does not let copies of copies grow without end", () => {
    const doubling = Array.from({ length: 100 }, () => ({ op: "copy", from: "/a", path: "/a/-" }));
    expect(() => jsonPatch({ a: ["0123456789"] }, doubling)).toThrow("copies at most");
  });
});
