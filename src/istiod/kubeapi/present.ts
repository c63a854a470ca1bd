/** Objects as the API shows them: in the version that was asked for. All versions of a kind say the same. */
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { RawObject } from "../../api/kinds/raw-fields.ts";
import type { Form } from "./accept.ts";
import type { Resource } from "./resources.ts";
import { partialMetadata, type RowObject, rowOf, tableOf } from "./tables/table.ts";

export interface Presentation {
  readonly resource: Resource;
  readonly form: Form;
  /** Of tables. */
  readonly rowObject: RowObject;
}

export function rawOf(object: ConfigObject, { apiVersion }: Resource): RawObject {
  return object.raw.apiVersion === apiVersion ? object.raw : { ...object.raw, apiVersion };
}

/** `withColumns`: false for tables of a watch but its first. */
export function presentObject(object: ConfigObject, { resource, form, rowObject }: Presentation, withColumns = true): unknown {
  const raw = rawOf(object, resource);
  switch (form) {
    case "Table": {
      const { resourceVersion } = object.metadata;
      return tableOf([rowOf(raw, resource.kind, rowObject, Date.now())], resource.kind, { resourceVersion }, withColumns);
    }
    case "PartialObjectMetadata":
      return partialMetadata(raw);
    default:
      return raw;
  }
}

export function presentList(
  objects: readonly ConfigObject[],
  { resource, form, rowObject }: Presentation,
  metadata: Record<string, unknown>,
): unknown {
  switch (form) {
    case "Table": {
      const nowMs = Date.now();
      const rows = objects.map((object) => rowOf(rawOf(object, resource), resource.kind, rowObject, nowMs));
      return tableOf(rows, resource.kind, metadata);
    }
    case "PartialObjectMetadata": {
      const items = objects.map((object) => partialMetadata(object.raw));
      return { kind: "PartialObjectMetadataList", apiVersion: "meta.k8s.io/v1", metadata, items };
    }
    default:
      return {
        kind: `${resource.kind.kind}List`,
        apiVersion: resource.apiVersion,
        metadata,
        items: objects.map((object) => rawOf(object, resource)),
      };
  }
}
