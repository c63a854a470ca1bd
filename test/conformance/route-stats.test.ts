/** What a route with a stat_prefix counts by itself, for every way in which a request can end: the same names and numbers as Envoy's. */
import { get } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import type { RunningProxy } from "../support/proxies.ts";
import { httpBootstrap, proxies, staticCluster, type } from "../support/static-bootstrap.ts";
import { type Reply, startUpstream } from "../support/upstream.ts";

const http1 = { explicit_http_config: { http_protocol_options: {} } };
const retry_policy = { retry_on: "5xx", num_retries: 1, retry_back_off: { base_interval: "0.001s" } };

function bootstrap(port: number): object {
  const clusters = [
    staticCluster("up", [port], http1),
    staticCluster("none", [], http1),
    staticCluster("dead", [1], http1),
    staticCluster("narrow", [port], http1, { circuit_breakers: { thresholds: [{ max_pending_requests: 0 }] } }),
    staticCluster("once", [port], http1, { circuit_breakers: { thresholds: [{ max_retries: 0 }] } }),
    staticCluster("dropping", [port], http1),
  ];
  Object.assign((clusters[5] as { load_assignment: object }).load_assignment, {
    policy: { drop_overloads: [{ category: "all", drop_percentage: { numerator: 100 } }] },
  });
  const to = (name: string, cluster: string, more: object = {}) => ({
    match: { prefix: `/${name}/` },
    route: { cluster, ...more },
    stat_prefix: name,
  });
  const manager = {
    proxy_100_continue: true,
    route_config: {
      validate_clusters: false,
      virtual_hosts: [
        {
          name: "shop.test:80",
          domains: ["*"],
          routes: [
            to("plain", "up"),
            to("a.b:c", "up", { retry_policy, timeout: "1.5s" }),
            to("try", "up", { retry_policy: { ...retry_policy, per_try_timeout: "0.5s" } }),
            to("none", "none"),
            to("dead", "dead", { retry_policy }),
            to("gone", "gone"),
            to("narrow", "narrow"),
            to("once", "once", { retry_policy }),
            to("dropping", "dropping"),
            { match: { prefix: "/direct/" }, direct_response: { status: 200 }, stat_prefix: "direct" },
            { match: { prefix: "/redirect/" }, redirect: { path_redirect: "/x" }, stat_prefix: "redirect" },
            { match: { prefix: "/" }, route: { cluster: "up" } },
          ],
        },
      ],
    },
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  return httpBootstrap(clusters, manager);
}

const slow: Reply = { delayMs: 4000 };

/** Path and what the endpoint does. */
const asks: readonly (readonly [path: string, reply: Reply])[] = [
  ["/plain/", {}],
  ["/plain/", { status: 404 }],
  ["/plain/", { status: 302 }],
  ["/plain/", { interim: 103 }],
  ["/plain/", { close: "before" }],
  ["/plain/", { chunks: ["a"], close: "body" }],
  ["/a.b:c/", { statuses: [503, 200] }],
  ["/a.b:c/", { status: 500 }],
  ["/a.b:c/", slow],
  ["/try/", slow],
  ["/none/", {}],
  ["/dead/", {}],
  ["/gone/", {}],
  ["/narrow/", {}],
  ["/once/", { status: 503 }],
  ["/dropping/", {}],
  ["/direct/", {}],
  ["/redirect/", {}],
  ["/other/", {}],
];

function ask(port: number, path: string, reply: Reply, number: number): Promise<number> {
  return new Promise((resolve) => {
    const headers = { "x-reply": JSON.stringify(reply), "x-case": String(number) };
    get({ port, host: "127.0.0.1", path, headers, agent: false }, (response) => {
      response
        .on("error", () => {})
        .resume()
        .once("close", () => resolve(response.statusCode!));
    });
  });
}

async function counters(proxy: RunningProxy, filter: string): Promise<string[]> {
  const { stats } = JSON.parse(await proxy.admin(`/stats?format=json&filter=${encodeURIComponent(filter)}`)) as {
    stats: readonly { readonly name?: string; readonly value?: number }[];
  };
  return stats.flatMap(({ name, value }) => (name === undefined ? [] : [`${name}: ${value}`])).sort();
}

describe.skipIf(!envoyBinary)("A route with a stat_prefix", () => {
  const stack = new AsyncDisposableStack();
  const running: RunningProxy[] = [];
  const statuses: number[][] = [];
  const before: string[][] = [];

  beforeAll(async () => {
    const upstream = stack.use(await startUpstream());
    for (const side of proxies) {
      const proxy = stack.use(await side.start(bootstrap(upstream.port)));
      before.push(await counters(proxy, "^vhost"));
      const port = await proxy.listenerPort("in");
      const seen: number[] = [];
      for (const [number, [path, reply]] of asks.entries()) seen.push(await ask(port, path, reply, number + running.length * 100));
      statuses.push(seen);
      running.push(proxy);
    }
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  it("shows its counters before it has served anything, whatever its action", () => {
    const [envoy, ours] = before;
    expect(ours).toEqual(envoy);
    expect(ours!.filter((line) => line.includes(".route.direct."))).toHaveLength(6);
  });

  it("counts answers, attempts, retries and timeouts as Envoy does", async () => {
    expect(statuses[1]).toEqual(statuses[0]);
    const [envoy, ours] = await Promise.all(running.map((proxy) => counters(proxy, "^vhost")));
    expect(ours).toEqual(envoy);
    expect(ours).toEqual(
      expect.arrayContaining([
        "vhost.shop.test:80.route.a.b:c.upstream_rq_retry: 2",
        "vhost.shop.test:80.route.a.b:c.upstream_rq_total: 5",
        "vhost.shop.test:80.route.a.b:c.upstream_rq_timeout: 1",
        "vhost.shop.test:80.route.none.upstream_rq_503: 1",
        "vhost.shop.test:80.route.plain.upstream_rq_1xx: 1",
        "vhost.shop.test:80.route.once.upstream_rq_retry_overflow: 1",
        "vhost.shop.test:80.route.try.upstream_rq_retry_limit_exceeded: 1",
      ]),
    );
  });

  it("leaves its cluster's counters what they are in Envoy", async () => {
    const filter = String.raw`^cluster\.\w+\.(external\.)?upstream_rq_(\dxx|completed|\d{3}|timeout|retry\w*)$`;
    const [envoy, ours] = await Promise.all(running.map((proxy) => counters(proxy, filter)));
    expect(ours).toEqual(envoy);
  });

  it("has tags in the Prometheus output as in Envoy's", async () => {
    const lines = async (proxy: RunningProxy) =>
      (await proxy.admin("/stats/prometheus?filter=vhost"))
        .split("\n")
        .filter((line) => line !== "" && !line.includes("_upstream_rq_time"))
        .sort();
    const [envoy, ours] = await Promise.all(running.map(lines));
    expect(ours).toEqual(envoy);
  });

  it("measures the time of its requests", async () => {
    const [envoy, ours] = await Promise.all(
      running.map(async (proxy) =>
        (await proxy.admin("/stats?filter=vhost.*upstream_rq_time")).replace(/: .*/g, "").trim().split("\n").sort(),
      ),
    );
    expect(ours).toEqual(envoy);
    expect(ours).toContain("vhost.shop.test:80.route.plain.upstream_rq_time");
  });
});
