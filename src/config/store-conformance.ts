import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { decodeObject } from "../api/documents/decode-object.ts";
import type { ConfigObject } from "../api/kinds/object.ts";
import { keyOf } from "../api/kinds/object.ts";
import type { ConfigEvent, WritableConfigStore } from "./store.ts";

/** A ServiceEntry, or what the changes make of it. */
export function serviceEntry(
  name: string,
  host: string,
  changes: { namespace?: string; labels?: Record<string, string> } = {},
): ConfigObject {
  const { object, errors } = decodeObject({
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: { name, ...changes },
    spec: { hosts: [host], ports: [{ number: 80, name: "http", protocol: "HTTP" }], resolution: "DNS" },
  });
  if (!object) throw errors[0];
  return object;
}

/** What holds for every source that can be written. */
export function describeWritableStore(name: string, start: () => Promise<WritableConfigStore>): void {
  describe(`${name} as a config store`, () => {
    let store: WritableConfigStore;
    beforeEach(async () => {
      store = await start();
    });
    afterEach(async () => {
      await store[Symbol.asyncDispose]();
    });

    it("gives back what was put, with the store's own metadata", async () => {
      const before = store.revision;
      const put = await store.put(serviceEntry("a", "a.example.com"));
      expect(put.metadata).toMatchObject({ name: "a", namespace: "default", generation: 1 });
      expect(put.metadata.uid).not.toBe("");
      expect(Date.now() - put.metadata.creationTimestamp).toBeLessThan(60_000);
      expect(put.raw.metadata).toMatchObject({ uid: put.metadata.uid, resourceVersion: put.metadata.resourceVersion });
      expect(store.get({ kind: "ServiceEntry", namespace: "default", name: "a" })).toEqual(put);
      expect(store.revision).toBeGreaterThan(before);
    });

    it("keeps uid and creation time over updates and counts generations of the spec alone", async () => {
      const first = await store.put(serviceEntry("a", "a.example.com"));
      const labelled = await store.put(serviceEntry("a", "a.example.com", { labels: { team: "x" } }));
      const changed = await store.put(serviceEntry("a", "b.example.com", { labels: { team: "x" } }));
      expect(labelled.metadata).toMatchObject({
        uid: first.metadata.uid,
        creationTimestamp: first.metadata.creationTimestamp,
        generation: 1,
      });
      expect(changed.metadata).toMatchObject({ uid: first.metadata.uid, generation: 2 });
      expect(new Set([first, labelled, changed].map((object) => object.metadata.resourceVersion)).size).toBe(3);
    });

    it("leaves an object alone that is put without a change", async () => {
      const first = await store.put(serviceEntry("a", "a.example.com"));
      const { revision } = store;
      const again = await store.put(serviceEntry("a", "a.example.com"));
      expect(again.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
      expect(store.revision).toBe(revision);
    });

    it("lists by kind and namespace", async () => {
      await store.put(serviceEntry("a", "a.example.com"));
      await store.put(serviceEntry("a", "a.example.com", { namespace: "other" }));
      expect(store.list()).toHaveLength(2);
      expect(store.list("ServiceEntry")).toHaveLength(2);
      expect(store.list("ServiceEntry", "other").map(keyOf)).toEqual([{ kind: "ServiceEntry", namespace: "other", name: "a" }]);
      expect(store.list("Gateway")).toEqual([]);
    });

    it("refuses to create what exists", async () => {
      await store.put(serviceEntry("a", "a.example.com"), { absent: true });
      await expect(store.put(serviceEntry("a", "b.example.com"), { absent: true })).rejects.toMatchObject({ code: "exists" });
    });

    it("refuses a write that is based on an old version", async () => {
      const first = await store.put(serviceEntry("a", "a.example.com"));
      const second = await store.put(serviceEntry("a", "b.example.com"), { resourceVersion: first.metadata.resourceVersion });
      const stale = { resourceVersion: first.metadata.resourceVersion };
      await expect(store.put(serviceEntry("a", "c.example.com"), stale)).rejects.toMatchObject({ code: "conflict" });
      await expect(store.delete(keyOf(second), stale)).rejects.toMatchObject({ code: "conflict" });
      await expect(store.put(serviceEntry("b", "c.example.com"), stale)).rejects.toMatchObject({ code: "not-found" });
      expect(store.get({ kind: "ServiceEntry", namespace: "default", name: "a" })?.spec.hosts).toEqual(["b.example.com"]);
    });

    it("lets exactly one of two concurrent writers with the same precondition through", async () => {
      const first = await store.put(serviceEntry("a", "a.example.com"));
      const precondition = { resourceVersion: first.metadata.resourceVersion };
      const outcomes = await Promise.allSettled(
        ["b", "c"].map((host) => store.put(serviceEntry("a", `${host}.example.com`), precondition)),
      );
      expect(outcomes.map((outcome) => outcome.status).sort()).toEqual(["fulfilled", "rejected"]);
    });

    it("deletes once", async () => {
      const put = await store.put(serviceEntry("a", "a.example.com"));
      expect((await store.delete(keyOf(put))).metadata.uid).toBe(put.metadata.uid);
      expect(store.get({ kind: "ServiceEntry", namespace: "default", name: "a" })).toBeUndefined();
      await expect(store.delete(keyOf(put))).rejects.toMatchObject({ code: "not-found" });
    });

    it("tells watchers of changes in order, with what was before", async () => {
      const events: ConfigEvent[] = [];
      using _watch = store.watch((batch) => events.push(...batch));
      const first = await store.put(serviceEntry("a", "a.example.com"));
      const second = await store.put(serviceEntry("a", "b.example.com"));
      await store.delete(keyOf(second));
      expect(events.map((event) => event.type)).toEqual(["added", "modified", "deleted"]);
      expect(events[1]?.previous).toEqual(first);
      expect(events[1]?.object).toEqual(second);
      const revisions = events.map((event) => event.revision);
      expect(revisions).toEqual([...revisions].sort((a, b) => a - b));
      expect(new Set(revisions).size).toBe(3);
      expect(revisions[2]).toBe(store.revision);
    });

    it("catches a watcher up from a revision", async () => {
      await store.put(serviceEntry("a", "a.example.com"));
      const { revision } = store;
      await store.put(serviceEntry("b", "b.example.com"));
      const names: string[] = [];
      using _watch = store.watch((batch) => names.push(...batch.map((event) => event.object.metadata.name)), { afterRevision: revision });
      await store.put(serviceEntry("c", "c.example.com"));
      expect(names).toEqual(["b", "c"]);
    });

    it("says so when a revision to watch from is unknown", () => {
      expect(() => store.watch(() => undefined, { afterRevision: store.revision + 1 })).toThrow(
        expect.objectContaining({ code: "expired" }),
      );
      expect(() => store.watch(() => undefined, { afterRevision: -1 })).toThrow(expect.objectContaining({ code: "expired" }));
    });

    it("tells a disposed watcher nothing", async () => {
      const events: ConfigEvent[] = [];
      store.watch((batch) => events.push(...batch))[Symbol.dispose]();
      await store.put(serviceEntry("a", "a.example.com"));
      expect(events).toEqual([]);
    });

    it("holds many objects", async () => {
      await Promise.all(Array.from({ length: 500 }, (_, index) => store.put(serviceEntry(`s-${index}`, `s${index}.example.com`))));
      expect(store.list("ServiceEntry")).toHaveLength(500);
      expect(new Set(store.list("ServiceEntry").map((object) => object.metadata.resourceVersion)).size).toBe(500);
    });
  });
}
