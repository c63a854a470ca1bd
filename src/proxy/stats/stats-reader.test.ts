import { describe, expect, it } from "vitest";
import { StatLayout } from "./stat-layout.ts";
import { type SelectedStat, StatSelection } from "./stat-selection.ts";
import { StatsReader } from "./stats-reader.ts";
import { StatsStore } from "./store.ts";
import { TagExtractor } from "./tags.ts";

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

const tags = new TagExtractor(undefined);
function read(reader: StatsReader): SelectedStat[] {
  return [...new StatSelection(reader, tags).inOrder("counter", "gauge", "text", "histogram")].filter((stat) => stat !== null);
}

const layout = new StatLayout<"rq" | "circuit_breakers.default.rq_open" | "time">("test", {
  counter: ["rq"],
  gauge: ["circuit_breakers.default.rq_open"],
  histogram: ["time"],
});

describe("StatsReader", () => {
  it("has what is declared as zeros, adds up what threads count of it, and sorts it in among the rest", () => {
    const { reader, stores, sync } = twoStores();
    stores[0].declare("cluster.b.", layout);
    stores[0].declare("cluster.a.", layout);
    for (const store of stores) {
      const at = layout.indices(store.group("cluster.b.", layout));
      expect(store.group("cluster.b.", layout)).toBe(at.rq);
      expect(store.counter("cluster.b.rq")).toBe(at.rq);
      store.add(at.rq, 2);
      store.set(at["circuit_breakers.default.rq_open"], 1);
      store.record(at.time, 7);
    }
    stores[1].add(stores[1].counter("cluster.b.rq_200"), 3);
    sync();
    const shown = () =>
      read(reader).map(({ name, value }) => [name, value.kind === "histogram" ? value.histogram.sum : value.value, value.isUsed] as const);
    expect(shown()).toEqual([
      ["cluster.a.circuit_breakers.default.rq_open", 0, false],
      ["cluster.a.rq", 0, false],
      ["cluster.a.time", 0, false],
      ["cluster.b.circuit_breakers.default.rq_open", 1, true],
      ["cluster.b.rq", 4, true],
      ["cluster.b.rq_200", 3, true],
      ["cluster.b.time", 14, true],
    ]);
    expect([reader.value("cluster.b.rq"), reader.value("cluster.a.rq"), reader.value("cluster.c.rq")]).toEqual([4, 0, 0]);
    reader.flush();
    reader.resetCounters();
    expect(shown().find(([name]) => name === "cluster.b.rq")).toEqual(["cluster.b.rq", 0, true]);
    expect(read(reader).find(({ name }) => name === "cluster.b.time")?.value).toMatchObject({ interval: { count: 2 } });
  });

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
    stores[0].add(stores[0].group("host|c|1.2.3.4:80|", layout), 1);
    sync();
    expect(read(reader)).toEqual([]);
    expect(reader.ofHost("host|c|1.2.3.4:80|")?.value("rq")).toBe(1);
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
    const [stat] = read(reader);
    expect(stat?.value).toMatchObject({ kind: "histogram", histogram: { count: 2, sum: 43 }, interval: { count: 1, sum: 40 } });
  });
});
