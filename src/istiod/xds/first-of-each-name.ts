/** Clusters and listeners that an EnvoyFilter adds may have a name that there is already: what was first stays, as in Istio. */
import type { EncodedResource } from "../../ads/resource.ts";

import { perObject } from "../../lib/per-object.ts";

const namesOf = perObject((resources: readonly EncodedResource[]): ReadonlySet<string> => new Set(resources.map(({ name }) => name)));

export function firstOfEachName(resources: readonly EncodedResource[]): EncodedResource[] {
  const names = new Set<string>();
  return resources.filter(({ name }) => !names.has(name) && names.add(name));
}

/** The same of both lists, in each of which no name is twice; without copying where there are no others. */
export function withOthers(shared: readonly EncodedResource[], others: readonly EncodedResource[]): readonly EncodedResource[] {
  return others.length === 0 ? shared : [...shared, ...others.filter(({ name }) => !namesOf(shared).has(name))];
}
