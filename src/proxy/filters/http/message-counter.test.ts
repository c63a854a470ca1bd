import { describe, expect, it } from "vitest";
import { MessageCounter } from "./message-counter.ts";

const message = (length: number) => {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, Buffer.alloc(length, 1)]);
};

describe("MessageCounter", () => {
  it("counts a message when it begins, however it is cut", () => {
    const bytes = Buffer.concat([message(0), message(3), message(70_000), message(1)]);
    for (const size of [1, 2, 3, 4, 5, 6, 7, 1000, bytes.length]) {
      const counter = new MessageCounter();
      let sum = 0;
      for (let at = 0; at < bytes.length; at += size) sum += counter.count(bytes.subarray(at, at + size));
      expect([size, sum, counter.total]).toEqual([size, 4, 4]);
    }
    const counter = new MessageCounter();
    expect(counter.count(Buffer.from([0]))).toBe(1);
    expect(counter.count(Buffer.from([0, 0, 0, 2, 9]))).toBe(0);
    expect(counter.count(Buffer.from([9, 1]))).toBe(1);
  });

  it("takes the longest length for what it says", () => {
    const counter = new MessageCounter();
    expect(counter.count(Buffer.from([0, 255, 255, 255, 255]))).toBe(1);
    expect(counter.count(Buffer.alloc(100_000))).toBe(0);
  });
});
