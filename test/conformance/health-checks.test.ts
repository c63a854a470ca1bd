/** Active health checks: Envoy and our proxy on the same file, before endpoints that are well and ill alike. */

import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makeCertificate } from "../support/certificate.ts";
import { envoyBinary, envoyValidates } from "../support/envoy.ts";
import { startGrpcHealthServer } from "../support/grpc-health-server.ts";
import { askHttp } from "../support/http-ask.ts";
import { good, ill, type Mood, MoodyUpstream } from "../support/moody-upstream.ts";
import { eventually } from "../support/proxies.ts";
import { address, answeringFilters, both, proxies, type } from "../support/static-bootstrap.ts";
import { startTcpUpstream, startUpstream } from "../support/upstream.ts";
import { comparableReason, ourVerdict } from "../support/verdict.ts";
import { answersOf, WatchedCluster, type WatchedOptions, watchedByBoth } from "../support/watched-cluster.ts";

const failed = "/failed_active_hc";
const often = {
  timeout: "2s",
  interval: "0.1s",
  no_traffic_interval: "0.1s",
  unhealthy_threshold: 2,
  healthy_threshold: 2,
  event_logger: [
    {
      name: "file",
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink",
        event_log_path: "%DIR%/checks.log",
      },
    },
  ],
};
const http = { ...often, http_health_check: { path: "/health" } };
const cluster = (health_check: object, more: object = {}) => ({
  cluster: {
    health_checks: [health_check],
    common_lb_config: { update_merge_window: "0s", healthy_panic_threshold: { value: 0 } },
    ...more,
  },
});

const onBoth = <T>(
  moods: readonly Mood[],
  options: Omit<WatchedOptions, "upstreams">,
  run: (cluster: WatchedCluster, upstreams: readonly MoodyUpstream[]) => Promise<T>,
) => watchedByBoth({ kind: "checkMood", moods, ...options }, run);

/** Gauges, and which counters have counted at all. */
async function statsOf(watched: WatchedCluster): Promise<unknown> {
  const counted = await watched.stats(/^health_check\./);
  const gauges = await watched.stats(/^(health_check\.(healthy|degraded)|membership_(healthy|degraded|excluded|total))$/);
  return { gauges, counted: Object.keys(counted).sort() };
}

async function eventsOf(watched: WatchedCluster, count: number): Promise<unknown[]> {
  await eventually(() => (watched.events("checks.log").length >= count ? true : undefined), "the event log");
  return watched.events("checks.log");
}

