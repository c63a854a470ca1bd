/** Asks every control plane of the mesh, by its Pod: what it says of itself, and which proxies are connected to it. */
import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";
import { KubeError } from "../kube/kube-client.ts";
import { isReady, listPods, podProxyPath } from "../kube/resolve-pod.ts";
import { fieldAt, type JsonObject, objectAt, textAt } from "../output/json-fields.ts";

const monitoringPort = 15014;

export interface ControlPlane {
  /** Of its Pod. */
  readonly name: string;
  /** `pilot` */
  readonly component: string;
  readonly revision: string;
  readonly get: (path: string) => Promise<string>;
}

/** A connected proxy, by type URL what it was sent. */
export interface ProxySync {
  /** `name.namespace` */
  readonly id: string;
  readonly namespace: string;
  readonly clusterId: string;
  /** `sidecar` or `router` */
  readonly type: string;
  readonly istioVersion: string;
  readonly resources: JsonObject;
}

/** Throws CliError when there is none. */
export async function findControlPlanes(context: CommandContext): Promise<readonly ControlPlane[]> {
  const kube = await context.kube();
  const namespace = context.istioNamespace();
  const ready = (await listPods(kube, namespace, "app=istiod").catch(explain)).filter(isReady);
  if (ready.length === 0) throw new CliError(`no running Istio pods in namespace "${namespace}"`);
  return ready.map((pod) => {
    const name = textAt(pod, "metadata", "name");
    return {
      name,
      component: textAt(pod, "metadata", "labels", "istio"),
      revision: textAt(pod, "metadata", "labels", "istio.io/rev"),
      get: (path) => kube.text("GET", podProxyPath({ namespace, name }, monitoringPort, path)).catch(explain),
    };
  });
}

export async function connectedProxies({ get, name }: ControlPlane): Promise<readonly ProxySync[]> {
  let entries: unknown;
  try {
    entries = JSON.parse(await get("/debug/syncz"));
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw new CliError(`${name} answered with something else than its proxies: ${(error as Error).message}`);
  }
  if (!Array.isArray(entries)) throw new CliError(`${name} answered with something else than its proxies`);
  return entries.map((entry): ProxySync => {
    const id = textAt(entry, "proxy");
    return {
      id,
      // A control plane that isn't ours does not say it.
      namespace: textAt(entry, "proxy_namespace") || id.slice(id.lastIndexOf(".") + 1),
      clusterId: textAt(entry, "cluster_id"),
      type: textAt(entry, "proxy_type"),
      istioVersion: textAt(entry, "istio_version"),
      resources: fieldAt(entry, "resources") === undefined ? {} : objectAt(entry, "resources"),
    };
  });
}

function explain(error: unknown): never {
  if (error instanceof KubeError) throw new CliError(error.message, { cause: error });
  throw error;
}
