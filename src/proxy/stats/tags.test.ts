import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { StatsConfigSchema } from "../../api/gen/envoy/config/metrics/v3/stats_pb.js";
import { TagExtractor } from "./tags.ts";

const config = (json: JsonValue) => new TagExtractor(fromJson(StatsConfigSchema, json));

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
    expect(istio.extract("cluster.xds-grpc;.assignment_stale")).toEqual({
      base: "cluster.assignment_stale",
      tags: [
        { name: "cluster_id", value: "Kubernetes" },
        { name: "cluster_name", value: "xds-grpc" },
      ],
    });
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
