import { create, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type Cluster, ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { DnsEndpoints } from "./dns-endpoints.ts";
import type { ResolveHost } from "./dns-resolver.ts";

afterEach(() => vi.useRealTimers());

function cluster(type: string, ...hosts: string[]): Cluster {
  const endpoints = hosts.map((address) => ({ endpoint: { address: { socket_address: { address, port_value: 80 } } } }));
  const json = {
    name: "c",
    type,
    dns_lookup_family: "V4_ONLY",
    dns_refresh_rate: "10s",
    load_assignment: { cluster_name: "c", endpoints: [{ lb_endpoints: endpoints }] },
  };
  return fromJson(ClusterSchema, json as JsonValue);
}

/** `address hostname`, of every endpoint; `address+other` where it has several. */
function shown(assignment: ClusterLoadAssignment): string[] {
  return assignment.endpoints.flatMap(({ lbEndpoints }) =>
    lbEndpoints.map(({ hostIdentifier }) => {
      const endpoint = hostIdentifier.case === "endpoint" ? hostIdentifier.value : undefined;
      const address = endpoint?.address?.address.case === "socketAddress" ? endpoint.address.address.value.address : "";
      const others = (endpoint?.additionalAddresses ?? []).map((other) => (other.address!.address.value as { address: string }).address);
      return `${[address, ...others].join("+")} ${endpoint?.hostname}`.trim();
    }),
  );
}

async function resolved(message: Cluster, resolve: ResolveHost): Promise<{ seen: string[][]; dns: DnsEndpoints }> {
  const seen: string[][] = [];
  const dns = new DnsEndpoints({ cluster: message, resolve, onChange: (assignment) => void seen.push(shown(assignment)) });
  await dns.ready;
  return { seen, dns };
}

const addresses =
  (...list: string[]): ResolveHost =>
  async () =>
    list.map((address) => ({ address }));

describe("DnsEndpoints", () => {
  it("makes an endpoint of every address of STRICT_DNS, and leaves IP addresses as they are", async () => {
    const { seen, dns } = await resolved(cluster("STRICT_DNS", "a.example", "10.0.0.9"), addresses("10.0.0.2", "10.0.0.1"));
    expect(seen).toEqual([["10.0.0.1 a.example", "10.0.0.2 a.example", "10.0.0.9"]]);
    dns[Symbol.dispose]();
  });

  it("makes one endpoint of all addresses of LOGICAL_DNS, in the nameserver's order", async () => {
    const { seen, dns } = await resolved(cluster("LOGICAL_DNS", "a.example"), addresses("10.0.0.2", "10.0.0.1"));
    expect(seen).toEqual([["10.0.0.2+10.0.0.1 a.example"]]);
    dns[Symbol.dispose]();
  });

  it("leaves a logical host where it is when nothing is known of it any more, and moves it when the order changes", async () => {
    vi.useFakeTimers();
    const answers = [["10.0.0.1", "10.0.0.2"], [], ["10.0.0.2", "10.0.0.1"]];
    const events: string[] = [];
    const seen: string[][] = [];
    const dns = new DnsEndpoints({
      cluster: cluster("LOGICAL_DNS", "a.example"),
      resolve: async () => (answers.shift() ?? []).map((address) => ({ address })),
      onChange: (assignment) => void seen.push(shown(assignment)),
      onEvent: (event) => void events.push(event),
    });
    await dns.ready;
    for (let round = 0; round < 3; round++) await vi.advanceTimersByTimeAsync(10_000);
    expect(seen).toEqual([["10.0.0.1+10.0.0.2 a.example"], ["10.0.0.2+10.0.0.1 a.example"]]);
    expect(events.filter((event) => event !== "attempt")).toEqual(["success", "failure", "success", "failure"]);
    dns[Symbol.dispose]();
  });

  it("is ready without endpoints when a name does not exist, and when the resolver fails", async () => {
    const unknown = await resolved(cluster("STRICT_DNS", "a.example"), addresses());
    const failing = await resolved(cluster("STRICT_DNS", "a.example"), async () => {
      throw new Error("SERVFAIL");
    });
    expect([unknown.seen, failing.seen]).toEqual([[[]], [[]]]);
    for (const { dns } of [unknown, failing]) dns[Symbol.dispose]();
  });

  it("looks again after the refresh rate, tells changes only, and keeps what it has when the resolver fails", async () => {
    vi.useFakeTimers();
    const answers: (string[] | Error)[] = [["10.0.0.1"], ["10.0.0.1"], new Error("SERVFAIL"), ["10.0.0.2"], []];
    const { seen, dns } = await resolved(cluster("STRICT_DNS", "a.example"), async () => {
      const answer = answers.shift() ?? [];
      if (answer instanceof Error) throw answer;
      return answer.map((address) => ({ address }));
    });
    for (let round = 0; round < 4; round++) await vi.advanceTimersByTimeAsync(10_000);
    expect(seen).toEqual([["10.0.0.1 a.example"], ["10.0.0.2 a.example"], []]);
    dns[Symbol.dispose]();
    expect(vi.getTimerCount()).toBe(0);
  });

  it.each([
    ["when the time to live is over", 2, [0, 2000, 4000, 6000, 8000, 10_000]],
    ["at the refresh rate where that is 0", 0, [0, 10_000]],
  ])("looks again %s, where the time to live counts", async (_, ttlSeconds, expected) => {
    vi.useFakeTimers();
    const message = cluster("STRICT_DNS", "a.example");
    message.respectDnsTtl = true;
    const start = Date.now();
    const times: number[] = [];
    const { dns } = await resolved(message, async () => {
      times.push(Date.now() - start);
      return [{ address: "10.0.0.1", ttlSeconds }];
    });
    await vi.advanceTimersByTimeAsync(10_000);
    expect(times).toEqual(expected);
    dns[Symbol.dispose]();
  });

  /** Milliseconds at which it looks, where every random number is the largest. */
  async function lookupTimes(message: Cluster, answers: readonly boolean[]): Promise<number[]> {
    vi.useFakeTimers();
    vi.spyOn(Math, "random").mockReturnValue(1);
    const times: number[] = [];
    const start = Date.now();
    const { dns } = await resolved(message, async () => {
      times.push(Date.now() - start);
      if (answers[times.length - 1] === false) throw new Error("SERVFAIL");
      return [{ address: "10.0.0.1" }];
    });
    while (times.length < answers.length) await vi.advanceTimersByTimeAsync(100);
    dns[Symbol.dispose]();
    vi.restoreAllMocks();
    return times;
  }

  it("waits longer after each failure where the cluster says so, and not after a success", async () => {
    const message = fromJson(ClusterSchema, {
      ...(toJson(ClusterSchema, cluster("STRICT_DNS", "a.example")) as object),
      dns_failure_refresh_rate: { base_interval: "1s", max_interval: "3s" },
    });
    expect(await lookupTimes(message, [true, false, false, false, false, true, false, true])).toEqual([
      0, 10_000, 11_000, 13_000, 16_000, 19_000, 29_000, 30_000,
    ]);
  });

  it("waits for up to its jitter more", async () => {
    const message = fromJson(ClusterSchema, {
      ...(toJson(ClusterSchema, cluster("STRICT_DNS", "a.example")) as object),
      dns_jitter: "0.5s",
    });
    expect(await lookupTimes(message, [true, true, false, true])).toEqual([0, 10_500, 21_000, 31_000]);
  });

  it("leaves the cluster's own assignment as it was", async () => {
    const message = cluster("STRICT_DNS", "a.example");
    const before = create(ClusterLoadAssignmentSchema, message.loadAssignment);
    const { dns } = await resolved(message, addresses("10.0.0.1"));
    expect(shown(message.loadAssignment!)).toEqual(shown(before));
    dns[Symbol.dispose]();
  });
});
