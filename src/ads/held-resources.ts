/**
 * What a client has of a type: versions by name. Never changed: whoever gets something holds another afterwards, and all who held the same and got
 * the same hold one and the same. Hundreds of proxies with a thousand clusters each would else have as many maps of a thousand names. Those who
 * get the same in other portions, because they read slowly, still have most of it in common: a map that few changes stand beside.
 */
import { sameElements } from "../lib/same-elements.ts";
import type { EncodedResource } from "./resource.ts";

/** So many ways to go on are remembered of each: in a mesh of many namespaces not all get the same after the same. */
const maxRemembered = 32;

interface Step {
  readonly got: readonly EncodedResource[];
  readonly gone: readonly string[];
  /** Remembered as long as somebody holds it. */
  readonly next: WeakRef<HeldResources>;
}

/** A part of a map's size from which on changes of it are put into a map of their own. */
const mergedFrom = 1 / 16;

type Versions = ReadonlyMap<string, string>;
/** Undefined: gone. */
type Changes = ReadonlyMap<string, string | undefined>;

const unchanged: Changes = new Map();

export class HeldResources {
  static readonly none = new HeldResources(new Map(), unchanged);
  readonly #base: Versions;
  readonly #changes: Changes;
  #steps: Step[] = [];

  private constructor(base: Versions, changes: Changes) {
    this.#base = base;
    this.#changes = changes;
  }

  /** As a client tells it that comes back. */
  static of(versions: Iterable<readonly [string, string]>): HeldResources {
    const map = new Map(versions);
    return map.size === 0 ? HeldResources.none : new HeldResources(map, unchanged);
  }

  get names(): readonly string[] {
    const names = [...this.#base.keys()].filter((name) => !this.#changes.has(name));
    for (const [name, version] of this.#changes) if (version !== undefined) names.push(name);
    return names;
  }

  has(name: string): boolean {
    return this.version(name) !== undefined;
  }

  version(name: string): string | undefined {
    return this.#changes.has(name) ? this.#changes.get(name) : this.#base.get(name);
  }

  without(names: Iterable<string>): HeldResources {
    const gone = [...names].filter((name) => this.has(name));
    return gone.length === 0 ? this : this.after([], gone);
  }

  /** What is held when `got` has come and the names of `gone` have gone. */
  after(got: readonly EncodedResource[], gone: readonly string[]): HeldResources {
    const news = got.filter(({ name, version }) => this.version(name) !== version);
    if (news.length === 0 && !gone.some((name) => this.has(name))) return this;
    const known = this.#remembered(news, gone);
    if (known) return known;
    const next = this.#changedBy(news, gone);
    this.#steps = [{ got: news, gone, next: new WeakRef(next) }, ...this.#steps.slice(0, maxRemembered - 1)];
    return next;
  }

  #changedBy(got: readonly EncodedResource[], gone: readonly string[]): HeldResources {
    const changes = new Map(this.#changes);
    for (const { name, version } of got) changes.set(name, version);
    for (const name of gone) changes.set(name, undefined);
    if (changes.size <= this.#base.size * mergedFrom) return new HeldResources(this.#base, changes);
    const merged = new Map(this.#base);
    for (const [name, version] of changes) {
      if (version === undefined) merged.delete(name);
      else merged.set(name, version);
    }
    return new HeldResources(merged, unchanged);
  }

  #remembered(got: readonly EncodedResource[], gone: readonly string[]): HeldResources | undefined {
    for (const step of this.#steps) {
      if (!sameElements(step.got, got) || !sameElements(step.gone, gone)) continue;
      const next = step.next.deref();
      if (next) return next;
    }
    // Their bytes are not to be kept alive for nobody.
    this.#steps = this.#steps.filter(({ next }) => next.deref() !== undefined);
    return undefined;
  }
}
