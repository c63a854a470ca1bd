/**
 * The ConfigMaps from which `istioctl` and provisioning read the mesh: `istio` with its configuration and `istio-sidecar-injector` with
 * the cluster's name. A key of which a file has the content is that file's image, and what others write into it is undone; others are made
 * once and then their users' own.
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
const noNetworks = "networks: {}\n";

/** The name that proxies have as their cluster when nothing else is said. */
const clusterName = "Kubernetes";

export class MeshConfigMaps implements AsyncDisposable {
  readonly #queue: WorkQueue<"istio">;
  readonly #watches: Disposable[];

  private constructor(store: WritableConfigStore, mesh: MeshSource<unknown>, networks: MeshSource<unknown>) {
    const sources = [mesh, networks];
    this.#queue = new WorkQueue<"istio">("mesh configuration", async () => {
      const written = store.get(meshConfigMapKey)?.spec.data ?? {};
      const contentOf = (key: string, source: MeshSource<unknown>, initial: string) =>
        source.isFile ? source.text : (written[key] ?? initial);
      const data = {
        ...written,
        [meshKey]: contentOf(meshKey, mesh, initialMesh),
        [networksKey]: contentOf(networksKey, networks, noNetworks),
      };
      await keepObject(store, meshConfigMap(data));
    });
    this.#watches = [
      ...sources.map((source) => source.onChange(() => this.#queue.add("istio"))),
      store.watch((events) => {
        if (events.some(({ object }) => isMeshConfigMap(object))) this.#queue.add("istio");
      }),
    ];
    this.#queue.add("istio");
  }

  static async start(store: WritableConfigStore, mesh: MeshSource<unknown>, networks: MeshSource<unknown>): Promise<MeshConfigMaps> {
    const made = new MeshConfigMaps(store, mesh, networks);
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

function meshConfigMap(data: Readonly<Record<string, string>>): Record<string, unknown> {
  const { namespace, name } = meshConfigMapKey;
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name, namespace, labels: { "istio.io/rev": "default" } },
    data,
  };
}
