/** What the metrics call a workload, as Istio finds it: not the one instance, but what the instance is one of. */

import type { ObjectMeta } from "../api/kinds/object.ts";

const nameLabel = "service.istio.io/workload-name";

/** The WorkloadGroup by which the instance registered itself, else the label, else the entry's own name. */
export function workloadNameOfEntry({ name, labels, annotations }: ObjectMeta): string {
  return annotations["istio.io/autoRegistrationGroup"] ?? labels[nameLabel] ?? name;
}

/** The label, else what made and controls the pod, for a ReplicaSet the Deployment that made that; else the pod's own name. */
export function workloadNameOfPod({ name, labels, generateName, ownerReferences }: ObjectMeta): string {
  const controller = generateName
    ? ownerReferences?.find((owner) => owner.controller === true && typeof owner.name === "string")
    : undefined;
  return labels[nameLabel] ?? (controller && deploymentName(controller, labels)) ?? name;
}

/** The hash at the end of a ReplicaSet's name is that of its pod template, which its pods have as a label. */
function deploymentName(controller: Record<string, unknown>, labels: Readonly<Record<string, string>>): string {
  const name = String(controller.name);
  const hash = labels["pod-template-hash"] ?? labels["rollouts-pod-template-hash"];
  return controller.kind === "ReplicaSet" && hash && name.endsWith(`-${hash}`) ? name.slice(0, -hash.length - 1) : name;
}
