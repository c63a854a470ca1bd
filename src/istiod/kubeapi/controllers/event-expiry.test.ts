import { expect, it } from "vitest";
import { decodeObject } from "../../../api/documents/decode-object.ts";
import { MemoryStore } from "../../../config/memory.ts";
import { deleteOldEvents } from "./event-expiry.ts";

it("deletes events that have not happened for an hour", async () => {
  const nowMs = Date.parse("2026-01-01T12:00:00Z");
  const store = new MemoryStore({ now: () => nowMs - 2 * 3_600_000 });
  const event = (name: string, more: object) =>
    store.put(
      decodeObject({ apiVersion: "v1", kind: "Event", metadata: { name, namespace: "default" }, involvedObject: {}, ...more }).object!,
    );
  await event("old", {});
  await event("again", { lastTimestamp: "2026-01-01T11:30:00Z" });
  await event("long-ago", { lastTimestamp: "2026-01-01T10:30:00Z" });
  await event("series", { series: { lastObservedTime: "2026-01-01T11:59:00.000000Z" } });
  await deleteOldEvents(store, nowMs);
  expect(store.list("Event").map(({ metadata }) => metadata.name)).toEqual(["again", "series"]);
});
