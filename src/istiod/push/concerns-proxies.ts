import { isDeepStrictEqual } from "node:util";
import { isKind } from "../../api/kinds/index.ts";
import type { ConfigObject, KindName } from "../../api/kinds/object.ts";
import type { ConfigEvent } from "../../config/store.ts";
import { isStopped } from "../../registry/stopped-workloads.ts";

/** Kinds that a push context does not read. */
const unread: ReadonlySet<KindName> = new Set<KindName>(["Event", "ServiceAccount"]);

/** Whether a change can alter what a proxy is given. Most changes of a Deployment are of its status, and all that counts of it is whether it is stopped. */
export function concernsProxies({ object, previous, type }: ConfigEvent): boolean {
  if (unread.has(object.kind)) return false;
  if (isKind(object, "Ingress")) return type !== "modified" || !previous || !saysTheSameOfRoutes(object, previous);
  if (!isKind(object, "Deployment")) return true;
  const was = previous !== undefined && isKind(previous, "Deployment") && isStopped(previous);
  const is = type !== "deleted" && isStopped(object);
  return was !== is;
}

/** The status is our own writing. */
function saysTheSameOfRoutes(a: ConfigObject, b: ConfigObject): boolean {
  const said = ({ raw, metadata }: ConfigObject) => [raw.spec, metadata.annotations];
  return isDeepStrictEqual(said(a), said(b));
}
