import { describe, expect, it } from "vitest";
import { Hash64 } from "../../lib/hash64.ts";
import { StatsStore } from "../stats/store.ts";
import { HashRing } from "./hash-ring.ts";
import { Host, type HostDescription } from "./host.ts";
import { hashKey, hostWeights } from "./host-weights.ts";
import { createLoadBalancer } from "./load-balancer.ts";
import { MaglevTable } from "./maglev-table.ts";
import { MersenneTwister } from "./mersenne-twister.ts";
import { PreviousPriorities } from "./previous-priorities.ts";
import { startingShare } from "./slow-start.ts";

const stats = new StatsStore();

function host(address: string, parts: Partial<HostDescription> = {}): Host {
  const description: HostDescription = {
    address,
    port: 80,
    hostname: "",
    weight: 1,
    edsFlags: 0,
    otherAddresses: [],
    announcedTlvs: [],
    metadata: {},
    priority: 0,
    locality: "",
    localityWeight: 0,
    ...parts,
  };
  const key = address.includes(":") ? `[${address}]:80` : `${address}:80`;
  return new Host(key, description, { name: "", tls: null, announcement: null }, "c", stats);
}

const hosts = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map((address) => host(address));
const ringOptions = { minimumSize: 1024, maximumSize: 8_388_608, hashFunction: "xxHash", usesHostname: false } as const;

function hashes(count: number): Hash64[] {
  const random = new MersenneTwister(7);
  return Array.from({ length: count }, () => Object.assign(new Hash64(), { high: random.next(), low: random.next() }));
}

describe("HashRing", () => {
  it("has as many places as asked for, and a few more so that all hosts have the same", () => {
    const ring = new HashRing(hostWeights(hosts, hosts, false), ringOptions);
    expect([ring.size, ring.minPerHost, ring.maxPerHost]).toEqual([1026, 342, 342]);
    const small = new HashRing(hostWeights(hosts, hosts, false), { ...ringOptions, minimumSize: 2, maximumSize: 5 });
    expect([small.size, small.minPerHost, small.maxPerHost]).toEqual([3, 1, 1]);
  });

  it("takes the first place after the hash, begins anew after the last, and goes on by places", () => {
    const ring = new HashRing(hostWeights(hosts, hosts, false), ringOptions);
    const last = Object.assign(new Hash64(), { high: -1, low: -1 });
    expect(ring.choose(last, 0)).toBe(ring.choose(new Hash64(), 0));
    const hash = Object.assign(new Hash64(), { high: 0x7fffffff, low: 1 });
    const around = Array.from({ length: 30 }, (_, attempt) => ring.choose(hash, attempt));
    expect(new Set(around)).toEqual(new Set(hosts));
    expect(ring.choose(hash, ring.size)).toBe(around[0]);
  });

  it("has nobody without hosts", () => {
    expect(new HashRing([], ringOptions).choose(new Hash64(), 0)).toBeNull();
    expect(new MaglevTable([], { tableSize: 7, usesHostname: false }).choose(new Hash64(), 0)).toBeNull();
  });
});

describe("MaglevTable", () => {
  it("doesn't depend on the order of the hosts", () => {
    const reversed = [...hosts].reverse();
    const one = new MaglevTable(hostWeights(hosts, hosts, false), { tableSize: 251, usesHostname: false });
    const other = new MaglevTable(hostWeights(reversed, reversed, false), { tableSize: 251, usesHostname: false });
    for (const hash of hashes(200)) expect(one.choose(hash, 0)).toBe(other.choose(hash, 0));
    expect(one.maxPerHost - one.minPerHost).toBeLessThanOrEqual(1);
  });

  it("gives slots by weight", () => {
    const weighted = [host("10.0.0.1", { weight: 3 }), host("10.0.0.2")];
    const table = new MaglevTable(hostWeights(weighted, weighted, false), { tableSize: 65_537, usesHostname: false });
    expect(table.maxPerHost / table.minPerHost).toBeCloseTo(3, 2);
  });
});

describe("hashKey", () => {
  it("is the address in its shortest form, the name, or what metadata says", () => {
    expect(hashKey(host("0:0:0:0:0:0:0:1"), false)).toBe("[::1]:80");
    expect(hashKey(host("10.0.0.1", { hostname: "a" }), true)).toBe("a");
    expect(hashKey(host("10.0.0.1", { hostname: "a", metadata: { "envoy.lb": { hash_key: "ü" } } }), true)).toBe("\u00c3\u00bc");
    expect(hashKey(host("10.0.0.1", { metadata: { "envoy.lb": { hash_key: 5 } } }), false)).toBe("10.0.0.1:80");
  });
});

describe("hostWeights", () => {
  it("keeps the share of a locality without usable hosts from the others", () => {
    const [a, b, c] = [
      host("10.0.0.1", { locality: "r/a/", localityWeight: 1 }),
      host("10.0.0.2", { locality: "r/b/", localityWeight: 3, weight: 2 }),
      host("10.0.0.3", { locality: "r/b/", localityWeight: 3 }),
    ];
    const share = (usable: Host[]) => hostWeights([c, b, a], usable, true).map(({ host: { key }, weight }) => [key, weight]);
    expect(share([c, b, a])).toEqual([
      ["10.0.0.1:80", 0.25],
      ["10.0.0.3:80", 0.25],
      ["10.0.0.2:80", 0.5],
    ]);
    expect(share([a])).toEqual([["10.0.0.1:80", 0.25]]);
  });
});

