import { describe, expect, it } from "vitest";
import { log } from "../../../lib/log.ts";
import { WorkQueue } from "./work-queue.ts";

describe("WorkQueue", () => {
  it("works once on what was added several times, and again on what was added while it worked", async () => {
    const done: string[] = [];
    const entered = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    await using queue = new WorkQueue<string>("test", async (key) => {
      done.push(key);
      entered.resolve();
      if (done.length === 1) await go.promise;
    });
    for (const key of ["a", "a", "b"]) queue.add(key);
    await entered.promise;
    queue.add("a");
    go.resolve();
    await queue.idle();
    expect(done).toEqual(["a", "b", "a"]);
  });

  it("tries again what failed, and holds nobody else up", async () => {
    log.setLevel("none");
    const done: string[] = [];
    let failures = 2;
    const recovered = Promise.withResolvers<void>();
    await using queue = new WorkQueue<string>("test", async (key) => {
      if (key === "bad" && failures-- > 0) throw new Error("not yet");
      done.push(key);
      if (key === "bad") recovered.resolve();
    });
    queue.add("bad");
    queue.add("good");
    await queue.idle();
    expect(done).toEqual(["good"]);
    await recovered.promise;
    expect(done).toEqual(["good", "bad"]);
  });
});
