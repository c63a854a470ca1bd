/**
 * A set of places in an object, as `metadata.managedFields` holds it (FieldsV1): a tree whose steps are `f:NAME` for a field,
 * `k:{...}` for a list's item with these keys and `v:VALUE` for a value of a set. The step `.` says that the place itself
 * belongs to the set; a place without steps below always does.
 */
import { isPlainObject } from "../../../api/schema/decode.ts";

export class FieldSet {
  /** Whether the place itself belongs to the set, as opposed to places below it. */
  isMember = false;
  readonly #children = new Map<string, FieldSet>();

  get children(): ReadonlyMap<string, FieldSet> {
    return this.#children;
  }

  get isEmpty(): boolean {
    return !this.isMember && this.#children.size === 0;
  }

  child(step: string): FieldSet | undefined {
    return this.#children.get(step);
  }

  /** The place below, made when it isn't there. */
  open(step: string): FieldSet {
    const known = this.#children.get(step);
    if (known) return known;
    const made = new FieldSet();
    this.#children.set(step, made);
    return made;
  }

  /** Hangs a set below a step, unless it is empty. */
  attach(step: string, set: FieldSet): void {
    if (!set.isEmpty) this.#children.set(step, set);
  }

  /** Places of this set that are not in the other. */
  without(other: FieldSet | undefined): FieldSet {
    return this.#combine(other, (here, there) => here && !there, true);
  }

  /** Places that are in both. */
  within(other: FieldSet): FieldSet {
    return this.#combine(other, (here, there) => here && there, false);
  }

  union(other: FieldSet): FieldSet {
    const result = this.without(undefined);
    result.isMember ||= other.isMember;
    for (const [step, child] of other.#children) {
      result.#children.set(step, (result.#children.get(step) ?? new FieldSet()).union(child));
    }
    return result;
  }

  #combine(other: FieldSet | undefined, isMember: (here: boolean, there: boolean) => boolean, keepsRest: boolean): FieldSet {
    const result = new FieldSet();
    result.isMember = isMember(this.isMember, other?.isMember ?? false);
    for (const [step, child] of this.#children) {
      const counterpart = other?.child(step);
      if (!counterpart && !keepsRest) continue;
      const combined = child.#combine(counterpart, isMember, keepsRest);
      if (!combined.isEmpty) result.#children.set(step, combined);
    }
    return result;
  }

  /** All places, each as its steps. */
  *paths(before: readonly string[] = []): Generator<readonly string[]> {
    if (this.isMember) yield before;
    for (const [step, child] of this.#children) yield* child.paths([...before, step]);
  }

  toJson(): Record<string, unknown> {
    const entries: [string, unknown][] = [...this.#children].map(([step, child]) => [step, child.toJson()]);
    if (this.isMember && entries.length > 0) entries.unshift([".", {}]);
    return Object.fromEntries(entries);
  }

  static fromJson(json: unknown): FieldSet {
    const set = new FieldSet();
    if (!isPlainObject(json)) return set;
    for (const [step, below] of Object.entries(json)) {
      if (step === ".") {
        set.isMember = true;
        continue;
      }
      const child = FieldSet.fromJson(below);
      if (child.isEmpty) child.isMember = true;
      set.#children.set(step, child);
    }
    return set;
  }
}

/** `.spec.template.spec.containers[name="app"].image`, as conflicts are told. */
export function formatSteps(steps: readonly string[]): string {
  return steps
    .map((step) => {
      if (step.startsWith("f:")) return `.${step.slice(2)}`;
      if (step.startsWith("k:")) {
        const keys = Object.entries(JSON.parse(step.slice(2)) as Record<string, unknown>);
        return `[${keys.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(",")}]`;
      }
      return `[=${step.slice(2)}]`;
    })
    .join("");
}
