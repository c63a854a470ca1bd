import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Debouncer } from "./debounce.ts";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

function debouncer(onQuiet: (events: readonly string[]) => Promise<void>) {
  return new Debouncer<string>({ quietMs: 100, maxMs: 1000, onQuiet, now: () => Date.now() });
}

describe("Debouncer", () => {
  it("hands over all events once they have paused", async () => {
    const seen: (readonly string[])[] = [];
    using subject = debouncer(async (events) => void seen.push(events));
    subject.add(["a"]);
    await vi.advanceTimersByTimeAsync(90);
    subject.add(["b"]);
    await vi.advanceTimersByTimeAsync(90);
    expect(seen).toEqual([]);
    await vi.advanceTimersByTimeAsync(10);
    expect(seen).toEqual([["a", "b"]]);
  });

  it("does not wait longer than the maximum for a pause", async () => {
    const seen: number[] = [];
    using subject = debouncer(async (events) => void seen.push(events.length));
    for (let round = 0; round < 20; round++) {
      subject.add(["x"]);
      await vi.advanceTimersByTimeAsync(60);
    }
    expect(seen.length).toBe(1);
    expect(seen[0]).toBe(17);
  });

  it("gathers for the next time what comes while the last is being worked on", async () => {
    const seen: (readonly string[])[] = [];
    const work = Promise.withResolvers<void>();
    using subject = debouncer(async (events) => {
      seen.push(events);
      if (seen.length === 1) await work.promise;
    });
    subject.add(["a"]);
    await vi.advanceTimersByTimeAsync(100);
    subject.add(["b"]);
    await vi.advanceTimersByTimeAsync(500);
    expect(seen).toEqual([["a"]]);
    work.resolve();
    await vi.advanceTimersByTimeAsync(100);
    expect(seen).toEqual([["a"], ["b"]]);
  });

  it("says nothing any more once it is disposed", async () => {
    const seen: unknown[] = [];
    const subject = debouncer(async (events) => void seen.push(events));
    subject.add(["a"]);
    subject[Symbol.dispose]();
    await vi.advanceTimersByTimeAsync(5000);
    expect(seen).toEqual([]);
  });
});
