import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { startApiControlPlane } from "../../../test/support/api-control-plane.ts";
import { callApi } from "../../../test/support/kube-api.ts";
import { decodeObject } from "../../api/documents/decode-object.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import { AggregateStore } from "../../config/aggregate.ts";
import { MemoryStore } from "../../config/memory.ts";
import { SqliteStore } from "../../config/sqlite.ts";
import type { WritableConfigStore } from "../../config/store.ts";
import { Registry } from "../../registry/registry.ts";
import { objectsOf } from "../store-objects.ts";
import { AddressAllocator } from "./address-allocator.ts";
import { AddressPool } from "./address-pool.ts";

interface EntryInit {
  readonly hosts?: string[];
  readonly labels?: Record<string, string>;
  readonly addresses?: string[];
  readonly resolution?: string;
  readonly status?: unknown;
}

function entry(
  name: string,
  { hosts = [`${name}.test`], labels = {}, status, addresses, resolution = "DNS" }: EntryInit = {},
): ConfigObject {
  const { object, errors } = decodeObject({
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: { name, namespace: "default", labels },
    spec: { hosts, ports: [{ number: 80, name: "http", protocol: "HTTP" }], resolution, ...(addresses ? { addresses } : {}) },
    ...(status ? { status } : {}),
  });
  if (!object) throw errors[0];
  return object;
}

const statusOf = (store: WritableConfigStore, name: string) =>
  (store.get({ kind: "ServiceEntry", namespace: "default", name })?.status?.addresses ?? []) as { value: string; host: string }[];
const valuesOf = (store: WritableConfigStore, name: string) => statusOf(store, name).map(({ value }) => value);

async function allocating(store: WritableConfigStore, isWritable: (object: ConfigObject) => boolean = () => true) {
  return AddressAllocator.start({ store, domain: "cluster.local", isWritable });
}

describe("AddressAllocator", () => {
  it("writes an address of each family for each host, in Istio's form", async () => {
    await using store = new MemoryStore();
    await store.put(entry("a", { hosts: ["a.test", "b.test", "*.c.test"] }));
    await using _ = await allocating(store);
    expect(statusOf(store, "a")).toEqual([
      { value: "240.240.0.1", host: "a.test" },
      { value: "2001:2::1", host: "a.test" },
      { value: "240.240.0.2", host: "b.test" },
      { value: "2001:2::2", host: "b.test" },
    ]);
    expect(store.get({ kind: "ServiceEntry", namespace: "default", name: "a" })?.raw.status).toEqual({ addresses: statusOf(store, "a") });
  });

  it("follows entries that come, change their hosts, and need none any more", async () => {
    await using store = new MemoryStore();
    await using _ = await allocating(store);
    await store.put(entry("a"));
    await expect.poll(() => valuesOf(store, "a")).toEqual(["240.240.0.1", "2001:2::1"]);
    const withStatus = (init: EntryInit) => entry("a", { ...init, status: { addresses: statusOf(store, "a") } });
    await store.put(withStatus({ hosts: ["new.test", "a.test"] }));
    await expect
      .poll(() => statusOf(store, "a").map(({ host, value }) => `${host} ${value}`))
      .toEqual(["new.test 240.240.0.2", "new.test 2001:2::2", "a.test 240.240.0.1", "a.test 2001:2::1"]);
    await store.put(withStatus({ labels: { "networking.istio.io/enable-autoallocate-ip": "false" } }));
    await expect.poll(() => valuesOf(store, "a")).toEqual([]);
  });

  it.each([
    ["addresses of their own", { addresses: ["10.0.0.1"] }],
    ["resolution NONE", { resolution: "NONE" }],
    ["the label against it", { labels: { "networking.istio.io/enable-autoallocate-ip": "false" } }],
    ["wildcards alone", { hosts: ["*.test"], resolution: "NONE" }],
  ])("leaves entries alone that have %s", async (_, init) => {
    await using store = new MemoryStore();
    const { metadata } = await store.put(entry("a", init));
    await using _allocator = await allocating(store);
    expect(store.get({ kind: "ServiceEntry", namespace: "default", name: "a" })?.metadata.resourceVersion).toBe(metadata.resourceVersion);
  });

  it("gives no address twice: not one that a user wrote, nor one of an older claim, nor one that was hashed", async () => {
    await using fixed = new MemoryStore();
    await using writable = new MemoryStore();
    await using store = new AggregateStore([fixed, writable], writable);
    await fixed.put(entry("hashed"));
    await writable.put(entry("user", { addresses: ["240.240.0.1"] }));
    await writable.put(entry("older", { status: { addresses: [{ value: "240.240.0.2", host: "older.test" }] } }));
    await writable.put(entry("younger", { status: { addresses: [{ value: "240.240.0.2", host: "younger.test" }] } }));
    await writable.put(entry("squatter", { status: { addresses: [{ value: "240.240.0.1", host: "squatter.test" }] } }));
    const isWritable = (object: ConfigObject) => store.isWritable(object);
    await using _ = await allocating(store, isWritable);

    expect(valuesOf(store, "hashed")).toEqual([]);
    expect(valuesOf(store, "older")).toEqual(["240.240.0.2"]);
    const registry = new Registry(objectsOf(store), {
      domain: "cluster.local",
      defaultServiceExportTo: ["*"],
      allocation: { isWritten: isWritable, isOnDemand: false },
    });
    const all = registry.services.flatMap(({ addresses, allocatedAddresses }) => [...addresses, ...allocatedAddresses]);
    expect(all.filter((address) => address.startsWith("240."))).toHaveLength(5);
    expect(new Set(all).size).toBe(all.length);
  });

  it("gives an entry back what it had when it is written without its status, or made anew", async () => {
    await using store = new MemoryStore();
    await using _ = await allocating(store);
    for (const name of ["a", "b", "c"]) await store.put(entry(name));
    await expect.poll(() => valuesOf(store, "c")).toHaveLength(2);
    const before = valuesOf(store, "b");
    await store.put(entry("b", { labels: { changed: "yes" } }));
    await expect.poll(() => valuesOf(store, "b")).toEqual(before);
    await store.delete({ kind: "ServiceEntry", namespace: "default", name: "b" });
    await store.put(entry("d"));
    await expect.poll(() => valuesOf(store, "d")).toHaveLength(2);
    await store.put(entry("b"));
    await expect.poll(() => valuesOf(store, "b")).toEqual(before);
  });

  it("finds its addresses again after a restart", async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "topsail-addresses-"));
    try {
      const read = async () => {
        await using store = await SqliteStore.start({ dataDir });
        for (const name of ["z", "a"]) if (!store.get({ kind: "ServiceEntry", namespace: "default", name })) await store.put(entry(name));
        await using _ = await allocating(store);
        return Object.fromEntries(["z", "a"].map((name) => [name, valuesOf(store, name)]));
      };
      const first = await read();
      expect(first.z).toHaveLength(2);
      expect(await read()).toEqual(first);
    } finally {
      await rm(dataDir, { recursive: true, force: true });
    }
  });
});

