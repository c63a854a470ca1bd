/** What became of the patches of EnvoyFilters: that one was applied somewhere, or that it met what it means and could not be. */
import type { PatchedMessage } from "../../api/envoy/patched-messages.ts";
import type { EnvoyFilter } from "../../api/kinds/envoy-filter.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import { type Patch, patchesOf } from "./envoy-filter-patches.ts";

/** Who generates tells it. */
export interface PatchOutcomes {
  applied(patch: Patch): void;
  failed(patch: Patch, reason: string): void;
}

export const nobodyHears: PatchOutcomes = { applied() {}, failed() {} };

export interface DescribedPatch {
  /** `configPatches[0]` */
  readonly patch: string;
  readonly applyTo: PatchedMessage;
  readonly operation: string;
  /** In any proxy that has asked since the object was written. */
  readonly applied: boolean;
  readonly failures: readonly string[];
}

/** Remembers for as long as the objects stay what they are, however many push contexts are made of them. */
export class PatchStatus implements PatchOutcomes {
  readonly #applied = new WeakSet<Patch>();
  readonly #failures = new WeakMap<Patch, Set<string>>();
  readonly #onFailed: (patch: Patch, reason: string) => void;

  /** `onFailed` hears each reason of a patch once. */
  constructor(onFailed: (patch: Patch, reason: string) => void) {
    this.#onFailed = onFailed;
  }

  applied(patch: Patch): void {
    this.#applied.add(patch);
  }

  failed(patch: Patch, reason: string): void {
    const known = this.#failures.get(patch) ?? new Set();
    if (known.has(reason)) return;
    known.add(reason);
    this.#failures.set(patch, known);
    this.#onFailed(patch, reason);
  }

  describe(object: ConfigObject<EnvoyFilter>): DescribedPatch[] {
    return patchesOf(object).map((patch) => ({
      patch: `configPatches[${patch.index}]`,
      applyTo: patch.applyTo,
      operation: patch.operation,
      applied: this.#applied.has(patch),
      failures: [...(this.#failures.get(patch) ?? [])],
    }));
  }
}
