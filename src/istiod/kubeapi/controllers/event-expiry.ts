import { textAt } from "../../../api/kinds/raw-fields.ts";
import { StoreError, type WritableConfigStore } from "../../../config/store.ts";
import { log } from "../../../lib/log.ts";

const scope = log.scope("kubeapi");

/** Events are news: after this time they are gone. Kubernetes `--event-ttl`. */
const lifeMs = 3_600_000;
const periodMs = 60_000;

/** Deletes old Events from time to time, for those who write them never do. */
export function expireEvents(store: WritableConfigStore): Disposable {
  const timer = setInterval(() => {
    deleteOldEvents(store, Date.now()).catch((error: unknown) => scope.warn("old events can't be deleted", { error }));
  }, periodMs).unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

export async function deleteOldEvents(store: WritableConfigStore, nowMs: number): Promise<void> {
  const old = store.list("Event").filter(({ position, raw, metadata }) => {
    const lastMs = Date.parse(textAt(raw, "series", "lastObservedTime") || textAt(raw, "lastTimestamp")) || metadata.creationTimestamp;
    return !position && nowMs - lastMs > lifeMs;
  });
  const outcomes = await Promise.allSettled(
    old.map(({ metadata }) => store.delete({ kind: "Event", namespace: metadata.namespace, name: metadata.name })),
  );
  for (const outcome of outcomes) {
    if (outcome.status === "rejected" && !(outcome.reason instanceof StoreError && outcome.reason.code === "not-found"))
      throw outcome.reason;
  }
}
