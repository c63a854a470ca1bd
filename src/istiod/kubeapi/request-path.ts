/** What the path of a request names. */
import { findResource, type Resource } from "./resources.ts";

/** Objects of a resource: all, those of a namespace, or one; or what lies below one. */
export interface ObjectPath {
  readonly resource: Resource;
  /** "" for all namespaces, and for kinds that have none. */
  readonly namespace: string;
  /** "" for a collection. */
  readonly name: string;
  /** "" for the object itself. */
  readonly subresource: string;
}

/** Undefined when it is no path of an object; such paths are those of discovery, or nobody's. */
export function parseObjectPath(path: string): ObjectPath | undefined {
  const segments = path.split("/").slice(1).map(decodeSegment);
  if (segments.includes(undefined)) return undefined;
  const [root, ...rest] = segments as string[];
  const start = root === "api" ? rest.slice(0, 1) : root === "apis" ? rest.slice(0, 2) : [];
  if (start.length !== (root === "api" ? 1 : 2)) return undefined;
  const apiVersion = start.join("/");
  const parts = rest.slice(start.length);
  if (parts[0] === "namespaces" && parts.length > 2 && !(parts.length === 3 && isNamespaceSubresource(parts[2]))) {
    const [, namespace = "", plural = "", name = "", subresource = "", ...more] = parts;
    return found(apiVersion, plural, namespace, name, subresource, more);
  }
  const [plural = "", name = "", subresource = "", ...more] = parts;
  return found(apiVersion, plural, "", name, subresource, more);
}

function isNamespaceSubresource(segment: string | undefined): boolean {
  return segment === "status" || segment === "finalize";
}

/** A segment that could be taken for several, or for none, names nothing. */
function decodeSegment(segment: string): string | undefined {
  try {
    const text = decodeURIComponent(segment);
    return text === "" || text === "." || text === ".." || /[/%\0]/.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

function found(
  apiVersion: string,
  plural: string,
  namespace: string,
  name: string,
  subresource: string,
  more: readonly string[],
): ObjectPath | undefined {
  const resource = findResource(apiVersion, plural);
  if (!resource || more.length > 0) return undefined;
  const { namespaced } = resource.kind;
  // One object of a kind with namespaces is only found in its namespace, and none of the others in any.
  if (namespaced ? name !== "" && namespace === "" : namespace !== "") return undefined;
  return { resource, namespace, name, subresource };
}
