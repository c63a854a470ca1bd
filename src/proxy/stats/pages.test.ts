import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { StatsConfigSchema } from "../../api/gen/envoy/config/metrics/v3/stats_pb.js";
import { jsonPage } from "./json-page.ts";
import { prometheusPage } from "./prometheus-page.ts";
import { StatLayout } from "./stat-layout.ts";
import { type Page, StatSelection, type StatSelectionOptions } from "./stat-selection.ts";
import { StatsReader } from "./stats-reader.ts";
import { StatsStore } from "./store.ts";
import { TagExtractor } from "./tags.ts";
import { textPage } from "./text-page.ts";

const config = (json: JsonValue) => new TagExtractor(fromJson(StatsConfigSchema, json));
const whole = (page: Page) => [...page].join("");

/** A thread's store and who reads it. */
function counted(count: (store: StatsStore) => void = () => undefined) {
  const store = new StatsStore();
  const reader = new StatsReader();
  const source = reader.attach();
  count(store);
  source.take(store.takeChanges());
  return { store, reader, sync: () => source.take(store.takeChanges()) };
}

const counter = (name: string, value: number) => (store: StatsStore) => store.add(store.counter(name), value);
const gauge = (name: string, value: number) => (store: StatsStore) => store.set(store.gauge(name), value);
const histogram =
  (name: string, ...values: number[]) =>
  (store: StatsStore) => {
    const index = store.histogram(name);
    for (const value of values) store.record(index, value);
  };
const readerOf = (...counts: ((store: StatsStore) => void)[]) =>
  counted((store) => {
    for (const count of counts) count(store);
  }).reader;

const plain = { includesTexts: false, histogramsAsSummary: false };
const prometheus = (reader: StatsReader, tags = new TagExtractor(undefined), options: StatSelectionOptions = {}) =>
  whole(prometheusPage(new StatSelection(reader, tags, options), plain));

describe("prometheusPage", () => {
  it("writes counters, then gauges, then histograms with cumulative buckets", () => {
    const out = prometheus(
      readerOf(
        histogram("http.in.downstream_rq_time", 3, 30),
        gauge("server.live", 1),
        counter("cluster.b.x", 2),
        counter("cluster.a.x", 1),
      ),
    );
    expect(out.split("\n").filter((line) => line.startsWith("#"))).toEqual([
      "# TYPE envoy_cluster_x counter",
      "# TYPE envoy_server_live gauge",
      "# TYPE envoy_http_downstream_rq_time histogram",
    ]);
    expect(out).toContain('envoy_cluster_x{envoy_cluster_name="a"} 1\nenvoy_cluster_x{envoy_cluster_name="b"} 2\n');
    expect(out).toContain("envoy_server_live{} 1\n");
    expect(out).toContain('_bucket{envoy_http_conn_manager_prefix="in",le="5"} 1\n');
    expect(out).toContain('_bucket{envoy_http_conn_manager_prefix="in",le="+Inf"} 2\n');
    expect(out).toContain('_sum{envoy_http_conn_manager_prefix="in"} 33\n');
  });

  it("escapes label values", () => {
    expect(prometheus(readerOf(counter('cluster.a"\\b.x', 1)))).toContain('{envoy_cluster_name="a\\"\\\\b"} 1');
  });

  it("gives Istio's names with Istio's rules, and what every statistic has before them", () => {
    const istio = config({
      use_all_default_tags: false,
      stats_tags: [
        { tag_name: "cluster_name", regex: "^cluster(\\.(.+);)" },
        { tag_name: "cluster_id", fixed_value: "Kubernetes" },
      ],
    });
    expect(prometheus(readerOf(counter("cluster.xds-grpc;.assignment_stale", 0)), istio)).toBe(
      '# TYPE envoy_cluster_assignment_stale counter\nenvoy_cluster_assignment_stale{cluster_id="Kubernetes",cluster_name="xds-grpc"} 0\n',
    );
  });
});

