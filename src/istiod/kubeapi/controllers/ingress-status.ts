/**
 * Where Ingresses are served, in their status: the addresses of the Service that meshConfig.ingressService names. Without one there are
 * none, since nobody knows of Nodes here. Source: Istio pilot/pkg/config/kube/ingress/ingress.go (runningAddresses).
 */
import { isIP } from "node:net";
import { isDeepStrictEqual } from "node:util";
import type { ObjectOf } from "../../../api/kinds/index.ts";
import { objectsAt, textAt } from "../../../api/kinds/raw-fields.ts";
import type { MeshConfig } from "../../../api/mesh/mesh-config.ts";
import type { WritableConfigStore } from "../../../config/store.ts";
import type { MeshSource } from "../../mesh-source.ts";
import { ingressNamespace } from "../../push/ingress/made-object.ts";
import { supportedIngresses } from "../../push/ingress/supported-ingresses.ts";
import { objectsOf } from "../../store-objects.ts";
import { WorkQueue } from "./work-queue.ts";

interface Address {
  readonly ip?: string;
  readonly hostname?: string;
}

export class IngressStatus implements AsyncDisposable {
  readonly #store: WritableConfigStore;
  readonly #mesh: () => MeshConfig;
  readonly #queue: WorkQueue<"all">;
  readonly #parts = new AsyncDisposableStack();

  /** `changes` tells when `mesh` is another. */
  constructor(store: WritableConfigStore, mesh: () => MeshConfig, changes: MeshSource<unknown>) {
    this.#store = store;
    this.#mesh = mesh;
    this.#queue = this.#parts.use(new WorkQueue("ingresses", () => this.#reconcile()));
    this.#parts.use(changes.onChange(() => this.#queue.add("all")));
    this.#parts.use(
      store.watch((events) => {
        const concerns = events.some(
          ({ object: { kind, metadata } }) => kind.startsWith("Ingress") || (kind === "Service" && metadata.namespace === ingressNamespace),
        );
        if (concerns) this.#queue.add("all");
      }),
    );
    this.#queue.add("all");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
  }

  async #reconcile(): Promise<void> {
    const mesh = this.#mesh();
    const ingresses = supportedIngresses(objectsOf(this.#store), mesh);
    const service = this.#store.get({ kind: "Service", namespace: ingressNamespace, name: mesh.ingressService });
    const status = { loadBalancer: { ingress: service ? addressesOf(service) : [] } };
    for (const ingress of ingresses) {
      // What a file says of its Ingress is the file's.
      if (ingress.position || isDeepStrictEqual(ingress.status?.loadBalancer ?? { ingress: [] }, status.loadBalancer)) continue;
      const { resourceVersion } = ingress.metadata;
      await this.#store.put({ ...ingress, status, raw: { ...ingress.raw, status } }, { resourceVersion });
    }
  }
}

function addressesOf({ raw }: ObjectOf<"Service">): Address[] {
  const external = textAt(raw, "spec", "externalName");
  const { externalIPs = [] } = raw.spec as { readonly externalIPs?: readonly string[] };
  const balanced = objectsAt(raw, "status", "loadBalancer", "ingress").map((one) => textAt(one, "ip") || textAt(one, "hostname"));
  const names = textAt(raw, "spec", "type") === "ExternalName" ? [external] : [...balanced, ...externalIPs];
  return names.map((name): Address => (isIP(name) ? { ip: name } : { hostname: name })).sort(byName);
}

function byName(a: Address, b: Address): number {
  const [one, other] = [a, b].map(({ hostname = "", ip = "" }) => `${hostname} ${ip}`);
  return one! < other! ? -1 : one! > other! ? 1 : 0;
}
