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
    subject.add(["a"], "configuration");
    await vi.advanceTimersByTimeAsync(90);
    subject.add(["b"], "configuration");
    await vi.advanceTimersByTimeAsync(90);
    expect(seen).toEqual([]);
    await vi.advanceTimersByTimeAsync(10);
    expect(seen).toEqual([["a", "b"]]);
  });

  it("does not wait longer than the maximum for a pause", async () => {
    const seen: number[] = [];
    using subject = debouncer(async (events) => void seen.push(events.length));
    for (let round = 0; round < 20; round++) {
      subject.add(["x"], "configuration");
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
    subject.add(["a"], "configuration");
    await vi.advanceTimersByTimeAsync(100);
    subject.add(["b"], "configuration");
    await vi.advanceTimersByTimeAsync(500);
    expect(seen).toEqual([["a"]]);
    work.resolve();
    await vi.advanceTimersByTimeAsync(100);
    expect(seen).toEqual([["a"], ["b"]]);
  });

  it("says nothing any more once it is disposed", async () => {
    const seen: unknown[] = [];
    const subject = debouncer(async (events) => void seen.push(events));
    subject.add(["a"], "configuration");
    subject[Symbol.dispose]();
    await vi.advanceTimersByTimeAsync(5000);
    expect(seen).toEqual([]);
  });

  describe("with endpoints", () => {
    it("hands them over soon, and all that came in that time", async () => {
      const seen: (readonly string[])[] = [];
      using subject = debouncer(async (events) => void seen.push(events));
      subject.add(["a"], "endpoints");
      await vi.advanceTimersByTimeAsync(6);
      subject.add(["b"], "endpoints");
      await vi.advanceTimersByTimeAsync(4);
      expect(seen).toEqual([["a", "b"]]);
    });

    it("lets pushes take no more than an eighth of the time, and nobody wait for a pause that never comes", async () => {
      let pushes = 0;
      using subject = debouncer(async () => {
        pushes++;
        await new Promise((resolve) => setTimeout(resolve, 50));
      });
      for (let at = 0; at < 2000; at += 10) {
        subject.add(["x"], "endpoints");
        await vi.advanceTimersByTimeAsync(10);
      }
      expect(pushes).toBe(5);
    });

    it.each(["endpoints", "configuration"] as const)(
      "does not make them wait long, however long the push before took: %s",
      async (urgency) => {
        const seen: number[] = [];
        const onQuiet = async () => {
          seen.push(Date.now());
          await new Promise((resolve) => setTimeout(resolve, 900));
        };
        using subject = new Debouncer<string>({ quietMs: 100, maxMs: 10_000, onQuiet, now: () => Date.now() });
        subject.add(["a"], urgency);
        await vi.advanceTimersByTimeAsync(1000);
        const since = Date.now();
        subject.add(["b"], "endpoints");
        await vi.advanceTimersByTimeAsync(5000);
        // After endpoints a second from the end of their push, which was 90 ms ago.
        expect(seen[1]! - since).toBe(urgency === "endpoints" ? 910 : 10);
      },
    );

    it("waits with them for configuration that is pending, whose pause they don't put off", async () => {
      const seen: (readonly string[])[] = [];
      using subject = debouncer(async (events) => void seen.push(events));
      subject.add(["config"], "configuration");
      for (let round = 0; round < 9; round++) {
        await vi.advanceTimersByTimeAsync(11);
        subject.add([String(round)], "endpoints");
      }
      expect(seen).toEqual([]);
      await vi.advanceTimersByTimeAsync(1);
      expect(seen[0]).toHaveLength(10);
    });
  });
});