describe.skipIf(!envoyBinary)("Health checks beside Envoy", { timeout: 120_000 }, () => {
  it("lets those have requests alone who are well, from the beginning", async () => {
    const outcome = await onBoth([good, ill(503), good], cluster(http), async (watched, [, second]) => {
      const first = { flags: await watched.flags(), status: await watched.healthStatus(), answers: await answersOf(watched, 12) };
      const events = ((await eventsOf(watched, 3)) as { host: { socket_address: { port_value: string } } }[]).sort((a, b) =>
        a.host.socket_address.port_value < b.host.socket_address.port_value ? -1 : 1,
      );
      second!.checkMood = good;
      await watched.until({ b: "healthy" });
      return { first, events, later: { answers: await answersOf(watched, 12), stats: await statsOf(watched) } };
    });
    expect(outcome.first.flags).toEqual({ a: "healthy", b: failed, c: "healthy" });
    expect(outcome.first.answers).toEqual(["200 a -", "200 c -"]);
    expect(outcome.later.answers).toHaveLength(3);
  });

  it("takes one bad answer for enough, and several lost connections", async () => {
    const outcome = await onBoth([good, good], cluster(http), async (watched, [first, second]) => {
      first!.checkMood = ill(500);
      await watched.until({ a: failed });
      await second!.goAway();
      await watched.until({ b: failed });
      const answers = await answersOf(watched, 4);
      await second!.comeBack();
      await watched.until({ b: "healthy" });
      const events = (await eventsOf(watched, 5)) as object[];
      const kinds = events.map((event) => Object.keys(event).filter((key) => /event$|_host$/.test(key)));
      return { answers, kinds, last: events.at(-1), stats: await statsOf(watched) };
    });
    expect(outcome.answers).toEqual(["503 - UH"]);
  });

  it("says of a host that does not answer in time that it did not", async () => {
    const outcome = await onBoth(
      [good, "silent"],
      cluster({ ...http, timeout: "1s", unhealthy_threshold: 1 }),
      async (watched, [first]) => {
        await watched.until({ b: `${failed}/active_hc_timeout` });
        const json = await watched.healthStatus();
        first!.checkMood = "silent";
        await watched.until({ a: `${failed}/active_hc_timeout` });
        first!.checkMood = good;
        await watched.until({ a: "healthy" });
        return { json, stats: await statsOf(watched) };
      },
    );
    expect(outcome.json).toMatchObject({ b: { failed_active_health_check: true, active_hc_timeout: true } });
  });

  it("uses degraded hosts when the others don't suffice", async () => {
    const degraded = ill(200, { "x-envoy-degraded": "true" });
    const outcome = await onBoth([good, degraded], cluster(http), async (watched, [first]) => {
      await watched.until({ b: "/degraded_active_hc" });
      const before = { json: await watched.healthStatus(), stats: await statsOf(watched) };
      first!.checkMood = ill(503);
      await watched.until({ a: failed });
      return { before, after: await answersOf(watched, 4) };
    });
    expect(outcome.after).toEqual(["200 b -"]);
  });

  it("goes by expected and retriable statuses, by the body and by the service's name", async () => {
    const check = {
      path: "/health",
      expected_statuses: [{ start: 200, end: 203 }],
      retriable_statuses: [{ start: 429, end: 430 }],
      receive: [{ text: Buffer.from("al").toString("hex") }, { text: Buffer.from("well").toString("hex") }],
      service_name_matcher: { prefix: "shop" },
    };
    const named = { "x-envoy-upstream-healthchecked-cluster": "shop-1" };
    const moods: Mood[] = [
      { status: 202, headers: named, body: "all is well" },
      { status: 202, headers: named, body: "well, all" },
      { status: 202, headers: { "x-envoy-upstream-healthchecked-cluster": "other" }, body: "all is well" },
      { status: 204, headers: named },
    ];
    const outcome = await onBoth(
      moods,
      cluster({ ...often, unhealthy_threshold: 3, http_health_check: check }),
      async (watched, [first]) => {
        const flags = await watched.flags();
        first!.checkMood = { status: 429, headers: named, body: "all is well" };
        const before = first!.checks.length;
        await watched.until({ a: failed });
        return { flags, several: first!.checks.length >= before + 2, stats: await statsOf(watched) };
      },
    );
    expect(outcome.flags).toEqual({ a: "healthy", b: failed, c: failed, d: failed });
    expect(outcome.several).toBe(true);
  });

  it("asks as it is told", async () => {
    const headOf = ({ method, url, httpVersion, headers }: IncomingMessage) => ({ method, url, httpVersion, headers });
    const check = {
      path: "/health?x=1",
      host: "check.test",
      method: "POST",
      send: { text: "616263" },
      request_headers_to_add: [{ header: { key: "x-check", value: "%PROTOCOL% of %UPSTREAM_HOST_NAME% yes" } }],
      request_headers_to_remove: ["user-agent"],
    };
    const plain = await onBoth([good], cluster(http), async (_watched, [only]) => headOf(only!.checks[0]!));
    expect(plain).toMatchObject({ method: "GET", headers: { host: "app", "user-agent": "Envoy/HC" } });
    const own = {
      endpoint: (upstream: MoodyUpstream) => ({
        endpoint: { address: address(upstream.port), health_check_config: { hostname: "own.test" } },
      }),
    };
    const told = await onBoth(
      [good],
      {
        ...cluster({ ...often, http_health_check: { ...check, request_headers_to_add: [{ header: { key: "x-check", value: "yes" } }] } }),
        ...own,
      },
      async (_watched, [only]) => headOf(only!.checks[0]!),
    );
    expect(told.headers).toMatchObject({ host: "own.test", "content-length": "3", "x-check": "yes" });
  });

  it("keeps a connection, or makes one for each check", async () => {
    for (const reuse of [true, false]) {
      const outcome = await onBoth([good], cluster({ ...http, reuse_connection: reuse }), async (_watched, [only]) => {
        await eventually(() => (only!.checks.length >= 4 ? true : undefined), "checks");
        return new Set(only!.checks.slice(0, 4).map(({ socket }) => socket)).size;
      });
      expect(outcome).toBe(reuse ? 1 : 4);
    }
  });

  it("leaves a host alone that asks for it in an answer", async () => {
    const outcome = await onBoth(
      [good, good],
      cluster({ ...http, interval: "600s", no_traffic_interval: "600s" }),
      async (watched, [first]) => {
        first!.mood = ill(503, { "x-envoy-immediate-health-check-fail": "true" });
        await watched.askUntil({ a: `${failed}/excluded_via_immediate_hc_fail` });
        return { json: await watched.healthStatus(), answers: await answersOf(watched, 4), stats: await statsOf(watched) };
      },
    );
    expect(outcome.answers).toEqual(["200 b -"]);
  });

  it("ends an ejection when a check passes, unless told not to", async () => {
    const detection = {
      interval: "600s",
      base_ejection_time: "600s",
      max_ejection_time: "600s",
      consecutive_5xx: 2,
      max_ejection_percent: 100,
    };
    const run = async (watched: WatchedCluster, [first]: readonly MoodyUpstream[]) => {
      first!.mood = ill(500);
      await eventually(async () => {
        await watched.ask();
        return (await watched.stats(/total$/))["outlier_detection.ejections_enforced_total"] ? true : undefined;
      }, "an ejection");
      first!.mood = good;
      const since = first!.checks.length;
      await eventually(() => (first!.checks.length >= since + 3 ? true : undefined), "checks");
      return watched.flags();
    };
    expect(await onBoth([good, good], cluster(http, { outlier_detection: detection }), run)).toEqual({ a: "healthy", b: "healthy" });
    const stays = { ...detection, successful_active_health_check_uneject_host: false };
    expect(await onBoth([good, good], cluster(http, { outlier_detection: stays }), run)).toEqual({
      a: "/failed_outlier_check",
      b: "healthy",
    });
  });

  it("checks by TCP: a connection, or what is answered", async () => {
    const outcome = await onBoth([good, good], cluster({ ...often, tcp_health_check: {} }), async (watched, [first]) => {
      await watched.until({ a: "healthy", b: "healthy" });
      await first!.goAway();
      await watched.until({ a: failed });
      return { flags: await watched.flags(), stats: await statsOf(watched) };
    });
    expect(outcome.flags).toEqual({ a: failed, b: "healthy" });
    await using echo = await startTcpUpstream("echo");
    const at = { load_assignment: { cluster_name: "app", endpoints: [{ lb_endpoints: [{ endpoint: { address: address(echo.port) } }] }] } };
    const hex = (text: string) => ({ text: Buffer.from(text).toString("hex") });
    for (const [receive, healthy] of [
      ["echo:ping", 1],
      ["pong", undefined],
    ] as const) {
      const check = { ...often, timeout: "1s", unhealthy_threshold: 1, tcp_health_check: { send: hex("ping"), receive: [hex(receive)] } };
      const gauges = await onBoth([], cluster(check, at), (watched) => watched.stats(/^health_check\.healthy$/));
      expect(gauges["health_check.healthy"]).toBe(healthy);
    }
  });

  it("checks by gRPC", async () => {
    const [envoys, ours] = await both(
      proxies.map(async ({ start }) => {
        await using server = await startGrpcHealthServer();
        const at = {
          load_assignment: { cluster_name: "app", endpoints: [{ lb_endpoints: [{ endpoint: { address: address(server.port) } }] }] },
        };
        const http2 = {
          typed_extension_protocol_options: {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
              "@type": type("upstreams.http.v3.HttpProtocolOptions"),
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
        };
        const grpc = { service_name: "shop", authority: "grpc.test", initial_metadata: [{ header: { key: "x-check", value: "yes" } }] };
        const check = { ...often, grpc_health_check: grpc };
        await using watched = await WatchedCluster.start(start, { ...cluster(check, { ...at, ...http2 }), upstreams: [] });
        const healthy = async (wanted: number) => {
          await eventually(
            async () => (((await watched.stats(/healthy$/))["health_check.healthy"] ?? 0) === wanted ? true : undefined),
            `${watched.proxy.name}: ${wanted} healthy`,
          );
        };
        await healthy(1);
        for (const says of [{ serving: 2 }, { grpcStatus: 12 }, { serving: 3 }]) {
          server.says = says;
          await healthy(0);
          server.says = { serving: 1 };
          await healthy(1);
        }
        const { headers, body } = server.checks[0]!;
        return { headers: { ...headers }, body, stats: await statsOf(watched) };
      }),
    );
    expect(ours).toEqual(envoys);
    expect(ours!.headers).toMatchObject({ ":path": "/grpc.health.v1.Health/Check", ":authority": "grpc.test", "x-check": "yes" });
  });

  it("checks in TLS, by the cluster's certificates", async () => {
    const [own, other] = [makeCertificate("app.test"), makeCertificate("app.test")];
    await using upstream = await startUpstream("tls", { key: own.key, cert: own.certificate }, { "/health": { status: 200 } });
    for (const [trusted, healthy] of [
      [own, 1],
      [other, undefined],
    ] as const) {
      const more = {
        load_assignment: { cluster_name: "app", endpoints: [{ lb_endpoints: [{ endpoint: { address: address(upstream.port) } }] }] },
        transport_socket: {
          name: "tls",
          typed_config: {
            "@type": type("transport_sockets.tls.v3.UpstreamTlsContext"),
            sni: "app.test",
            common_tls_context: { validation_context: { trusted_ca: { inline_string: trusted.certificate } } },
          },
        },
      };
      const stats = await onBoth([], cluster({ ...http, unhealthy_threshold: 1 }, more), async (watched) => {
        await eventually(async () => ((await watched.stats(/attempt/))["health_check.attempt"] ?? 0) >= 2 || undefined, "checks");
        return statsOf(watched);
      });
      expect((stats as { gauges: Record<string, number> }).gauges["health_check.healthy"]).toBe(healthy);
    }
  });

  it("keeps a host that is well although discovery does not name it, until it is ill", async () => {
    const directory = mkdtempSync(join(tmpdir(), "topsail-eds-"));
    try {
      const outcome = await both(
        proxies.map(async ({ name, start }) => {
          await using stack = new AsyncDisposableStack();
          const upstreams = await Promise.all(["a", "b", "c"].map(async (each) => stack.use(await MoodyUpstream.start(each))));
          const [first, second, third] = upstreams as [MoodyUpstream, MoodyUpstream, MoodyUpstream];
          third.checkMood = "silent";
          const file = join(directory, `${name}.json`);
          const publish = (members: readonly MoodyUpstream[]) => {
            const lb_endpoints = members.map(({ port }) => ({ endpoint: { address: address(port) } }));
            const resource = {
              "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
              cluster_name: "app",
              endpoints: [{ lb_endpoints }],
            };
            writeFileSync(`${file}.new`, JSON.stringify({ resources: [resource] }));
            renameSync(`${file}.new`, file);
          };
          publish([first, second]);
          const eds = { type: "EDS", eds_cluster_config: { eds_config: { path_config_source: { path: file } } } };
          const lb = { common_lb_config: { ignore_new_hosts_until_first_hc: true, update_merge_window: "0s" } };
          const watched = stack.use(
            await WatchedCluster.start(start, { ...cluster({ ...http, timeout: "3s" }, { ...eds, ...lb }), upstreams }),
          );
          await watched.until({ a: "healthy", b: "healthy" });
          publish([second, third]);
          await watched.until({ a: "/pending_dynamic_removal", c: `${failed}/pending_active_hc` });
          const kept = { answers: await answersOf(watched, 6), stats: (await statsOf(watched)) as object };
          first.checkMood = ill(503);
          await eventually(async () => ((await watched.flags()).a === undefined ? true : undefined), `${name}: a gone`);
          return { kept, answers: await answersOf(watched, 4) };
        }),
      );
      expect(outcome[1]).toEqual(outcome[0]);
      expect(outcome[1]!.kept.answers).toEqual(["200 a -", "200 b -"]);
      expect(outcome[1]!.answers).toEqual(["200 b -"]);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

describe.skipIf(!envoyBinary)("The filter for health checks, beside Envoy", { timeout: 120_000 }, () => {
  const filter = (fields: object) => [
    {
      name: "check",
      typed_config: {
        "@type": type("filters.http.health_check.v3.HealthCheck"),
        headers: [{ name: ":path", string_match: { exact: "/probe" } }],
        ...fields,
      },
    },
  ];
  const filterStats = async ({ proxy }: WatchedCluster) => {
    const text = await proxy.admin("/stats?filter=^http.http.health_check");
    return [...text.matchAll(/^(\S+): ([1-9]\d*)$/gm)].map(([, name, value]) => `${name} ${value}`);
  };
  const askFor = async (watched: WatchedCluster, line = "GET /probe") => {
    const { status, headers, body } = await askHttp("127.0.0.1", watched.port, { line, ...(line.startsWith("POST") && { body: "x" }) });
    const { date: _, server, "x-envoy-upstream-service-time": __, ...others } = headers;
    return { status, headers: others, body };
  };

  it("answers by itself, and says when the proxy was failed", async () => {
    const options = { ...cluster(http), httpFilters: filter({ pass_through_mode: false }), concurrency: 1 };
    const outcome = await onBoth([good], options, async (watched) => {
      const well = [await askFor(watched), await askFor(watched, "POST /probe"), await askFor(watched, "GET /other")];
      await watched.proxy.admin("/healthcheck/fail", "POST");
      await eventually(async () => ((await askFor(watched)).status === 503 ? true : undefined), "a failing check");
      const ill = [await askFor(watched), await askFor(watched, "GET /other")];
      await watched.proxy.admin("/healthcheck/ok", "POST");
      await eventually(async () => ((await askFor(watched)).status === 200 ? true : undefined), "a check");
      return { well, ill };
    });
    expect(outcome.well[0]).toMatchObject({ status: 200, headers: { "x-envoy-upstream-healthchecked-cluster": "test" } });
    expect(outcome.ill[1]!.headers).toMatchObject({ "x-envoy-immediate-health-check-fail": "true" });
  });

  it("goes by how many hosts of clusters are well", async () => {
    for (const [percentages, status] of [
      [{ app: { value: 50 } }, 200],
      [{ app: { value: 51.9 } }, 503],
      [{ nope: { value: 1 } }, 503],
    ] as const) {
      const filters = filter({ pass_through_mode: false, cluster_min_healthy_percentages: percentages });
      const outcome = await onBoth([good, ill(503)], { ...cluster(http), httpFilters: filters }, async (watched) => {
        const answer = await askFor(watched);
        return { answer, stats: await filterStats(watched) };
      });
      expect(outcome.answer.status).toBe(status);
    }
  });

  it("passes checks on, and remembers the answer for a while", async () => {
    const filters = filter({ pass_through_mode: true, cache_time: "600s" });
    const outcome = await onBoth([good], { ...cluster(http), httpFilters: filters, concurrency: 1 }, async (watched, [only]) => {
      only!.mood = ill(500, { "x-envoy-degraded": "true" });
      const first = await askFor(watched);
      only!.mood = good;
      return { first, second: await askFor(watched), requests: only!.requests, stats: await filterStats(watched) };
    });
    expect(outcome.requests).toBe(1);
    expect(outcome.second.status).toBe(500);
  });
});

describe.skipIf(!envoyBinary)("Configurations of watched clusters, beside Envoy", () => {
  const verdictsOf = (fields: object) => {
    const yaml = JSON.stringify({ static_resources: { clusters: [{ name: "app", connect_timeout: "1s", ...fields }] } });
    return [comparableReason(ourVerdict(yaml)), comparableReason(envoyValidates(yaml))];
  };
  const needed = { timeout: "1s", interval: "1s", unhealthy_threshold: 1, healthy_threshold: 1 };
  const check = (http_health_check: object) => ({ health_checks: [{ ...needed, http_health_check: { path: "/", ...http_health_check } }] });

  it.each(
    Object.entries({
      "everything that HTTP checks have": check({ host: "a", expected_statuses: [{ start: 200, end: 300 }], codec_client_type: "HTTP2" }),
      "no path": check({ path: "" }),
      "an empty range": check({ expected_statuses: [{ start: 200, end: 200 }] }),
      "a range from below 100": check({ expected_statuses: [{ start: 99, end: 200 }] }),
      "a retriable range beyond 600": check({ retriable_statuses: [{ start: 500, end: 601 }] }),
      "a payload for GET": check({ send: { text: "61" } }),
      "text that is no hexadecimal": check({ receive: [{ text: "xy" }] }),
      "more to be found than is read": check({ receive: [{ text: "616263" }], response_buffer_size: 2 }),
      CONNECT: check({ method: "CONNECT" }),
      "a check of nothing": { health_checks: [needed] },
      "no timeout": { health_checks: [{ ...needed, timeout: undefined, tcp_health_check: {} }] },
      "no thresholds": { health_checks: [{ timeout: "1s", interval: "1s", tcp_health_check: {} }] },
      "gRPC without HTTP/2": { health_checks: [{ ...needed, grpc_health_check: {} }] },
      "an unknown checker": { health_checks: [{ ...needed, custom_health_check: { name: "nope" } }] },
      "ejections longer than the longest": { outlier_detection: { base_ejection_time: "10s", max_ejection_time: "5s" } },
      "more than all": { outlier_detection: { max_ejection_percent: 101 } },
      "no interval": { outlier_detection: { interval: "0s" } },
    }),
  )("%s", (_name, fields) => {
    const [ours, envoys] = verdictsOf(fields);
    expect(ours).toEqual(envoys);
  });

  it.each(
    Object.entries({
      "the filter, passing on": { pass_through_mode: true, cache_time: "1s" },
      "the filter without a mode": {},
      "the filter with a cache of nothing": { pass_through_mode: false, cache_time: "1s" },
      "the filter with percentages of others": { pass_through_mode: true, cluster_min_healthy_percentages: { app: { value: 1 } } },
    }),
  )("%s", (_name, fields) => {
    const check = { name: "check", typed_config: { "@type": type("filters.http.health_check.v3.HealthCheck"), ...fields } };
    const filters = answeringFilters("in") as [{ typed_config: { http_filters: object[] } }];
    filters[0].typed_config.http_filters.unshift(check);
    const listeners = [{ name: "in", address: address(0), filter_chains: [{ filters }] }];
    const yaml = JSON.stringify({ static_resources: { listeners } });
    expect(comparableReason(ourVerdict(yaml))).toEqual(comparableReason(envoyValidates(yaml)));
  });

  const named = (...names: string[]) => ({ health_checks: names.map((name) => ({ ...check({}).health_checks[0], name })) });

  it.each(
    Object.entries({
      "two names": named("a", "b"),
      "a name and none": named("a", ""),
      "a name twice": named("a", "b", "a"),
      "one name": named("a"),
    }),
  )("several checks: %s", (_name, fields) => {
    const [ours, envoys] = verdictsOf(fields);
    expect(ours).toEqual(envoys);
  });
});
