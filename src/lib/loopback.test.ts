import { expect, it } from "vitest";
import { isLoopback } from "./loopback.ts";

it.each([
  ["127.0.0.1", true],
  ["127.8.9.1", true],
  ["::1", true],
  ["::ffff:127.0.0.1", true],
  ["10.0.0.127", false],
  ["::ffff:10.0.0.1", false],
  ["::", false],
  ["", false],
  [undefined, false],
])("%s", (address, expected) => expect(isLoopback(address)).toBe(expected));
