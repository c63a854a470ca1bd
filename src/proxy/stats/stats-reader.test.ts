import { describe, expect, it } from "vitest";
import { StatsReader } from "./stats-reader.ts";
import { StatsStore } from "./store.ts";

/** Two threads' stores read by one reader, messages passed by hand. */
function twoStores() {
  const reader = new StatsReader();
  const stores = [new StatsStore(8), new StatsStore(8)] as const;
  const sources = stores.map(() => reader.attach());
  const sync = () => {
    for (const [index, store] of stores.entries()) sources[index]!.take(store.takeChanges());
  };
  return { reader, stores, sync };
}

describe("StatsReader", () => {
  it("adds counters of all threads up by name", () => {
    const { reader, stores, sync } = twoStores();
    stores[0].add(stores[0].counter("a.rq"), 2);
    stores[1].counter("other");
    stores[1].add(stores[1].counter("a.rq"), 3);
    sync();
    expect(reader.value("a.rq")).toBe(5);
  });

  it("follows a store whose block was replaced by a larger one", () => {
    const { reader, stores, sync } = twoStores();
    const first = stores[0].counter("first");
    sync();
    for (let index = 0; index < 100; index++) stores[0].counter(`c${index}`);
    stores[0].add(first, 7);
    sync();
    expect(reader.value("first")).toBe(7);
  });

  it("shows a circuit breaker that is open in two workers as 1", () => {
    const { reader, stores, sync } = twoStores();
    for (const store of stores) store.set(store.gauge("cluster.c.circuit_breakers.default.cx_open"), 1);
    sync();
    expect(reader.value("cluster.c.circuit_breakers.default.cx_open")).toBe(1);
  });

  it("keeps statistics of endpoints out of the list", () => {
    const { reader, stores, sync } = twoStores();
    stores[0].add(stores[0].counter("host|c|1.2.3.4:80|rq_total"), 1);
    sync();
    expect(reader.read()).toEqual([]);
    expect(reader.value("host|c|1.2.3.4:80|rq_total")).toBe(1);
  });

  it("counts from zero again after a reset, and leaves gauges", () => {
    const { reader, stores, sync } = twoStores();
    const counter = stores[0].counter("n");
    const gauge = stores[0].gauge("g");
    stores[0].add(counter, 5);
    stores[0].set(gauge, 5);
    sync();
    reader.resetCounters();
    stores[0].add(counter, 1);
    expect([reader.value("n"), reader.value("g")]).toEqual([1, 5]);
  });

  it("tells the last interval of a histogram from all of it", () => {
    const { reader, stores, sync } = twoStores();
    const histogram = stores[0].histogram("h");
    stores[0].record(histogram, 3);
    sync();
    reader.flush();
    stores[0].record(histogram, 40);
    reader.flush();
    const [stat] = reader.read();
    expect(stat).toMatchObject({ kind: "histogram", histogram: { count: 2, sum: 43 }, interval: { count: 1, sum: 40 } });
  });
});
