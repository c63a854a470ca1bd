/**
 * The clusters of one worker. A proxy of a large mesh knows ten thousand and sends to twenty, so a cluster is its bytes until somebody
 * asks for it; then it is compiled, and has hosts, limits, statistics and pools.
 *
 * What must not wait says so (`isUsedAtOnce`): what shows statistics of its own making, or goes by the time at which hosts came.
 */
import type { NamedCluster, NamedEndpoints } from "../update.ts";
import type { Cluster } from "./cluster.ts";

export type ClusterLookup = Pick<ClusterSet, "get">;

export interface ClusterSetOptions {
  /** Throws ConfigError. */
  readonly compile: (cluster: NamedCluster) => Cluster;
  /** Throws ConfigError. */
  readonly place: (cluster: Cluster, endpoints: NamedEndpoints) => void;
  /** Something of a cluster that is compiled on demand is wrong, although the main thread found nothing. */
  readonly onFailure: (name: string, error: unknown) => void;
}

export class ClusterSet {
  readonly #options: ClusterSetOptions;
  readonly #made = new Map<string, Cluster>();
  readonly #waiting = new Map<string, NamedCluster>();
  /** By cluster; a cluster that is replaced keeps them. */
  readonly #endpoints = new Map<string, NamedEndpoints>();

  constructor(options: ClusterSetOptions) {
    this.#options = options;
  }

  /** Hot. */
  get(name: string): Cluster | undefined {
    return this.#made.get(name) ?? this.#make(name);
  }

  /** Takes the place of one of that name, whose connections end when what is under way on them is done. Throws ConfigError. */
  set(cluster: NamedCluster): void {
    const { name } = cluster;
    const old = this.#made.get(name);
    if (cluster.isUsedAtOnce) {
      const made = this.#compile(cluster);
      this.#waiting.delete(name);
      this.#made.set(name, made);
    } else {
      this.#made.delete(name);
      this.#waiting.set(name, cluster);
    }
    old?.drain();
  }

  /** Throws ConfigError. */
  setEndpoints(endpoints: NamedEndpoints): void {
    const cluster = this.#made.get(endpoints.name);
    if (cluster !== undefined) this.#options.place(cluster, endpoints);
    this.#endpoints.set(endpoints.name, endpoints);
  }

  remove(name: string): void {
    this.#made.get(name)?.drain();
    this.#made.delete(name);
    this.#waiting.delete(name);
    this.#endpoints.delete(name);
  }

  /** Something else is known of its hosts than before. */
  refreshHealth(name: string): void {
    this.#made.get(name)?.refreshHealth();
  }

  drain(): void {
    for (const cluster of this.#made.values()) cluster.drain();
  }

  #make(name: string): Cluster | undefined {
    const waiting = this.#waiting.get(name);
    if (waiting === undefined) return undefined;
    this.#waiting.delete(name);
    try {
      const made = this.#compile(waiting);
      this.#made.set(name, made);
      return made;
    } catch (error) {
      this.#options.onFailure(name, error);
      return undefined;
    }
  }

  #compile(cluster: NamedCluster): Cluster {
    const made = this.#options.compile(cluster);
    const endpoints = this.#endpoints.get(cluster.name);
    if (endpoints !== undefined) this.#options.place(made, endpoints);
    return made;
  }
}
