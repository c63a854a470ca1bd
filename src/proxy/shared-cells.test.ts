import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { allocateCells, SharedCells } from "./shared-cells.ts";

const resource = Buffer.from(`${"x".repeat(200)}.local_ratelimit.${"y".repeat(200)}`);

function workers(): [SharedCells, SharedCells] {
  const block = allocateCells([resource], ".local_ratelimit.")!;
  return [new SharedCells(block), new SharedCells(block)];
}

const read = ({ values, at }: { values: BigInt64Array; at: number }) => Atomics.load(values, at);

describe("SharedCells", () => {
  it("gives two workers the same number for the same thing of the same resource", () => {
    const [one, other] = workers();
    one.begin("listener a");
    other.begin("listener a");
    const cell = one.cell("limit");
    Atomics.store(cell.values, cell.at, 5n);
    expect(read(other.cell("limit"))).toBe(5n);
  });

  it("tells equal things within a resource apart, and those of other resources", () => {
    const [one, other] = workers();
    one.begin("listener a");
    const cells = [one.cell("limit"), one.cell("limit"), one.cell("other")];
    one.begin("listener b");
    cells.push(one.cell("limit"));
    for (const [index, cell] of cells.entries()) Atomics.store(cell.values, cell.at, BigInt(index + 1));
    other.begin("listener b");
    expect(read(other.cell("limit"))).toBe(4n);
    other.begin("listener a");
    expect([read(other.cell("other")), read(other.cell("limit")), read(other.cell("limit"))]).toEqual([3n, 1n, 2n]);
  });

  it("keeps what has a name over updates", () => {
    const named = new Map();
    const cell = new SharedCells(allocateCells([resource], ".local_ratelimit.")!, named).namedCell("key");
    expect(new SharedCells(allocateCells([resource], ".local_ratelimit.")!, named).namedCell("key")).toBe(cell);
  });

  it("allocates nothing for resources that share nothing", () => {
    expect(allocateCells([Buffer.from("nothing of the kind")], ".local_ratelimit.")).toBeUndefined();
  });

  it("has room for as many numbers as the bytes may ask for", () => {
    const [cells] = workers();
    for (let i = 0; i < resource.length / 12; i++) cells.cell(`limit ${i}`);
  });

  it("loses no change that two threads make at the same time", async () => {
    const [cells] = workers();
    const { values, at } = cells.cell("limit");
    const count = `
      const { workerData: { values, at }, parentPort } = require("node:worker_threads");
      for (let i = 0; i < 1000; i++) for (let old = Atomics.load(values, at); ; ) {
        const found = Atomics.compareExchange(values, at, old, old + 1n);
        if (found === old) break;
        old = found;
      }
      parentPort.postMessage("done");`;
    const threads = [0, 1].map(() => new Worker(count, { eval: true, workerData: { values, at } }));
    await Promise.all(threads.map((thread) => new Promise((resolve) => thread.once("exit", resolve))));
    expect(Atomics.load(values, at)).toBe(2000n);
  });
});
