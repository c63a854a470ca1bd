import { describe, expect, it } from "vitest";
import { decodeObject } from "../../../api/documents/decode-object.ts";
import { MemoryStore } from "../../../config/memory.ts";
import { ClusterAddresses, isServiceRange } from "./cluster-addresses.ts";

async function storeWith(...addresses: string[]): Promise<MemoryStore> {
  const store = new MemoryStore();
  for (const [index, clusterIP] of addresses.entries()) {
    const raw = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: `s${index}`, namespace: "default" },
      spec: { clusterIP, ports: [] },
    };
    await store.put(decodeObject(raw).object!);
  }
  return store;
}

describe("ClusterAddresses", () => {
  it("gives a Service the same address again, while it is free", async () => {
    const first = new ClusterAddresses(await storeWith(), "10.1.0.0/16").allocate("default", "reviews").address;
    expect(first).toMatch(/^10\.1\.\d+\.\d+$/);
    expect(new ClusterAddresses(await storeWith(), "10.1.0.0/16").allocate("default", "reviews").address).toBe(first);
    expect(new ClusterAddresses(await storeWith(first), "10.1.0.0/16").allocate("default", "reviews").address).not.toBe(first);
  });

  it("gives each address of the range once, but not the network's own nor its broadcast, until there are no more", async () => {
    const addresses = new ClusterAddresses(await storeWith("10.1.0.5"), "10.1.0.0/28");
    const given = Array.from({ length: 13 }, (_, index) => addresses.allocate("default", `s${index}`));
    expect(new Set(given.map(({ address }) => address)).size).toBe(13);
    for (const refused of ["10.1.0.0", "10.1.0.15", "10.1.0.5"]) expect(given.map(({ address }) => address)).not.toContain(refused);
    expect(() => addresses.allocate("default", "more")).toThrow("range is full");
    given[3]!.release();
    expect(addresses.allocate("default", "more").address).toBe(given[3]!.address);
  });

  it.each(["", "10.1.0.0", "10.1.0.0/4", "10.1.0.0/30", "fd00::/108", "10.1.0/16", "10.1.0.0/x", "10.1.0.0/16/1"])(
    "has no use for the range %j",
    (range) => {
      expect(isServiceRange(range)).toBe(false);
    },
  );
});