describe("textPage and jsonPage", () => {
  const reader = readerOf(counter("a", 1), histogram("h"), histogram("k", 1, 1));
  const select = (from = reader, options: StatSelectionOptions = {}) => new StatSelection(from, new TagExtractor(undefined), options);

  it("list numbers first and quantiles after", () => {
    const lines = whole(textPage(select(), "summary")).split("\n");
    expect(lines.slice(0, 2)).toEqual(["a: 1", "h: No recorded values"]);
    expect(lines[2]).toMatch(/^k: P0\(nan,0\.5\) P25\(nan,/);
    expect(JSON.parse(whole(jsonPage(select(), "summary")))).toMatchObject({
      stats: [{ name: "a", value: 1 }, { histograms: { supported_quantiles: [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100] } }],
    });
  });

  it("show buckets", () => {
    const one = readerOf(histogram("k", 1, 7));
    expect(whole(textPage(select(one), "cumulative"))).toMatch(
      /^k: B0\.5\(0,0\) B1\(0,1\) B5\(0,1\) B10\(0,2\) .* B1\.8e\+06\(0,2\) B3\.6e\+06\(0,2\)\n$/,
    );
    expect(whole(textPage(select(one), "disjoint"))).toMatch(/^k: B0\.5\(0,0\) B1\(0,1\) B5\(0,0\) B10\(0,1\) B25\(0,0\)/);
  });

  it("are whole JSON without histograms, without anything else, and without anything", () => {
    const page = (options: StatSelectionOptions, mode: "summary" | "disjoint" | "detailed") =>
      JSON.parse(whole(jsonPage(select(reader, options), mode))) as unknown;
    expect(page({ kind: "counter" }, "summary")).toEqual({ stats: [{ name: "a", value: 1 }] });
    expect(page({ kind: "histogram", usedOnly: true }, "disjoint")).toMatchObject({ stats: [{ histograms: [{ name: "k" }] }] });
    expect(page({ kind: "histogram" }, "detailed")).toMatchObject({ stats: [{ histograms: { details: [{ name: "h" }, { name: "k" }] } }] });
    expect(page({ passes: () => false }, "summary")).toEqual({ stats: [] });
  });
});

describe("a page of many clusters", () => {
  const layout = new StatLayout("page test", { counter: ["rq_total", "ssl.handshake"], gauge: ["cx_active"], histogram: ["time"] });
  const tls = new StatLayout("page test, TLS", { counter: ["fail"] });

  it("has a family for each ending, in the order of whole names, also where a prefix begins with another", () => {
    const istio = config({ use_all_default_tags: false, stats_tags: [{ tag_name: "cluster_name", regex: "^cluster(\\.(.+);)" }] });
    const { store, reader, sync } = counted();
    for (const name of ["b;", "a;.b;", "a;", "a;.z;", "a-;"]) store.declare(`cluster.${name}.`, layout);
    store.add(store.counter("cluster.a;.c;.rq_total"), 7);
    store.declare("cluster.a;.ssl.", tls);
    sync();
    const lines = prometheus(reader, istio).split("\n");
    const names = (family: string) => lines.flatMap((line) => new RegExp(`^envoy_${family}{cluster_name="(.*)"}`).exec(line)?.[1] ?? []);
    expect(names("cluster_rq_total")).toEqual(["a-", "a;.b", "a;.c", "a", "a;.z", "b"]);
    expect(names("cluster_cx_active")).toEqual(["a-", "a;.b", "a", "a;.z", "b"].sort(byWholeName("cx_active")));
    const text = whole(textPage(new StatSelection(reader, istio), "summary"));
    const numbers = text.split("\n").filter((line) => line !== "" && !line.includes("No recorded values"));
    expect(numbers).toEqual([...numbers].sort(byName));
    expect(numbers).toContain("cluster.a;.ssl.fail: 0");
    expect(numbers).toHaveLength(3 * 5 + 2);
  });

  it("says what is counted while it is written, and leaves out what ends meanwhile", () => {
    const { store, reader, sync } = counted();
    const tagged = store.addTagged("zz_total", "counter", ["a", "b"]);
    const last = store.counter("zz_last");
    for (let index = 0; index < 2000; index++) store.declare(`cluster.c${index}.`, layout);
    store.add(tagged, 1);
    sync();
    const page = textPage(new StatSelection(reader, new TagExtractor(undefined)), "summary");
    const first = page.next().value!;
    expect(first).not.toContain("zz_");
    store.add(last, 3);
    store.release(tagged, "counter");
    store.counter("zz_new");
    sync();
    const rest = whole(page);
    expect(rest).toContain("zz_last: 3\n");
    expect(rest).not.toContain("zz_total");
    expect(rest).not.toContain("zz_new");
  });

  it("comes in pieces of bounded length, and empty ones where nothing is shown of many", () => {
    const { store, reader, sync } = counted();
    for (let index = 0; index < 2000; index++) store.declare(`cluster.c${index}.`, layout);
    sync();
    const tags = new TagExtractor(undefined);
    const excluding = config({ stats_matcher: { exclusion_list: { patterns: [{ prefix: "cluster." }] } } });
    for (const make of [
      (selection: StatSelection) => textPage(selection, "summary"),
      (selection: StatSelection) => jsonPage(selection, "summary"),
      (selection: StatSelection) => prometheusPage(selection, plain),
    ]) {
      const pieces = [...make(new StatSelection(reader, tags))];
      expect(Math.max(...pieces.map(({ length }) => length))).toBeLessThan(16_384);
      expect(pieces.join("").length / 16_384).toBeGreaterThan(10);
      const passedOver = [...make(new StatSelection(reader, tags, { passes: () => false }))];
      expect(passedOver.length).toBeGreaterThan(20);
      expect(passedOver.join("").length).toBeLessThan(20);
      expect([...make(new StatSelection(reader, excluding))].length).toBeGreaterThan(100);
    }
  });
});

function byName(a: string, b: string): number {
  return a < b ? -1 : 1;
}

function byWholeName(ending: string): (a: string, b: string) => number {
  return (a, b) => byName(`cluster.${a};.${ending}`, `cluster.${b};.${ending}`);
}
