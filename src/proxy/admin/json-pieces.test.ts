import type { JsonValue } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { jsonText } from "../../api/envoy/write-json.ts";
import { jsonPieces, type LazyJson, LazyList, LazyObject } from "./json-pieces.ts";

const written = (json: LazyJson) => [...jsonPieces(json)].join("");

describe("jsonPieces", () => {
  const json: JsonValue = {
    'na"me': ["line\nbreak", { b: [1, { c: {} }], d: [] }, {}, [], [[]], null, 1.5, true],
    empty: {},
    none: [],
  };

  it("write what one text would be, at any depth", () => {
    expect(written(json)).toBe(jsonText(json));
    expect(written(new LazyObject(json))).toBe(jsonText(json));
    const nested = new LazyObject({ 'a"': new LazyList([json, new LazyObject({ b: new LazyObject(json) }), [], new LazyList([1])]) });
    expect(written(nested)).toBe(jsonText({ 'a"': [json, { b: json }, [], [1]] }));
    expect(written(new LazyObject({}))).toBe(jsonText({}));
  });

  it("make a list's items one by one while they are written", () => {
    const made: number[] = [];
    function* items() {
      for (let item = 1; item <= 3; item++) {
        made.push(item);
        yield { item, more: [item] };
      }
    }
    const pieces = jsonPieces(new LazyObject({ before: 1, some: new LazyList(items()) }));
    let text = "";
    while (!text.includes('"item": 1')) text += pieces.next().value;
    expect(made).toEqual([1]);
    text += [...pieces].join("");
    expect(text).toBe(jsonText({ before: 1, some: [1, 2, 3].map((item) => ({ item, more: [item] })) }));
  });

  it("leave out the field of an empty list", () => {
    expect(written(new LazyObject({ none: new LazyList([]), a: 1, last: new LazyList([]) }))).toBe(jsonText({ a: 1 }));
    expect(written(new LazyObject({ only: new LazyList([]) }))).toBe(jsonText({}));
  });
});
