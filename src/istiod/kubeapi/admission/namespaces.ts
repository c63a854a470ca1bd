import { kindByName } from "../../../api/kinds/index.ts";
import { isTerminating } from "../../../api/kinds/namespace.ts";
import type { ConfigStore } from "../../../config/store.ts";
import { notFound } from "../resources.ts";
import { ApiError } from "../status.ts";

/** Objects live in namespaces that are there and are to stay. Throws ApiError. */
export function requireNamespace(store: ConfigStore, name: string, forCreation: boolean): void {
  const namespace = store.get({ kind: "Namespace", namespace: "", name });
  if (!namespace) throw notFound(kindByName("Namespace")!, name);
  if (forCreation && isTerminating(namespace.raw)) {
    throw new ApiError(403, `unable to create new content in namespace ${name} because it is being terminated`, {
      details: {
        causes: [{ reason: "NamespaceTerminating", message: `namespace ${name} is being terminated`, field: "metadata.namespace" }],
      },
    });
  }
}
