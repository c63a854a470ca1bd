import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { LbEndpointSchema, LocalityLbEndpointsSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import { StatsStore } from "../stats/store.ts";
import { compileHealthChecks } from "./health-check-config.ts";
import { HealthCheckSession } from "./health-check-session.ts";
import { HealthCheckStats } from "./health-check-stats.ts";
import { failed, type HealthProbe, type ProbeOutcome, passed, unreachable } from "./health-probe.ts";
import { CellBlocks } from "./host-cells.ts";
import { flagsText, hostFlags } from "./host-flags.ts";
import { MonitoredHost } from "./monitored-host.ts";

const seconds = (count: number) => ({ seconds: BigInt(count), nanos: 0 });
const retriable: ProbeOutcome = { kind: "failed", isRetriable: true, wantsExclusion: false };

/** A session whose probe answers with what the test says next; silence where it says nothing. */
function sessionOf(answers: (ProbeOutcome | null)[], hasTraffic = true) {
  const config = compileHealthChecks(
    create(ClusterSchema, {
      name: "app",
      healthChecks: [
        {
          timeout: seconds(1),
          interval: seconds(10),
          unhealthyInterval: seconds(20),
          unhealthyEdgeInterval: seconds(2),
          healthyEdgeInterval: seconds(3),
          noTrafficInterval: seconds(50),
          noTrafficHealthyInterval: seconds(60),
          unhealthyThreshold: 2,
          healthyThreshold: 2,
          healthChecker: { case: "tcpHealthCheck", value: {} },
        },
      ],
    }),
    false,
  )[0]!;
  const host = new MonitoredHost("a", new CellBlocks().take(), create(LbEndpointSchema), create(LocalityLbEndpointsSchema));
  host.set(hostFlags.failedActiveCheck);
  const asked: number[] = [];
  const began = Date.now();
  const probe: HealthProbe = {
    ask(done) {
      asked.push((Date.now() - began) / 1000);
      const answer = answers.shift();
      if (answer) done(answer);
    },
    giveUp() {},
    close() {},
  };
  const transitions: string[] = [];
  const store = new StatsStore();
  const session = new HealthCheckSession({
    config,
    host,
    flags: host,
    probe,
    stats: new HealthCheckStats(store, "c."),
    events: null,
    hasTraffic: () => hasTraffic,
    onResult: (_host, { transition, hasPassed }) => {
      transitions.push(`${hasPassed ? "+" : "-"}${transition} ${flagsText(host.flags)}`);
    },
  });
  session.start();
  const stat = (name: string) => store.values[store.counter(`c.health_check.${name}`)];
  return { session, host, asked, transitions, stat };
}

describe("HealthCheckSession", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("asks sooner while a change is pending, and takes the first good answer for enough", () => {
    const { asked, transitions, session, stat } = sessionOf([passed, unreachable, unreachable, passed, passed, failed, unreachable]);
    vi.advanceTimersByTime(80_000);
    expect(transitions).toEqual([
      "+changed healthy",
      "-pending healthy",
      "-changed /failed_active_hc",
      "+pending /failed_active_hc",
      "+changed healthy",
      // One that answers, and says no, is ill at once.
      "-changed /failed_active_hc",
      "-unchanged /failed_active_hc",
    ]);
    expect(asked).toEqual([0, 10, 12, 32, 35, 45, 65]);
    expect([stat("attempt"), stat("success"), stat("failure"), stat("network_failure"), stat("healthy")]).toEqual([7, 3, 4, 3, 0]);
    session.close();
  });

  it("counts statuses that are retriable, and what comes too late", () => {
    const { transitions, session } = sessionOf([passed, retriable, null, null]);
    vi.advanceTimersByTime(40_000);
    expect(transitions).toEqual([
      "+changed healthy",
      "-pending healthy",
      "-changed /failed_active_hc/active_hc_timeout",
      "-unchanged /failed_active_hc/active_hc_timeout",
    ]);
    session.close();
  });

  it("asks seldom where nobody uses the cluster", () => {
    const { asked, session } = sessionOf([passed, failed, failed], false);
    vi.advanceTimersByTime(180_000);
    expect(asked).toEqual([0, 60, 110, 160]);
    session.close();
    vi.advanceTimersByTime(180_000);
    expect(asked).toHaveLength(4);
  });

  it("is told by a worker that a host wants no requests", () => {
    const { session, host, stat } = sessionOf([passed]);
    session.failPassively();
    expect(flagsText(host.flags)).toBe("/failed_active_hc");
    expect([stat("healthy"), stat("passive_failure")]).toEqual([0, 1]);
    session.close();
  });

  it("gives its part of the gauge back", () => {
    const { session, stat } = sessionOf([passed]);
    expect(stat("healthy")).toBe(1);
    session.close();
    expect(stat("healthy")).toBe(0);
  });
});
