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
});
