import { mkdtempSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AggregateStore } from "./aggregate.ts";
import { FilesStore } from "./files.ts";
import { MemoryStore } from "./memory.ts";
import { describeWritableStore, serviceEntry } from "./store-conformance.ts";

describeWritableStore("AggregateStore", async () => {
  const writable = new MemoryStore();
  return new AggregateStore([new MemoryStore(), writable], writable);
});

describe("AggregateStore over files and a writable store", () => {
  let directory: string;
  let store: AggregateStore;
  const fromFile = { kind: "ServiceEntry", namespace: "default", name: "filed" } as const;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "topsail-aggregate-"));
    writeFileSync(join(directory, "a.json"), JSON.stringify(serviceEntry("filed", "filed.com").raw));
    const writable = new MemoryStore();
    await writable.put(serviceEntry("filed", "shadowed.com"));
    await writable.put(serviceEntry("written", "written.com"));
    store = new AggregateStore([await FilesStore.start({ directory }), writable], writable);
  });
  afterEach(async () => {
    await store[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  it("prefers the first source and names both", () => {
    expect(store.get(fromFile)?.spec.hosts).toEqual(["filed.com"]);
    expect(store.list()).toHaveLength(2);
    expect(store.problems.map((problem) => problem.message)).toEqual([`is in files ${directory} and in memory: the former is in force`]);
  });

  it("refuses to write what a file holds, and says where", async () => {
    const place = `${join(directory, "a.json")}:1`;
    await expect(store.put(serviceEntry("filed", "x.com"))).rejects.toMatchObject({
      code: "read-only",
      message: expect.stringContaining(place),
    });
    await expect(store.delete(fromFile)).rejects.toMatchObject({ code: "read-only" });
  });

  it("falls back to the second source when the first lets go", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    using _watch = store.watch(() => resolve());
    unlinkSync(join(directory, "a.json"));
    await promise;
    expect(store.get(fromFile)?.spec.hosts).toEqual(["shadowed.com"]);
    expect(store.problems).toEqual([]);
  });

  it("takes a precondition on the resource version that it gave out", async () => {
    const written = store.get({ kind: "ServiceEntry", namespace: "default", name: "written" });
    const precondition = { resourceVersion: written?.metadata.resourceVersion ?? "" };
    const changed = await store.put(serviceEntry("written", "changed.com"), precondition);
    expect(changed.metadata.resourceVersion).toBe(String(store.revision));
    await expect(store.put(serviceEntry("written", "again.com"), precondition)).rejects.toMatchObject({ code: "conflict" });
  });
});
