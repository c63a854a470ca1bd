/** Which objects a list, a watch or a deletion of many is about: a kind, a namespace or all, and selectors. */
import type { ConfigObject } from "../../../api/kinds/object.ts";
import type { ConfigStore } from "../../../config/store.ts";
import type { ObjectPath } from "../request-path.ts";
import { parseFieldSelector } from "../selectors/field-selector.ts";
import { parseLabelSelector } from "../selectors/label-selector.ts";

export interface Selection {
  readonly path: ObjectPath;
  readonly matches: (object: ConfigObject) => boolean;
  /** Whether there are selectors. */
  readonly isPartial: boolean;
  /** The one name that can match. */
  readonly name: string | undefined;
  /** Two lists of the same objects have the same text. */
  readonly text: string;
}

/** Throws ApiError for selectors that can't be read. A path of one object selects that object. */
export function selectionOf(path: ObjectPath, query: URLSearchParams): Selection {
  const { resource, namespace } = path;
  const labelText = query.get("labelSelector") ?? "";
  const fieldText = query.get("fieldSelector") ?? "";
  const matchesLabels = parseLabelSelector(labelText);
  const fields = parseFieldSelector(fieldText, resource.kind);
  const name = path.name || fields.name;
  return {
    path,
    name,
    isPartial: labelText !== "" || fieldText !== "",
    text: JSON.stringify([resource.kind.kind, namespace, name, labelText, fieldText]),
    matches: ({ metadata, raw }) =>
      (namespace === "" || metadata.namespace === namespace) &&
      (name === undefined || metadata.name === name) &&
      matchesLabels(metadata.labels) &&
      fields.matches(raw),
  };
}

/** By namespace and name, as a key-value store would list them. */
export function selectObjects(store: ConfigStore, { path, matches, name }: Selection): ConfigObject[] {
  const { kind } = path.resource.kind;
  if (name !== undefined && (path.namespace !== "" || !path.resource.kind.namespaced)) {
    const found = store.get({ kind, namespace: path.namespace, name }) as ConfigObject | undefined;
    return found && matches(found) ? [found] : [];
  }
  const objects = (path.namespace === "" ? store.list(kind) : store.list(kind, path.namespace)) as ConfigObject[];
  return objects.filter(matches).sort(byName);
}

function byName(a: ConfigObject, b: ConfigObject): number {
  const [one, other] = [a.metadata, b.metadata];
  if (one.namespace !== other.namespace) return one.namespace < other.namespace ? -1 : 1;
  return one.name < other.name ? -1 : one.name > other.name ? 1 : 0;
}
