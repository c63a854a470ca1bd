import { describe, expect, it } from "vitest";
import { claimText, withSplitClaims } from "./claims.ts";
import { structJson } from "./struct-json.ts";

describe("claimText", () => {
  it.each([
    ["text", "text"],
    ["", ""],
    ["€", "\xe2\x82\xac"],
    [true, "true"],
    [false, "false"],
    [null, ""],
    [undefined, ""],
    [0, "0"],
    [-0, "0"],
    [5, "5"],
    [-5, "-5.000000"],
    [1.5, "1.500000"],
    [1e-9, "0.000000"],
    [0.0078125, "0.007812"],
    [0.0234375, "0.023438"],
    [2 ** 63, "9223372036854775808"],
    [2 ** 64, "18446744073709551616.000000"],
    [1e30, "1000000000000000019884624838656.000000"],
    [[1, "x"], Buffer.from('[1,"x"]').toString("base64")],
    [{}, Buffer.from("{}").toString("base64")],
  ])("makes %j %j", (claim, text) => expect(claimText(claim)).toBe(text));
});

describe("structJson", () => {
  it.each([
    [1e15, "1e+15"],
    [2 ** 57, "1.4411518807585587e+17"],
    [2 ** 53, "9007199254740992"],
    [0.00001, "1e-05"],
    [0.0001, "0.0001"],
    [-0, "-0"],
    [100000, "100000"],
    [5e-324, "4.94065645841247e-324"],
    [1.7976931348623157e308, "1.7976931348623157e+308"],
    [0.1 + 0.2, "0.30000000000000004"],
    ["</script>\u2028\u{e0001}", '"\\u003c/script\\u003e\\u2028\\udb40\\udc01"'],
  ])("writes %j as %s", (value, text) => {
    expect(structJson(value)).toBe(text);
    expect(JSON.parse(text)).toBe(value);
  });
});

describe("withSplitClaims", () => {
  it("makes lists of words, and leaves what is no text", () => {
    const payload = { scope: " a  b ", list: ["x y"], n: 1 };
    expect(withSplitClaims(payload, ["scope", "list", "n", "none", "toString"])).toEqual({ scope: ["a", "b"], list: ["x y"], n: 1 });
    expect(payload.scope).toBe(" a  b ");
  });
});
