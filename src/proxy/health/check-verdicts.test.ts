import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { LbEndpointSchema, LocalityLbEndpointsSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import { CheckVerdicts } from "./check-verdicts.ts";
import { CellBlocks } from "./host-cells.ts";
import { flagsText, hostFlags } from "./host-flags.ts";
import { MonitoredHost } from "./monitored-host.ts";

const { failedActiveCheck, degradedActiveCheck, activeCheckTimeout, failedOutlierCheck } = hostFlags;

function hostWith(flags: number) {
  const host = new MonitoredHost("a", new CellBlocks().take(), create(LbEndpointSchema), create(LocalityLbEndpointsSchema));
  host.set(flags);
  const counted = { healthy: 0, degraded: 0 };
  const verdicts = new CheckVerdicts(host, (gauge, amount) => {
    counted[gauge] += amount;
  });
  return { host, verdicts, counted, seen: () => [flagsText(host.flags), counted.healthy, counted.degraded] };
}

describe("CheckVerdicts", () => {
  it("find a host well when all checks do, and ill as long as one does not", () => {
    const { verdicts, seen } = hostWith(failedActiveCheck);
    const [a, b] = [verdicts.add(), verdicts.add()];
    a.clear(failedActiveCheck);
    expect(seen()).toEqual(["/failed_active_hc", 0, 0]);
    b.clear(failedActiveCheck);
    expect(seen()).toEqual(["healthy", 1, 0]);
    a.set(failedActiveCheck | activeCheckTimeout);
    b.set(failedActiveCheck);
    expect(seen()).toEqual(["/failed_active_hc/active_hc_timeout", 0, 0]);
    a.clear(failedActiveCheck | activeCheckTimeout);
    expect(seen()).toEqual(["/failed_active_hc", 0, 0]);
    expect([a.has(failedActiveCheck), b.has(failedActiveCheck)]).toEqual([false, true]);
  });

  it("find a host degraded that one check does, and well again when that is over", () => {
    const { verdicts, seen } = hostWith(0);
    const [a] = [verdicts.add(), verdicts.add()];
    a.set(degradedActiveCheck);
    expect(seen()).toEqual(["/degraded_active_hc", 0, 1]);
    a.clear(degradedActiveCheck);
    expect(seen()).toEqual(["healthy", 0, 0]);
  });

  it("leave alone what others have against the host, and count no host that is gone", () => {
    const { host, verdicts, seen } = hostWith(failedActiveCheck);
    const check = verdicts.add();
    host.set(failedOutlierCheck);
    check.clear(failedActiveCheck);
    expect(seen()).toEqual(["/failed_outlier_check", 1, 0]);
    verdicts.close();
    expect(seen()).toEqual(["/failed_outlier_check", 0, 0]);
  });
});
