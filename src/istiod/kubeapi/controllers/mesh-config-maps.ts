/**
 * The ConfigMaps from which `istioctl` and provisioning read the mesh: `istio` with its configuration and `istio-sidecar-injector` with
 * the cluster's name. Where a file has the configuration, the ConfigMap is its image, and what others write into it is undone; where none
 * has, the ConfigMap is made once and then its users' own.
 */
import type { WritableConfigStore } from "../../../config/store.ts";
import type { MeshSource } from "../../mesh-source.ts";
import { isMeshConfigMap, meshConfigMapKey, meshKey, networksKey } from "../mesh-config-map.ts";
import { ensureObject, keepObject } from "./own-object.ts";
import { WorkQueue } from "./work-queue.ts";

/** What Istio's installation writes, each Istio's default, so that it changes nothing. */
const initialMesh = `defaultConfig:
  discoveryAddress: istiod.istio-system.svc:15012
enablePrometheusMerge: true
rootNamespace: istio-system
trustDomain: cluster.local
`;

/** The name that proxies have as their cluster when nothing else is said. */
const clusterName = "Kubernetes";

export class MeshConfigMaps implements AsyncDisposable {
  readonly #queue: WorkQueue<"istio">;
  readonly #watches: Disposable[];

  private constructor(store: WritableConfigStore, source: MeshSource) {
    this.#queue = new WorkQueue<"istio">("mesh configuration", async () => {
      const configMap = meshConfigMap(source.isFile ? source.text : initialMesh);
      if (source.isFile) await keepObject(store, configMap);
      else await ensureObject(store, configMap);
    });
    this.#watches = [
      source.onChange(() => this.#queue.add("istio")),
      store.watch((events) => {
        if (source.isFile && events.some(({ object }) => isMeshConfigMap(object))) this.#queue.add("istio");
      }),
    ];
    this.#queue.add("istio");
  }

  static async start(store: WritableConfigStore, source: MeshSource): Promise<MeshConfigMaps> {
    const made = new MeshConfigMaps(store, source);
    await made.#queue.idle();
    await ensureObject(store, {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "istio-sidecar-injector", namespace: meshConfigMapKey.namespace, labels: { "istio.io/rev": "default" } },
      data: {
        values: `${JSON.stringify({ global: { istioNamespace: meshConfigMapKey.namespace, multiCluster: { clusterName }, network: "" }, revision: "" }, null, 2)}\n`,
      },
    });
    return made;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const watch of this.#watches) watch[Symbol.dispose]();
    await this.#queue[Symbol.asyncDispose]();
  }
}

function meshConfigMap(mesh: string): Record<string, unknown> {
  const { namespace, name } = meshConfigMapKey;
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name, namespace, labels: { "istio.io/rev": "default" } },
    data: { [meshKey]: mesh, [networksKey]: "networks: {}\n" },
  };
}
