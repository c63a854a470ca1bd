/**
 * Workloads that are switched off: those of a Deployment with `replicas: 0`. A Deployment's workloads are the Pods that it selects, and the
 * WorkloadEntries whose `ownerReferences` name it. Their records stay, so that they are back when the replicas are.
 */

import type { Deployment } from "../api/kinds/deployment.ts";
import type { ConfigObject } from "../api/kinds/object.ts";
import type { ObjectsOf } from "./registry.ts";
import { selectorMatches } from "./service.ts";

export class StoppedWorkloads {
  readonly #byNamespace = new Map<string, ConfigObject<Deployment>[]>();

  constructor(objects: ObjectsOf) {
    for (const deployment of objects("Deployment") as ConfigObject<Deployment>[]) {
      if (!isStopped(deployment)) continue;
      const { namespace } = deployment.metadata;
      const stopped = this.#byNamespace.get(namespace);
      if (stopped) stopped.push(deployment);
      else this.#byNamespace.set(namespace, [deployment]);
    }
  }

  has({ kind, metadata }: ConfigObject): boolean {
    const stopped = this.#byNamespace.get(metadata.namespace);
    if (!stopped) return false;
    return stopped.some(({ spec, metadata: { name } }) => {
      const labels = spec.selector?.matchLabels ?? {};
      if (kind === "Pod" && Object.keys(labels).length > 0 && selectorMatches(labels, metadata.labels)) return true;
      return (metadata.ownerReferences ?? []).some((owner) => owner.kind === "Deployment" && owner.name === name);
    });
  }
}

/** Nothing written means one replica. */
export function isStopped({ spec }: ConfigObject<Deployment>): boolean {
  return spec.replicas === 0;
}
