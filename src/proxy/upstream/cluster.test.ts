import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { Hash64 } from "../../lib/hash64.ts";
import { xxHash64 } from "../../lib/xx-hash64.ts";
import type { CompileContext } from "../compile-context.ts";
import { StatsStore } from "../stats/store.ts";
import { SecretStore } from "../tls/secret.ts";
import { Cluster } from "./cluster.ts";
import { compileCluster } from "./cluster-config.ts";

function clusterOf(fields: JsonObject) {
  const stats = new StatsStore();
  const context = { stats, secrets: new SecretStore() } as unknown as CompileContext;
  const cluster = new Cluster(compileCluster(fromJson(ClusterSchema, { name: "c", ...fields }), context), stats, true);
  const endpoint = (port: number, health_status: string) => ({
    endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } } },
    health_status,
  });
  return {
    cluster,
    gauge: (name: string) => stats.values[stats.gauge(`cluster.c.${name}`)]!,
    /** Health by port. */
    serve(healths: Readonly<Record<number, string>>) {
      const lb_endpoints = Object.entries(healths).map(([port, health]) => endpoint(Number(port), health));
      cluster.setEndpoints(fromJson(ClusterLoadAssignmentSchema, { cluster_name: "c", endpoints: [{ lb_endpoints }] }));
      return (port: number) => cluster.hosts.get(`127.0.0.1:${port}`)!;
    },
  };
}

describe("Cluster", () => {
  it("lets hosts that come later start slowly, and nobody twice", () => {
    // The first host is as old as the process, and with that older than the window; the others stay below half of it for long enough.
    const window = `${(performance.now() / 2000).toFixed(3)}s`;
    const { cluster, serve } = clusterOf({
      lb_policy: "ROUND_ROBIN",
      round_robin_lb_config: { slow_start_config: { slow_start_window: window, min_weight_percent: { value: 50 } } },
    });
    const first = serve({ 1: "HEALTHY", 2: "UNHEALTHY" })(1);
    expect(serve({ 1: "HEALTHY", 2: "UNHEALTHY" })(2).healthySince).toBe(-1);
    first.healthySince = 0;
    const host = serve({ 1: "HEALTHY", 2: "HEALTHY", 3: "HEALTHY" });
    expect([host(1).healthySince, host(2).healthySince > 0]).toEqual([0, true]);
    const counts = [0, 0, 0];
    for (let i = 0; i < 400; i++) counts[cluster.choose()!.description.port - 1]!++;
    for (const [index, expected] of [200, 100, 100].entries()) expect(Math.abs(counts[index]! - expected)).toBeLessThanOrEqual(2);
  });

  it("shows the size of its ring, and chooses by hash or at random", () => {
    const { cluster, serve, gauge } = clusterOf({ lb_policy: "RING_HASH", ring_hash_lb_config: { minimum_ring_size: "10" } });
    expect(cluster.choosesByHash).toBe(true);
    expect(cluster.choose()).toBeNull();
    serve({ 1: "HEALTHY", 2: "HEALTHY", 3: "HEALTHY" });
    expect(["size", "min_hashes_per_host", "max_hashes_per_host"].map((name) => gauge(`ring_hash_lb.${name}`))).toEqual([12, 4, 4]);
    const hash = new Hash64();
    xxHash64("somebody", hash);
    expect(new Set(Array.from({ length: 50 }, () => cluster.choose(hash))).size).toBe(1);
    expect(new Set(Array.from({ length: 200 }, () => cluster.choose())).size).toBe(3);
  });

  it("shows the slots of its table", () => {
    const { serve, gauge } = clusterOf({ lb_policy: "MAGLEV", maglev_lb_config: { table_size: "11" } });
    serve({ 1: "HEALTHY", 2: "HEALTHY", 3: "UNHEALTHY" });
    expect([gauge("maglev_lb.min_entries_per_host"), gauge("maglev_lb.max_entries_per_host")]).toEqual([5, 6]);
  });
});
