/**
 * Tags of very many names that are a prefix, which ends with a dot, and one of few endings.
 *
 *     cluster.reviews. + upstream_rq_503  ->  {envoy.cluster_name: reviews} of the one, {envoy.response_code: 503} of the other
 *
 * What rules find in the prefix is looked for once for each prefix. What they make of an ending is worked out once for all prefixes of a
 * shape: those that say of every rule the same about where a match can still lie. Where a match may lie across both, or where the two
 * don't go together as they usually do, nothing is said, and the whole name has to be taken apart.
 */
import { keyOf, type Verdict, verdictOf } from "./rule-verdict.ts";
import type { StatRow, StatRows } from "./stat-rows.ts";
import type { Found, Rule } from "./tag-rules.ts";

export interface Tag {
  readonly name: string;
  readonly value: string;
}

export interface TaggedPrefix {
  readonly shape: PrefixShape;
  /** The prefix without its tags. */
  readonly base: string;
  readonly tags: readonly Tag[];
}

export interface TaggedEnding {
  /** The ending without its tags. */
  readonly base: string;
  /** In the order of the rules: an ending's own, or which of the prefix's. */
  readonly tags: readonly (Tag | number)[];
}

export class PrefixTagger {
  readonly #rules: readonly Rule[];
  /** Words that token rules tell from others. */
  readonly #vocabulary: ReadonlySet<string>;
  readonly #shapes = new Map<string, PrefixShape>();
  /** What token rules find in words: for each rule which word, or -1. */
  readonly #wordHits = new Map<string, readonly number[]>();

  constructor(rules: readonly Rule[]) {
    this.#rules = rules;
    this.#vocabulary = new Set(rules.flatMap(({ looksAt }) => ("tokens" in looksAt ? looksAt.tokens : [])));
  }

  /** `prefix` ends with a dot. */
  of(prefix: string): TaggedPrefix {
    const words = prefix.slice(0, -1).split(".");
    const shown = `${words.map((word) => (this.#vocabulary.has(word) ? word : "")).join(".")}.`;
    const wordHits = this.#wordHitsOf(shown);
    const verdicts: Verdict[] = [];
    const hits: (Found | undefined)[] = [];
    let key = shown;
    for (const [index, rule] of this.#rules.entries()) {
      const verdict = verdictOf(rule, prefix);
      verdicts.push(verdict);
      hits.push(verdict.kind === "words" ? wordAt(words, wordHits[index]!) : "found" in verdict ? verdict.found : undefined);
      key += keyOf(verdict);
    }
    const clashes = clashesOf(hits);
    key += `/${clashes.join()}`;
    let shape = this.#shapes.get(key);
    if (!shape) {
      shape = new PrefixShape(this.#rules, verdicts, shown, wordHits, new Set(clashes));
      this.#shapes.set(key, shape);
    }
    const found = shape.taken.map((index) => hits[index]!);
    const tags = found.map(({ value }, at) => ({ name: this.#rules[shape.taken[at]!]!.tag, value }));
    return { shape, base: withoutCuts(prefix, found), tags };
  }

  #wordHitsOf(shown: string): readonly number[] {
    let hits = this.#wordHits.get(shown);
    if (!hits) {
      hits = this.#rules.map(({ find, looksAt }) => {
        const found = "tokens" in looksAt ? find(shown + anyEnding) : undefined;
        return found && found.start < shown.length ? wordIndex(shown, found.start) : -1;
      });
      this.#wordHits.set(shown, hits);
    }
    return hits;
  }
}

/** What stands for an ending in which no rule finds anything. */
const anyEnding = "x";

let made = 0;

/** Prefixes of a shape have as many words, so none of them begins with another. */
export class PrefixShape {
  /** Of this process. */
  readonly id = ++made;
  /** Of the prefix's finds those that are cut out: indices of their rules. */
  readonly taken: readonly number[];
  readonly #rules: readonly Rule[];
  readonly #verdicts: readonly Verdict[];
  readonly #shown: string;
  readonly #wordHits: readonly number[];
  readonly #clashes: ReadonlySet<string>;
  readonly #endings = new Map<string, TaggedEnding | null>();
  readonly #rowsToTakeApart = new WeakMap<StatRows, readonly StatRow[]>();

