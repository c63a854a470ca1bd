/** Workloads by label, for selectors: WorkloadEntries, and Pods that have an address; without those that are switched off. */

import type { ConfigObject } from "../api/kinds/object.ts";
import type { Pod } from "../api/kinds/pod.ts";
import type { WorkloadEntry } from "../api/kinds/workload-entry.ts";
import { type Locality, parseLocality } from "../api/node.ts";
import { perObject } from "../lib/per-object.ts";
import { sameElements } from "../lib/same-elements.ts";
import type { ObjectsOf } from "./registry.ts";
import { type HealthStatus, selectorMatches } from "./service.ts";
import { StoppedWorkloads } from "./stopped-workloads.ts";
import { workloadNameOfEntry, workloadNameOfPod } from "./workload-name.ts";

export interface Workload {
  readonly kind: "entry" | "pod";
  readonly name: string;
  /** What metrics call it: the name of what it is one of. */
  readonly workloadName: string;
  readonly namespace: string;
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Ports by name: of a WorkloadEntry those it declares, of a Pod those of its containers. */
  readonly ports: Readonly<Record<string, number>>;
  readonly locality: Locality;
  readonly network: string;
  readonly weight: number;
  readonly serviceAccount: string;
  readonly health: HealthStatus;
  readonly tlsMode: "istio" | "disabled";
  /** `db-0.db`: hostname and subdomain of a pod that has both. */
  readonly podHost?: string;
}

export class WorkloadIndex {
  /** By namespace, label and value. */
  readonly #byLabel = new Map<string, Workload[]>();
  readonly #pods = new Map<string, Workload>();
  readonly #objects: readonly ConfigObject[];

  private constructor(objects: readonly ConfigObject[]) {
    this.#objects = objects;
    for (const object of objects) {
      const workload = workloadOf(object);
      if (workload) this.#add(workload);
    }
  }

  /** `older` itself, where it was made from the same objects. */
  static of(objects: ObjectsOf, older?: WorkloadIndex): WorkloadIndex {
    const stopped = new StoppedWorkloads(objects);
    const running = [...objects("WorkloadEntry"), ...objects("Pod")].filter((object) => !stopped.has(object));
    return older && sameElements(running, older.#objects) ? older : new WorkloadIndex(running);
  }

  /** Workloads of the namespace that carry all labels of the selector; an empty selector selects nothing. */
  select(namespace: string, selector: Readonly<Record<string, string>>): readonly Workload[] {
    const lists = Object.entries(selector).map(([label, value]) => this.#byLabel.get(labelKey(namespace, label, value)) ?? []);
    // Whoever carries all carries the rarest.
    const [rarest] = lists.sort((a, b) => a.length - b.length);
    if (!rarest || lists.length === 1) return rarest ?? [];
    return rarest.filter((workload) => selectorMatches(selector, workload.labels));
  }

  pod(namespace: string, name: string): Workload | undefined {
    return this.#pods.get(`${namespace}/${name}`);
  }

  #add(workload: Workload): void {
    for (const [label, value] of Object.entries(workload.labels)) {
      const key = labelKey(workload.namespace, label, value);
      const list = this.#byLabel.get(key);
      if (list) list.push(workload);
      else this.#byLabel.set(key, [workload]);
    }
    if (workload.kind === "pod") this.#pods.set(`${workload.namespace}/${workload.name}`, workload);
  }
}

function labelKey(namespace: string, label: string, value: string): string {
  return `${namespace}/${label}=${value}`;
}

/** Undefined for a Pod without address. */
const workloadOf = perObject((object: ConfigObject): Workload | undefined =>
  object.kind === "Pod" ? workloadOfPod(object as ConfigObject<Pod>) : workloadOfEntry(object.spec as WorkloadEntry, object),
);

/** Also for the endpoints that a ServiceEntry lists inline, which have no metadata of their own but their place in the list. */
export function workloadOfEntry(spec: WorkloadEntry, object: ConfigObject, index?: number): Workload {
  const isInline = index !== undefined;
  const labels = isInline ? spec.labels : { ...object.metadata.labels, ...spec.labels };
  return {
    kind: "entry",
    name: object.metadata.name,
    workloadName: isInline ? `${object.metadata.name}-${index}` : workloadNameOfEntry(object.metadata),
    namespace: object.metadata.namespace,
    address: spec.address,
    labels,
    ports: spec.ports,
    locality: parseLocality(spec.locality || labels["istio-locality"]?.replaceAll(".", "/") || ""),
    network: spec.network || labels["topology.istio.io/network"] || "",
    weight: spec.weight || 1,
    serviceAccount: spec.serviceAccount,
    health: healthOfEntry(object),
    tlsMode: tlsMode(labels, spec.serviceAccount !== ""),
  };
}

function workloadOfPod(object: ConfigObject<Pod>): Workload | undefined {
  const { spec } = object;
  if (!spec.podIP) return undefined;
  const labels = object.metadata.labels;
  return {
    kind: "pod",
    name: object.metadata.name,
    workloadName: workloadNameOfPod(object.metadata),
    namespace: object.metadata.namespace,
    address: spec.podIP,
    labels,
    ports: Object.fromEntries(
      spec.containers.flatMap((container) => container.ports.filter((port) => port.name).map((port) => [port.name, port.containerPort])),
    ),
    locality: parseLocality(labels["istio-locality"]?.replaceAll(".", "/") ?? ""),
    network: labels["topology.istio.io/network"] ?? "",
    weight: 1,
    // What an API server would have filled in.
    serviceAccount: spec.serviceAccountName || "default",
    health: isReady(spec) ? "healthy" : "unhealthy",
    // A pod without an injected proxy has no label; Istio reads the injected one.
    tlsMode: tlsMode(labels, false),
    ...(spec.hostname && spec.subdomain ? { podHost: `${spec.hostname}.${spec.subdomain}` } : {}),
  };
}

/** A pod that says nothing of its readiness is a record that somebody wrote by hand: it is taken at its word. */
function isReady({ conditions }: Pod): boolean {
  return !conditions.some((condition) => condition.type === "Ready" && condition.status !== "True");
}

/** An entry that is to be health-checked gets traffic once its agent has said that it is well; any other is taken to be well. */
function healthOfEntry({ kind, metadata, status }: ConfigObject): HealthStatus {
  if (kind !== "WorkloadEntry" || metadata.annotations["proxy.istio.io/health-checks-enabled"] !== "true") return "healthy";
  const conditions = (status as { conditions?: { type?: string; status?: string }[] } | undefined)?.conditions ?? [];
  return conditions.some((condition) => condition.type === "Healthy" && condition.status === "True") ? "healthy" : "withheld";
}

function tlsMode(labels: Readonly<Record<string, string>>, hasIdentity: boolean): "istio" | "disabled" {
  const label = labels["security.istio.io/tlsMode"];
  if (label !== undefined) return label === "istio" ? "istio" : "disabled";
  return hasIdentity ? "istio" : "disabled";
}
