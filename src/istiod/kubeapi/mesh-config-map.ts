/** The ConfigMap in which a Kubernetes mesh has its configuration. */
import type { ConfigObject, ObjectKey } from "../../api/kinds/object.ts";

export const meshConfigMapKey = { kind: "ConfigMap", namespace: "istio-system", name: "istio" } as const satisfies ObjectKey;
export const meshKey = "mesh";
export const networksKey = "meshNetworks";

export function isMeshConfigMap({ kind, metadata }: ConfigObject): boolean {
  return kind === meshConfigMapKey.kind && metadata.namespace === meshConfigMapKey.namespace && metadata.name === meshConfigMapKey.name;
}
