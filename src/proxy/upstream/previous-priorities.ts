/**
 * Retry priority `previous_priorities`: retries go to other priorities than those that were tried. After every `updateFrequency`
 * attempts the priorities of all hosts that were tried until then get nothing any more; when none is left, it begins anew.
 * Source: Envoy previous_priorities.cc.
 */
import type { Host } from "./host.ts";
import { distribute, type PriorityLoad, totalOf } from "./priority-load.ts";

/** Of one request. */
export class PreviousPriorities {
  readonly #updateFrequency: number;
  #attempted: Host[] = [];
  readonly #excluded = new Set<number>();
  #load: PriorityLoad | null = null;

  constructor(updateFrequency: number) {
    this.#updateFrequency = updateFrequency;
  }

  add(host: Host): void {
    this.#attempted.push(host);
  }

  /** null: the priorities have their usual shares. `availability`: what each could take. */
  load(availability: PriorityLoad): PriorityLoad | null {
    const count = this.#attempted.length;
    if (count < this.#updateFrequency) return null;
    if (count % this.#updateFrequency === 0) {
      for (const { description } of this.#attempted) this.#excluded.add(description.priority);
      this.#load = this.#without(availability);
    }
    return this.#load;
  }

  #without(availability: PriorityLoad): PriorityLoad | null {
    const keep = (part: number, index: number) => (this.#excluded.has(index) ? 0 : part);
    const kept = { healthy: availability.healthy.map(keep), degraded: availability.degraded.map(keep) };
    if (totalOf(kept) > 0) return distribute(kept);
    this.#excluded.clear();
    this.#attempted = [];
    return totalOf(availability) > 0 ? distribute(availability) : null;
  }
}