describe("AddressPool", () => {
  it("goes round, and is empty only when all is taken", () => {
    const pool = new AddressPool();
    const taken = new Set<string>();
    for (let pair = pool.take((address) => taken.has(address)); pair; pair = pool.take((address) => taken.has(address))) {
      for (const address of pair) taken.add(address);
    }
    expect(taken.size).toBe(2 * 0xffff);
    expect(taken).toContain("240.240.255.255");
    taken.delete("240.240.1.0");
    taken.delete("2001:2::100");
    expect(pool.take((address) => taken.has(address))).toEqual(["240.240.1.0", "2001:2::100"]);
  });
});

describe("addresses of ServiceEntries, by the API", () => {
  const entries = "/apis/networking.istio.io/v1/namespaces/default/serviceentries";
  const object = (labels: Record<string, string> = {}) => ({
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: { name: "api", namespace: "default", labels },
    spec: { hosts: ["api.example.com"], ports: [{ number: 5432, name: "tcp", protocol: "TCP" }], resolution: "DNS" },
  });
  const fromFile = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: from-file, namespace: files}
spec: {hosts: [file.example.com], ports: [{number: 5432, name: tcp, protocol: TCP}], resolution: DNS}
`;

  it("appear in the status, stay when the entry is written anew, and go when it asks for none", async () => {
    await using plane = await startApiControlPlane({ "se.yaml": fromFile });
    const call = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
      callApi(plane.config, method, path, body, undefined, headers);
    const addresses = async (path = `${entries}/api`) => {
      const { body } = (await call("GET", path)) as { body: { status?: { addresses?: { value: string; host: string }[] } } };
      return body.status?.addresses ?? [];
    };
    expect(await call("POST", entries, object())).toMatchObject({ code: 201 });
    await expect.poll(addresses).toEqual([
      { value: "240.240.0.1", host: "api.example.com" },
      { value: "2001:2::1", host: "api.example.com" },
    ]);
    const before = await addresses();
    const label = (labels: Record<string, string>) =>
      call("PATCH", `${entries}/api`, { metadata: { labels } }, { "content-type": "application/merge-patch+json" });
    expect(await label({ app: "x" })).toMatchObject({ code: 200 });
    const { metadata } = (await call("GET", `${entries}/api`)).body as { metadata: { resourceVersion: string } };
    const written = object({ app: "y" });
    const replaced = { ...written, metadata: { ...written.metadata, resourceVersion: metadata.resourceVersion } };
    expect(await call("PUT", `${entries}/api`, replaced)).toMatchObject({ code: 200 });
    await expect.poll(addresses).toEqual(before);
    expect(await label({ "networking.istio.io/enable-autoallocate-ip": "false" })).toMatchObject({ code: 200 });
    await expect.poll(addresses).toEqual([]);
    // What is in a file can't be written to; its address is known all the same.
    expect(await addresses("/apis/networking.istio.io/v1/namespaces/files/serviceentries/from-file")).toEqual([]);
    const { registry } = plane.istiod.discovery.context;
    expect(registry.get("file.example.com", "files")?.allocatedAddresses).toEqual([
      expect.stringMatching(/^240\.240\./),
      expect.stringMatching(/^2001:2::f0f0:/),
    ]);
  });
});