describe("MersenneTwister", () => {
  /** First numbers of std::mt19937 with its default seed, and the 10,000th, which the C++ standard names. */
  it("is std::mt19937", () => {
    const random = new MersenneTwister(5489);
    expect([random.next(), random.next(), random.next()]).toEqual([3_499_211_612, 581_869_302, 3_890_346_734]);
    for (let i = 4; i < 10_000; i++) random.next();
    expect(random.next()).toBe(4_123_659_995);
  });
});

describe("least request", () => {
  it("finds the idle one when it looks at all, and draws among equals", () => {
    const many = Array.from({ length: 20 }, (_, index) => host(`10.0.1.${index}`));
    for (const one of many) one.activeRequests = 3;
    const policy = { kind: "leastRequest", choices: Number.POSITIVE_INFINITY, activeRequestBias: 1, slowStart: null } as const;
    const balancer = createLoadBalancer(policy, many);
    many[13]!.activeRequests = 2;
    for (let i = 0; i < 20; i++) expect(balancer.choose(null, 0)).toBe(many[13]);
    many[13]!.activeRequests = 3;
    const drawn = new Set(Array.from({ length: 2000 }, () => balancer.choose(null, 0)));
    expect(drawn.size).toBe(20);
  });

  it("weighs by weight alone with a bias of 0", () => {
    const [light, heavy] = [host("10.0.0.1"), host("10.0.0.2", { weight: 4 })];
    heavy.activeRequests = 1000;
    const balancer = createLoadBalancer({ kind: "leastRequest", choices: 2, activeRequestBias: 0, slowStart: null }, [light, heavy]);
    const drawn = Array.from({ length: 100 }, () => balancer.choose(null, 0));
    expect(drawn.filter((one) => one === heavy)).toHaveLength(80);
  });
});

describe("slow start", () => {
  const slowStart = { windowMs: 10_000, aggression: 1, leastShare: 0.1 };

  it("lets the weight grow with the time, faster at first with more aggression", () => {
    const young = host("10.0.0.1");
    young.healthySince = 1000;
    const shares = (aggression: number) =>
      [1000, 3500, 6000, 10_999, 11_000].map((now) => startingShare({ ...slowStart, aggression }, young, now));
    expect(shares(1)).toEqual([0.1, 0.25, 0.5, 0.9999, 1]);
    expect(shares(2)).toEqual([0.1, 0.5, Math.SQRT1_2, 0.9999 ** 0.5, 1]);
    expect(startingShare(slowStart, host("10.0.0.2"), 5000)).toBe(1);
  });

  it.each(["roundRobin", "leastRequest"] as const)("gives a new host its least share: %s", (kind) => {
    const [old, young] = [host("10.0.0.1"), host("10.0.0.2")];
    const now = performance.now();
    old.healthySince = now - 1e9;
    // Long enough that the test itself takes no part of it.
    young.healthySince = now;
    const policy = { kind, choices: 2, activeRequestBias: 1, slowStart: { ...slowStart, windowMs: 1e8 } };
    const balancer = createLoadBalancer(policy, [old, young]);
    const drawn = Array.from({ length: 1100 }, () => balancer.choose(null, 0));
    const ofYoung = drawn.filter((one) => one === young).length;
    expect(ofYoung).toBeGreaterThanOrEqual(99);
    expect(ofYoung).toBeLessThanOrEqual(101);
  });
});

describe("PreviousPriorities", () => {
  const availability = { healthy: [100, 100, 40], degraded: [0, 0, 20] };
  const at = (priority: number) => host(`10.0.2.${priority}`, { priority });

  it("leaves tried priorities after every so many attempts, and begins anew when none is left", () => {
    const previous = new PreviousPriorities(2);
    previous.add(at(0));
    expect(previous.load(availability)).toBeNull();
    previous.add(at(0));
    expect(previous.load(availability)).toEqual({ healthy: [0, 100, 0], degraded: [0, 0, 0] });
    previous.add(at(1));
    expect(previous.load(availability)).toEqual({ healthy: [0, 100, 0], degraded: [0, 0, 0] });
    previous.add(at(1));
    // 40 and 20 of 60; what rounding leaves goes to the healthy ones.
    expect(previous.load(availability)).toEqual({ healthy: [0, 0, 67], degraded: [0, 0, 33] });
    previous.add(at(2));
    previous.add(at(2));
    expect(previous.load(availability)).toEqual({ healthy: [100, 0, 0], degraded: [0, 0, 0] });
    previous.add(at(0));
    expect(previous.load(availability)).toBeNull();
  });

  it("changes nothing where nothing is available", () => {
    const previous = new PreviousPriorities(1);
    previous.add(at(0));
    expect(previous.load({ healthy: [0], degraded: [0] })).toBeNull();
  });
});
