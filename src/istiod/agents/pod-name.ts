/** What a connected proxy is called as a Pod. Its id is `<name>.<namespace>` by convention; only the namespace has been proved. */
import type { ProxyNode } from "../../api/node.ts";

export interface PodName {
  readonly namespace: string;
  readonly name: string;
}

const maxNameLength = 253;
const namePattern = /^[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?$/i;

/** Undefined for a name that no Pod can have. */
export function podNameOf({ id, namespace }: Pick<ProxyNode, "id" | "namespace">): PodName | undefined {
  const suffix = `.${namespace}`;
  const name = id.endsWith(suffix) ? id.slice(0, -suffix.length) : id;
  return name.length <= maxNameLength && namePattern.test(name) ? { namespace, name } : undefined;
}

export function formatPodName({ namespace, name }: PodName): string {
  return `${namespace}/${name}`;
}
