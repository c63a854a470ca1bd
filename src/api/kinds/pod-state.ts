/** What `kubectl get pods` says of a pod: how many containers are ready, and in one word how it does. */
import { fieldAt, numberAt, objectsAt, type RawObject, textAt } from "./raw-fields.ts";

/** Containers that run beside the others, and those that run before them but stay. */
function lastingContainers(pod: RawObject): { name: string }[] {
  const staying = objectsAt(pod, "spec", "initContainers").filter((container) => container.restartPolicy === "Always");
  return [...staying, ...objectsAt(pod, "spec", "containers")].map((container) => ({ name: textAt(container, "name") }));
}

function statusesOf(pod: RawObject): readonly RawObject[] {
  const names = new Set(lastingContainers(pod).map(({ name }) => name));
  return [...objectsAt(pod, "status", "initContainerStatuses"), ...objectsAt(pod, "status", "containerStatuses")].filter((status) =>
    names.has(textAt(status, "name")),
  );
}

/** `1/2` */
export function readyText(pod: RawObject): string {
  return `${statusesOf(pod).filter((status) => status.ready === true).length}/${lastingContainers(pod).length}`;
}

export function restarts(pod: RawObject): number {
  return statusesOf(pod).reduce((sum, status) => sum + (numberAt(status, "restartCount") ?? 0), 0);
}

/** The reason why a container waits or ended, else the pod's phase. */
export function statusText(pod: RawObject): string {
  if (fieldAt(pod, "metadata", "deletionTimestamp") !== undefined) return "Terminating";
  for (const status of objectsAt(pod, "status", "containerStatuses")) {
    const reason = textAt(status, "state", "waiting", "reason") || textAt(status, "state", "terminated", "reason");
    if (reason) return reason;
  }
  return textAt(pod, "status", "reason") || textAt(pod, "status", "phase") || "Unknown";
}

export function isPodReady(pod: RawObject): boolean {
  return objectsAt(pod, "status", "conditions").some((condition) => condition.type === "Ready" && condition.status === "True");
}

/** Has ended, and does not count as a replica any more. */
export function isPodOver(pod: RawObject): boolean {
  const phase = textAt(pod, "status", "phase");
  return phase === "Succeeded" || phase === "Failed";
}
