/**
 * Changes on their way to the workers: everything of one turn of the event loop goes out as one update, in which secrets,
 * clusters, endpoints and routes come before the listeners that need them. The last word on a name wins.
 */
import type { NamedBytes, NamedCluster, NamedEndpoints } from "../update.ts";
import type { UpdateOutcome, UpdateParts } from "../worker-group.ts";

export interface ConfigChange {
  readonly secrets?: readonly NamedBytes[];
  readonly removedSecrets?: readonly string[];
  readonly clusters?: readonly NamedCluster[];
  readonly removedClusters?: readonly string[];
  readonly endpoints?: readonly NamedEndpoints[];
  /** Names of clusters whose hosts' health has changed. */
  readonly health?: readonly string[];
  readonly routes?: readonly NamedBytes[];
  readonly listeners?: readonly NamedBytes[];
  readonly removedListeners?: readonly string[];
}

export class UpdateQueue {
  #send: (parts: UpdateParts) => Promise<UpdateOutcome>;
  #secrets = new Map<string, Uint8Array | null>();
  #clusters = new Map<string, NamedCluster | null>();
  #endpoints = new Map<string, NamedEndpoints>();
  #health = new Set<string>();
  #routes = new Map<string, Uint8Array>();
  #listeners = new Map<string, Uint8Array | null>();
  #outcome: Promise<UpdateOutcome> | undefined;

  constructor(send: (parts: UpdateParts) => Promise<UpdateOutcome>) {
    this.#send = send;
  }

  /** Resolves when the change is in force in every worker. */
  apply(change: ConfigChange): Promise<UpdateOutcome> {
    put(this.#secrets, change.secrets);
    for (const cluster of change.clusters ?? []) this.#clusters.set(cluster.name, cluster);
    for (const endpoints of change.endpoints ?? []) this.#endpoints.set(endpoints.name, endpoints);
    for (const name of change.health ?? []) this.#health.add(name);
    put(this.#routes, change.routes);
    put(this.#listeners, change.listeners);
    for (const name of change.removedSecrets ?? []) this.#secrets.set(name, null);
    for (const name of change.removedClusters ?? []) this.#clusters.set(name, null);
    for (const name of change.removedListeners ?? []) this.#listeners.set(name, null);
    this.#outcome ??= new Promise((resolve, reject) => {
      setImmediate(() => this.#flush().then(resolve, reject));
    });
    return this.#outcome;
  }

  #flush(): Promise<UpdateOutcome> {
    this.#outcome = undefined;
    const parts: UpdateParts = {
      ...take("secrets", this.#secrets),
      ...takeRemoved("removedSecrets", this.#secrets),
      ...takeClusters(this.#clusters),
      ...takeRemoved("removedClusters", this.#clusters),
      ...(this.#endpoints.size > 0 && { endpoints: [...this.#endpoints.values()] }),
      ...(this.#health.size > 0 && { health: [...this.#health] }),
      ...take("routes", this.#routes),
      ...take("listeners", this.#listeners),
      ...takeRemoved("removedListeners", this.#listeners),
    };
    for (const map of [this.#secrets, this.#clusters, this.#endpoints, this.#health, this.#routes, this.#listeners]) map.clear();
    return this.#send(parts);
  }
}

function put(map: Map<string, Uint8Array | null>, items: readonly NamedBytes[] | undefined): void {
  for (const { name, bytes } of items ?? []) map.set(name, bytes);
}

function take(key: keyof UpdateParts, map: ReadonlyMap<string, Uint8Array | null>): Partial<Record<string, NamedBytes[]>> {
  const items = [...map].flatMap(([name, bytes]) => (bytes ? [{ name, bytes }] : []));
  return items.length > 0 ? { [key]: items } : {};
}

function takeClusters(map: ReadonlyMap<string, NamedCluster | null>): { readonly clusters?: readonly NamedCluster[] } {
  const clusters = [...map.values()].filter((cluster) => cluster !== null);
  return clusters.length > 0 ? { clusters } : {};
}

function takeRemoved(key: keyof UpdateParts, map: ReadonlyMap<string, unknown>): Partial<Record<string, string[]>> {
  const names = [...map].flatMap(([name, content]) => (content ? [] : [name]));
  return names.length > 0 ? { [key]: names } : {};
}
