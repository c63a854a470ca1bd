/** Who is ejected, when, and what is said of it: Envoy and our proxy on the same file, before endpoints that misbehave alike. */
import { describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { good, ill, type Mood, MoodyUpstream } from "../support/moody-upstream.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually, startOurProxy } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";
import { type } from "../support/static-bootstrap.ts";
import { answersOf, WatchedCluster, type WatchedOptions, watchedByBoth } from "../support/watched-cluster.ts";

type Detection = Record<string, unknown>;

const ejected = "/failed_outlier_check";
/** Nobody comes back while a test runs. */
const forGood = { interval: "600s", base_ejection_time: "600s", max_ejection_time: "600s" };
/** Envoy tells its workers at once, and not of a second's changes together. */
const atOnce = { update_merge_window: "0s" };
const noPanic = { common_lb_config: { ...atOnce, healthy_panic_threshold: { value: 0 } } };

const onBoth = <T>(
  moods: readonly Mood[],
  options: Omit<WatchedOptions, "upstreams">,
  run: (cluster: WatchedCluster, upstreams: readonly MoodyUpstream[]) => Promise<T>,
) => watchedByBoth({ kind: "mood", moods, ...options }, run);

const outlier = (outlier_detection: Detection, more: object = noPanic) => ({ cluster: { outlier_detection, ...more } });

describe.skipIf(!envoyBinary)("Outlier detection beside Envoy", { timeout: 120_000 }, () => {
  const statistics = /^(outlier_detection\.|membership_(healthy|total|excluded|degraded)$|upstream_cx_none_healthy)/;
  const summary = async (cluster: WatchedCluster, events = 1) => {
    await logged(cluster, events);
    return {
      flags: await cluster.flags(),
      status: await cluster.healthStatus(),
      stats: await cluster.stats(statistics),
      events: cluster.events("outliers.log"),
    };
  };
  /** Events are written a moment after they have happened. */
  const logged = (cluster: WatchedCluster, count: number) =>
    eventually(() => (cluster.events("outliers.log").length >= count ? true : undefined), "the event log");

  it.each([
    ["500", ill(500), { consecutive_5xx: 3 }],
    ["503", ill(503), { consecutive_5xx: 3 }],
    ["gateway errors", ill(502), { consecutive_5xx: 0, consecutive_gateway_failure: 3, enforcing_consecutive_gateway_failure: 100 }],
    ["lost connections", "reset" as const, { consecutive_5xx: 3 }],
    ["no answer in time", "silent" as const, { consecutive_5xx: 2 }],
  ])("ejects who fails several times in a row: %s", async (_name, mood, detection) => {
    const options = { ...outlier({ ...forGood, max_ejection_percent: 50, ...detection }), route: { timeout: "1s" } };
    const outcome = await onBoth([mood, good, good, good], options, async (cluster) => {
      await cluster.askUntil({ a: ejected });
      return { answers: await answersOf(cluster, 12), ...(await summary(cluster)) };
    });
    expect(outcome.answers).toEqual(["200 b -", "200 c -", "200 d -"]);
    expect(outcome.flags).toEqual({ a: ejected, b: "healthy", c: "healthy", d: "healthy" });
    expect(outcome.events).toHaveLength(1);
  });

  it.each([
    ["counted as answers", { consecutive_5xx: 2 }],
    // A request that loses its connection had one: only those without any come in a row.
    ["counted apart", { consecutive_5xx: 2, split_external_local_origin_errors: true, consecutive_local_origin_failure: 2 }],
  ])("ejects who refuses connections, %s", async (_name, detection) => {
    const outcome = await onBoth(
      [good, good, good, good],
      outlier({ ...forGood, max_ejection_percent: 50, ...detection }),
      async (cluster, [first]) => {
        await first!.goAway();
        await cluster.askUntil({ a: ejected });
        return { answers: await answersOf(cluster, 12), ...(await summary(cluster)) };
      },
    );
    expect(outcome.flags.a).toBe(ejected);
  });

  it("takes 500 for no gateway error, and a good answer for an end of failures", async () => {
    const detection = {
      ...forGood,
      consecutive_5xx: 2,
      consecutive_gateway_failure: 2,
      enforcing_consecutive_gateway_failure: 100,
      max_ejection_percent: 100,
    };
    const outcome = await onBoth([good], outlier(detection), async (cluster, [only]) => {
      for (const status of [500, 200, 503, 200, 502, 200, 504, 404, 500, 200]) {
        only!.mood = ill(status);
        await cluster.ask();
      }
      // What comes now is counted behind all of that.
      only!.mood = ill(503);
      await cluster.ask();
      const before = await cluster.flags();
      await cluster.askUntil({ a: ejected });
      return { before, ...(await summary(cluster)) };
    });
    expect(outcome.before).toEqual({ a: "healthy" });
  });

  it("reads gRPC statuses where they stand in the head of an answer", async () => {
    const unavailable = { status: 200, headers: { "content-type": "application/grpc", "grpc-status": "14" } };
    const outcome = await onBoth([unavailable], outlier({ ...forGood, consecutive_5xx: 3, max_ejection_percent: 100 }), async (cluster) => {
      for (let i = 0; i < 5; i++) await cluster.ask();
      const before = await cluster.flags();
      await cluster.askUntil({ a: ejected }, { "content-type": "application/grpc", te: "trailers" });
      return { before, ...(await summary(cluster)) };
    });
    expect(outcome.before).toEqual({ a: "healthy" });
  });

  it("takes for errors what the cluster's protocol options say", async () => {
    const status = (exact: string) => ({ http_response_headers_match: { headers: [{ name: ":status", string_match: { exact } }] } });
    const options = {
      typed_extension_protocol_options: {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
          "@type": type("upstreams.http.v3.HttpProtocolOptions"),
          explicit_http_config: { http_protocol_options: {} },
          outlier_detection: { error_matcher: { or_match: { rules: [status("429"), status("503")] } } },
        },
      },
    };
    const detection = { ...forGood, consecutive_5xx: 3, consecutive_gateway_failure: 2, enforcing_consecutive_gateway_failure: 100 };
    const all = outlier({ ...detection, max_ejection_percent: 100 }, { ...noPanic, ...options });
    const outcome = await onBoth([good], all, async (cluster, [only]) => {
      for (const code of [500, 500, 500, 503, 429, 500, 503, 200, 429, 429]) {
        only!.mood = ill(code);
        await cluster.ask();
      }
      const before = await cluster.flags();
      await cluster.askUntil({ a: ejected });
      return { before, ...(await summary(cluster)) };
    });
    expect(outcome.before).toEqual({ a: "healthy" });
  });

  it("counts whom it would eject, and ejects nobody beyond max_ejection_percent", async () => {
    const options = outlier({ ...forGood, consecutive_5xx: 2, max_ejection_percent: 25 });
    const outcome = await onBoth([ill(500), ill(500), good, good], options, async (cluster) => {
      await eventually(async () => {
        await cluster.ask();
        return (await cluster.stats(/overflow/))["outlier_detection.ejections_overflow"] ? true : undefined;
      }, "an overflow");
      const { "outlier_detection.ejections_active": active, membership_healthy } = await cluster.stats(/./);
      return { active, membership_healthy, ejected: Object.values(await cluster.flags()).filter((flags) => flags === ejected).length };
    });
    expect(outcome).toEqual({ active: 1, membership_healthy: 3, ejected: 1 });
  });

  it("ejects nobody of a few with the default of 10 %, and one with always_eject_one_host", async () => {
    const small = { ...forGood, consecutive_5xx: 2 };
    const untilOverflow = async (cluster: WatchedCluster) => {
      await eventually(async () => {
        await cluster.ask();
        return (await cluster.stats(/overflow/))["outlier_detection.ejections_overflow"] ? true : undefined;
      }, "an overflow");
      return cluster.flags();
    };
    expect(await onBoth([ill(500), good], outlier(small), untilOverflow)).toEqual({ a: "healthy", b: "healthy" });
    const flags = await onBoth([ill(500), good], outlier({ ...small, always_eject_one_host: true }), async (cluster) => {
      await cluster.askUntil({ a: ejected });
      return cluster.flags();
    });
    expect(flags).toEqual({ a: ejected, b: "healthy" });
  });

  it("only counts what it is not told to enforce", async () => {
    const outcome = await onBoth(
      [ill(503)],
      outlier({ ...forGood, consecutive_5xx: 2, enforcing_consecutive_5xx: 0, max_ejection_percent: 100 }),
      async (cluster) => {
        for (let i = 0; i < 2; i++) await cluster.ask();
        return summary(cluster);
      },
    );
    expect(outcome.flags).toEqual({ a: "healthy" });
  });

  it("uses all hosts in panic, and nobody where panic is off", async () => {
    const all = { ...forGood, consecutive_5xx: 2, max_ejection_percent: 100 };
    const untilBoth = async (cluster: WatchedCluster) => {
      await cluster.askUntil({ a: ejected, b: ejected });
      const answers = await answersOf(cluster, 8);
      const panics = (await cluster.stats(/^lb_healthy_panic$/)).lb_healthy_panic !== undefined;
      return { answers, panics, stats: await cluster.stats(/^membership_(healthy|total)/) };
    };
    const inPanic = await onBoth([ill(500), ill(500)], outlier(all, { common_lb_config: atOnce }), untilBoth);
    expect(inPanic.answers).toEqual(["500 a -", "500 b -"]);
    const without = await onBoth([ill(500), ill(500)], outlier(all), async (cluster) => {
      await cluster.askUntil({ a: ejected, b: ejected });
      return answersOf(cluster, 4);
    });
    expect(without).toEqual(["503 - UH"]);
  });

  it("lets hosts in again when their time is over", async () => {
    const detection = {
      interval: "0.1s",
      base_ejection_time: "0.3s",
      max_ejection_time: "0.6s",
      consecutive_5xx: 2,
      max_ejection_percent: 100,
    };
    const outcome = await onBoth([good], outlier(detection), async (cluster, [only]) => {
      for (let round = 0; round < 3; round++) {
        only!.mood = ill(500);
        await cluster.askUntil({ a: ejected });
        only!.mood = good;
        await cluster.until({ a: "healthy" });
      }
      return { answers: await answersOf(cluster, 2), ...(await summary(cluster, 6)) };
    });
    expect(
      (outcome.events as { action: string; num_ejections: number }[]).map((event) => `${event.action} ${event.num_ejections}`),
    ).toEqual([...["EJECT 1", "UNEJECT 1", "EJECT 2", "UNEJECT 2", "EJECT 3", "UNEJECT 3"]]);
  });

  it.each([
    ["its success rate", { success_rate_request_volume: 10 }, "SUCCESS_RATE"],
    [
      "its share of failures",
      {
        enforcing_success_rate: 0,
        success_rate_minimum_hosts: 100,
        enforcing_failure_percentage: 100,
        failure_percentage_request_volume: 10,
      },
      "FAILURE_PERCENTAGE",
    ],
    [
      "the success rate of its connections",
      { split_external_local_origin_errors: true, consecutive_local_origin_failure: 0, success_rate_request_volume: 10 },
      "SUCCESS_RATE_LOCAL_ORIGIN",
    ],
    [
      "its share of lost connections",
      {
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: 0,
        success_rate_minimum_hosts: 100,
        failure_percentage_request_volume: 10,
        enforcing_failure_percentage_local_origin: 100,
      },
      "FAILURE_PERCENTAGE_LOCAL_ORIGIN",
    ],
  ])("ejects by %s", async (_name, detection, type) => {
    const isLocal = type.endsWith("LOCAL_ORIGIN");
    const all = { ...forGood, interval: "0.5s", consecutive_5xx: 0, max_ejection_percent: 50, ...detection };
    const outcome = await onBoth([good, good, good, good, good], outlier(all), async (cluster, [first]) => {
      if (isLocal) await first!.goAway();
      else first!.mood = ill(500);
      await eventually(async () => {
        await Promise.all(Array.from({ length: 25 }, () => cluster.ask()));
        return (await cluster.flags()).a === ejected ? true : undefined;
      }, `an ejection by ${type}`);
      await logged(cluster, 1);
      return { flags: await cluster.flags(), event: cluster.events("outliers.log")[0] as { type: string } };
    });
    expect(outcome.event.type).toBe(type);
    expect(outcome.flags).toMatchObject({ a: ejected, b: "healthy" });
  });

  it("takes connections of tcp_proxy for what they are", async () => {
    const detection = { ...forGood, consecutive_5xx: 2, max_ejection_percent: 50 };
    const outcome = await onBoth([good, good], outlier(detection), async (cluster, [first]) => {
      await first!.goAway();
      await eventually(async () => {
        using connection = await RawConnection.open(cluster.tcpPort);
        connection.write("GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        await connection.closed;
        return (await cluster.flags()).a === ejected ? true : undefined;
      }, "an ejection by connections");
      return summary(cluster);
    });
    expect(outcome.flags).toEqual({ a: ejected, b: "healthy" });
  });
});

describe("Outlier detection in several workers", { timeout: 60_000 }, () => {
  it("counts what all of them see together", async () => {
    await using only = await MoodyUpstream.start("a");
    only.mood = ill(500);
    const detection = { ...forGood, consecutive_5xx: 12, max_ejection_percent: 100 };
    await using cluster = await WatchedCluster.start(startOurProxy, {
      ...outlier(detection),
      upstreams: [only],
      concurrency: 4,
      port: await freePortRow(1),
    });
    for (let i = 0; i < 11; i++) await cluster.ask();
    expect(await cluster.flags()).toEqual({ a: "healthy" });
    await cluster.ask();
    await cluster.until({ a: ejected });
    // Each worker has a connection of its own.
    expect((await cluster.stats(/^upstream_cx_total$/)).upstream_cx_total).toBeGreaterThan(1);
    await eventually(async () => ((await cluster.ask()).by === "" ? true : undefined), "a worker that knows");
    const answers = await Promise.all(Array.from({ length: 20 }, () => cluster.ask()));
    expect(new Set(answers.map(({ status, by }) => `${status} ${by}`))).toEqual(new Set(["503 "]));
  });
});
