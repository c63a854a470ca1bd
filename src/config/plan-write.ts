import { randomUUID } from "node:crypto";
import { type ConfigObject, formatKey, type ObjectKey } from "../api/kinds/object.ts";
import type { TableChange } from "./object-table.ts";
import { saysTheSame, stamp } from "./stamp.ts";
import { type Precondition, StoreError } from "./store.ts";

/** What a write comes to: the change, or none when it says nothing new, and what the writer is told. */
export interface PlannedWrite {
  readonly change: TableChange | undefined;
  readonly result: ConfigObject;
}

/** Throws StoreError when the precondition doesn't hold. `revision` is that which the change will have. */
export function planPut(
  object: ConfigObject,
  key: ObjectKey,
  stored: ConfigObject | undefined,
  precondition: Precondition | undefined,
  revision: number,
  nowMs: number,
): PlannedWrite {
  checkPrecondition(key, stored, precondition);
  if (stored && saysTheSame(object, stored)) return { change: undefined, result: stored };
  const stamped = stamp(object, stored, { resourceVersion: String(revision), nowMs, uid: randomUUID });
  return { change: { put: stamped }, result: stamped };
}

export function planDelete(key: ObjectKey, stored: ConfigObject | undefined, precondition: Precondition | undefined): PlannedWrite {
  if (!stored) throw new StoreError("not-found", `Cannot delete ${formatKey(key)}: it doesn't exist`);
  checkPrecondition(key, stored, precondition);
  return { change: { delete: key }, result: stored };
}

export function checkPrecondition(key: ObjectKey, stored: ConfigObject | undefined, precondition: Precondition | undefined): void {
  if (!precondition) return;
  if ("absent" in precondition) {
    if (stored) throw new StoreError("exists", `Cannot create ${formatKey(key)}: it exists`);
    return;
  }
  if (!stored) throw new StoreError("not-found", `Cannot change ${formatKey(key)}: it doesn't exist`);
  const { resourceVersion } = stored.metadata;
  if (resourceVersion === precondition.resourceVersion) return;
  throw new StoreError(
    "conflict",
    `Cannot change ${formatKey(key)}: it was changed meanwhile, from resource version ${precondition.resourceVersion} to ${resourceVersion}`,
  );
}
