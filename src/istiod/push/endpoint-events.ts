import { isDeepStrictEqual } from "node:util";
import { isKind } from "../../api/kinds/index.ts";
import type { KindName } from "../../api/kinds/object.ts";
import type { ConfigEvent } from "../../config/store.ts";

/** Kinds that only say where endpoints are, or whether they are switched on. */
export const endpointKinds: ReadonlySet<string> = new Set<KindName>(["WorkloadEntry", "Endpoints", "EndpointSlice", "Pod", "Deployment"]);

/** Whether a change says no more than where endpoints are: by an object that is for nothing else, or in a ServiceEntry that lists its own. */
export function isAboutEndpoints({ object, previous, type }: ConfigEvent): boolean {
  if (endpointKinds.has(object.kind)) return true;
  if (type !== "modified" || !previous || !isKind(object, "ServiceEntry") || !isKind(previous, "ServiceEntry")) return false;
  const said = ({ spec, metadata: { labels, annotations }, status }: typeof object) => [
    { ...spec, endpoints: [] },
    labels,
    annotations,
    status,
  ];
  return isDeepStrictEqual(said(object), said(previous));
}
