import { create, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type Cluster, ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { DnsEndpoints, type ResolveHost } from "./dns-endpoints.ts";

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

/** `address hostname`, of every endpoint. */
function shown(assignment: ClusterLoadAssignment): string[] {
  return assignment.endpoints.flatMap(({ lbEndpoints }) =>
    lbEndpoints.map(({ hostIdentifier }) => {
      const endpoint = hostIdentifier.case === "endpoint" ? hostIdentifier.value : undefined;
      const address = endpoint?.address?.address.case === "socketAddress" ? endpoint.address.address.value.address : "";
      return `${address} ${endpoint?.hostname}`.trim();
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

  it("takes one address of LOGICAL_DNS", async () => {
    const { seen, dns } = await resolved(cluster("LOGICAL_DNS", "a.example"), addresses("10.0.0.1", "10.0.0.2"));
    expect(seen).toEqual([["10.0.0.1 a.example"]]);
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

  it("looks again when the time to live is over, where that counts", async () => {
    vi.useFakeTimers();
    const message = cluster("STRICT_DNS", "a.example");
    message.respectDnsTtl = true;
    let lookups = 0;
    const { dns } = await resolved(message, async () => {
      lookups++;
      return [{ address: "10.0.0.1", ttlSeconds: 2 }];
    });
    await vi.advanceTimersByTimeAsync(4000);
    expect(lookups).toBe(3);
    dns[Symbol.dispose]();
  });

  it("leaves the cluster's own assignment as it was", async () => {
    const message = cluster("STRICT_DNS", "a.example");
    const before = create(ClusterLoadAssignmentSchema, message.loadAssignment);
    const { dns } = await resolved(message, addresses("10.0.0.1"));
    expect(shown(message.loadAssignment!)).toEqual(shown(before));
    dns[Symbol.dispose]();
  });
});
