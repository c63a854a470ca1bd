import { afterEach, describe, expect, it, vi } from "vitest";
import { Newcomers } from "./newcomers.ts";

describe("Newcomers", () => {
  afterEach(() => vi.restoreAllMocks());

  it("wait until they have been heard, but for no longer than who is only silent", () => {
    let now = 0;
    vi.spyOn(performance, "now").mockImplementation(() => now);
    const newcomers = new Newcomers();
    expect(newcomers.areWaiting()).toBe(false);
    newcomers.onTaken("10.0.0.1:1");
    now = 600;
    newcomers.onTaken("10.0.0.1:2");
    newcomers.onHeard("10.0.0.1:3");
    expect(newcomers.areWaiting()).toBe(true);
    now = 1000;
    newcomers.onHeard("10.0.0.1:2");
    // The first has been silent for a second.
    expect(newcomers.areWaiting()).toBe(false);
    newcomers.onTaken("10.0.0.1:2");
    now = 1999;
    expect(newcomers.areWaiting()).toBe(true);
    now = 2000;
    expect(newcomers.areWaiting()).toBe(false);
  });
});
