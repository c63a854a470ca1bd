import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { StatsConfigSchema } from "../../api/gen/envoy/config/metrics/v3/stats_pb.js";
import { MainClusterStats } from "../config/cluster-update-stats.ts";
import { clusterLayout } from "../upstream/cluster-stats.ts";
import { StatRows } from "./stat-rows.ts";
import { StatsReader } from "./stats-reader.ts";
import { StatsStore } from "./store.ts";
import { TagExtractor, type TaggedName } from "./tags.ts";

const extractor = (stats_tags: readonly (readonly [tag_name: string, regex: string])[], use_all_default_tags = false) =>
  new TagExtractor(
    fromJson(StatsConfigSchema, {
      use_all_default_tags,
      stats_tags: stats_tags.map(([tag_name, regex]): JsonValue => ({ tag_name, regex })),
    }),
  );

/** What our agent's bootstrap says, as Istio's of today. */
const istio = [
  ["cluster_name", "^cluster(\\.(.+);)"],
  ["http_conn_manager_prefix", "^http\\.(([^;]*);\\.)"],
  ["tcp_prefix", "^tcp\\.(([^;]*);\\.)"],
  ["response_code", "_rq(_(\\d{3}))$"],
  ["response_code_class", "_rq(_(\\dxx))$"],
  ["listener_address", "^listener\\.(((?:[_.[:digit:]]*|[_\\[\\]aAbBcCdDeEfF[:digit:]]*))\\.)"],
  ["authz_enforce_result", "rbac(\\.(allowed|denied))"],
  ["source_app", "(source_app=\\.=(.*?);\\.;)"],
] as const;

/** What Istio's bootstraps said for years: alternatives, lookahead, and a name that ends with the dot that all prefixes end with. */
const olderIstio = [
  ["cluster_name", "^cluster\\.((.+?(\\..+?\\.svc\\.cluster\\.local)?)\\.)"],
  ["tcp_prefix", "^tcp\\.((.*?)\\.)\\w+?$"],
  ["response_code", "(response_code=\\.=(.+?);\\.;)|_rq(_(\\.d{3}))$"],
  ["response_code_class", "_rq(_(\\dxx))$"],
  ["http_conn_manager_listener_prefix", "^listener(?=\\.).*?\\.http\\.(((?:[_.[:digit:]]*|[_\\[\\]aAbBcCdDeEfF[:digit:]]*))\\.)"],
  ["mongo_prefix", "^mongo\\.(.+?)\\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$"],
  ["reporter", "(reporter=\\.=(.*?);\\.;)"],
  ["cache", "(cache\\.(.+?)\\.)"],
  ["tag", "(tag\\.(.+?);\\.)"],
  ["authz_dry_run_action", "(\\.authz_dry_run_action=(.+?)\\.)"],
] as const;

/** Each may find something in the prefix, in the ending, across both, or nowhere. */
const odd = [
  ["plain", "(upstream)"],
  ["word", "^cluster\\.(([^.]+)\\.)"],
  ["word", "(rq)"],
  ["empty", "(x*)"],
  ["end", "(\\.(upstream_\\w+))$"],
  ["across", "cluster\\.(.*_rq)"],
  ["dot", "([a-z]+\\.)"],
  ["last", "(total)$"],
  ["begun", "(a\\.upstream_rq_time)"],
  ["alternatives", "nowhere\\.|(b)"],
  ["anchors", "^(a)|(time)$"],
  ["repeated", "(?:ab|_rq)+(_\\w)+$"],
  ["optional", "(total_?)?x?(count)?$"],
] as const;

/** What is found in the ending first keeps the tag from being found in the prefix. */
const endingFirst = [
  ["name", "_(rq|cx)$"],
  ["name", "(_rq)"],
  ["name", "^cluster\\.(([^.]+)\\.)"],
] as const;

const names = [
  ...["reviews", "outbound|80||reviews.default.svc.cluster.local", "outbound|80||reviews.default.svc.cluster.local;", "a.b.c", "xds-grpc;"],
  ...["a;.b;", "a_rq_200", "x_rq_2xx", "upstream_rq_503", "ssl", "x.ssl", ".ssl.", "ssl.ciphers", "grpc", "x.grpc.m", "rbac", "rbac.x"],
  ...["ext_authz", "my.ext_authz.p", "x.http_local_rate_limit", "worker_1", "cache", "tag", "tag.a;", "source_app=", "source_app=.=x;.;"],
  ...[
    "reporter=.=destination;.;a",
    "response_code=.=200;.;",
    "default",
    "..",
    "x..y",
    "",
    "cluster",
    "authz_dry_run_action=x",
    "é",
    "rq_2xx",
  ],
];

