import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { StatsConfigSchema } from "../../api/gen/envoy/config/metrics/v3/stats_pb.js";
import { histogramBounds } from "./stat-slots.ts";
import { statsJson, statsPrometheus, statsText } from "./stats-output.ts";
import type { Stat } from "./stats-reader.ts";
import { TagExtractor } from "./tags.ts";

const counter = (name: string, value: number): Stat => ({ name, kind: "counter", value, isUsed: value !== 0 });
const gauge = (name: string, value: number): Stat => ({ name, kind: "gauge", value, isUsed: true });
function histogram(name: string, ...values: number[]): Stat {
  const buckets = [...histogramBounds, Number.POSITIVE_INFINITY].map(
    (bound, index) => values.filter((value) => value <= bound && value > (histogramBounds[index - 1] ?? -1)).length,
  );
  return {
    name,
    kind: "histogram",
    histogram: { count: values.length, sum: values.reduce((a, b) => a + b, 0), buckets },
    interval: null,
    isUsed: true,
  };
}
const config = (json: JsonValue) => new TagExtractor(fromJson(StatsConfigSchema, json));
const prometheus = (stats: Stat[], tags = new TagExtractor(undefined)) =>
  statsPrometheus(stats, tags, { includesTexts: false, histogramsAsSummary: false });

describe("TagExtractor", () => {
  it.each([
    ["cluster.c1.upstream_rq_503", "cluster.upstream_rq", { "envoy.response_code": "503", "envoy.cluster_name": "c1" }],
    ["cluster.c1.upstream_rq_2xx", "cluster.upstream_rq_xx", { "envoy.response_code_class": "2", "envoy.cluster_name": "c1" }],
    ["cluster.a.b.c.upstream_cx_total", "cluster.b.c.upstream_cx_total", { "envoy.cluster_name": "a" }],
    ["http.ingress.downstream_rq_total", "http.downstream_rq_total", { "envoy.http_conn_manager_prefix": "ingress" }],
    [
      "listener.127.0.0.1_80.http.in.downstream_rq_2xx",
      "listener.http.downstream_rq_xx",
      { "envoy.response_code_class": "2", "envoy.http_conn_manager_prefix": "in", "envoy.listener_address": "127.0.0.1_80" },
    ],
    ["listener.admin.downstream_cx_total", "listener.admin.downstream_cx_total", {}],
    [
      "listener.[__]_80.worker_3.downstream_cx_total",
      "listener.worker_downstream_cx_total",
      { "envoy.listener_address": "[__]_80", "envoy.worker_id": "3" },
    ],
    [
      "http.in.rds.my-routes.update_success",
      "http.rds.update_success",
      { "envoy.http_conn_manager_prefix": "in", "envoy.rds_route_config": "my-routes" },
    ],
    ["tcp.t.downstream_cx_total", "tcp.downstream_cx_total", { "envoy.tcp_prefix": "t" }],
    ["cluster_manager.cluster_added", "cluster_manager.cluster_added", {}],
    ["gate.rbac.allowed", "rbac.allowed", { "envoy.rbac_prefix": "gate" }],
    ["a.gate.rbac.allowed", "a.gate.rbac.allowed", {}],
    ["http.in.rbac.allowed", "http.rbac.allowed", { "envoy.http_conn_manager_prefix": "in" }],
    [
      "http.in.rbac.dry_run.shadow_denied",
      "http.rbac.shadow_denied",
      { "envoy.http_conn_manager_prefix": "in", "envoy.rbac_http_prefix": "dry_run" },
    ],
    [
      "http.in.rbac.policy.p.allowed",
      "http.rbac.policy.allowed",
      { "envoy.http_conn_manager_prefix": "in", "envoy.rbac_policy_name": "p" },
    ],
    [
      "http.in.rbac.dry_run.policy.p.allowed",
      "http.rbac.policy.allowed",
      { "envoy.http_conn_manager_prefix": "in", "envoy.rbac_http_prefix": "dry_run", "envoy.rbac_policy_name": "p" },
    ],
  ])("takes %s apart", (name, base, tags) => {
    const tagged = new TagExtractor(undefined).extract(name);
    expect({ base: tagged.base, tags: Object.fromEntries(tagged.tags.map(({ name: tag, value }) => [tag, value])) }).toEqual({
      base,
      tags,
    });
  });

  it("gives Istio's names with Istio's rules, where a semicolon ends the cluster's name", () => {
    const istio = config({
      use_all_default_tags: false,
      stats_tags: [
        { tag_name: "cluster_name", regex: "^cluster(\\.(.+);)" },
        { tag_name: "response_code_class", regex: "_rq(_(\\dxx))$" },
        { tag_name: "cluster_id", fixed_value: "Kubernetes" },
      ],
    });
    expect(prometheus([counter("cluster.xds-grpc;.assignment_stale", 0)], istio)).toBe(
      '# TYPE envoy_cluster_assignment_stale counter\nenvoy_cluster_assignment_stale{cluster_id="Kubernetes",cluster_name="xds-grpc"} 0\n',
    );
    expect(istio.extract("cluster.outbound|80||a.b.c;.upstream_rq_2xx")).toMatchObject({ base: "cluster.upstream_rq" });
  });

  it("takes a rule with lookahead, as Istio's older bootstraps have it", () => {
    const tags = config({
      use_all_default_tags: false,
      stats_tags: [{ tag_name: "prefix", regex: "^listener(?=\\.).*?\\.http\\.(((?:[_.[:digit:]]*))\\.)" }],
    });
    expect(tags.extract("listener.x.http.1_2.rq").tags).toEqual([{ name: "prefix", value: "1_2" }]);
  });

  it("refuses a rule that is no regular expression, and a tag without a rule", () => {
    expect(() => config({ stats_tags: [{ tag_name: "x", regex: "(" }] })).toThrow("Invalid regex '('");
    expect(() => config({ stats_tags: [{ tag_name: "x", regex: "" }] })).toThrow(
      "No regex specified for tag specifier and no default regex for name: 'x'",
    );
  });

  it("leaves out what the matcher does not let through", () => {
    const tags = config({ stats_matcher: { inclusion_list: { patterns: [{ prefix: "server." }, { suffix: "rq_2xx" }] } } });
    expect(["server.live", "cluster.c.upstream_rq_2xx", "cluster.c.upstream_rq_5xx"].map((name) => tags.includes(name))).toEqual([
      true,
      true,
      false,
    ]);
  });
});

