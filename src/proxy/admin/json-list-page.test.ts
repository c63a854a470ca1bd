import { describe, expect, it } from "vitest";
import { jsonText } from "../../api/envoy/write-json.ts";
import { jsonListPage } from "./json-list-page.ts";

describe("jsonListPage", () => {
  it.each([[[{ a: "line\nbreak", b: [1, { c: {} }], d: [] }, {}, [], "x", [[]]]], [[{ only: true }]]])(
    "writes %j as one text would be",
    (items) => {
      expect([...jsonListPage('na"me', items)].join("")).toBe(jsonText({ 'na"me': items }));
    },
  );

  it("leaves an empty list out", () => {
    expect([...jsonListPage("name", [])].join("")).toBe(jsonText({}));
  });
});
