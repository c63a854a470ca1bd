import { describe, expect, it } from "vitest";
import { StatsReader } from "../stats/stats-reader.ts";
import { StatsStore } from "../stats/store.ts";
import { LabelledSeries, type SeriesShape } from "./labelled-series.ts";

const shape: SeriesShape = {
  key: "test",
  metrics: [{ name: "m_total", kind: "counter", without: null }, { name: "m_ms", kind: "histogram", without: new Set(["code"]) }, null],
};

/** Two workers' series read by one reader, messages passed by hand. */
function workers(limit?: number) {
  const reader = new StatsReader();
  const made = [0, 1].map(() => {
    const store = new StatsStore(16);
    const source = reader.attach();
    return { store, series: new LabelledSeries(store, limit), sync: () => source.take(store.takeChanges()) };
  });
  const count = (worker: number, labels: readonly string[], amount = 1) => {
    const { store, series } = made[worker]!;
    const found = series.find(shape, labels);
    found.uses++;
    store.add(found.at[0]!, amount);
    store.record(found.at[1]!, 7);
  };
  const sync = () => {
    for (const worker of made) worker.sync();
  };
  return { reader, made, count, sync };
}

describe("LabelledSeries", () => {
  it("counts by labels, of all workers together, and leaves labels out that a metric does without", () => {
    const { reader, count, sync } = workers();
    count(0, ["from", "a.b", "code", "200"], 2);
    count(1, ["from", "a.b", "code", "200"], 3);
    count(0, ["from", "a.b", "code", "503"]);
    sync();
    expect(reader.value("m_total.from.a.b.code.200")).toBe(5);
    expect(reader.value("m_total.from.a.b.code.503")).toBe(1);
    const histograms = reader.named.filter(({ name }) => name.startsWith("m_ms"));
    expect(histograms).toMatchObject([{ name: "m_ms.from.a.b", tagged: { base: "m_ms", tags: ["from", "a.b"] } }]);
    expect(histograms[0]!.read()).toMatchObject({ histogram: { count: 3, sum: 21 } });
  });

  it("stays below its limit, and keeps what is used", () => {
    const { reader, made, count, sync } = workers(8);
    const { series } = made[0]!;
    const generation = series.generation;
    for (let stranger = 0; stranger < 100; stranger++) {
      count(0, ["from", "friend"]);
      count(0, ["from", `stranger-${stranger}`]);
      expect(series.size).toBeLessThanOrEqual(8);
    }
    sync();
    expect(reader.value("m_total.from.friend")).toBe(100);
    expect(series.generation).toBeGreaterThan(generation);
    expect(reader.named.filter(({ name }) => name.startsWith("m_total")).length).toBeLessThanOrEqual(8);
  });

  it("doesn't count down when one of two workers has lost it", () => {
    const { reader, made, count, sync } = workers(4);
    count(0, ["from", "a"], 10);
    count(1, ["from", "a"], 5);
    sync();
    for (let stranger = 0; stranger < 20; stranger++) {
      const { uses } = made[0]!.series.find(shape, ["from", `stranger-${stranger}`]);
      for (let more = uses; more < 20; more++) count(0, ["from", `stranger-${stranger}`]);
    }
    sync();
    expect(made[0]!.series.find(shape, ["from", "a"])).toBeDefined();
    sync();
    expect(reader.value("m_total.from.a")).toBe(15);
    count(0, ["from", "a"]);
    expect(reader.value("m_total.from.a")).toBe(16);
    expect(reader.named.find(({ name }) => name === "m_ms.from.a")?.read()).toMatchObject({ histogram: { count: 3 } });
  });

  it("forgets what no worker has any more", () => {
    const { reader, count, sync } = workers(4);
    count(0, ["from", "a"]);
    for (let stranger = 0; stranger < 20; stranger++) for (let more = 0; more < 3; more++) count(0, ["from", `stranger-${stranger}`]);
    sync();
    expect(reader.named.filter(({ name }) => name.endsWith("from.a"))).toEqual([]);
  });
});
