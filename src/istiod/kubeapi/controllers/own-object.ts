/** Objects that the control plane itself keeps. */
import { decodeObject } from "../../../api/documents/decode-object.ts";
import type { ConfigObject, ObjectKey } from "../../../api/kinds/object.ts";
import { saysTheSame } from "../../../config/stamp.ts";
import { StoreError, type WritableConfigStore } from "../../../config/store.ts";

/** Makes the object if there is none of its name. */
export async function ensureObject(store: WritableConfigStore, raw: Record<string, unknown>): Promise<void> {
  const object = made(raw);
  if (store.get(object.key)) return;
  try {
    await store.put(object.object, { absent: true });
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== "exists") throw error;
  }
}

/** Makes the object say this, unless it stands in a file, which is somebody else's. Labels and annotations that others gave it stay. */
export async function keepObject(store: WritableConfigStore, raw: Record<string, unknown>): Promise<void> {
  const { object, key } = made(raw);
  const stored = store.get(key) as ConfigObject | undefined;
  if (stored?.position) return;
  const labels = { ...stored?.metadata.labels, ...object.metadata.labels };
  const metadata = {
    ...(stored?.raw.metadata as object | undefined),
    ...(raw.metadata as object),
    ...(Object.keys(labels).length > 0 ? { labels } : {}),
  };
  const wanted = made({ ...raw, metadata }).object;
  // To write what stands there already would cost a sync of the disk.
  if (!stored || !saysTheSame(wanted, stored)) await store.put(wanted);
}

function made(raw: Record<string, unknown>): { object: ConfigObject; key: ObjectKey } {
  const { object, key, errors } = decodeObject(raw);
  if (!object || !key) throw errors[0] ?? new Error("an object of an unknown kind");
  return { object, key };
}
