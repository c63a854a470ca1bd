import { describe, expect, it } from "vitest";
import type { NamedCluster } from "../update.ts";
import type { Cluster } from "./cluster.ts";
import { ClusterSet } from "./cluster-set.ts";

/** Clusters that write down what happens to them. */
function clusterSet() {
  const heard: string[] = [];
  const set = new ClusterSet({
    compile({ name, bytes }) {
      if (bytes.length === 0) throw new Error("is nothing");
      const made = `${name}${bytes[0]}`;
      heard.push(`compile ${made}`);
      return { made, drain: () => heard.push(`drain ${made}`), refreshHealth: () => heard.push(`look at ${made}`) } as unknown as Cluster;
    },
    place: (cluster, { bytes }) => heard.push(`place ${bytes[0]} in ${nameOf(cluster)}`),
    onFailure: (name, error) => heard.push(`${name} ${(error as Error).message}`),
  });
  const cluster = (name: string, version: number, isUsedAtOnce = false): NamedCluster => ({
    name,
    bytes: new Uint8Array(version === 0 ? [] : [version]),
    isUsedAtOnce,
  });
  const endpoints = (name: string, version: number) => set.setEndpoints({ name, bytes: new Uint8Array([version]) });
  /** What has been heard since. */
  const take = () => heard.splice(0);
  return { set, cluster, endpoints, take };
}

function nameOf(cluster: Cluster | undefined): string | undefined {
  return (cluster as unknown as { made: string } | undefined)?.made;
}

describe("ClusterSet", () => {
  it("compiles a cluster when somebody asks for it, once, with the endpoints that came meanwhile", () => {
    const { set, cluster, endpoints, take } = clusterSet();
    set.set(cluster("a", 1));
    endpoints("a", 1);
    endpoints("a", 2);
    set.refreshHealth("a");
    expect(take()).toEqual([]);
    expect([set.get("a"), set.get("a")].map(nameOf)).toEqual(["a1", "a1"]);
    expect(take()).toEqual(["compile a1", "place 2 in a1"]);
    endpoints("a", 3);
    set.refreshHealth("a");
    expect(take()).toEqual(["place 3 in a1", "look at a1"]);
  });

  it("compiles at once what must not wait, and what takes its place gets its endpoints", () => {
    const { set, cluster, endpoints, take } = clusterSet();
    set.set(cluster("a", 1, true));
    endpoints("a", 7);
    set.set(cluster("a", 2, true));
    expect(take()).toEqual(["compile a1", "place 7 in a1", "compile a2", "place 7 in a2", "drain a1"]);
  });

  it("drains a cluster that is replaced or removed, and knows none that it was not told of", () => {
    const { set, cluster, take } = clusterSet();
    set.set(cluster("a", 1));
    set.get("a");
    set.set(cluster("a", 2));
    expect(take()).toEqual(["compile a1", "drain a1"]);
    expect(nameOf(set.get("a"))).toBe("a2");
    set.remove("a");
    set.set(cluster("b", 1));
    set.remove("b");
    expect(take()).toEqual(["compile a2", "drain a2"]);
    expect([set.get("a"), set.get("b"), set.get("c")]).toEqual([undefined, undefined, undefined]);
  });

  it("says what is wrong with a cluster to whoever sets it, or when it is asked for, and keeps the one before", () => {
    const { set, cluster, take } = clusterSet();
    set.set(cluster("a", 1, true));
    expect(() => set.set(cluster("a", 0, true))).toThrow("is nothing");
    expect(nameOf(set.get("a"))).toBe("a1");
    set.set(cluster("b", 0));
    expect(set.get("b")).toBeUndefined();
    expect(take()).toEqual(["compile a1", "b is nothing"]);
  });
});
