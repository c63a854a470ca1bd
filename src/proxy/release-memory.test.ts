import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { releaseMemoryOf } from "./release-memory.ts";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

function work(cpuMs: number): void {
  const before = process.cpuUsage();
  for (;;) {
    const { user, system } = process.cpuUsage(before);
    if ((user + system) / 1000 > cpuMs) return;
  }
}

it("has the workers collect five quiet seconds after a second of work, once", () => {
  const shrinkWorkers = vi.fn();
  using _ = releaseMemoryOf({ live: new Promise(() => {}), shrinkWorkers });
  vi.advanceTimersByTime(60_000);
  expect(shrinkWorkers).not.toHaveBeenCalled();
  work(1100);
  vi.advanceTimersByTime(5000);
  expect(shrinkWorkers).not.toHaveBeenCalled();
  vi.advanceTimersByTime(5000);
  expect(shrinkWorkers).toHaveBeenCalledTimes(1);
  vi.advanceTimersByTime(60_000);
  expect(shrinkWorkers).toHaveBeenCalledTimes(1);
});

it("does nothing once it is disposed of", () => {
  const shrinkWorkers = vi.fn();
  releaseMemoryOf({ live: new Promise(() => {}), shrinkWorkers })[Symbol.dispose]();
  work(1100);
  vi.advanceTimersByTime(60_000);
  expect(shrinkWorkers).not.toHaveBeenCalled();
});
