/**
 * Connected proxies as Pods, for the API alone: `kubectl get pods` shows them, Deployments select them. To the mesh they are what their
 * WorkloadEntries say, so these Pods are in no registry. One that somebody wrote down has precedence.
 */
import { decodeObject } from "../../api/documents/decode-object.ts";
import { MemoryStore } from "../../config/memory.ts";
import type { ConfigStore } from "../../config/store.ts";
import { log } from "../../lib/log.ts";
import type { Connected, DiscoveryServer } from "../discovery-server.ts";
import { podOfAgent, podOfControlPlane } from "./agent-pod.ts";
import { formatPodName, type PodName, podNameOf } from "./pod-name.ts";

const scope = log.scope("pods");

export class AgentPods implements Disposable {
  readonly #store = new MemoryStore({ name: "the agents that are connected" });
  readonly #connected = new Map<string, Map<string, Connected>>();
  readonly #watch: Disposable;
  /** Of this control plane. */
  readonly controlPlane: PodName;

  constructor(discovery: DiscoveryServer) {
    const suffix = discovery.instanceId.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
    this.controlPlane = { namespace: discovery.mesh.rootNamespace, name: `istiod-${suffix}`.slice(0, 253).replace(/-+$/, "") };
    this.#put(podOfControlPlane(this.controlPlane, new Date()));
    for (const entry of discovery.connected) this.#follow(entry, true);
    this.#watch = discovery.observeConnected((entry, isConnected) => this.#follow(entry, isConnected));
  }

  get store(): ConfigStore {
    return this.#store;
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }

  /** While an agent comes back it may have two streams; the newer one counts, and the Pod goes with the last. */
  #follow(entry: Connected, isConnected: boolean): void {
    const pod = podNameOf(entry.proxy);
    if (!pod) return;
    const key = formatPodName(pod);
    const streams = this.#connected.get(key) ?? new Map<string, Connected>();
    if (isConnected) streams.set(entry.id, entry);
    else streams.delete(entry.id);
    const newest = [...streams.values()].at(-1);
    if (newest) {
      this.#connected.set(key, streams);
      this.#put(podOfAgent(pod, newest));
    } else {
      this.#connected.delete(key);
      this.#remove(pod);
    }
  }

  /** A store in memory has done it when the call returns. */
  #put(raw: Record<string, unknown>): void {
    const { object, errors } = decodeObject(raw);
    if (object) void this.#store.put(object);
    else scope.debug("a proxy can't be shown as a pod", { reason: errors[0]?.describe() });
  }

  #remove(pod: PodName): void {
    if (this.#store.get({ kind: "Pod", ...pod })) void this.#store.delete({ kind: "Pod", ...pod });
  }
}
