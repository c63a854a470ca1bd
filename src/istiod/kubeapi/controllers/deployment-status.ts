/**
 * Status of Deployments: how many of the pods that they select there are, and are ready. Nothing here makes or ends pods: a pod is the
 * record of something that runs, written by whoever runs it.
 */
import { isDeepStrictEqual } from "node:util";
import { wantedReplicas } from "../../../api/kinds/deployment.ts";
import type { ObjectOf } from "../../../api/kinds/index.ts";
import { isPodOver, isPodReady } from "../../../api/kinds/pod-state.ts";
import { objectsAt, type RawObject, textAt } from "../../../api/kinds/raw-fields.ts";
import type { WritableConfigStore } from "../../../config/store.ts";
import { WorkQueue } from "./work-queue.ts";

type Deployment = ObjectOf<"Deployment">;

export class DeploymentStatus implements AsyncDisposable {
  readonly #store: WritableConfigStore;
  readonly #queue: WorkQueue<`${string}/${string}`>;
  readonly #watch: Disposable;

  constructor(store: WritableConfigStore) {
    this.#store = store;
    this.#queue = new WorkQueue("deployments", async (key) => {
      const [namespace = "", name = ""] = key.split("/");
      await this.#reconcile(namespace, name);
    });
    this.#watch = store.watch((events) => {
      for (const { object, type } of events) {
        const { namespace, name } = object.metadata;
        if (object.kind === "Deployment" && type !== "deleted") this.#queue.add(`${namespace}/${name}`);
        else if (object.kind === "Pod") this.#addAll(namespace);
      }
    });
    this.#addAll(undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watch[Symbol.dispose]();
    await this.#queue[Symbol.asyncDispose]();
  }

  #addAll(namespace: string | undefined): void {
    for (const { metadata } of this.#store.list("Deployment", namespace)) this.#queue.add(`${metadata.namespace}/${metadata.name}`);
  }

  async #reconcile(namespace: string, name: string): Promise<void> {
    const deployment = this.#store.get({ kind: "Deployment", namespace, name });
    // What a file says of its Deployment is the file's.
    if (!deployment || deployment.position) return;
    const status = statusOf(deployment, this.#podsOf(deployment), new Date());
    if (isDeepStrictEqual(status, deployment.status)) return;
    const { resourceVersion } = deployment.metadata;
    await this.#store.put({ ...deployment, status, raw: { ...deployment.raw, status } }, { resourceVersion });
  }

  #podsOf({ spec, metadata }: Deployment): RawObject[] {
    const wanted = Object.entries(spec.selector?.matchLabels ?? {});
    if (wanted.length === 0) return [];
    return this.#store
      .list("Pod", metadata.namespace)
      .filter((pod) => wanted.every(([label, value]) => pod.metadata.labels[label] === value))
      .map(({ raw }) => raw)
      .filter((raw) => !isPodOver(raw));
  }
}

function statusOf({ raw, metadata }: Deployment, pods: readonly RawObject[], now: Date): Record<string, unknown> {
  const wanted = wantedReplicas(raw);
  const ready = pods.filter(isPodReady).length;
  const missing = Math.max(0, wanted - ready);
  const isAvailable = missing === 0;
  const counted = {
    replicas: pods.length,
    updatedReplicas: pods.length,
    readyReplicas: ready,
    availableReplicas: ready,
    unavailableReplicas: missing,
  };
  const condition = {
    type: "Available",
    status: isAvailable ? "True" : "False",
    reason: isAvailable ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable",
    message: isAvailable ? "Deployment has minimum availability." : "Deployment does not have minimum availability.",
  };
  const time = now.toISOString().replace(/\.\d+Z$/, "Z");
  const before = objectsAt(raw, "status", "conditions").find((one) => one.type === "Available");
  const isSame = before !== undefined && before.status === condition.status;
  return {
    observedGeneration: metadata.generation,
    ...Object.fromEntries(Object.entries(counted).filter(([, count]) => count > 0)),
    conditions: [
      {
        ...condition,
        lastTransitionTime: isSame ? textAt(before, "lastTransitionTime") || time : time,
        lastUpdateTime: isSame ? textAt(before, "lastUpdateTime") || time : time,
      },
    ],
  };
}
