import { expect, it } from "vitest";
import { isWildcard, wildcardAddresses } from "./wildcard-address.ts";

it.each([
  [["10.0.0.1"], true, ["0.0.0.0"]],
  [["10.0.0.1", "fd00::1"], true, ["0.0.0.0", "::"]],
  [["fd00::1", "10.0.0.1"], true, ["0.0.0.0", "::"]],
  [["10.0.0.1", "fd00::1"], false, ["0.0.0.0"]],
  [["fd00::1", "2001:db8::1"], false, ["::"]],
  [[], true, ["0.0.0.0"]],
])("are where others come to: %j, both families %j", (addresses, isDualStack, expected) => {
  expect(wildcardAddresses(addresses, isDualStack)).toEqual(expected);
});

it("are told from addresses that somebody can be called by", () => {
  expect(["0.0.0.0", "::", "", "127.0.0.1", "::1", "10.0.0.0", "localhost"].filter(isWildcard)).toEqual(["0.0.0.0", "::"]);
});
