import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { ReleaseAfterBursts } from "./release-after-bursts.ts";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

it("releases once when much has been done and the bustle is over", () => {
  let [spent, released] = [0, 0];
  const release = () => void released++;
  using _ = new ReleaseAfterBursts({ spent: () => spent, release, everyMs: 1000, worth: 1600 });
  const seconds = (work: number) => {
    spent += work;
    vi.advanceTimersByTime(1000);
    return released;
  };
  expect(seconds(1000)).toBe(0);
  expect(seconds(1000)).toBe(0);
  expect(seconds(90)).toBe(1);
  expect(seconds(0)).toBe(1);
  // Little by little it comes to the same.
  for (let count = 0; count < 15; count++) expect(seconds(100)).toBe(1);
  expect(seconds(100)).toBe(2);
});
