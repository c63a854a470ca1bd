/**
 * What a client has of a type: versions by name. Never changed: whoever gets something holds another afterwards, and all who held the same and got
 * the same hold one and the same. Hundreds of proxies with a thousand clusters each would else have as many maps of a thousand names.
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

export class HeldResources {
  static readonly none = new HeldResources(new Map());
  readonly #versions: ReadonlyMap<string, string>;
  #steps: Step[] = [];

  private constructor(versions: ReadonlyMap<string, string>) {
    this.#versions = versions;
  }

  /** As a client tells it that comes back. */
  static of(versions: Iterable<readonly [string, string]>): HeldResources {
    const map = new Map(versions);
    return map.size === 0 ? HeldResources.none : new HeldResources(map);
  }

  get names(): Iterable<string> {
    return this.#versions.keys();
  }

  has(name: string): boolean {
    return this.#versions.has(name);
  }

  version(name: string): string | undefined {
    return this.#versions.get(name);
  }

  without(names: Iterable<string>): HeldResources {
    const gone = [...names].filter((name) => this.#versions.has(name));
    return gone.length === 0 ? this : this.after([], gone);
  }

  /** What is held when `got` has come and the names of `gone` have gone. */
  after(got: readonly EncodedResource[], gone: readonly string[]): HeldResources {
    const news = got.filter(({ name, version }) => this.#versions.get(name) !== version);
    if (news.length === 0 && !gone.some((name) => this.#versions.has(name))) return this;
    const known = this.#remembered(news, gone);
    if (known) return known;
    const versions = new Map(this.#versions);
    for (const { name, version } of news) versions.set(name, version);
    for (const name of gone) versions.delete(name);
    const next = new HeldResources(versions);
    this.#steps = [{ got: news, gone, next: new WeakRef(next) }, ...this.#steps.slice(0, maxRemembered - 1)];
    return next;
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
