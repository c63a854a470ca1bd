/**
 * Encoded resources that several proxies get, kept from push to push as long as nothing alters them. What a push may alter is what it says it
 * pushes (push-request.ts): types, and of clusters and their endpoints which.
 */
import type { EncodedResource } from "../../ads/resource.ts";
import { typeUrls } from "../../api/type-urls.ts";

export interface Altered {
  readonly typeUrls: ReadonlySet<string>;
  /** Of clusters and endpoints; undefined: all. */
  readonly clusters: ReadonlySet<string> | undefined;
}

/** Clusters and ClusterLoadAssignments, each by its name and then by all else that it is made from. */
export class EncodedClusters {
  readonly #byType = new Map<string, Map<string, ReadonlyMap<string, EncodedResource>>>();

  /** `variant`: what beside its name tells the resource from others of the name. */
  get(typeUrl: string, name: string, variant: string): EncodedResource | undefined {
    return this.#byType.get(typeUrl)?.get(name)?.get(variant);
  }

  set(resource: EncodedResource, variant: string): void {
    const byName = this.#byType.get(resource.typeUrl) ?? new Map<string, ReadonlyMap<string, EncodedResource>>();
    this.#byType.set(resource.typeUrl, byName);
    const variants = byName.get(resource.name);
    // What was taken over from an older context is that one's as well.
    byName.set(resource.name, variants ? new Map(variants).set(variant, resource) : new Map([[variant, resource]]));
  }

  get size(): number {
    let size = 0;
    for (const byName of this.#byType.values()) for (const variants of byName.values()) size += variants.size;
    return size;
  }

  /** Takes over what is not altered. */
  keepFrom(older: EncodedClusters, altered: Altered): void {
    for (const [typeUrl, byName] of older.#byType) {
      if (altered.typeUrls.has(typeUrl) && !altered.clusters) continue;
      const kept = new Map(byName);
      if (altered.typeUrls.has(typeUrl)) for (const name of altered.clusters ?? []) kept.delete(name);
      this.#byType.set(typeUrl, kept);
    }
  }
}

/** What all of one audience get. */
export class SharedResources {
  readonly #byType = new Map<string, Map<string, readonly EncodedResource[]>>();
  /** ClusterLoadAssignments by cluster. */
  readonly assignments: Map<string, EncodedResource>;

  constructor(assignments = new Map<string, EncodedResource>()) {
    this.assignments = assignments;
  }

  /** Those of a type and name, made for the first who asks. */
  get(typeUrl: string, name: string, make: () => readonly EncodedResource[]): readonly EncodedResource[] {
    const byName = this.#byType.get(typeUrl) ?? new Map<string, readonly EncodedResource[]>();
    this.#byType.set(typeUrl, byName);
    const known = byName.get(name);
    if (known) return known;
    const made = make();
    byName.set(name, made);
    return made;
  }

  unaltered(altered: Altered): SharedResources {
    const isAltered = (typeUrl: string) => altered.typeUrls.has(typeUrl);
    const kept = new SharedResources(isAltered(typeUrls.eds) && !altered.clusters ? new Map() : new Map(this.assignments));
    if (isAltered(typeUrls.eds)) for (const name of altered.clusters ?? []) kept.assignments.delete(name);
    for (const [typeUrl, byName] of this.#byType) if (!isAltered(typeUrl)) kept.#byType.set(typeUrl, new Map(byName));
    return kept;
  }
}
