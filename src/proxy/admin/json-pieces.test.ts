import type { JsonValue } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { jsonText } from "../../api/envoy/write-json.ts";
import { jsonPieces, type LazyJson, LazyList } from "./json-pieces.ts";

const written = (json: LazyJson, levels = 3) => [...jsonPieces(json, levels)].join("");

describe("jsonPieces", () => {
  it.each([0, 1, 2, 3, 9])("write what one text would be, looking %i deep", (levels) => {
    const json: JsonValue = {
      'na"me': ["line\nbreak", { b: [1, { c: {} }], d: [] }, {}, [], [[]], null, 1.5, true],
      empty: {},
      none: [],
      nested: { a: { b: { c: [{ d: 1 }] } } },
    };
    expect(written(json, levels)).toBe(jsonText(json));
    expect(written([], levels)).toBe(jsonText([]));
    expect(written("x", levels)).toBe(jsonText("x"));
  });

  it("make a list's items one by one while they are written, and leave out the field of an empty one", () => {
    const made: number[] = [];
    function* items() {
      for (let item = 1; item <= 3; item++) {
        made.push(item);
        yield { item, more: [item] };
      }
    }
    const pieces = jsonPieces({ before: 1, none: new LazyList([]), dumps: [{ "@type": "t", some: new LazyList(items()) }] }, 3);
    let text = "";
    while (!text.includes('"item": 1')) text += pieces.next().value;
    expect(made).toEqual([1]);
    text += [...pieces].join("");
    expect(text).toBe(jsonText({ before: 1, dumps: [{ "@type": "t", some: [1, 2, 3].map((item) => ({ item, more: [item] })) }] }));
    expect(written({ only: new LazyList([]) })).toBe(jsonText({}));
  });
});
