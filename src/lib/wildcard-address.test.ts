import { expect, it } from "vitest";
import { wildcardAddress } from "./wildcard-address.ts";

it.each([
  [["10.0.0.1"], "0.0.0.0"],
  [["10.0.0.1", "fd00::1"], "0.0.0.0"],
  [["fd00::1", "2001:db8::1"], "::"],
  [[], "0.0.0.0"],
])("is where others come to: %j", (addresses, expected) => {
  expect(wildcardAddress(addresses)).toBe(expected);
});
