/**
 * What follows from a namespace: its account `default`, and the ConfigMap `istio-ca-root-cert` with the roots of the mesh. One that
 * is deleted loses its objects before it goes itself. A namespace that nobody made but in which there are objects, of files or of
 * agents that registered themselves, is made.
 */
import { kindByName } from "../../../api/kinds/index.ts";
import { isTerminating } from "../../../api/kinds/namespace.ts";
import type { ConfigObject } from "../../../api/kinds/object.ts";
import { StoreError, type WritableConfigStore } from "../../../config/store.ts";
import { log } from "../../../lib/log.ts";
import type { CertificateAuthority } from "../../ca/certificate-authority.ts";
import { ensureObject, keepObject } from "./own-object.ts";
import { WorkQueue } from "./work-queue.ts";

const scope = log.scope("kubeapi");

const seeds = ["default", "istio-system", "kube-node-lease", "kube-public", "kube-system"];
const rootConfigMap = "istio-ca-root-cert";

export class NamespaceController implements AsyncDisposable {
  readonly #store: WritableConfigStore;
  readonly #authority: CertificateAuthority;
  readonly #queue = new WorkQueue<string>("namespaces", (name) => this.#reconcile(name));
  readonly #watches: Disposable[];

  private constructor(store: WritableConfigStore, authority: CertificateAuthority) {
    this.#store = store;
    this.#authority = authority;
    this.#watches = [
      store.watch((events) => {
        for (const { object, type } of events) this.#onEvent(object, type === "added");
      }),
      authority.onChange(() => {
        for (const { metadata } of store.list("Namespace")) this.#queue.add(metadata.name);
      }),
    ];
  }

  /** Resolves when all namespaces have what they need. */
  static async start(store: WritableConfigStore, authority: CertificateAuthority): Promise<NamespaceController> {
    const made = new NamespaceController(store, authority);
    await Promise.all(seeds.map((name) => ensureObject(store, namespaceNamed(name))));
    for (const name of new Set(store.list().map(({ kind, metadata }) => (kind === "Namespace" ? metadata.name : metadata.namespace))))
      if (name !== "") made.#queue.add(name);
    await made.settled();
    return made;
  }

  settled(): Promise<void> {
    return this.#queue.idle();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const watch of this.#watches) watch[Symbol.dispose]();
    await this.#queue[Symbol.asyncDispose]();
  }

  #onEvent(object: ConfigObject, isNew: boolean): void {
    const { kind, metadata } = object;
    if (kind === "Namespace") this.#queue.add(metadata.name);
    else if (kind === "ServiceAccount" ? metadata.name === "default" : kind === "ConfigMap" && metadata.name === rootConfigMap)
      this.#queue.add(metadata.namespace);
    else if (isNew && metadata.namespace !== "" && !this.#namespace(metadata.namespace)) this.#queue.add(metadata.namespace);
  }

  #namespace(name: string) {
    return this.#store.get({ kind: "Namespace", namespace: "", name });
  }

  async #reconcile(name: string): Promise<void> {
    const namespace = this.#namespace(name);
    if (!namespace) {
      if (this.#store.list().some(({ metadata }) => metadata.namespace === name)) await ensureObject(this.#store, namespaceNamed(name));
    } else if (isTerminating(namespace.raw)) {
      await this.#empty(name);
    } else {
      const account = ensureObject(this.#store, {
        apiVersion: "v1",
        kind: "ServiceAccount",
        metadata: { name: "default", namespace: name },
      });
      const roots = keepObject(this.#store, {
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: rootConfigMap, namespace: name, labels: { "istio.io/config": "true" } },
        data: { "root-cert.pem": this.#authority.trustBundle },
      });
      await Promise.all([account, roots]);
    }
  }

  async #empty(name: string): Promise<void> {
    const objects = this.#store.list().filter(({ metadata }) => metadata.namespace === name);
    const outcomes = await Promise.allSettled(
      objects.map(({ kind, metadata }) => this.#store.delete({ kind, namespace: name, name: metadata.name })),
    );
    for (const outcome of outcomes) {
      if (outcome.status === "rejected" && !(outcome.reason instanceof StoreError && outcome.reason.code === "not-found"))
        throw outcome.reason;
    }
    await this.#store.delete({ kind: "Namespace", namespace: "", name });
    scope.info("namespace deleted", { namespace: name, objects: objects.length });
  }
}

function namespaceNamed(name: string): Record<string, unknown> {
  return kindByName("Namespace")!.defaults!({ apiVersion: "v1", kind: "Namespace", metadata: { name } });
}
