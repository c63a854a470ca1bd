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
  /** In any proxy that has asked since the patch was written. */
  readonly applied: boolean;
  readonly failures: readonly string[];
}

interface Outcome {
  isApplied: boolean;
  readonly failures: Set<string>;
}

/**
 * Remembers by the name of the object and by what the patch says: a patch that stays as it is while its object changes is not generated
 * anew, so nothing would tell of it again.
 */
export class PatchStatus implements PatchOutcomes {
  /** By the key of the object, then by the patch's text. */
  readonly #outcomes = new Map<string, Map<string, Outcome>>();
  readonly #onFailed: (patch: Patch, reason: string) => void;

  /** `onFailed` hears each reason of a patch once. */
  constructor(onFailed: (patch: Patch, reason: string) => void) {
    this.#onFailed = onFailed;
  }

  applied(patch: Patch): void {
    this.#outcomeOf(patch).isApplied = true;
  }

  failed(patch: Patch, reason: string): void {
    const { failures } = this.#outcomeOf(patch);
    if (failures.has(reason)) return;
    failures.add(reason);
    this.#onFailed(patch, reason);
  }

  /** Forgets all patches that are in none of the objects. */
  keep(objects: readonly ConfigObject<EnvoyFilter>[]): void {
    const texts = new Map(objects.map((object) => [nameOf(object), new Set(patchesOf(object).map(({ text }) => text))]));
    for (const [name, outcomes] of this.#outcomes) {
      const kept = texts.get(name);
      if (!kept) this.#outcomes.delete(name);
      else for (const text of outcomes.keys()) if (!kept.has(text)) outcomes.delete(text);
    }
  }

  describe(object: ConfigObject<EnvoyFilter>): DescribedPatch[] {
    const outcomes = this.#outcomes.get(nameOf(object));
    return patchesOf(object).map((patch) => {
      const outcome = outcomes?.get(patch.text);
      return {
        patch: `configPatches[${patch.index}]`,
        applyTo: patch.applyTo,
        operation: patch.operation,
        applied: outcome?.isApplied ?? false,
        failures: [...(outcome?.failures ?? [])],
      };
    });
  }

  #outcomeOf({ object, text }: Patch): Outcome {
    const name = nameOf(object);
    const outcomes = this.#outcomes.get(name) ?? new Map<string, Outcome>();
    this.#outcomes.set(name, outcomes);
    const outcome = outcomes.get(text) ?? { isApplied: false, failures: new Set() };
    outcomes.set(text, outcome);
    return outcome;
  }
}

function nameOf({ metadata }: ConfigObject<EnvoyFilter>): string {
  return `${metadata.namespace}/${metadata.name}`;
}
