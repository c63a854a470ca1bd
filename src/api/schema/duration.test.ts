import { describe, expect, it } from "vitest";
import { formatDuration, parseDurationMs } from "./duration.ts";

describe("parseDurationMs", () => {
  it.each([
    ["0s", 0],
    ["0", 0],
    ["1.5s", 1500],
    ["500ms", 500],
    ["1h30m", 5_400_000],
    ["1h0m0.5s", 3_600_500],
    ["100us", 0.1],
    ["1ns", 1e-6],
    ["-2s", -2000],
    [".5s", 500],
    ["0.000000001s", 1e-6],
    ["86400s", 86_400_000],
  ])("reads %s", (text, ms) => expect(parseDurationMs(text)).toBe(ms));

  it.each(["", "1", "s", "1 s", "1d", "1.5.5s", "1s1", "١s", "1e3s", "99999999999999999s", `${"1".repeat(100)}s`])(
    "doesn't read %j",
    (text) => expect(parseDurationMs(text)).toBeUndefined(),
  );

  it("is undone by formatDuration", () => {
    for (const ms of [0, 1, 1500, 3_600_000, 0.001]) expect(parseDurationMs(formatDuration(ms))).toBe(ms);
  });
});
