/** The store as a push context reads it. */
import type { ConfigObject } from "../api/kinds/object.ts";
import type { ConfigStore } from "../config/store.ts";
import { compareAge, type ObjectsOf } from "../registry/registry.ts";

/** The store's objects as they are now, in creation order; later changes do not show. */
export function objectsOf(store: ConfigStore): ObjectsOf {
  const byKind = new Map<string, ConfigObject[]>();
  for (const object of store.list()) {
    const list = byKind.get(object.kind);
    if (list) list.push(object);
    else byKind.set(object.kind, [object]);
  }
  for (const list of byKind.values()) list.sort(compareAge);
  return (kind) => byKind.get(kind) ?? [];
}
