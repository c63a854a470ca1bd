/** Clusters and listeners that an EnvoyFilter adds may have a name that there is already: what was first stays, as in Istio. */
import type { EncodedResource } from "../../ads/resource.ts";

export function firstOfEachName(resources: readonly EncodedResource[]): EncodedResource[] {
  const names = new Set<string>();
  return resources.filter(({ name }) => !names.has(name) && names.add(name));
}
