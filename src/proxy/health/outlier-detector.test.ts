import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { OutlierDetectionSchema } from "../../api/gen/envoy/config/cluster/v3/outlier_detection_pb.js";
import { LbEndpointSchema, LocalityLbEndpointsSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import { StatsStore } from "../stats/store.ts";
import { CellBlocks } from "./host-cells.ts";
import { type HostEvent, HostMonitor } from "./host-monitor.ts";
import { MonitoredHost } from "./monitored-host.ts";
import { compileOutlierDetection } from "./outlier-config.ts";
import { OutlierDetector } from "./outlier-detector.ts";
import { OutlierStats } from "./outlier-stats.ts";

const seconds = (count: number) => ({ seconds: BigInt(count), nanos: 0 });

type Detection = Parameters<typeof create<typeof OutlierDetectionSchema>>[1];

/** Hosts a, b, c ... of a cluster, a clock that the test sets, and a worker that tells the main thread at once. */
function clusterOf(count: number, detection: Detection) {
  const config = compileOutlierDetection(create(OutlierDetectionSchema, detection), null)!;
  const blocks = new CellBlocks();
  const store = new StatsStore();
  const clock = { seconds: 0 };
  const changes: string[] = [];
  const hosts = new Map(
    Array.from({ length: count }, (_, index) => {
      const key = "abcdefgh"[index]!;
      return [key, new MonitoredHost(key, blocks.take(), create(LbEndpointSchema), create(LocalityLbEndpointsSchema))];
    }),
  );
  const detector = new OutlierDetector({
    config,
    hosts,
    stats: new OutlierStats(store, "c."),
    events: null,
    onChange: ({ key }) => changes.push(key),
    now: () => clock.seconds * 1000,
    random: () => 0.5,
  });
  const monitor = (key: string) =>
    new HostMonitor(hosts.get(key)!.cells, { outlier: config, hasChecks: false }, (event: HostEvent) => {
      if (event !== "immediateHealthCheckFail") detector.onConsecutive(hosts.get(key)!, event);
    });
  const isOut = (key: string) => hosts.get(key)!.has(2);
  const stat = (name: string) => store.values[store.counter(`c.outlier_detection.ejections_${name}`)];
  return { hosts, detector, monitor, clock, changes, isOut, stat };
}

describe("OutlierDetector", () => {
  it("keeps a host out for longer each time, at most so long, and forgets that by intervals without an ejection", () => {
    const detection = {
      consecutive5xx: 1,
      interval: seconds(10),
      baseEjectionTime: seconds(30),
      maxEjectionTime: seconds(80),
      maxEjectionPercent: 100,
    };
    const { detector, monitor, clock, isOut, hosts } = clusterOf(1, detection);
    const secondsOut = () => {
      monitor("a").onResponse(500, [], false);
      const since = clock.seconds;
      while (isOut("a")) {
        clock.seconds += 10;
        detector.sweep();
      }
      return clock.seconds - since;
    };
    // Thirty more each time; the fourth would be 120.
    expect([secondsOut(), secondsOut(), secondsOut(), secondsOut()]).toEqual([30, 60, 80, 80]);
    const { backOff } = hosts.get("a")!.outlier;
    for (let i = 0; i < backOff - 1; i++) {
      clock.seconds += 10;
      detector.sweep();
    }
    expect(secondsOut()).toBe(60);
    expect(hosts.get("a")!.outlier.ejections).toBe(5);
  });

  it("adds a part of the jitter to an ejection", () => {
    const detection = { consecutive5xx: 1, baseEjectionTime: seconds(30), maxEjectionTimeJitter: seconds(20), maxEjectionPercent: 100 };
    const { detector, monitor, clock, isOut } = clusterOf(1, detection);
    monitor("a").onResponse(503, [], false);
    clock.seconds = 39;
    detector.sweep();
    expect(isOut("a")).toBe(true);
    clock.seconds = 41;
    detector.sweep();
    expect(isOut("a")).toBe(false);
  });

  it("counts from the beginning when a host is let in again", () => {
    const { detector, monitor, clock, isOut } = clusterOf(1, { consecutive5xx: 3, baseEjectionTime: seconds(1), maxEjectionPercent: 100 });
    // Of several workers.
    const workers = [monitor("a"), monitor("a")];
    for (let i = 0; i < 5; i++) workers[i % 2]!.onResponse(500, [], false);
    expect(isOut("a")).toBe(true);
    clock.seconds = 1;
    detector.sweep();
    for (let i = 0; i < 2; i++) workers[i]!.onResponse(500, [], false);
    expect(isOut("a")).toBe(false);
    workers[0]!.onResponse(500, [], false);
    expect(isOut("a")).toBe(true);
  });

  it("finds those whose success rate is far below the others', of hosts with enough requests", () => {
    const { detector, monitor, isOut, hosts } = clusterOf(6, { consecutive5xx: 0, successRateRequestVolume: 4, maxEjectionPercent: 50 });
    const rates: Record<string, number> = { a: 2, b: 4, c: 4, d: 4, e: 4 };
    for (const [key, good] of Object.entries(rates)) {
      for (let i = 0; i < 4; i++) monitor(key).onResponse(i < good ? 200 : 500, [], false);
    }
    monitor("f").onResponse(500, [], false);
    detector.sweep();
    // 50 and four times 100: the mean is 90, the deviation 20.
    expect(detector.rates.external).toEqual({ average: 90, ejectionThreshold: 52 });
    expect([...hosts.keys()].filter(isOut)).toEqual(["a"]);
    expect(hosts.get("a")!.outlier.successRate).toBe(50);
    expect(hosts.get("f")!.outlier.successRate).toBe(-1);
    detector.sweep();
    expect(detector.rates.external.average).toBe(-1);
  });

  it("gives the ejected back when it is disposed of, or when a host goes", () => {
    const { detector, monitor, hosts, stat } = clusterOf(3, { consecutive5xx: 1, maxEjectionPercent: 100 });
    for (const key of ["a", "b", "c"]) monitor(key).onResponse(500, [], false);
    expect(stat("active")).toBe(3);
    detector.forget(hosts.get("a")!);
    hosts.delete("a");
    expect(stat("active")).toBe(2);
    detector[Symbol.dispose]();
    expect(stat("active")).toBe(0);
  });
});

describe("HostMonitor", () => {
  it("takes for errors what a matcher says, whatever the status", () => {
    const config = compileOutlierDetection(create(OutlierDetectionSchema, { consecutive5xx: 2 }), (status) => status === 429)!;
    const events: HostEvent[] = [];
    const monitor = new HostMonitor(new CellBlocks().take(), { outlier: config, hasChecks: false }, (event) => events.push(event));
    for (const status of [503, 503, 503, 429, 200, 429, 429]) monitor.onResponse(status, [], false);
    expect(events).toEqual(["consecutive5xx"]);
  });

  it("tells connections from answers where they are counted apart", () => {
    const config = compileOutlierDetection(
      create(OutlierDetectionSchema, { consecutive5xx: 2, consecutiveLocalOriginFailure: 2, splitExternalLocalOriginErrors: true }),
      null,
    )!;
    const events: HostEvent[] = [];
    const monitor = new HostMonitor(new CellBlocks().take(), { outlier: config, hasChecks: true }, (event) => events.push(event));
    monitor.onConnectFailed();
    monitor.onReady();
    monitor.onTimeout();
    expect(events).toEqual([]);
    monitor.onConnectFailed();
    monitor.onResponse(200, ["x-envoy-immediate-health-check-fail", "true"], false);
    expect(events).toEqual(["consecutiveLocalOriginFailure", "immediateHealthCheckFail"]);
    expect(monitor.flags).toBe(0x80);
  });
});
