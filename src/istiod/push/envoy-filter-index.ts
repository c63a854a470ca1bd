/**
 * Which patches apply to which proxy, and in which order: by priority, then those of the root namespace, then the oldest, then by name.
 * Proxies to which the same patches apply share one list, whose key says so to caches.
 * Source: Istio pilot/pkg/model/push_context.go (EnvoyFilters).
 */
import type { PatchedMessage } from "../../api/envoy/patched-messages.ts";
import type { EnvoyFilter } from "../../api/kinds/envoy-filter.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { ProxyNode } from "../../api/node.ts";
import { type TypeUrl, typeUrls } from "../../api/type-urls.ts";
import { type Patch, type PatchContext, patchesOf } from "./envoy-filter-patches.ts";
import { type AttachedSpec, PolicyIndex } from "./policy-index.ts";

/** The patches of one proxy. */
export class ProxyPatches {
  /** "" where there are none; within a context, proxies with the same key have the same patches. */
  readonly key: string;
  /** The same of the patches of clusters alone. */
  readonly clusterKey: string;
  readonly #byTarget = new Map<PatchedMessage, Patch[]>();

  constructor(patches: readonly Patch[], keyOf: (patches: readonly Patch[]) => string) {
    for (const patch of patches) {
      const list = this.#byTarget.get(patch.applyTo);
      if (list) list.push(patch);
      else this.#byTarget.set(patch.applyTo, [patch]);
    }
    this.key = keyOf(patches);
    this.clusterKey = keyOf(this.all("CLUSTER"));
  }

  /** In order. */
  all(applyTo: PatchedMessage): readonly Patch[] {
    return this.#byTarget.get(applyTo) ?? none;
  }

  /** Those for that side of the proxy. */
  of(applyTo: PatchedMessage, context: PatchContext): readonly Patch[] {
    const patches = this.all(applyTo);
    return patches.length === 0 ? none : patches.filter((patch) => patch.context === context || patch.context === "ANY");
  }

  hasAny(targets: readonly PatchedMessage[], context: PatchContext): boolean {
    return targets.some((applyTo) => this.of(applyTo, context).length > 0);
  }
}

const none: readonly Patch[] = [];

/** What a policy index reads of an EnvoyFilter; its selector has another name there. */
interface Attached extends AttachedSpec {
  readonly filter: ConfigObject<EnvoyFilter>;
}

export class EnvoyFilterIndex {
  readonly objects: readonly ConfigObject<EnvoyFilter>[];
  readonly #index: PolicyIndex<Attached>;
  readonly #sorted = new Map<readonly ConfigObject<Attached>[], readonly Patch[]>();
  readonly #shared = new Map<string, ProxyPatches>();
  readonly #ofProxy = new WeakMap<ProxyNode, ProxyPatches>();
  readonly #numbers = new Map<Patch, number>();

  /** `objects`: oldest first. */
  constructor(objects: readonly ConfigObject<EnvoyFilter>[], rootNamespace: string) {
    this.objects = objects;
    this.#index = new PolicyIndex(objects.map(attachedOf), rootNamespace);
  }

  forProxy(proxy: ProxyNode): ProxyPatches {
    const known = this.#ofProxy.get(proxy);
    if (known) return known;
    const patches = this.objects.length === 0 ? none : this.#attached(proxy).filter(({ concerns }) => concerns(proxy));
    const key = this.#keyOf(patches);
    const shared = this.#shared.get(key) ?? new ProxyPatches(patches, (list) => this.#keyOf(list));
    this.#shared.set(key, shared);
    this.#ofProxy.set(proxy, shared);
    return shared;
  }

  #attached(proxy: ProxyNode): readonly Patch[] {
    const filters = this.#index.forWorkload(proxy);
    const known = this.#sorted.get(filters);
    if (known) return known;
    const sorted = filters
      .map(({ spec }) => spec.filter)
      .sort((a, b) => a.spec.priority - b.spec.priority)
      .flatMap(patchesOf);
    this.#sorted.set(filters, sorted);
    return sorted;
  }

  #keyOf(patches: readonly Patch[]): string {
    return patches.map((patch) => this.#numberOf(patch)).join();
  }

  #numberOf(patch: Patch): number {
    const number = this.#numbers.get(patch) ?? this.#numbers.size + 1;
    this.#numbers.set(patch, number);
    return number;
  }
}

function attachedOf(filter: ConfigObject<EnvoyFilter>): ConfigObject<Attached> {
  const { workloadSelector, targetRefs } = filter.spec;
  const spec = { filter, targetRefs, selector: workloadSelector && { matchLabels: workloadSelector.labels } };
  return { ...filter, spec };
}

const { cds, lds, rds, ecds } = typeUrls;

/** Routes of what comes in stand in the listeners themselves. */
const alteredTypes: Readonly<Record<PatchedMessage, readonly TypeUrl[]>> = {
  BOOTSTRAP: [],
  CLUSTER: [cds],
  EXTENSION_CONFIG: [ecds],
  FILTER_CHAIN: [lds],
  HTTP_FILTER: [lds],
  HTTP_ROUTE: [rds, lds],
  LISTENER: [lds],
  LISTENER_FILTER: [lds],
  NETWORK_FILTER: [lds],
  ROUTE_CONFIGURATION: [rds, lds],
  VIRTUAL_HOST: [rds, lds],
};

/** Types of resources in which two lists of patches of one proxy, of two contexts, may make a difference. */
export function changedPatchTypes(proxy: ProxyNode, older: ProxyPatches, newer: ProxyPatches): ReadonlySet<TypeUrl> {
  const types = new Set<TypeUrl>();
  for (const [applyTo, altered] of Object.entries(alteredTypes) as [PatchedMessage, readonly TypeUrl[]][]) {
    if (isSame(older.all(applyTo), newer.all(applyTo))) continue;
    for (const type of altered) if (type !== lds || proxy.type === "sidecar" || altered.length === 1) types.add(type);
  }
  return types;
}

function isSame(older: readonly Patch[], newer: readonly Patch[]): boolean {
  return older.length === newer.length && older.every((patch, index) => patch === newer[index] || patch.text === newer[index]!.text);
}
