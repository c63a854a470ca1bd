import { afterEach, describe, expect, it, vi } from "vitest";
import { Turns } from "./turns.ts";

describe("Turns", () => {
  afterEach(() => vi.restoreAllMocks());

  it("does a few milliseconds of work in order each time that the event loop comes around, and lets others go in between", async () => {
    const turns = new Turns(5);
    const seen: string[] = [];
    let now = 0;
    vi.spyOn(performance, "now").mockImplementation(() => now);
    const work = (name: string, ms: number) =>
      turns.add(() => {
        seen.push(name);
        now += ms;
      });
    work("a", 6);
    work("b", 0);
    work("c", 6);
    work("d", 0);
    for (let turn = 1; seen.length < 7; turn++) {
      await new Promise(setImmediate);
      seen.push(`other ${turn}`);
    }
    expect(seen).toEqual(["a", "other 1", "b", "c", "other 2", "d", "other 3"]);
  });

  it("takes more while it works", async () => {
    const turns = new Turns(5);
    const seen: number[] = [];
    await new Promise<void>((resolve) => {
      turns.add(() => {
        seen.push(1);
        turns.add(() => {
          seen.push(3);
          resolve();
        });
      });
      turns.add(() => seen.push(2));
    });
    expect(seen).toEqual([1, 2, 3]);
  });

  it("gives way to what is more urgent, but not for ever", async () => {
    let now = 0;
    vi.spyOn(performance, "now").mockImplementation(() => now);
    let isUrgent = true;
    const turns = new Turns(5, { while: () => isUrgent, maxMs: 2000 });
    const seen: string[] = [];
    const pass = () => new Promise((resolve) => setTimeout(resolve, 20));
    turns.add(() => seen.push("a"));
    await pass();
    now = 1999;
    turns.add(() => seen.push("b"));
    await pass();
    expect(seen).toEqual([]);
    now = 2000;
    await vi.waitFor(() => expect(seen).toEqual(["a", "b"]));
    turns.add(() => seen.push("c"));
    await pass();
    expect(seen).toEqual(["a", "b"]);
    isUrgent = false;
    await vi.waitFor(() => expect(seen).toEqual(["a", "b", "c"]));
  });
});
