import { isDeepStrictEqual } from "node:util";
import type { ConfigObject, ObjectMeta } from "../api/kinds/object.ts";
import { isPlainObject } from "../api/schema/decode.ts";

export interface StampOptions {
  readonly resourceVersion: string;
  readonly nowMs: number;
  readonly uid: () => string;
}

/**
 * The object as it is stored: what the system says about it (uid, creation time, generation, resource version) replaces what
 * the writer said, both in `metadata` and in `raw`.
 */
export function stamp(object: ConfigObject, previous: ConfigObject | undefined, options: StampOptions): ConfigObject {
  const metadata: ObjectMeta = {
    ...object.metadata,
    uid: previous?.metadata.uid || options.uid(),
    // Whole seconds, as Kubernetes counts it and as it is written.
    creationTimestamp: previous?.metadata.creationTimestamp || Math.floor(options.nowMs / 1000) * 1000,
    generation: previous ? previous.metadata.generation + (sameContent(object, previous, ["metadata", "status"]) ? 0 : 1) : 1,
    resourceVersion: options.resourceVersion,
  };
  const rawMetadata = isPlainObject(object.raw.metadata) ? object.raw.metadata : {};
  const raw = {
    ...object.raw,
    metadata: {
      ...rawMetadata,
      name: metadata.name,
      ...(metadata.namespace === "" ? {} : { namespace: metadata.namespace }),
      uid: metadata.uid,
      creationTimestamp: new Date(metadata.creationTimestamp).toISOString().replace(/\.\d+Z$/, "Z"),
      generation: metadata.generation,
      resourceVersion: metadata.resourceVersion,
    },
  };
  return { ...object, metadata, raw };
}

/** Whether two versions of an object say the same, apart from what the system says about them. */
export function saysTheSame(a: ConfigObject, b: ConfigObject): boolean {
  return sameContent(a, b, ["metadata"]) && isDeepStrictEqual(ownMetadata(a), ownMetadata(b));
}

function sameContent(a: ConfigObject, b: ConfigObject, except: readonly string[]): boolean {
  const content = (object: ConfigObject) => Object.fromEntries(Object.entries(object.raw).filter(([field]) => !except.includes(field)));
  return isDeepStrictEqual(content(a), content(b));
}

const systemFields = new Set(["name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion", "selfLink"]);

function ownMetadata(object: ConfigObject): Record<string, unknown> {
  const metadata = isPlainObject(object.raw.metadata) ? object.raw.metadata : {};
  return Object.fromEntries(Object.entries(metadata).filter(([field]) => !systemFields.has(field)));
}
