import { describe, expect, it } from "vitest";
import { RequestWindow } from "./request-window.ts";

describe("RequestWindow", () => {
  function at(...times: number[]): { window: RequestWindow; totalAt: (ms: number) => number } {
    let now = 0;
    const window = new RequestWindow(1000, () => now);
    for (const time of times) {
      now = time;
      window.count();
    }
    return {
      window,
      totalAt(ms) {
        now = ms;
        return window.total;
      },
    };
  }

  it("counts what began within the interval, and up to a tenth longer", () => {
    const { totalAt } = at(0, 50, 99, 100, 450);
    expect(totalAt(450)).toBe(5);
    expect(totalAt(1099)).toBe(5);
    expect(totalAt(1100)).toBe(2);
    expect(totalAt(1200)).toBe(1);
    expect(totalAt(1499)).toBe(1);
    expect(totalAt(1500)).toBe(0);
  });

  it("forgets all after a long time, and counts on", () => {
    const { window, totalAt } = at(0, 500, 900);
    expect(totalAt(1_000_000)).toBe(0);
    window.count();
    expect(totalAt(1_000_900)).toBe(1);
    expect(totalAt(1_001_100)).toBe(0);
  });
});