const endings = [
  ...["upstream_rq_503", "upstream_rq_2xx", "ssl.ciphers.AES", "ciphers.AES", "grpc.s.m.total", "rbac.allowed", "allowed", "rq_xx", "time"],
  ...["ext_authz.p.ok", "p.http_local_rate_limit.ok", "worker_2.x", "a;.x", "x;.;y", "=x;.;", "p.q;.total", "certificate.c.x", "_rq_503"],
  ...["http_local_rate_limit.x", "svc.cluster.local.x", "d123", "_rq_.ddd", "x.", ""],
];

const known = (() => {
  const store = new StatsStore();
  for (const [index, name] of names.entries()) new MainClusterStats(store, name, { isEds: index % 2 === 0, speaksTls: index % 3 === 0 });
  const reader = new StatsReader();
  reader.attach().take(store.takeChanges());
  return reader.prefixed.map(({ prefix, rows }) => ({ prefix, endings: [...rows.all.map(({ name }) => name), ...endings] }));
})();

/** null where only the whole name can be taken apart. */
function together(tags: TagExtractor, prefix: string, ending: string): TaggedName | null {
  const { shape, base, tags: found } = tags.prefixed(prefix);
  const its = shape.ending(ending);
  return its && { base: base + its.base, tags: [...tags.fixed, ...its.tags.map((tag) => (typeof tag === "number" ? found[tag]! : tag))] };
}

describe("tags of a prefix and an ending", () => {
  it.each([
    ["Envoy's", new TagExtractor(undefined)],
    ["Istio's", extractor(istio)],
    ["Istio's beside Envoy's", extractor(istio, true)],
    ["Istio's of before", extractor(olderIstio)],
    ["all of them", extractor([...olderIstio, ...istio], true)],
    ...odd.map(([tag, regex]) => [`${tag} ${regex}`, extractor([[tag, regex]])] as const),
    ["a tag's own in the ending before those in the prefix,", extractor(endingFirst)],
    ["odd ones", extractor(odd)],
    ["odd ones backwards", extractor([...odd].reverse())],
  ] as const)("are those of the whole name, by %s rules", (_, tags) => {
    const wrong: unknown[] = [];
    for (const { prefix, endings } of known) {
      for (const ending of endings) {
        const found = together(tags, prefix, ending);
        const expected = tags.takeApart(prefix + ending);
        if (found !== null && JSON.stringify(found) !== JSON.stringify(expected)) wrong.push({ prefix, ending, found, expected });
      }
    }
    expect(wrong).toEqual([]);
  });

  it.each([
    ["Envoy's", new TagExtractor(undefined), "cluster.outbound|80||reviews."],
    ["Istio's", extractor(istio), "cluster.outbound|80||reviews.default.svc.cluster.local;."],
    ["Istio's beside Envoy's", extractor(istio, true), "cluster.outbound|80||reviews.default.svc.cluster.local;."],
  ])("need no whole name of a cluster's, by %s rules, and one shape for all that are alike", (_, tags, prefix) => {
    const { shape } = tags.prefixed(prefix);
    expect(shape.rowsToTakeApart(StatRows.of([clusterLayout]))).toEqual([]);
    expect(tags.prefixed(prefix.replace("reviews", "ratings-v2")).shape).toBe(shape);
  });

  it("are looked for in the whole name where it depends on the ending whether what the prefix has is taken", () => {
    const tags = extractor(endingFirst);
    expect(together(tags, "cluster.a.", "upstream_rq_total")).toBeNull();
    expect(together(tags, "cluster.a.", "bind_errors")).toEqual({ base: "cluster.bind_errors", tags: [{ name: "name", value: "a" }] });
  });

  it("are looked for in the whole name where a rule may find them across both", () => {
    const tags = extractor([["across", "^cluster\\.(.*_rq)"]]);
    expect(together(tags, "cluster.a.", "upstream_rq_total")).toBeNull();
    expect(together(tags, "cluster.a.", "bind_errors")).toEqual({ base: "cluster.a.bind_errors", tags: [] });
    expect(tags.extract("cluster.a.upstream_rq_total")).toEqual({
      base: "cluster._total",
      tags: [{ name: "across", value: "a.upstream_rq" }],
    });
  });
});
