import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { HealthChecker, type HealthVerdict } from "./health-checker.ts";

const settings = { initialDelaySeconds: 0, timeoutSeconds: 0, periodSeconds: 5, successThreshold: 2, failureThreshold: 3 };

describe("HealthChecker", () => {
  const verdicts: HealthVerdict[] = [];
  let answer: HealthVerdict;
  let isProxyReady: boolean;
  let asked: number;
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    verdicts.length = 0;
    answer = undefined;
    isProxyReady = true;
    asked = 0;
  });
  afterEach(() => vi.useRealTimers());

  const start = (over: Partial<typeof settings> = {}) =>
    HealthChecker.start({
      settings: { ...settings, ...over },
      probe: {
        check: async () => {
          asked++;
          return answer;
        },
      },
      isProxyReady: async () => isProxyReady,
      onVerdict: (verdict) => void verdicts.push(verdict),
    });
  const rounds = (count: number) => vi.advanceTimersByTimeAsync(count * 5000);

  it("tells of health when it has lasted for the threshold, and only of its changes", async () => {
    await using _ = start();
    await rounds(0);
    expect(verdicts).toEqual([]);
    await rounds(4);
    expect(verdicts).toEqual([undefined]);
    answer = "down";
    await rounds(2);
    expect(verdicts).toEqual([undefined]);
    await rounds(1);
    expect(verdicts).toEqual([undefined, "down"]);
    await rounds(9);
    expect(verdicts).toEqual([undefined, "down"]);
    answer = undefined;
    await rounds(2);
    expect(verdicts).toEqual([undefined, "down", undefined]);
  });

  it("counts answers in a row alone", async () => {
    await using _ = start({ successThreshold: 1 });
    await rounds(0);
    for (let round = 0; round < 6; round++) {
      answer = round % 3 === 2 ? undefined : "down";
      await rounds(1);
    }
    expect(verdicts).toEqual([undefined]);
  });

  it("asks at once when the proxy serves, and not before", async () => {
    isProxyReady = false;
    await using _ = start({ successThreshold: 1, failureThreshold: 1 });
    await rounds(3);
    expect([asked, verdicts]).toEqual([0, []]);
    isProxyReady = true;
    await vi.advanceTimersByTimeAsync(100);
    expect([asked, verdicts]).toEqual([1, [undefined]]);
  });

  it("takes the application to be unwell while its proxy does not serve", async () => {
    await using _ = start({ successThreshold: 1, failureThreshold: 1 });
    await rounds(1);
    isProxyReady = false;
    await rounds(1);
    expect(verdicts).toEqual([undefined, "the proxy does not serve"]);
  });

  it("waits for the initial delay", async () => {
    await using _ = start({ initialDelaySeconds: 7 });
    await vi.advanceTimersByTimeAsync(6999);
    expect(asked).toBe(0);
    await vi.advanceTimersByTimeAsync(1);
    expect(asked).toBe(1);
  });

  it("asks no more once it is disposed", async () => {
    const checker = start();
    await rounds(1);
    const before = asked;
    await checker[Symbol.asyncDispose]();
    await rounds(5);
    expect(asked).toBe(before);
  });
});
