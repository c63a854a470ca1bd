/** From what the user calls a proxy to a pod: `NAME[.NAMESPACE]`, or `TYPE/NAME[.NAMESPACE]` for the first pod that this selects. */
import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";
import { fieldAt, type JsonObject, objectAt, objectsAt, textAt } from "../output/json-fields.ts";
import { type KubeClient, KubeError, type KubeObject, objectPath } from "./kube-client.ts";

export interface Pod {
  readonly namespace: string;
  readonly name: string;
}

interface Selecting {
  readonly groupVersion: string;
  readonly plural: string;
  readonly selectorOf: (object: KubeObject) => string;
}

const workloadSelector = (object: KubeObject) => labelSelectorText(objectAt(object, "spec", "selector"));
const serviceSelector = (object: KubeObject) => labelSelectorText({ matchLabels: objectAt(object, "spec", "selector") });

const deployments: Selecting = { groupVersion: "apps/v1", plural: "deployments", selectorOf: workloadSelector };
const services: Selecting = { groupVersion: "v1", plural: "services", selectorOf: serviceSelector };

/** By the names that kubectl takes. */
const selecting: Readonly<Record<string, Selecting>> = {
  deploy: deployments,
  deployment: deployments,
  deployments: deployments,
  "deployment.apps": deployments,
  "deployments.apps": deployments,
  svc: services,
  service: services,
  services: services,
};
const pods: ReadonlySet<string> = new Set(["po", "pod", "pods"]);

/** Throws CliError. */
export async function resolvePod(target: string, context: CommandContext): Promise<Pod> {
  const [found] = await resolvePods(target, context);
  if (!found) throw new CliError(`no pods match "${splitNamespace(target, context.namespace()).name}"`);
  return found;
}

/** All that it selects, the best one to look at first. */
export async function resolvePods(target: string, context: CommandContext): Promise<readonly Pod[]> {
  const { name: typed, namespace } = splitNamespace(target, context.namespace());
  const slash = typed.indexOf("/");
  if (slash < 0) return [{ name: typed, namespace }];
  const [type, name] = [typed.slice(0, slash).toLowerCase(), typed.slice(slash + 1)];
  if (pods.has(type)) return [{ name, namespace }];
  const kind = Object.hasOwn(selecting, type) ? selecting[type]! : undefined;
  if (!kind) throw new CliError(`"${typed}" does not refer to a pod: types are pod, deployment and service`);
  const kube = await context.kube();
  let selector: string;
  try {
    selector = kind.selectorOf(await kube.get(objectPath(kind.groupVersion, namespace, kind.plural, name)));
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    throw new CliError(`failed retrieving: ${error.message} in the "${namespace}" namespace`, { cause: error });
  }
  if (selector === "") throw new CliError(`"${typed}" does not refer to a pod: it selects none by labels`);
  return (await listPods(kube, namespace, selector)).map(({ metadata }) => ({ namespace, name: textAt(metadata, "name") }));
}

/** Ready ones first, then by name. */
export async function listPods(kube: KubeClient, namespace: string, selector: string): Promise<readonly JsonObject[]> {
  const list = await kube.get(`/api/v1/namespaces/${encodeURIComponent(namespace)}/pods?labelSelector=${encodeURIComponent(selector)}`);
  const rank = (pod: JsonObject) => (isReady(pod) ? 0 : 1);
  const nameOf = (pod: JsonObject) => textAt(pod, "metadata", "name");
  return [...objectsAt(list, "items")].sort((a, b) => rank(a) - rank(b) || (nameOf(a) < nameOf(b) ? -1 : 1));
}

/** Path of what a port of the pod answers. */
export function podProxyPath({ namespace, name }: Pod, port: number, path: string): string {
  return `${objectPath("v1", namespace, "pods", `${name}:${port}`, "proxy")}${path}`;
}

export function isReady(pod: JsonObject): boolean {
  return objectsAt(pod, "status", "conditions").some(({ type, status }) => type === "Ready" && status === "True");
}

/** The last dot divides; before a slash there may be dots of a group. */
function splitNamespace(target: string, fallback: string): Pod {
  const slash = target.lastIndexOf("/");
  const dot = target.lastIndexOf(".");
  if (dot <= slash) return { name: target, namespace: fallback };
  return { name: target.slice(0, dot), namespace: target.slice(dot + 1) };
}

function labelSelectorText(selector: JsonObject): string {
  const equal = Object.entries(objectAt(selector, "matchLabels")).map(([label, value]) => `${label}=${String(value)}`);
  const rules = objectsAt(selector, "matchExpressions").map((rule) => {
    const [key, operator] = [textAt(rule, "key"), textAt(rule, "operator")];
    const values = fieldAt(rule, "values");
    switch (operator) {
      case "Exists":
        return key;
      case "DoesNotExist":
        return `!${key}`;
      default:
        return `${key} ${operator.toLowerCase()} (${Array.isArray(values) ? values.join(",") : ""})`;
    }
  });
  return [...equal, ...rules].join(",");
}
