import { describe, expect, it } from "vitest";
import { whenUnused } from "./drain.ts";

/** What is answered to each question in turn; the last one for ever. */
function wait(answers: readonly (number | undefined | Error)[], signal = new AbortController().signal) {
  let asked = 0;
  const ended = whenUnused({
    minimumMs: 1,
    periodMs: 1,
    signal,
    activeConnections: async () => {
      const answer = answers[Math.min(asked++, answers.length - 1)];
      if (answer instanceof Error) throw answer;
      return answer;
    },
  });
  return { ended, asked: () => asked };
}

describe("whenUnused", () => {
  it("waits for the last connection", async () => {
    const { ended, asked } = wait([3, 1, 1, 0]);
    await ended;
    expect(asked()).toBe(4);
  });

  it("waits for nobody where the proxy counts nobody", async () => {
    const { ended, asked } = wait([undefined]);
    await ended;
    expect(asked()).toBe(1);
  });

  it("bears four failures in a row, and gives up at the fifth", async () => {
    const failed = new Error("no answer");
    const borne = wait([failed, failed, failed, failed, 1, failed, failed, failed, failed, 0]);
    await borne.ended;
    expect(borne.asked()).toBe(10);
    const { ended, asked } = wait([1, failed]);
    await ended;
    expect(asked()).toBe(6);
  });

  it("ends when the agent does", async () => {
    const stop = new AbortController();
    const { ended } = wait([1], stop.signal);
    stop.abort(new Error("stopped"));
    await expect(ended).rejects.toThrow();
  });
});