describe("statsPrometheus", () => {
  it("writes counters, then gauges, then histograms with cumulative buckets", () => {
    const out = prometheus([
      histogram("http.in.downstream_rq_time", 3, 30),
      gauge("server.live", 1),
      counter("cluster.b.x", 2),
      counter("cluster.a.x", 1),
    ]);
    expect(out.split("\n").filter((line) => line.startsWith("#"))).toEqual([
      "# TYPE envoy_cluster_x counter",
      "# TYPE envoy_server_live gauge",
      "# TYPE envoy_http_downstream_rq_time histogram",
    ]);
    expect(out).toContain('envoy_cluster_x{envoy_cluster_name="b"} 2\nenvoy_cluster_x{envoy_cluster_name="a"} 1\n');
    expect(out).toContain("envoy_server_live{} 1\n");
    expect(out).toContain('_bucket{envoy_http_conn_manager_prefix="in",le="5"} 1\n');
    expect(out).toContain('_bucket{envoy_http_conn_manager_prefix="in",le="+Inf"} 2\n');
    expect(out).toContain('_sum{envoy_http_conn_manager_prefix="in"} 33\n');
  });

  it("escapes label values", () => {
    expect(prometheus([counter('cluster.a"\\b.x', 1)])).toContain('{envoy_cluster_name="a\\"\\\\b"} 1');
  });
});

describe("statsText and statsJson", () => {
  const stats = [counter("a", 1), histogram("h"), histogram("k", 1, 1)];

  it("list numbers first and quantiles after", () => {
    const lines = statsText(stats, "summary").split("\n");
    expect(lines.slice(0, 2)).toEqual(["a: 1", "h: No recorded values"]);
    expect(lines[2]).toMatch(/^k: P0\(nan,0\.5\) P25\(nan,/);
    expect(JSON.parse(statsJson(stats, "summary"))).toMatchObject({
      stats: [{ name: "a", value: 1 }, { histograms: { supported_quantiles: [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100] } }],
    });
  });

  it("show buckets", () => {
    expect(statsText([histogram("k", 1, 7)], "cumulative")).toMatch(
      /^k: B0\.5\(0,0\) B1\(0,1\) B5\(0,1\) B10\(0,2\) .* B1\.8e\+06\(0,2\) B3\.6e\+06\(0,2\)\n$/,
    );
    expect(statsText([histogram("k", 1, 7)], "disjoint")).toMatch(/^k: B0\.5\(0,0\) B1\(0,1\) B5\(0,0\) B10\(0,1\) B25\(0,0\)/);
  });
});
