import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ClusterSchema } from "../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { HeldResources } from "./held-resources.ts";
import { encodeResource } from "./resource.ts";

const cluster = (name: string, altStatName = "") => encodeResource(name, ClusterSchema, create(ClusterSchema, { name, altStatName }));
const [a, b, otherA] = [cluster("a"), cluster("b"), cluster("a", "other")];

const versions = (held: HeldResources) => Object.fromEntries([...held.names].map((name) => [name, held.version(name)]));

describe("HeldResources", () => {
  it("has what came, in its newest version, without what has gone", () => {
    const held = HeldResources.none.after([a, b], []).after([otherA], ["b"]);
    expect(versions(held)).toEqual({ a: otherA.version });
    expect([held.has("a"), held.has("b")]).toEqual([true, false]);
  });

  it("leaves as they were those who did not get it", () => {
    const before = HeldResources.none.after([a], []);
    before.after([otherA, b], []);
    expect(versions(before)).toEqual({ a: a.version });
    expect(versions(HeldResources.none)).toEqual({});
  });

  it("is one for all who held the same and got the same", () => {
    const [one, other] = [HeldResources.none.after([a, b], []), HeldResources.none.after([a, b], [])];
    expect(other).toBe(one);
    expect(other.after([otherA], ["b"])).toBe(one.after([otherA], ["b"]));
    expect(other.after([otherA], [])).not.toBe(one.after([otherA], ["b"]));
  });

  it("stays what it is when nothing is new", () => {
    const held = HeldResources.none.after([a, b], []);
    expect(held.after([b, a], ["c"])).toBe(held);
    expect(held.without(["c"])).toBe(held);
    expect(versions(held.without(["a", "c"]))).toEqual({ b: b.version });
  });

  it("starts from what a client says that comes back", () => {
    const held = HeldResources.of([["a", a.version]]);
    expect(held.after([a], [])).toBe(held);
    expect(HeldResources.of([])).toBe(HeldResources.none);
  });
});