  constructor(
    rules: readonly Rule[],
    verdicts: readonly Verdict[],
    shown: string,
    wordHits: readonly number[],
    clashes: ReadonlySet<string>,
  ) {
    this.#rules = rules;
    this.#verdicts = verdicts;
    this.#shown = shown;
    this.#wordHits = wordHits;
    this.#clashes = clashes;
    const taken: number[] = [];
    for (const [index, verdict] of verdicts.entries()) {
      const isFound = verdict.kind === "words" ? wordHits[index]! >= 0 : "found" in verdict && verdict.found !== undefined;
      if (isFound && !taken.some((other) => rules[other]!.tag === rules[index]!.tag || this.#clash(other, index))) taken.push(index);
    }
    this.taken = taken;
  }

  /** null: it can't be told by itself. */
  ending(ending: string): TaggedEnding | null {
    let known = this.#endings.get(ending);
    if (known === undefined) {
      known = this.#ending(ending);
      this.#endings.set(ending, known);
    }
    return known;
  }

  /** Those whose names have to be taken apart as a whole. */
  rowsToTakeApart(rows: StatRows): readonly StatRow[] {
    let found = this.#rowsToTakeApart.get(rows);
    if (!found) {
      found = rows.all.filter(({ name }) => this.ending(name) === null);
      this.#rowsToTakeApart.set(rows, found);
    }
    return found;
  }

  /** As a whole name is taken apart. */
  #ending(ending: string): TaggedEnding | null {
    const names = new Set<string>();
    const tags: (Tag | number)[] = [];
    const taken: number[] = [];
    const cuts: Found[] = [];
    for (const [index, { tag }] of this.#rules.entries()) {
      if (names.has(tag)) continue;
      const found = this.#find(index, ending);
      if (found === "unknown") return null;
      if (found === undefined) continue;
      if (found === "prefix") {
        if (taken.some((other) => this.#clash(other, index))) continue;
        tags.push(taken.length);
        taken.push(index);
      } else {
        if (cuts.some((cut) => found.start < cut.end && cut.start < found.end)) continue;
        tags.push({ name: tag, value: found.value });
        cuts.push(found);
      }
      names.add(tag);
    }
    const isUsual = taken.length === this.taken.length && taken.every((index, at) => index === this.taken[at]);
    return isUsual ? { base: withoutCuts(ending, cuts), tags } : null;
  }

  /** Where in the ending, or that it is what the prefix has. */
  #find(index: number, ending: string): Found | "prefix" | "unknown" | undefined {
    const verdict = this.#verdicts[index]!;
    const { find, looksAt } = this.#rules[index]!;
    switch (verdict.kind) {
      case "settled":
        return verdict.found && "prefix";
      case "ending":
        return find(ending);
      case "words": {
        const shown = this.#shown;
        const found = find(shown + ending);
        if (!found) return undefined;
        const { start, end, value } = found;
        if (start < shown.length) return wordIndex(shown, start) === this.#wordHits[index] ? "prefix" : "unknown";
        return { start: start - shown.length, end: end - shown.length, value };
      }
      case "open": {
        if ("tokens" in looksAt || !looksAt.rest) return "unknown";
        const { literals, mayEndWith } = looksAt.rest;
        if (verdict.isEndKnown && !Array.from(ending).some(mayEndWith)) return verdict.found && "prefix";
        const mayHave = literals.some((literal, at) => {
          const begun = verdict.begun[at]!;
          return begun === "whole" || ending.includes(literal) || begun.some((length) => ending.startsWith(literal.slice(length)));
        });
        return mayHave ? "unknown" : undefined;
      }
      default:
        return verdict satisfies never;
    }
  }

  #clash(a: number, b: number): boolean {
    return this.#clashes.has(`${a}-${b}`);
  }
}

/** Pairs of rules whose finds overlap, as `first-second`. */
function clashesOf(hits: readonly (Found | undefined)[]): string[] {
  const clashes: string[] = [];
  for (let b = 1; b < hits.length; b++) {
    const later = hits[b];
    if (!later) continue;
    for (let a = 0; a < b; a++) {
      const earlier = hits[a];
      if (earlier && later.start < earlier.end && earlier.start < later.end) clashes.push(`${a}-${b}`);
    }
  }
  return clashes;
}

function wordIndex(text: string, at: number): number {
  let index = 0;
  for (let dot = text.indexOf("."); dot >= 0 && dot < at; dot = text.indexOf(".", dot + 1)) index++;
  return index;
}

/** With its dot. */
function wordAt(words: readonly string[], index: number): Found | undefined {
  if (index < 0) return undefined;
  let start = 0;
  for (let before = 0; before < index; before++) start += words[before]!.length + 1;
  const value = words[index]!;
  return { start, end: start + value.length + 1, value };
}

/** They don't overlap. */
export function withoutCuts(name: string, cuts: readonly Found[]): string {
  let rest = name;
  for (const { start, end } of [...cuts].sort((a, b) => b.start - a.start)) rest = rest.slice(0, start) + rest.slice(end);
  return rest;
}
