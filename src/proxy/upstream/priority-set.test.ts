import { describe, expect, it } from "vitest";
import { type HostHealth, hostFlags } from "../health/host-flags.ts";
import { StatsStore } from "../stats/store.ts";
import { Host, type HostDescription } from "./host.ts";
import type { LoadBalancerPolicy } from "./load-balancer-policy.ts";
import { type PriorityOptions, PrioritySet } from "./priority-set.ts";

const stats = new StatsStore();

function host(name: string, parts: Partial<HostDescription> = {}): Host {
  const description: HostDescription = {
    address: name,
    port: 1,
    hostname: "",
    weight: 1,
    edsFlags: 0,
    metadata: {},
    priority: 0,
    locality: "",
    localityWeight: 0,
    otherAddresses: [],
    announcedTlvs: [],
    ...parts,
  };
  return new Host(name, description, { name: "", tls: null, announcement: null }, "c", stats);
}

const defaults: PriorityOptions = {
  policy: { kind: "roundRobin", slowStart: null },
  panicThresholdPercent: 50,
  failsOnPanic: false,
  weighsLocalities: false,
  overprovisioningPercent: 140,
  weighsHealth: false,
  activeRequests: () => 0,
  onTable: () => {},
};

function share(hosts: Host[], options: Partial<PriorityOptions> = {}, picks = 4000): { percent: Record<string, number>; panics: number } {
  let panics = 0;
  const set = new PrioritySet(hosts, { ...defaults, ...options }, () => panics++);
  const percent: Record<string, number> = {};
  for (let i = 0; i < picks; i++) {
    const key = set.choose()?.key ?? "none";
    percent[key] = (percent[key] ?? 0) + 100 / picks;
  }
  return { percent, panics };
}

const flagsOf: Record<HostHealth, number> = { healthy: 0, degraded: hostFlags.degradedEdsHealth, unhealthy: hostFlags.failedEdsHealth };

const group = (prefix: string, healths: HostHealth[], priority: number) =>
  healths.map((health, index) => host(`${prefix}${index}`, { edsFlags: flagsOf[health], priority }));

describe("PrioritySet", () => {
  it("rotates over equal hosts", () => {
    const set = new PrioritySet([host("a"), host("b"), host("c")], defaults, () => {});
    const first = [set.choose()!.key, set.choose()!.key, set.choose()!.key];
    expect(new Set(first).size).toBe(3);
    expect([set.choose()!.key, set.choose()!.key, set.choose()!.key]).toEqual(first);
  });

  const policies: LoadBalancerPolicy[] = [
    { kind: "roundRobin", slowStart: null },
    { kind: "leastRequest", choices: 2, activeRequestBias: 1, slowStart: null },
  ];
  it.each(policies)("gives weights their exact share with $kind", (policy) => {
    const { percent } = share([host("a", { weight: 3 }), host("b", { weight: 1 })], { policy });
    expect(percent.a).toBeCloseTo(75, 5);
  });

  it("draws without regard to weights at random", () => {
    const { percent } = share([host("a", { weight: 3 }), host("b", { weight: 1 })], { policy: { kind: "random" } });
    expect(percent.a).toBeGreaterThan(45);
    expect(percent.a).toBeLessThan(55);
  });

  it("prefers the host with fewer requests", () => {
    const busy = host("busy");
    busy.activeRequests = 5;
    const { percent } = share([busy, host("idle")], {
      policy: { kind: "leastRequest", choices: 2, activeRequestBias: 1, slowStart: null },
    });
    expect(percent.idle).toBeGreaterThan(70);
  });

  it("spills 30 % to the next priority when half of the first is ill", () => {
    const { percent } = share([...group("p", ["healthy", "unhealthy"], 0), ...group("s", ["healthy"], 1)]);
    expect(percent.p0).toBeGreaterThan(66);
    expect(percent.p0).toBeLessThan(74);
    expect(percent.p1).toBeUndefined();
  });

  it("does not spill when three of four are healthy", () => {
    const { percent } = share([...group("p", ["healthy", "healthy", "healthy", "unhealthy"], 0), ...group("s", ["healthy"], 1)]);
    expect(percent.s0).toBeUndefined();
  });

  it("uses all hosts in panic, below the threshold and not at it", () => {
    const ill = share(group("p", ["healthy", "unhealthy", "unhealthy"], 0));
    expect(ill.percent.p1).toBeGreaterThan(30);
    expect(ill.panics).toBe(4000);
    const half = share(group("p", ["healthy", "unhealthy"], 0));
    expect(half.percent).toEqual({ p0: expect.closeTo(100, 5) });
    expect(half.panics).toBe(0);
  });

  it("has nobody when panic is off or fails", () => {
    const hosts = group("p", ["unhealthy", "unhealthy"], 0);
    expect(share(hosts, { panicThresholdPercent: 0 }).percent).toEqual({ none: expect.closeTo(100, 5) });
    expect(share(hosts, { failsOnPanic: true }).percent).toEqual({ none: expect.closeTo(100, 5) });
    expect(share([]).percent).toEqual({ none: expect.closeTo(100, 5) });
  });

  it("sends everything to the second priority when the first is all ill", () => {
    const { percent } = share([...group("p", ["unhealthy"], 0), ...group("s", ["healthy"], 1)]);
    expect(percent).toEqual({ s0: expect.closeTo(100, 5) });
  });

  it("weighs localities when told to", () => {
    const hosts = [host("a", { locality: "x", localityWeight: 1 }), host("b", { locality: "y", localityWeight: 3 })];
    expect(share(hosts, { weighsLocalities: true }).percent.b).toBeCloseTo(75, 0);
    expect(share(hosts).percent.b).toBeCloseTo(50, 0);
  });
});
